package entra

import (
	"context"

	"akv-csi-provider/provider/transport"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
)

// workloadIdentity exchanges the pod's service-account token (RFC 7523, section
// 2.2: JWT as client authentication). The credential is made anew for every
// caller: azidentity caches by client ID alone, so a shared one would hand the
// token of one pod to another that never proved who it is.
//
// Instance discovery is off: it would ask the public cloud whether the authority
// can be trusted, and authorities here come from our own table.
func (x *Exchange) workloadIdentity(ctx context.Context, id Identity, scope string) (Token, error) {
	assertion := func(context.Context) (string, error) { return string(id.Assertion), nil }
	credential, err := azidentity.NewClientAssertionCredential(id.TenantID, id.ClientID, assertion,
		&azidentity.ClientAssertionCredentialOptions{
			ClientOptions:            x.options(id.Authority),
			DisableInstanceDiscovery: true,
		})
	if err != nil {
		return Token{}, &Error{reason: ReasonSignInFailed, cause: "the tenant or the authority is not valid", fix: "check tenantID and cloudName"}
	}
	ctx, record := transport.WithRecord(ctx)
	token, err := credential.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{scope}})
	if err != nil {
		return Token{}, explain(ctx, err, record, signIn{Identity: id, scope: scope})
	}
	return newToken(token), nil
}
