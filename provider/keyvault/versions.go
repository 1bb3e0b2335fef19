package keyvault

import (
	"context"
	"slices"
	"strings"
	"time"

	"akv-csi-provider/provider/request"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azcertificates"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
)

// version is an entry of the list of an object's versions.
type version struct {
	id      string
	created time.Time // zero if the vault did not say
	enabled bool
}

// listSize is about what a list of versions takes in memory.
func listSize(all []version) int { return perEntry + 96*len(all) }

// Bounds of one list: the pages that are read, and the entries that Key Vault puts
// on one.
const (
	maxPages = 400
	pageSize = 25
)

// versions lists the enabled versions of an object, newest first. Versions created within
// the same second, the unit of Key Vault's times, stay in the order in which it lists them.
func (v *vault) versions(ctx context.Context, o Object) ([]version, error) {
	all, err := v.list(ctx, o)
	if err != nil {
		return nil, err
	}
	enabled := slices.DeleteFunc(all, func(v version) bool { return !v.enabled })
	slices.SortStableFunc(enabled, func(a, b version) int { return b.created.Compare(a.created) })
	return enabled, nil
}

// latestFrom returns the IDs of at most n versions from start on ("" is the latest); none
// if that is not one of them.
func latestFrom(versions []version, start string, n int) []string {
	if start != "" {
		i := slices.IndexFunc(versions, func(v version) bool { return strings.EqualFold(v.id, start) })
		if i < 0 {
			return nil
		}
		versions = versions[i:]
	}
	ids := make([]string, min(n, len(versions)))
	for i := range ids {
		ids[i] = versions[i].id
	}
	return ids
}

// list lists all versions of an object, in the vault's order, which says nothing of their
// age.
func (v *vault) list(ctx context.Context, o Object) ([]version, error) {
	switch o.Type {
	case request.TypeKey:
		return pages(ctx, v.keys.NewListKeyPropertiesVersionsPager(o.Name, nil),
			func(page azkeys.ListKeyPropertiesVersionsResponse) []*azkeys.KeyProperties { return page.Value },
			func(p *azkeys.KeyProperties) version {
				if p.Attributes == nil {
					return version{}
				}
				return newVersion(p.KID, p.Attributes.Created, p.Attributes.Enabled)
			})
	case request.TypeCert:
		return pages(ctx, v.certificates.NewListCertificatePropertiesVersionsPager(o.Name, nil),
			func(page azcertificates.ListCertificatePropertiesVersionsResponse) []*azcertificates.CertificateProperties {
				return page.Value
			},
			func(p *azcertificates.CertificateProperties) version {
				if p.Attributes == nil {
					return version{}
				}
				return newVersion(p.ID, p.Attributes.Created, p.Attributes.Enabled)
			})
	}
	return pages(ctx, v.secrets.NewListSecretPropertiesVersionsPager(o.Name, nil),
		func(page azsecrets.ListSecretPropertiesVersionsResponse) []*azsecrets.SecretProperties {
			return page.Value
		},
		func(p *azsecrets.SecretProperties) version {
			if p.Attributes == nil {
				return version{}
			}
			return newVersion(p.ID, p.Attributes.Created, p.Attributes.Enabled)
		})
}

// newVersion makes an entry of the list, which is empty if it has no ID of a version.
func newVersion[ID ~string](id *ID, created *time.Time, enabled *bool) (v version) {
	_, text := parseID(id)
	if !versionID.MatchString(text) {
		return v
	}
	v.id, v.enabled = text, enabled == nil || *enabled
	if created != nil {
		v.created = *created
	}
	return v
}

// pages reads all pages of a list. A page that fails is retried below the SDK's pager, by
// the throttle, so that the pager never fails halfway.
func pages[Page, Item any](ctx context.Context, pager *runtime.Pager[Page], items func(Page) []*Item, read func(*Item) version) ([]version, error) {
	var all []version
	for n := 0; pager.More(); n++ {
		if n == maxPages {
			return nil, errTooMany
		}
		page, err := pager.NextPage(ctx)
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
