package keyvault

import (
	"context"
	"net/url"
	"regexp"
	"strings"
	"time"

	"akv-csi-provider/provider/request"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azcertificates"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
)

// get reads one object, with one call of the SDK. An answer to another question is errForeign: it
// must never become a file.
func (v *vault) get(ctx context.Context, o Object) (Value, error) {
	switch o.Type {
	case request.TypeKey:
		resp, err := v.keys.GetKey(ctx, o.Name, o.Version, nil)
		if err != nil {
			return Value{}, err
		}
		return newKey(resp.KeyBundle, o)
	case request.TypeCert:
		resp, err := v.certificates.GetCertificate(ctx, o.Name, o.Version, nil)
		if err != nil {
			return Value{}, err
		}
		return newCertificate(resp.Certificate, o)
	}
	resp, err := v.secrets.GetSecret(ctx, o.Name, o.Version, o.conversion())
	if err != nil {
		return Value{}, err
	}
	return newSecret(resp.Secret, o)
}

// versionID is what Key Vault's versions look like. They are sent, logged and reported to the
// driver, so that no other text may pass for one.
var versionID = regexp.MustCompile(`^[0-9A-Za-z]{1,64}$`)

// parseID returns the name and the version in the ID of an object, such as
// https://contoso.vault.azure.net/secrets/NAME/VERSION; "" for what it lacks. The SDK's methods for
// this panic for some IDs.
func parseID[ID ~string](id *ID) (name, version string) {
	if id == nil {
		return "", ""
	}
	u, err := url.Parse(string(*id))
	if err != nil {
		return "", ""
	}
	parts := append(strings.Split(strings.TrimPrefix(u.Path, "/"), "/"), "", "")
	return parts[1], parts[2]
}

// newValue makes a value of the object's version that the ID names, without content. ok reports
// whether it is the requested version.
func newValue[ID ~string](id *ID, o Object, enabled *bool, notBefore, expires *time.Time) (v Value, ok bool) {
	name, version := parseID(id)
	v = Value{Version: version, Disabled: isFalse(enabled), NotBefore: notBefore, Expires: expires}
	return v, strings.EqualFold(name, o.Name) && versionID.MatchString(version) && (o.Version == "" || strings.EqualFold(version, o.Version))
}

func isFalse(b *bool) bool { return b != nil && !*b }
func isTrue(b *bool) bool  { return b != nil && *b }

func newSecret(s azsecrets.Secret, o Object) (Value, error) {
	var a azsecrets.SecretAttributes
	if s.Attributes != nil {
		a = *s.Attributes
	}
	out, ok := newValue(s.ID, o, a.Enabled, a.NotBefore, a.Expires)
	out.Managed = s.KID != nil && *s.KID != ""
	if name, version := parseID(s.ID); version == "" && o.Version == "" && isTrue(s.Managed) && !out.Managed {
		ok = strings.EqualFold(name, o.Name) // a token of a managed storage account
	}
	if !ok || s.Value == nil {
		return Value{}, errForeign
	}
	out.Text = *s.Value
	if s.ContentType != nil {
		out.ContentType = *s.ContentType
	}
	return out, nil
}

func newKey(k azkeys.KeyBundle, o Object) (Value, error) {
	var a azkeys.KeyAttributes
	if k.Attributes != nil {
		a = *k.Attributes
	}
	if k.Key == nil || k.Key.Kty == nil {
		return Value{}, errForeign
	}
	out, ok := newValue(k.Key.KID, o, a.Enabled, a.NotBefore, a.Expires)
	if !ok {
		return Value{}, errForeign
	}
	out.Key = &Key{Type: string(*k.Key.Kty), N: k.Key.N, E: k.Key.E, X: k.Key.X, Y: k.Key.Y}
	if k.Key.Crv != nil {
		out.Key.Curve = string(*k.Key.Crv)
	}
	return out, nil
}

// newCertificate returns errNotIssued for a certificate that was requested, but of which there is
// nothing yet but its policy.
func newCertificate(c azcertificates.Certificate, o Object) (Value, error) {
	var a azcertificates.CertificateAttributes
	if c.Attributes != nil {
		a = *c.Attributes
	}
	out, ok := newValue(c.ID, o, a.Enabled, a.NotBefore, a.Expires)
	switch out.CER = c.CER; {
	case ok && len(c.CER) > 0:
		return out, nil
	case ok && (out.Disabled || c.Policy != nil):
		return Value{}, errNotIssued
	}
	return Value{}, errForeign
}
