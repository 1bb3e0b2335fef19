package entra

import (
	"context"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
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
	s := signIn{Identity: id, scope: scope}
	return x.ask(ctx, s, x.Transport, &x.documents, func(o azcore.ClientOptions) (azcore.TokenCredential, error) {
		return azidentity.NewClientAssertionCredential(id.TenantID, id.ClientID, assertion,
			&azidentity.ClientAssertionCredentialOptions{ClientOptions: o, DisableInstanceDiscovery: true})
	})
}
