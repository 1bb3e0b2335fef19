package provider_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"akv-csi-provider/provider"
	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/request"
)

const failoverHost = "contoso-dr.vault.azure.net"

// withFailover are objects of a class with a failover vault.
func withFailover(objects ...request.Object) []request.Object {
	for i := range objects {
		objects[i].Failover = "contoso-dr"
	}
	return objects
}

// silence is what a reader returns of a vault that does not answer.
func silence(ctx ctx) error {
	<-ctx.Done()
	return &fault.Error{Reason: fault.Timeout, Cause: "no answer from " + contoso + " in time (read)", Fix: "check the network"}
}

// A pod starts within 5 s although the first vault is silent: the list, the histories and the reads
// have four seconds together.
func TestFailoverOfASilentVault(t *testing.T) {
	for name, start := range map[string]struct{ reads, lists int }{"objects": {9, 0}, "a search": {2, 2}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := &vaults{values: map[string]string{"p-a": "A", "p-b": "B"}, items: map[string][]keyvault.Item{failoverHost + " secret": listed("p-a", "p-b")},
					lists: map[string][]string{}, fails: map[string]func(ctx) error{contoso: silence}}
				m := newMounter(&signIn{}, v)
				objects := withFailover(find("^p-", "d"))
				if name == "objects" {
					objects = withFailover(one("p-a"), one("p-b"), one("p-a"), one("p-b"), one("p-a")) // more than are read at a time
					for i := range objects {
						objects[i].Path = fmt.Sprint("f", i)
					}
				}
				req := class(t, objects...)
				began := time.Now()
				volume, err := m.Mount(t.Context(), req, time.Time{})
				if err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took > 5*time.Second {
					t.Errorf("took %s", took)
				}
				if len(v.reads) > start.reads || len(v.listed) > start.lists || string(volume.Files[0].Content) != "A" || volume.Versions[0] != (provider.Version{ID: "secret/p-a", Version: "v-p-a"}) {
					t.Errorf("read %v, lists %v, got %s", v.reads, v.listed, show(volume))
				}
				if len(volume.ValueWarnings) != len(volume.Files) || !strings.Contains(volume.ValueWarnings[0], `secret "p-a" is read from `+failoverHost+", since "+contoso+" is unavailable") {
					t.Errorf("warnings %q", volume.ValueWarnings)
				}
				// A pod that runs keeps its files.
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				_, err = m.Mount(ctx, req, time.Now())
				wantReason(t, err, fault.Timeout)
			})
		})
	}
}

// What decides is whether the vault is available; what it answers is final.
func TestFailoverByAnswer(t *testing.T) {
	for answer, over := range map[string]bool{
		`429 {"error":{"code":"Throttled"}}`: true, `503 {}`: true, `500 {"error":{"code":"x"}}`: true,
		`401 {"error":{"code":"Unauthorized"}}`: false, `404 {"error":{"code":"SecretNotFound"}}`: false,
		`403 {"error":{"code":"Forbidden","innererror":{"code":"ForbiddenByRbac"}}}`:     false,
		`403 {"error":{"code":"Forbidden","innererror":{"code":"ForbiddenByFirewall"}}}`: false,
		`403 {"error":{"code":"Forbidden","innererror":{"code":"SecretDisabled"}}}`:      false,
	} {
		t.Run(answer, func(t *testing.T) {
			var status int
			var body string
			if _, err := fmt.Sscanf(answer, "%d %s", &status, &body); err != nil {
				t.Fatal(err)
			}
			v := &vaults{values: map[string]string{"a": "A"}, fails: map[string]func(ctx) error{contoso: func(ctx ctx) error {
				return refusal(ctx, contoso, keyvault.Caller{Token: "t"}, "a", "", status, body)
			}}}
			volume, err := newMounter(&signIn{}, v).Mount(t.Context(), class(t, withFailover(one("a"))...), time.Time{})
			if over != (err == nil) || over != (v.at[failoverHost] > 0) {
				t.Errorf("got %v, %v, read %v", volume, err, v.at)
			}
		})
	}
}

// Only objects with such a vault are read there; errors of both vaults are named.
func TestFailoverOfSome(t *testing.T) {
	down := func(ctx ctx) error {
		return refusal(ctx, contoso, keyvault.Caller{Token: "t"}, "a", "", http.StatusServiceUnavailable, "{}")
	}
	v := &vaults{values: map[string]string{"a": "A", "b": "B"}, fails: map[string]func(ctx) error{contoso: down}}
	m := newMounter(&signIn{}, v)
	elsewhere := but(one("b"), func(o *request.Object) { o.Vault = "fabrikam" })
	objects := append(withFailover(one("a"), but(one("gone"), func(o *request.Object) { o.Optional = true }), doc(t, "d", `{{ secret "a" }}`)), elsewhere)
	volume := mounts(t, m, "a=A|d=A|b=B|secret/a@v-a|secret/a@v-a|fabrikam/secret/b@v-b", objects...)
	if len(volume.Absent) != 1 || v.at["fabrikam.vault.azure.net"] != 2 {
		t.Errorf("absent %q, read %v", volume.Absent, v.at)
	}
	_, err := m.Mount(t.Context(), class(t, withFailover(one("missing"))...), time.Time{})
	refused(t, nil, err, contoso+" returned 503", "not found in "+failoverHost+`: secret "missing"`)
	wantReason(t, err, fault.ObjectNotFound)
	_, err = m.Mount(t.Context(), class(t, append(withFailover(one("a")), one("b"))...), time.Time{})
	refused(t, nil, err, contoso+" returned 503")
	// The caller that leaves ends the mount.
	v.fails[contoso] = silence
	left, leave := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, leave)
	before := v.at[failoverHost]
	if _, err := m.Mount(left, class(t, withFailover(one("a"))...), time.Time{}); err == nil || v.at[failoverHost] != before {
		t.Errorf("got %v, read %v", err, v.at)
	}
}
