package entra_test

import (
	"testing"
	"time"

	"akv-csi-provider/provider/entra"
	"akv-csi-provider/provider/fault"
)

// Where an authority's endpoints are published, a sign-in is one request. A tenant that
// does not exist is reported all the same, and the metadata of other authorities is read.
func TestKnownAuthority(t *testing.T) {
	w := newWorld(t)
	id := w.trusted(t, w.pod, time.Hour)
	known := func(known func(string) bool) func(*entra.Config) {
		return func(cfg *entra.Config) { cfg.KnownAuthority = known }
	}
	x := w.exchange(t, known(func(authority string) bool { return authority == id.Authority }))
	token(t, x, id)
	unknown := id
	unknown.TenantID = "99999999-9999-9999-9999-999999999999"
	_, err := x.Token(t.Context(), unknown, scope)
	checkRefusal(t, err, fault.TenantNotFound)
	w.wantRequests(t, 2, 0)
	token(t, w.exchange(t, known(func(string) bool { return false })), id)
	w.wantRequests(t, 3, 1)
}
