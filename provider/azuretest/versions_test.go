package azuretest_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"akv-csi-provider/provider/azuretest"
)

// pages reads a list to its end and returns the IDs and the number of pages.
func pages[T any](t *testing.T, p *runtime.Pager[T], ids func(T) []string) (all []string, n int) {
	t.Helper()
	for p.More() {
		page, err := p.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, ids(page)...)
		n++
	}
	return all, n
}

func TestVersions(t *testing.T) {
	now := &clock{now: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)}
	w := newWorld(t, azuretest.Options{Clock: now.Now})
	w.vault.Grant(clientID, azuretest.KeysList, azuretest.CertificatesList)
	o := through(transport(t, w.Box))
	c := w.credential(t, o, nil)
	client := secretsClient(t, w.vault.URL(), c, o)
	value := func(version string) string {
		t.Helper()
		got, err := client.GetSecret(t.Context(), "many", version, nil)
		if err != nil {
			t.Fatal(err)
		}
		return *got.Value
	}

	var versions []string
	for i := range 60 {
		versions = append(versions, w.vault.SetSecret("many", azuretest.Secret{Value: fmt.Sprint(i), Disabled: i == 7}))
		now.add(time.Second)
	}
	if got := value(""); got != "59" {
		t.Errorf("latest: got %s", got)
	}
	if got := value(versions[3]); got != "3" {
		t.Errorf("by version: got %s", got)
	}
	w.vault.SetSecret("many", azuretest.Secret{Value: "older", Created: now.Now().Add(-time.Hour)})
	if got := value(""); got != "59" {
		t.Errorf("latest after an older one was set: got %s", got)
	}
	w.vault.SetSecret("many", azuretest.Secret{Value: "first of two"})
	twin := w.vault.SetSecret("many", azuretest.Secret{Value: "second of two"})
	if got := value(""); got != "second of two" {
		t.Errorf("latest of two of one second: got %s", got)
	}
	w.vault.SetSecret("many", azuretest.Secret{Value: "replaced", Version: twin})
	if got := value(twin); got != "replaced" {
		t.Errorf("version set again: got %s", got)
	}

	var newest time.Time
	disabled := 0
	ids, n := pages(t, client.NewListSecretPropertiesVersionsPager("many", nil), func(p secretVersions) []string {
		var ids []string
		for _, one := range p.Value {
			ids = append(ids, one.ID.Version())
			if one.Attributes.Created.After(newest) {
				newest = *one.Attributes.Created
			}
			if !*one.Attributes.Enabled {
				disabled++
			}
		}
		return ids
	})
	if len(ids) != 63 || n != 3 || !slices.IsSorted(ids) || disabled != 1 || !newest.Equal(now.Now()) {
		t.Errorf("versions: got %d on %d pages, sorted %t, %d disabled, newest %s", len(ids), n, slices.IsSorted(ids), disabled, newest)
	}
	if ids, n := pages(t, client.NewListSecretPropertiesVersionsPager("none", nil), func(p secretVersions) []string {
		return make([]string, len(p.Value))
	}); len(ids) != 0 || n != 1 {
		t.Errorf("versions of nothing: got %d on %d pages, want an empty page as Key Vault sends", len(ids), n)
	}
}

var nextLink = regexp.MustCompile(`^https://contoso\.vault\.azure\.net:443/secrets\?api-version=7\.5&\$skiptoken=([0-9A-Za-z_-]+)&maxresults=3$`)

// The link to the next page has an opaque token, names the port and has the size of the page.
func TestNextLink(t *testing.T) {
	w := newWorld(t, azuretest.Options{})
	for i := range 3 {
		w.vault.SetSecret(fmt.Sprintf("s%d", i), azuretest.Secret{Value: "x"})
	}
	token := w.token(t, "https://vault.azure.net")
	address := w.vault.URL() + "/secrets?api-version=7.5&maxresults=3"
	var names []string
	for address != "" {
		_, body := send(t, transport(t, w.Box), "GET", address, token, nil)
		var page struct {
			Value []struct {
				ID         string         `json:"id"`
				Attributes map[string]any `json:"attributes"`
			} `json:"value"`
			NextLink string `json:"nextLink"`
		}
		decode(t, strings.NewReader(string(body)), &page)
		for _, one := range page.Value {
			names = append(names, strings.TrimPrefix(one.ID, w.vault.URL()+"/secrets/"))
		}
		address = page.NextLink
		if m := nextLink.FindStringSubmatch(address); address != "" && (m == nil || len(m[1]) < 150 || len(m[1]) > 400) {
			t.Fatalf("next link: got %s", address)
		}
	}
	if want := []string{"my-secret", "s0", "s1", "s2"}; !slices.Equal(names, want) {
		t.Errorf("names: got %q, want %q", names, want)
	}
	if got := w.Count(azuretest.List); got != 2 {
		t.Errorf("pages: got %d", got)
	}
}

func TestListsOfKeysAndCertificates(t *testing.T) {
	w := newWorld(t, azuretest.Options{})
	w.vault.Grant(clientID, azuretest.KeysList, azuretest.CertificatesList)
	o := through(transport(t, w.Box))
	c := w.credential(t, o, nil)
	der := certificate(t)
	for range 26 {
		w.vault.SetCertificate("tls", azuretest.Certificate{DER: der, SecretValue: "cGZ4"})
	}
	ids, n := pages(t, keysClient(t, w.vault.URL(), c, o).NewListKeyPropertiesVersionsPager("tls", nil), func(p keyVersions) []string {
		var ids []string
		for _, one := range p.Value {
			ids = append(ids, one.KID.Version())
		}
		return ids
	})
	if len(ids) != 26 || n != 2 {
		t.Errorf("keys: got %d on %d pages", len(ids), n)
	}
	certificates := certificatesClient(t, w.vault.URL(), c, o)
	ofCertificates, n := pages(t, certificates.NewListCertificatePropertiesVersionsPager("tls", nil), func(p certificateVersions) []string {
		var ids []string
		for _, one := range p.Value {
			ids = append(ids, one.ID.Version())
		}
		return ids
	})
	if !slices.Equal(ids, ofCertificates) || n != 2 {
		t.Errorf("certificates: got %d on %d pages, want the keys' versions", len(ofCertificates), n)
	}
	names, _ := pages(t, certificates.NewListCertificatePropertiesPager(nil), func(p certificateNames) []string {
		var names []string
		for _, one := range p.Value {
			names = append(names, one.ID.Name()+one.ID.Version())
		}
		return names
	})
	if !slices.Equal(names, []string{"tls"}) {
		t.Errorf("names: got %q", names)
	}
}
