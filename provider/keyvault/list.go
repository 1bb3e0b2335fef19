package keyvault

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"time"

	"akv-csi-provider/provider/request"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azcertificates"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
)

// Item is an object in the list of a vault. Do not change its tags: callers may share them.
type Item struct {
	Name    string
	Enabled bool // the latest version is
	Managed bool // it is the key or the secret of a certificate
	Tags    map[string]string

	version string    // in the list of an object's versions, which has no names and tags
	created time.Time // zero if the vault did not say
}

// Bounds of one list: the pages that are read, the entries that Key Vault puts on one, and about
// the bytes of memory that all entries take. Key Vault's tags are at most 7.5 KiB for an object.
const (
	maxPages = 400
	pageSize = 25
	maxList  = 4 << 20
)

// size is about what an entry takes in memory.
func (i Item) size() int {
	n := 128 + len(i.Name)
	for name, value := range i.Tags {
		n += 64 + len(name) + len(value)
	}
	return n
}

// listSize is about what a list takes in memory.
func listSize(all []Item) int {
	n := perEntry
	for _, i := range all {
		n += i.size()
	}
	return n
}

// versions lists the enabled versions of an object, newest first. Versions created within
// the same second, the unit of Key Vault's times, stay in the order in which it lists them.
func (v *vault) versions(ctx context.Context, o Object) ([]Item, error) {
	all, err := v.list(ctx, o)
	if err != nil {
		return nil, err
	}
	enabled := slices.DeleteFunc(all, func(i Item) bool { return !i.Enabled })
	slices.SortStableFunc(enabled, func(a, b Item) int { return b.created.Compare(a.created) })
	return enabled, nil
}

// latestFrom returns the IDs of at most n versions from start on ("" is the latest); none
// if that is not one of them.
func latestFrom(versions []Item, start string, n int) []string {
	if start != "" {
		i := slices.IndexFunc(versions, func(v Item) bool { return strings.EqualFold(v.version, start) })
		if i < 0 {
			return nil
		}
		versions = versions[i:]
	}
	ids := make([]string, min(n, len(versions)))
	for i := range ids {
		ids[i] = versions[i].version
	}
	return ids
}

// objects lists the objects of a type by their names, each once: a list that changes while its
// pages are read may have one twice.
func (v *vault) objects(ctx context.Context, o Object) ([]Item, error) {
	all, err := v.list(ctx, o)
	slices.SortStableFunc(all, func(a, b Item) int { return strings.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)) })
	return slices.CompactFunc(all, func(a, b Item) bool { return strings.EqualFold(a.Name, b.Name) }), err
}

// list lists all versions of an object, or without a name all objects of the type, in the vault's
// order, which says nothing of their age.
func (v *vault) list(ctx context.Context, o Object) ([]Item, error) {
	switch {
	case o.Type == request.TypeKey && o.Name == "":
		return pages(ctx, o, v.keys.NewListKeyPropertiesPager(nil),
			func(page azkeys.ListKeyPropertiesResponse) []*azkeys.KeyProperties { return page.Value }, keyItem)
	case o.Type == request.TypeKey:
		return pages(ctx, o, v.keys.NewListKeyPropertiesVersionsPager(o.Name, nil),
			func(page azkeys.ListKeyPropertiesVersionsResponse) []*azkeys.KeyProperties { return page.Value }, keyItem)
	case o.Type == request.TypeCert && o.Name == "":
		return pages(ctx, o, v.certificates.NewListCertificatePropertiesPager(nil),
			func(page azcertificates.ListCertificatePropertiesResponse) []*azcertificates.CertificateProperties {
				return page.Value
			}, certificateItem)
	case o.Type == request.TypeCert:
		return pages(ctx, o, v.certificates.NewListCertificatePropertiesVersionsPager(o.Name, nil),
			func(page azcertificates.ListCertificatePropertiesVersionsResponse) []*azcertificates.CertificateProperties {
				return page.Value
			}, certificateItem)
	case o.Name == "":
		return pages(ctx, o, v.secrets.NewListSecretPropertiesPager(nil),
			func(page azsecrets.ListSecretPropertiesResponse) []*azsecrets.SecretProperties { return page.Value }, secretItem)
	}
	return pages(ctx, o, v.secrets.NewListSecretPropertiesVersionsPager(o.Name, nil),
		func(page azsecrets.ListSecretPropertiesVersionsResponse) []*azsecrets.SecretProperties {
			return page.Value
		}, secretItem)
}

// storageToken is the content type of the tokens of managed storage accounts, which are managed,
// but not of a certificate.
const storageToken = "application/vnd.ms-sastoken-storage"

func secretItem(p *azsecrets.SecretProperties) Item {
	if p.Attributes == nil {
		return Item{}
	}
	i := newItem(p.ID, p.Attributes.Created, p.Attributes.Enabled, p.Tags)
	i.Managed = isTrue(p.Managed) && (p.ContentType == nil || *p.ContentType != storageToken)
	return i
}

func keyItem(p *azkeys.KeyProperties) Item {
	if p.Attributes == nil {
		return Item{}
	}
	i := newItem(p.KID, p.Attributes.Created, p.Attributes.Enabled, p.Tags)
	i.Managed = isTrue(p.Managed)
	return i
}

func certificateItem(p *azcertificates.CertificateProperties) Item {
	if p.Attributes == nil {
		return Item{}
	}
	return newItem(p.ID, p.Attributes.Created, p.Attributes.Enabled, p.Tags)
}

func newItem[ID ~string](id *ID, created *time.Time, enabled *bool, tags map[string]*string) (i Item) {
	i.Name, i.version = parseID(id)
	i.Enabled = !isFalse(enabled)
	if created != nil {
		i.created = *created
	}
	for name, value := range tags {
		if value == nil {
			continue
		}
		if i.Tags == nil {
			i.Tags = make(map[string]string, len(tags))
		}
		i.Tags[name] = *value
	}
	return i
}

// objectName is what the names of Key Vault's objects look like. They become files, so that no
// other text may pass for one.
var objectName = regexp.MustCompile(`^[0-9A-Za-z-]{1,127}$`)

// reduce leaves of an entry what the list of the object needs. ok is false if the entry is of
// nothing that such a list can have.
func (i Item) reduce(o Object) (_ Item, ok bool) {
	if o.Name == "" {
		return i, objectName.MatchString(i.Name)
	}
	i.Name, i.Tags = "", nil
	return i, versionID.MatchString(i.version)
}

// pages reads all pages of the object's list. A page that fails is retried below the SDK's pager,
// by the throttle, so that the pager never fails halfway.
func pages[Page, Properties any](ctx context.Context, o Object, pager *runtime.Pager[Page], properties func(Page) []*Properties, read func(*Properties) Item) ([]Item, error) {
	var all []Item
	count, size := 0, 0
	for n := 0; pager.More(); n++ {
		if n == maxPages {
			return nil, errTooMany
		}
		page, err := pager.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		count += len(properties(page))
		for _, p := range properties(page) {
			if count > maxPages*pageSize || size > maxList {
				return nil, errTooMany
			}
			if p == nil {
				continue
			}
			if i, ok := read(p).reduce(o); ok {
				size += i.size()
				all = append(all, i)
			}
		}
	}
	return all, nil
}
