package azuretest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha1" // the thumbprint of certificates (x5t) is a SHA-1
	"crypto/x509"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azcertificates"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
)

// Secret is a version of a secret. A Version that exists is replaced; "" makes a new one. A zero
// Created is the fake's clock.
type Secret struct {
	Value       string
	ContentType string // "" sends none, as for a secret without one
	Disabled    bool
	NotBefore   *time.Time
	Expires     *time.Time
	KID         string // the key's ID if a certificate is behind the secret
	Version     string
	Created     time.Time
	Tags        map[string]string
	// Token makes it the token of a managed storage account: its ID has no version.
	Token bool
}

// Key is a version of a key.
type Key struct {
	Public    crypto.PublicKey // *rsa.PublicKey or *ecdsa.PublicKey; may be nil if Kty is set
	HSM       bool             // RSA-HSM, EC-HSM
	Kty       string           // overrides the type, for those a provider cannot write, such as oct-HSM
	Disabled  bool
	NotBefore *time.Time
	Expires   *time.Time
	Version   string
	Created   time.Time
	Tags      map[string]string
}

// Certificate is a version of a certificate, with the value of the secret that Key Vault stores under
// the same name and version.
type Certificate struct {
	DER         []byte // the certificate; if it cannot be parsed there is no key behind it
	NotIssued   bool   // it was requested, but its issuer has not issued it: there is no DER, and it is disabled
	ContentType string // of the secret: application/x-pkcs12 (default) or application/x-pem-file
	SecretValue string // base64 of a PFX, or PEM
	Disabled    bool
	NotBefore   *time.Time
	Expires     *time.Time
	Version     string
	Created     time.Time
	Tags        map[string]string
}

// recovery is what every vault with soft delete says of its objects.
const (
	recoveryLevel   = "Recoverable+Purgeable"
	recoverableDays = int32(90)
)

// identify completes version and time, and returns the object's ID with and without its version.
// Key Vault stores times in seconds.
func (v *Vault) identify(c collection, name string, id *string, created *time.Time) (withVersion, without string) {
	if !objectName.MatchString(name) {
		panic(fmt.Sprintf("azuretest: %q is no name of a Key Vault object", name))
	}
	if *id == "" {
		*id = randomHex(32)
	}
	if created.IsZero() {
		*created = v.box.clock()
	}
	*created = created.UTC().Truncate(time.Second)
	without = v.URL() + "/" + string(c) + "/" + name
	return without + "/" + *id, without
}

// SetSecret adds a version of a secret and returns its ID.
func (v *Vault) SetSecret(name string, s Secret) (version string) {
	id, without := v.identify(secrets, name, &s.Version, &s.Created)
	attributes := &azsecrets.SecretAttributes{
		Enabled: ptr(!s.Disabled), NotBefore: s.NotBefore, Expires: s.Expires, Created: &s.Created, Updated: &s.Created,
		RecoveryLevel: ptr(recoveryLevel), RecoverableDays: ptr(recoverableDays),
	}
	body := azsecrets.Secret{ID: ptr(azsecrets.ID(id)), Value: &s.Value, Attributes: attributes}
	item := azsecrets.SecretProperties{ID: ptr(azsecrets.ID(id)), Attributes: attributes}
	if s.ContentType != "" {
		body.ContentType, item.ContentType = &s.ContentType, &s.ContentType
	}
	if s.KID != "" {
		body.KID, body.Managed, item.Managed = ptr(azsecrets.ID(s.KID)), ptr(true), ptr(true)
	}
	body.Tags, item.Tags = tags(s.Tags), tags(s.Tags)
	if s.Token {
		body.ID, body.Managed, item.Managed = ptr(azsecrets.ID(without)), ptr(true), ptr(true)
		attributes.Created, attributes.Updated = nil, nil
	}
	summary := item
	summary.ID = ptr(azsecrets.ID(without))
	v.store(secrets, name, s.Version, s.Created, s.Disabled, body, item, summary)
	return s.Version
}

// SetKey adds a version of a key and returns its ID.
func (v *Vault) SetKey(name string, k Key) (version string) { return v.setKey(name, k, false) }

func (v *Vault) setKey(name string, k Key, managed bool) string {
	id, without := v.identify(keys, name, &k.Version, &k.Created)
	attributes := &azkeys.KeyAttributes{
		Enabled: ptr(!k.Disabled), NotBefore: k.NotBefore, Expires: k.Expires, Created: &k.Created, Updated: &k.Created,
		RecoveryLevel: ptr(recoveryLevel), RecoverableDays: ptr(recoverableDays), Exportable: ptr(false),
	}
	webKey := jsonWebKey(k)
	webKey.KID = ptr(azkeys.ID(id))
	body := azkeys.KeyBundle{Key: webKey, Attributes: attributes}
	item := azkeys.KeyProperties{KID: webKey.KID, Attributes: attributes}
	if managed {
		body.Managed, item.Managed = ptr(true), ptr(true)
	}
	body.Tags, item.Tags = tags(k.Tags), tags(k.Tags)
	summary := item
	summary.KID = ptr(azkeys.ID(without))
	v.store(keys, name, k.Version, k.Created, k.Disabled, body, item, summary)
	return k.Version
}

// jsonWebKey writes a public key as Key Vault does: the exponent of an RSA-HSM key has a leading zero,
// coordinates have the full length of the curve, but for P-521, where leading zeros are missing.
func jsonWebKey(k Key) *azkeys.JSONWebKey {
	web := &azkeys.JSONWebKey{KeyOps: []*azkeys.KeyOperation{ptr(azkeys.KeyOperationVerify)}}
	var kty string
	switch public := k.Public.(type) {
	case *rsa.PublicKey:
		kty = "RSA"
		web.N, web.E = public.N.Bytes(), big.NewInt(int64(public.E)).Bytes()
		if k.HSM {
			web.E = append([]byte{0}, web.E...)
		}
	case *ecdsa.PublicKey:
		kty = "EC"
		point, err := public.Bytes()
		if err != nil {
			panic(fmt.Sprintf("azuretest: public key: %v", err))
		}
		half := (len(point) - 1) / 2
		web.X, web.Y = point[1:1+half], point[1+half:]
		if public.Curve == elliptic.P521() {
			web.X, web.Y = bytes.TrimLeft(web.X, "\x00"), bytes.TrimLeft(web.Y, "\x00")
		}
		web.Crv = ptr(curveName(public.Curve))
	case nil:
		if k.Kty == "" {
			panic("azuretest: a key needs a public key or a type")
		}
	default:
		panic(fmt.Sprintf("azuretest: no public key of Key Vault: %T", public))
	}
	if k.HSM {
		kty += "-HSM"
	}
	if k.Kty != "" {
		kty = k.Kty
	}
	web.Kty = ptr(azkeys.KeyType(kty))
	return web
}

func curveName(c elliptic.Curve) azkeys.CurveName {
	switch c {
	case elliptic.P256():
		return azkeys.CurveNameP256
	case elliptic.P384():
		return azkeys.CurveNameP384
	case elliptic.P521():
		return azkeys.CurveNameP521
	}
	panic("azuretest: Key Vault has no such curve: " + c.Params().Name)
}

// SetCertificate adds a version of a certificate and returns its ID. Key Vault stores the key and the
// secret of a certificate under the same name and version, and so does the fake.
func (v *Vault) SetCertificate(name string, c Certificate) (version string) {
	id, without := v.identify(certificates, name, &c.Version, &c.Created)
	if c.ContentType == "" {
		c.ContentType = "application/x-pkcs12"
	}
	if c.NotIssued {
		c.Disabled, c.DER = true, nil
	}
	kid := v.URL() + "/keys/" + name + "/" + c.Version
	if parsed, err := x509.ParseCertificate(c.DER); err == nil {
		v.setKey(name, Key{
			Public: parsed.PublicKey, Disabled: c.Disabled, NotBefore: c.NotBefore, Expires: c.Expires,
			Version: c.Version, Created: c.Created, Tags: c.Tags,
		}, true)
	}
	v.SetSecret(name, Secret{
		Value: c.SecretValue, ContentType: c.ContentType, KID: kid, Disabled: c.Disabled,
		NotBefore: c.NotBefore, Expires: c.Expires, Version: c.Version, Created: c.Created, Tags: c.Tags,
	})
	attributes := &azcertificates.CertificateAttributes{
		Enabled: ptr(!c.Disabled), NotBefore: c.NotBefore, Expires: c.Expires, Created: &c.Created, Updated: &c.Created,
		RecoveryLevel: ptr(recoveryLevel), RecoverableDays: ptr(recoverableDays),
	}
	thumbprint := sha1.Sum(c.DER) // see the import
	policy := azcertificates.ID(without + "/policy")
	body := azcertificates.Certificate{
		ID: ptr(azcertificates.ID(id)), KID: ptr(azcertificates.ID(kid)),
		SID: ptr(azcertificates.ID(strings.Replace(kid, "/keys/", "/secrets/", 1))),
		CER: c.DER, X509Thumbprint: thumbprint[:], Attributes: attributes,
		Policy: &azcertificates.CertificatePolicy{
			ID: &policy, SecretProperties: &azcertificates.SecretProperties{ContentType: &c.ContentType},
		},
	}
	if c.NotIssued {
		body.KID, body.SID, body.X509Thumbprint = nil, nil, nil
	}
	body.Tags = tags(c.Tags)
	item := azcertificates.CertificateProperties{ID: body.ID, Attributes: attributes, X509Thumbprint: body.X509Thumbprint, Tags: body.Tags}
	summary := item
	summary.ID = ptr(azcertificates.ID(without))
	v.store(certificates, name, c.Version, c.Created, c.Disabled, body, item, summary)
	return c.Version
}

// store marshals the SDK's models once, not at every request.
func (v *Vault) store(c collection, name, id string, created time.Time, disabled bool, body, item, summary json.Marshaler) {
	v.put(c, name, &version{
		id: id, created: created, disabled: disabled,
		body: mustJSON(body), item: mustJSON(item), summary: mustJSON(summary),
	})
}

// tags are in the form of the SDK's models; nil for none.
func tags(all map[string]string) map[string]*string {
	var out map[string]*string
	for name, value := range all {
		if out == nil {
			out = make(map[string]*string, len(all))
		}
		out[name] = &value
	}
	return out
}

func ptr[T any](v T) *T { return &v }
