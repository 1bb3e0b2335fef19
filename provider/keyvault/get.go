package keyvault

import (
	"context"
	"regexp"
	"strings"

	"akv-csi-provider/provider/request"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azcertificates"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
)

// get reads one object, with one call of the SDK.
func (v *vault) get(ctx context.Context, o Object) (Value, error) {
	value, err := v.getAny(ctx, o)
	if err == nil && value.Version == "" {
		return Value{}, errForeign
	}
	return value, err
}

// getAny is get before the check: a value without a version is an answer to another question,
// and must never become a file.
func (v *vault) getAny(ctx context.Context, o Object) (Value, error) {
	switch o.Type {
	case request.TypeKey:
		resp, err := v.keys.GetKey(ctx, o.Name, o.Version, nil)
		if err != nil {
			return Value{}, err
		}
		return newKey(resp.KeyBundle, o), nil
	case request.TypeCert:
		resp, err := v.certificates.GetCertificate(ctx, o.Name, o.Version, nil)
		if err != nil {
			return Value{}, err
		}
		return newCertificate(resp.Certificate, o), nil
	}
	resp, err := v.secrets.GetSecret(ctx, o.Name, o.Version, nil)
	if err != nil {
		return Value{}, err
	}
	return newSecret(resp.Secret, o), nil
}

// identifier is the ID of an object, a type of its own in each of the SDK's modules.
type identifier interface {
	Name() string
	Version() string
}

// versionID is what Key Vault's versions look like. They are sent, logged and reported to the
// driver, so that no other text may pass for one.
var versionID = regexp.MustCompile(`^[0-9A-Za-z]{1,64}$`)

// versionOf returns the version that the ID names, or "" if the ID is not the object's. For an
// ID that is not a URL with a path, the SDK's Version is "", and its Name would panic.
func versionOf(id identifier, o Object) string {
	if !versionID.MatchString(id.Version()) || !strings.EqualFold(id.Name(), o.Name) || o.Version != "" && !strings.EqualFold(id.Version(), o.Version) {
		return ""
	}
	return id.Version()
}

func newSecret(s azsecrets.Secret, o Object) Value {
	if s.Value == nil || s.ID == nil {
		return Value{}
	}
	out := Value{Version: versionOf(s.ID, o), Text: *s.Value, Managed: s.KID != nil}
	if s.ContentType != nil {
		out.ContentType = *s.ContentType
	}
	if s.Attributes != nil {
		out.NotBefore, out.Expires = s.Attributes.NotBefore, s.Attributes.Expires
	}
	return out
}

func newKey(k azkeys.KeyBundle, o Object) Value {
	if k.Key == nil || k.Key.KID == nil || k.Key.Kty == nil {
		return Value{}
	}
	out := Value{Version: versionOf(k.Key.KID, o), Key: &Key{Type: string(*k.Key.Kty), N: k.Key.N, E: k.Key.E, X: k.Key.X, Y: k.Key.Y}}
	if k.Key.Crv != nil {
		out.Key.Curve = string(*k.Key.Crv)
	}
	if k.Attributes != nil {
		out.NotBefore, out.Expires = k.Attributes.NotBefore, k.Attributes.Expires
	}
	return out
}

func newCertificate(c azcertificates.Certificate, o Object) Value {
	if c.ID == nil || len(c.CER) == 0 {
		return Value{}
	}
	out := Value{Version: versionOf(c.ID, o), CER: c.CER}
	if c.Attributes != nil {
		out.NotBefore, out.Expires = c.Attributes.NotBefore, c.Attributes.Expires
	}
	return out
}
