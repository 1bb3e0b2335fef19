package keyvault_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/request"
)

// refuse is the 400 for a version of the API that the vault does not have.
func refuse(req *http.Request, consider string) (*http.Response, error) {
	return answer(http.StatusBadRequest, fmt.Sprintf(`{"error":{"code":"BadParameter","message":"The specified version (%s) is not recognized.%s"}}`,
		req.URL.Query().Get("api-version"), consider))
}

func latest(version string) string {
	return " Consider using the latest supported version (" + version + ")."
}

// What a vault says of its versions, which versions are then sent, and what comes of it.
func TestAPIVersion(t *testing.T) {
	newest := "2026-04-01"
	for name, c := range map[string]struct {
		begin    string // with this version
		consider string
		supports string
		sent     string
		works    bool
	}{
		"the newest":           {"", "", newest, newest, true},
		"that of the cloud":    {"7.1", "", "7.1", "7.1", true},
		"older":                {"", latest("7.1"), "7.1", newest + " 7.1", true},
		"a date":               {"", latest("2016-10-01"), "2016-10-01", newest + " 2016-10-01", true},
		"a preview":            {"", latest("7.6-preview.2"), "7.6-preview.2", newest + " 7.6-preview.2", true},
		"newer than requested": {"7.1", latest("7.4"), "7.4", "7.1 7.4", true},
		"a list":               {"", " The supported API-versions are '2016-10-01, 7.0, 7.1'.", "7.1", newest + " 7.1", true},
		"refused as well":      {"", latest("7.1"), "none", newest + " 7.1", false},
		"named and refused":    {"7.1", latest("7.1"), "none", "7.1", false},
		"none named":           {"", "", "none", newest, false},
		"not a version":        {"", latest("../x&a=b"), "../x&a=b", newest, false},
		"a version and words":  {"", latest("7.1&a=b"), "7.1&a=b", newest + " 7.1", false},
	} {
		t.Run(name, func(t *testing.T) {
			var sent []string
			r := reader(t, 1, func(req *http.Request) (*http.Response, error) {
				version := req.URL.Query().Get("api-version")
				sent = append(sent, version)
				if len(req.URL.Query()) != 1 || req.Header.Get("Authorization") != "Bearer token of x" {
					t.Errorf("query %s, token %q", req.URL.RawQuery, req.Header.Get("Authorization"))
				}
				if version != c.supports {
					return refuse(req, c.consider)
				}
				return secret(req, "v")
			})
			who := caller("a")
			who.APIVersion = c.begin
			_, err := r.Get(t.Context(), who, object(request.TypeSecret, "s"), fresh())()
			if got := strings.Join(sent, " "); got != c.sent || c.works != (err == nil) {
				t.Fatalf("sent %s, want %s; %v", got, c.sent, err)
			}
			if !c.works {
				wantReason(t, err, fault.VaultRefused)
				if err == nil || !strings.Contains(err.Error(), "API version") || strings.Contains(err.Error(), "objectName") {
					t.Errorf("got %v", err)
				}
				return
			}
			if _, err = r.Get(t.Context(), who, object(request.TypeSecret, "s"), fresh())(); err != nil || len(sent) != len(strings.Fields(c.sent))+1 {
				t.Errorf("then sent %q, %v", sent, err)
			}
		})
	}
}

// Not every cloud refuses a version in the words of Key Vault.
func TestWordsOfAVersionRefusal(t *testing.T) {
	for _, c := range []struct {
		message string // %s is the version
		sent    string
	}{
		{"The version (%s) specified is not recognised. Consider using the latest supported version (7.1).", "2026-04-01 7.1"},
		{"THE SPECIFIED VERSION (%s) IS NOT RECOGNIZED. CONSIDER USING THE LATEST SUPPORTED VERSION (7.1).", "2026-04-01 7.1"},
		{"The requested version %s is unknown. Latest supported version is 7.1.", "2026-04-01 7.1"},
		{"API version %s is not supported; use 7.1", "2026-04-01 7.1"},
		{"The api-version '%s' is not valid. The supported versions are '2016-10-01,7.0,7.1'.", "2026-04-01 7.1"},
		{"Unsupported api-version %s. Supported versions: 7.0, 7.1", "2026-04-01 7.1"},
		{"The HTTP resource that matches the request URI does not support the API version '%s'.", "2026-04-01"},
	} {
		var sent []string
		r := reader(t, 1, func(req *http.Request) (*http.Response, error) {
			version := req.URL.Query().Get("api-version")
			if sent = append(sent, version); version == "7.1" {
				return secret(req, "v")
			}
			return answer(http.StatusBadRequest, fmt.Sprintf(`{"error":{"code":"x","message":%q}}`, strings.ReplaceAll(c.message, "%s", version)))
		})
		_, err := r.Get(t.Context(), caller("a"), object(request.TypeSecret, "s"), fresh())()
		if got := strings.Join(sent, " "); got != c.sent || (err == nil) != (len(sent) == 2) || err != nil && (!strings.Contains(err.Error(), "API version") || strings.Contains(err.Error(), "names itself")) {
			t.Errorf("%s: sent %s, %v", c.message, got, err)
		}
	}
	// A version of the object is another thing.
	r := reader(t, 1, func(*http.Request) (*http.Response, error) {
		return answer(http.StatusBadRequest, `{"error":{"code":"BadParameter","message":"The secret version '1.2' is invalid. Supported are 32 digits."}}`)
	})
	if _, err := r.Get(t.Context(), caller("a"), object(request.TypeSecret, "s"), fresh())(); err == nil || !strings.Contains(err.Error(), "objectVersion") {
		t.Errorf("got %v", err)
	}
}

// A version is remembered for one vault, for all that is read from it, and by the pages of lists.
func TestAPIVersionOfAVault(t *testing.T) {
	var mu sync.Mutex
	sent := map[string][]string{} // by host
	r := reader(t, 8, func(req *http.Request) (*http.Response, error) {
		mu.Lock()
		defer mu.Unlock()
		version := req.URL.Query().Get("api-version")
		sent[req.URL.Hostname()] = append(sent[req.URL.Hostname()], version)
		switch {
		case req.URL.Hostname() == host && version != "7.1":
			return refuse(req, latest("7.1"))
		case !strings.HasSuffix(req.URL.Path, "/versions"):
			return secret(req, "v")
		case req.URL.Query().Get("$skiptoken") == "":
			return answer(http.StatusOK, `{"value":[`+listed("secret", "a", 1, "")+`],"nextLink":"https://`+host+`:443`+req.URL.Path+`?api-version=9.9&$skiptoken=a+b%2Fc"}`)
		case req.URL.Query().Get("$skiptoken") != "a b/c":
			t.Errorf("the token became %q", req.URL.RawQuery)
		}
		return answer(http.StatusOK, `{"value":[`+listed("secret", "b", 2, "")+`]}`)
	})
	get := func(o keyvault.Object) {
		t.Helper()
		if _, err := r.Get(t.Context(), caller("a"), o, fresh())(); err != nil {
			t.Fatal(err)
		}
	}
	other := object(request.TypeSecret, "s")
	other.Host = "other.vault.azure.net"
	get(object(request.TypeSecret, "s"))
	get(other)
	if got, err := r.Versions(t.Context(), caller("b"), object(request.TypeSecret, "x"), 9, fresh())(); err != nil || strings.Join(got, " ") != "b a" {
		t.Errorf("got %v, %v", got, err)
	}
	get(other)
	if got := fmt.Sprint(sent); got != "map["+host+":[2026-04-01 7.1 7.1 7.1] "+other.Host+":[2026-04-01 2026-04-01]]" {
		t.Errorf("sent %s", got)
	}
}

// Where the answer to the second version says nothing of versions, the newest is sent again.
func TestAPIVersionDuringAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sent []string
		down := true
		r := reader(t, 1, func(req *http.Request) (*http.Response, error) {
			version := req.URL.Query().Get("api-version")
			sent = append(sent, version)
			switch {
			case version != "7.1":
				return refuse(req, latest("7.1"))
			case down:
				down = false
				return answer(http.StatusServiceUnavailable, "")
			}
			return secret(req, "v")
		})
		if _, err := r.Get(t.Context(), caller("a"), object(request.TypeSecret, "s"), fresh())(); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(sent, " "); got != "2026-04-01 7.1 2026-04-01 7.1" {
			t.Errorf("sent %s", got)
		}
	})
}

// What an error says after its first few KiB is not searched: that takes seconds of processor time
// for each answer of a hostile vault.
func TestLongErrors(t *testing.T) {
	long := strings.Repeat("subscription version ", 20_000)
	for name, c := range map[string]struct {
		status        int
		text, without string
	}{
		"forbidden":   {http.StatusForbidden, `"message":"%sthe subscription is not registered"`, "not registered"},
		"inner code":  {http.StatusForbidden, `"innererror":{"code":"%sDisabledSubscription"}`, "disabled or deleted"},
		"bad request": {http.StatusBadRequest, `"message":"%sapi-version x is not supported"`, "API version"},
		"token":       {http.StatusUnauthorized, `"message":"%sAKV10032"`, "is in another tenant"},
	} {
		for _, before := range []string{"", long} {
			r := reader(t, 1, func(*http.Request) (*http.Response, error) {
				return answer(c.status, fmt.Sprintf(`{"error":{"code":"x",`+c.text+`}}`, before))
			})
			_, err := r.Get(t.Context(), caller("x"), object(request.TypeSecret, "s"), fresh())()
			if err == nil || strings.Contains(err.Error(), c.without) != (before == "") {
				t.Errorf("%s after %d bytes: got %v", name, len(before), err)
			}
		}
	}
}
