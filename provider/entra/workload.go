package entra

import (
	"context"

	"akv-csi-provider/provider/transport"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
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
			ClientOptions:            x.options(id.Authority, x.Transport),
			DisableInstanceDiscovery: true,
		})
	if err != nil {
		return Token{}, notACredential()
	}
	return getToken(ctx, credential, signIn{Identity: id, scope: scope})
}

// getToken asks a credential that was made for this one caller.
func getToken(ctx context.Context, credential azcore.TokenCredential, s signIn) (Token, error) {
	ctx, record := transport.WithRecord(ctx)
	token, err := credential.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{s.scope}})
	if err != nil {
		return Token{}, explain(ctx, err, record, s)
	}
	return newToken(token), nil
}

// notACredential is what azidentity's constructors complain about: a tenant that is
// no name or an authority that is no https URL. Their own words are not shown, since
// one of them gets the client secret.
func notACredential() error {
	return &Error{reason: ReasonSignInFailed, cause: "the tenant or the authority is not valid", fix: "check tenantID and cloudName"}
}
