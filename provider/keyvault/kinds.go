package keyvault

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"akv-csi-provider/provider/request"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azcertificates"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
)

// get reads one object. A value without a version is an answer for something else
// than was asked for, which must never become a file.
func (v *vault) get(ctx context.Context, o Object) (Value, error) {
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

// versionOf returns the version that the ID names if it is of the object, else "".
// Of what is no URL with a path, the SDK's Name would panic and its Version is "".
func versionOf(id identifier, o Object) string {
	if id.Version() == "" || !strings.EqualFold(id.Name(), o.Name) || o.Version != "" && !strings.EqualFold(id.Version(), o.Version) {
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

// version is an entry of the list of an object's versions.
type version struct {
	id      string
	created time.Time // zero if the vault did not say
	enabled bool
}

// versions lists all versions of an object, in the vault's order, which says nothing
// of their age.
func (v *vault) versions(ctx context.Context, o Object, ask asker) ([]version, error) {
	switch o.Type {
	case request.TypeKey:
		return list(ctx, ask, func() *runtime.Pager[azkeys.ListKeyPropertiesVersionsResponse] {
			return v.keys.NewListKeyPropertiesVersionsPager(o.Name, nil)
		},
			func(page azkeys.ListKeyPropertiesVersionsResponse) []*azkeys.KeyProperties { return page.Value },
			func(p *azkeys.KeyProperties) (out version) {
				if p.KID != nil {
					out.id = p.KID.Version()
				}
				if a := p.Attributes; a != nil {
					out.fill(a.Created, a.Enabled)
				}
				return out
			})
	case request.TypeCert:
		return list(ctx, ask, func() *runtime.Pager[azcertificates.ListCertificatePropertiesVersionsResponse] {
			return v.certificates.NewListCertificatePropertiesVersionsPager(o.Name, nil)
		},
			func(page azcertificates.ListCertificatePropertiesVersionsResponse) []*azcertificates.CertificateProperties {
				return page.Value
			},
			func(p *azcertificates.CertificateProperties) (out version) {
				if p.ID != nil {
					out.id = p.ID.Version()
				}
				if a := p.Attributes; a != nil {
					out.fill(a.Created, a.Enabled)
				}
				return out
			})
	}
	return list(ctx, ask, func() *runtime.Pager[azsecrets.ListSecretPropertiesVersionsResponse] {
		return v.secrets.NewListSecretPropertiesVersionsPager(o.Name, nil)
	},
		func(page azsecrets.ListSecretPropertiesVersionsResponse) []*azsecrets.SecretProperties {
			return page.Value
		},
		func(p *azsecrets.SecretProperties) (out version) {
			if p.ID != nil {
				out.id = p.ID.Version()
			}
			if a := p.Attributes; a != nil {
				out.fill(a.Created, a.Enabled)
			}
			return out
		})
}

func (v *version) fill(created *time.Time, enabled *bool) {
	if created != nil {
		v.created = *created
	}
	v.enabled = enabled == nil || *enabled
}

// Bounds of one list: the pages that are read, and the entries that Key Vault puts
// on one.
const (
	maxPages = 400
	pageSize = 25
)

// list reads all pages. The SDK's pager is of no use once a page has failed: it gives the
// same error without a request. So another try takes a new one, from the last page on.
func list[Page, Item any](ctx context.Context, ask asker, newPager func() *runtime.Pager[Page], items func(Page) []*Item, read func(*Item) version) ([]version, error) {
	var all []version
	var page Page
	pager := newPager()
	for pages := 0; pager.More(); pages++ {
		if pages == maxPages {
			return nil, errTooMany
		}
		failed := false
		err := ask(ctx, func(ctx context.Context) error {
			if failed {
				pager = newPager()
				if pages > 0 {
					text, err := json.Marshal(page)
					if err == nil {
						err = pager.UnmarshalJSON(text)
					}
					if err == nil {
						_, err = pager.NextPage(ctx) // the page itself, without a request
					}
					if err != nil {
						return bug{err}
					}
				}
			}
			next, err := pager.NextPage(ctx)
			if failed = err != nil; !failed {
				page = next
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		if len(all)+len(items(page)) > maxPages*pageSize {
			return nil, errTooMany
		}
		for _, item := range items(page) {
			if item == nil {
				continue
			}
			if v := read(item); v.id != "" {
				all = append(all, v)
			}
		}
	}
	return all, nil
}
