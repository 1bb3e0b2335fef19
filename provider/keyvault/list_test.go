package keyvault_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/request"
)

// collections are the types as Key Vault's paths name them.
var collections = map[request.Type]string{request.TypeSecret: "secrets", request.TypeKey: "keys", request.TypeCert: "certificates"}

// listedObject is an entry of a list of objects.
func listedObject(collection, id, rest string) string {
	return fmt.Sprintf(`{"id":"https://contoso.vault.azure.net/%[1]s/%[2]s","kid":"https://contoso.vault.azure.net/%[1]s/%[2]s",%[3]s}`, collection, id, rest)
}

func TestList(t *testing.T) {
	for kind, collection := range collections {
		t.Run(string(kind), func(t *testing.T) {
			const on = `"attributes":{"enabled":true}`
			r := reader(t, 1, func(req *http.Request) (*http.Response, error) {
				if req.URL.Path != "/"+collection || req.Header.Get("Authorization") != "Bearer token of x" {
					t.Errorf("path %s", req.URL.Path)
				}
				if req.URL.Query().Get("$skiptoken") == "" {
					return answer(http.StatusOK, `{"value":[null,{},`+listedObject(collection, "b", on+`,"managed":true,"tags":{"env":"prod","none":null}`)+","+
						listedObject(collection, "C", on)+`],"nextLink":"https://contoso.vault.azure.net:443/`+collection+`?api-version=7.4&$skiptoken=x"}`)
				}
				return answer(http.StatusOK, `{"value":[`+listedObject(collection, "c", on)+","+listedObject(collection, "a", `"attributes":{"enabled":false}`)+","+
					listedObject(collection, "..%2Fx", on)+","+listedObject(collection, "under_score", on)+","+listedObject(collection, "", on)+","+
					listedObject(collection, "sas", on+`,"managed":true,"contentType":"application/vnd.ms-sastoken-storage"`)+`]}`)
			})
			got, err := r.List(t.Context(), caller("a"), host, kind, fresh())()
			if err != nil {
				t.Fatal(err)
			}
			var text []string
			for _, i := range got {
				text = append(text, fmt.Sprintf("%s %t %t %v", i.Name, i.Enabled, i.Managed, i.Tags))
			}
			want := []string{"a false false map[]", fmt.Sprintf("b true %t map[env:prod]", kind != request.TypeCert), "C true false map[]",
				fmt.Sprintf("sas true %t map[]", kind == request.TypeKey)}
			if !slices.Equal(text, want) {
				t.Errorf("got %q, want %q", text, want)
			}
		})
	}
}

// A list is shared by the callers of one principal, and serves rotations for a while, but no other
// principal and no pod that starts later.
func TestListIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var requests atomic.Int32
		r := configured(t, func(*http.Request) (*http.Response, error) {
			requests.Add(1)
			time.Sleep(rtt)
			return answer(http.StatusOK, `{"value":[`+listedObject("secrets", "a", `"attributes":{"enabled":true}`)+`]}`)
		}, func(c *keyvault.Config) { c.CacheTTL = ttl })
		list := func(who string, kind request.Type, need keyvault.Freshness, want int32) {
			t.Helper()
			before := requests.Load()
			one, two := r.List(t.Context(), caller(who), host, kind, need), r.List(t.Context(), caller(who), host, kind, need)
			for _, wait := range []func() ([]keyvault.Item, error){one, two} {
				if _, err := wait(); err != nil {
					t.Error(err)
				}
			}
			if n := requests.Load() - before; n != want {
				t.Errorf("%s: %d requests, want %d", who, n, want)
			}
		}
		list("a", request.TypeSecret, fresh(), 1)
		list("a", request.TypeSecret, later(), 0)
		list("b", request.TypeSecret, later(), 1)
		list("a", request.TypeKey, later(), 1)
		time.Sleep(time.Second)
		list("a", request.TypeSecret, fresh(), 1)
		// The list of an object's versions is another one.
		if _, err := r.Versions(t.Context(), caller("a"), object(request.TypeSecret, "a"), 2, later())(); err != nil || requests.Load() != 5 {
			t.Errorf("%d requests, %v", requests.Load(), err)
		}
		time.Sleep(time.Hour)
	})
}

func TestListIsRefused(t *testing.T) {
	for kind, says := range map[request.Type]string{
		request.TypeSecret: "is not allowed to list the secrets of contoso.vault.azure.net for find",
		request.TypeKey:    "is not allowed to list the keys of", request.TypeCert: "is not allowed to list the certificates of",
	} {
		r := reader(t, 1, func(*http.Request) (*http.Response, error) {
			return answer(http.StatusForbidden, `{"error":{"code":"Forbidden","innererror":{"code":"ForbiddenByPolicy"}}}`)
		})
		_, err := r.List(t.Context(), caller("a"), host, kind, fresh())()
		wantReason(t, err, fault.AccessDenied)
		if err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "get list") || strings.Contains(err.Error(), "{") {
			t.Errorf("got %v", err)
		}
	}
	// A role on objects lists nothing: this one is on the vault, and reads no secret.
	denied := reader(t, 1, func(*http.Request) (*http.Response, error) {
		return answer(http.StatusForbidden, `{"error":{"code":"Forbidden","innererror":{"code":"ForbiddenByRbac"}}}`)
	})
	_, err := denied.List(t.Context(), caller("a"), host, request.TypeSecret, fresh())()
	if want := `--role "Key Vault Reader" --scope "$(az keyvault show -n contoso --query id -o tsv)"` + "` (takes"; err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "{") {
		t.Errorf("got %v", err)
	}
	r := reader(t, 1, func(*http.Request) (*http.Response, error) { return answer(http.StatusServiceUnavailable, "") })
	_, err = r.List(t.Context(), caller("a"), host, request.TypeCert, fresh())()
	wantReason(t, err, fault.ServiceUnavailable)
	if err == nil || !strings.Contains(err.Error(), "for the list of its certificates") {
		t.Errorf("got %v", err)
	}
}

// What a list takes of memory is bounded: its pages, its entries and their tags.
func TestListIsBounded(t *testing.T) {
	fat := strings.Repeat("x", 1<<19)
	for name, value := range map[string]string{
		"pages":   "",
		"entries": strings.TrimSuffix(strings.Repeat(listedObject("secrets", "a", `"attributes":{}`)+",", 5000), ","),
		"tags":    listedObject("secrets", "a", `"attributes":{},"tags":{"t":"`+fat+`"}`),
	} {
		t.Run(name, func(t *testing.T) {
			pages := 0
			r := reader(t, 1, func(*http.Request) (*http.Response, error) {
				pages++
				return answer(http.StatusOK, `{"value":[`+value+`],"nextLink":"https://contoso.vault.azure.net/secrets?api-version=7.4&$skiptoken=x"}`)
			})
			_, err := r.List(t.Context(), caller("a"), host, request.TypeSecret, fresh())()
			wantReason(t, err, fault.VaultRefused)
			if err == nil || !strings.Contains(err.Error(), "find") {
				t.Errorf("got %v", err)
			}
			if most := map[string]int{"pages": 400, "entries": 3, "tags": 10}[name]; pages > most {
				t.Errorf("%d pages were read", pages)
			}
		})
	}
}
