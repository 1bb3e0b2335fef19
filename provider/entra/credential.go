package entra

import (
	"context"
	"errors"
	"fmt"

	"akv-csi-provider/provider/fault"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
)

// credential makes azidentity's credential for one sign-in; its GetToken sends the request. Each
// caller gets its own: the caches of azidentity's credentials know the client ID but neither
// the assertion nor the secret, so that a caller with a wrong one would get the token of a
// caller with the right one.
//
// Instance discovery is off: it would ask the public cloud whether the authority can be
// trusted, and authorities here come from our own table or from the operator.
func (x *Exchange) credential(ctx context.Context, s signIn, recorder *errorRecorder) (azcore.TokenCredential, error) {
	authority := &authorityPolicy{cache: x.metadata, known: x.cfg.KnownAuthority}
	switch s.Mode {
	case WorkloadIdentity:
		return s.assertionCredential(x.options(s, recorder, x.cfg.Transport, authority))
	case ServicePrincipal:
		options := x.options(s, recorder, x.cfg.Transport, authority)
		if s.ClientSecret == "" && s.ClientCertificate != "" {
			return x.certificateCredential(ctx, s, options)
		}
		return s.secretCredential(options)
	case ManagedIdentity:
		if x.cfg.IMDS == nil {
			return nil, errors.New("sign in: no transport to the instance metadata service")
		}
		return s.managedIdentityCredential(x.options(s, recorder, x.cfg.IMDS, nodeOnly{}))
	case IdentityBinding:
		next, err := x.cfg.Proxy.transport(ctx)
		if err != nil {
			return nil, err
		}
		authority = &authorityPolicy{cache: x.cfg.Proxy.metadata} // as the proxy passes it on
		return s.assertionCredential(x.options(s, recorder, next, authority))
	}
	return nil, fmt.Errorf("sign in: no identity mode %q", s.Mode)
}

// assertionCredential presents the pod's service-account token (RFC 7523, section 2.2: JWT
// as client authentication), to Entra itself or to the token proxy of an AKS cluster.
func (s signIn) assertionCredential(o azcore.ClientOptions) (azcore.TokenCredential, error) {
	assertion := func(context.Context) (string, error) { return string(s.Assertion), nil }
	c, err := azidentity.NewClientAssertionCredential(s.TenantID, s.ClientID, assertion,
		&azidentity.ClientAssertionCredentialOptions{ClientOptions: o, DisableInstanceDiscovery: true})
	if err != nil {
		return nil, notACredential()
	}
	return c, nil
}

// secretCredential presents the client secret of the volume's nodePublishSecretRef (RFC
// 6749, section 4.4). Tenant "adfs" is AD FS on Azure Stack Hub: MSAL then reads the metadata
// at /adfs/.well-known/openid-configuration and sends the same grant.
func (s signIn) secretCredential(o azcore.ClientOptions) (azcore.TokenCredential, error) {
	if s.ClientSecret == "" {
		return nil, errors.New("sign in: a service principal without a credential")
	}
	c, err := azidentity.NewClientSecretCredential(s.TenantID, s.ClientID, string(s.ClientSecret),
		&azidentity.ClientSecretCredentialOptions{ClientOptions: o, DisableInstanceDiscovery: true})
	if err != nil {
		return nil, notACredential()
	}
	return c, nil
}

// notACredential is the error of azidentity's constructors: the tenant is not a name, or the
// authority is not an https URL. Their own text is not shown, since one of them is called with
// the client secret.
func notACredential() error {
	return &fault.Error{Reason: fault.SignInFailed, Cause: "the tenant or the authority is not valid", Fix: "check tenantID and cloudName"}
}
