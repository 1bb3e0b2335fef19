package entra

import (
	"context"
	"errors"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
)

// servicePrincipal signs in with the client secret from the volume's
// nodePublishSecretRef (RFC 6749, section 4.4). The credential is made anew for
// every caller, as workloadIdentity does and for the same reason: azidentity's cache
// knows the client ID but not the secret, so whoever came with a wrong one would
// get the token of whoever came with the right one.
//
// Tenant "adfs" is AD FS on Azure Stack Hub: MSAL then reads the metadata at
// /adfs/.well-known/openid-configuration and sends the same grant.
func (x *Exchange) servicePrincipal(ctx context.Context, id Identity, scope string) (Token, error) {
	if id.ClientSecret == "" {
		return Token{}, errors.New("sign in: a service principal without a client secret")
	}
	s := signIn{Identity: id, scope: scope}
	return x.ask(ctx, s, x.Transport, &x.documents, func(o azcore.ClientOptions) (azcore.TokenCredential, error) {
		return azidentity.NewClientSecretCredential(id.TenantID, id.ClientID, string(id.ClientSecret),
			&azidentity.ClientSecretCredentialOptions{ClientOptions: o, DisableInstanceDiscovery: true})
	})
}
