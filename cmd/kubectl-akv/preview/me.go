package preview

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	azurecloud "github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"akv-csi-provider/provider/cloud"
	"akv-csi-provider/provider/entra"
	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/request"
)

// me is the user, who signs in with the default chain of the Azure SDK.
type me struct {
	credential azcore.TokenCredential
	name       string // in words; "" if the token does not say
	id, tenant string
}

// signInAsMe signs in for the scope, which shows who the user is.
func signInAsMe(ctx context.Context, env cloud.Cloud, tenant, scope string, transport policy.Transporter) (*me, error) {
	options := &azidentity.DefaultAzureCredentialOptions{
		ClientOptions: azcore.ClientOptions{
			Cloud: azurecloud.Configuration{ActiveDirectoryAuthorityHost: env.Authority}, Transport: transport,
		},
		DisableInstanceDiscovery: env.Custom,
		TenantID:                 tenant,
	}
	credential, err := azidentity.NewDefaultAzureCredential(options)
	if err != nil {
		return nil, asMeFailed(err)
	}
	u := &me{credential: credential, id: "me", tenant: tenant}
	token, err := u.token(ctx, scope)
	if err != nil {
		return nil, err
	}
	u.identify(string(token.Value))
	return u, nil
}

// identify reads the claims of the access token, which the user may see. AD FS may send tokens
// that are no JWTs.
func (u *me) identify(token string) {
	var claims struct {
		ObjectID string `json:"oid"`
		TenantID string `json:"tid"`
		UPN      string `json:"upn"`
		Name     string `json:"unique_name"`
		AppID    string `json:"appid"`
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return
	}
	body, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(body, &claims) != nil {
		return
	}
	for _, id := range []string{claims.ObjectID, claims.AppID} {
		if request.IsClientID(id) {
			u.id = id
			break
		}
	}
	if request.IsTenantID(claims.TenantID) {
		u.tenant = claims.TenantID
	}
	for _, name := range []string{claims.UPN, claims.Name} {
		if name != "" {
			u.name = name
			return
		}
	}
}

// String names the user.
func (u *me) String() string {
	text := "you"
	if u.name != "" {
		text = u.name
	}
	return fmt.Sprintf("%s (object ID %s in tenant %s)", text, u.id, u.tenant)
}

// token returns an access token of the user.
func (u *me) token(ctx context.Context, scope string) (entra.Token, error) {
	token, err := u.credential.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{scope}})
	if err != nil {
		return entra.Token{}, asMeFailed(err)
	}
	return entra.Token{Value: request.Secret(token.Token), ExpiresOn: token.ExpiresOn}, nil
}

// maxCause bounds what is shown of an error of azidentity, which lists each credential of the
// chain with the whole response.
const maxCause = 600

func asMeFailed(err error) error {
	cause := strings.Join(strings.Fields(err.Error()), " ")
	if len(cause) > maxCause {
		cause = strings.ToValidUTF8(cause[:maxCause], "") + "…"
	}
	return &fault.Error{Reason: fault.SignInFailed, Err: err, Cause: "you cannot be signed in: " + cause, Fix: "run az login, or set the variables of azidentity's EnvironmentCredential"}
}

// identity is what stands for the user in the provider's mount: it fits each class, whichever
// identity that names.
func (u *me) identity() request.Identity {
	return request.Identity{ClientID: u.id, TenantID: u.tenant, Tokens: map[string]request.Secret{entra.Audience: notRequested}}
}
