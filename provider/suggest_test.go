package provider_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/request"
	"akv-csi-provider/provider/throttle"
)

// slowVault has one secret, takes 20 ms for each answer, and notes the paths of requests.
type slowVault struct {
	vaults
	paths []string
}

func (v *slowVault) Do(req *http.Request) (*http.Response, error) {
	v.mu.Lock()
	v.paths = append(v.paths, req.URL.Path)
	v.mu.Unlock()
	time.Sleep(20 * time.Millisecond)
	if req.URL.Path == "/secrets/there/" {
		return answer{http.StatusOK, `{"value":"v","id":"https://` + contoso + `/secrets/there/1"}`}.Do(req)
	}
	return answer{http.StatusNotFound, `{"error":{"code":"SecretNotFound"}}`}.Do(req)
}

// Where many objects are missing, other types are looked for in parallel, and for no more objects than
// a message names, the first ones. What is optional is not looked for.
func TestManyMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &slowVault{}
		reader, err := keyvault.NewReader(keyvault.Config{Transport: v, Throttle: throttle.Config{Max: 80}, Timeout: time.Minute, CacheBytes: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		m := newMounter(&signIn{}, nil)
		m.Vaults, m.MaxConcurrency = reader, 80
		objects := []request.Object{one("there"), but(one("optional"), func(o *request.Object) { o.Optional = true })}
		for i := range 200 {
			objects = append(objects, one(fmt.Sprint("gone-", i)))
		}
		for round, want := range []int{2 * fault.MaxNamed, 0} {
			v.paths = nil
			start := time.Now()
			volume, err := m.Mount(t.Context(), class(t, objects...), time.Time{})
			refused(t, volume, err, `secret "gone-49", and 150 more`)
			if took := time.Since(start); took > 200*time.Millisecond {
				t.Errorf("round %d: %v", round, took)
			}
			others := slices.DeleteFunc(v.paths, func(path string) bool { return strings.HasPrefix(path, "/secrets/") })
			if len(others) != want || slices.Contains(others, "/keys/optional/") || want > 0 && !slices.Contains(others, "/keys/gone-49/") {
				t.Errorf("round %d: %d requests, want %d: %v", round, len(others), want, others)
			}
		}
		time.Sleep(time.Hour)
	})
}

// An object is looked for in the vault that it is missing in.
func TestMissingAtFailover(t *testing.T) {
	v := &vaults{values: map[string]string{"a": "A"}, fails: map[string]func(ctx) error{
		contoso: func(ctx) error { return &fault.Error{Reason: fault.ServiceUnavailable, Cause: "c", Fix: "f"} }}}
	m := newMounter(&signIn{}, v)
	m.MaxConcurrency = 1
	volume, err := m.Mount(t.Context(), class(t, withFailover(one("a"), one("gone"))...), time.Time{})
	refused(t, volume, err, `: secret "gone"`)
	if len(v.suggested) != 1 || strings.HasPrefix(v.suggested[0], contoso) || !strings.HasSuffix(v.suggested[0], " gone") {
		t.Errorf("looked for %q", v.suggested)
	}
}

// A bug in the search fails the mount as one.
func TestPanicInASuggestion(t *testing.T) {
	m := newMounter(&signIn{}, &vaults{hook: func(name string) {
		if name == "suggest gone" {
			panic("CANARY")
		}
	}})
	volume, err := m.Mount(t.Context(), class(t, one("gone")), time.Time{})
	refused(t, volume, err, "a bug in the provider")
}
