package entra_test

import (
	"testing"
	"time"

	"akv-csi-provider/provider/azuretest"
	"akv-csi-provider/provider/entra"
)

// Where an authority's endpoints are published, a sign-in is one request; a tenant that
// does not exist is told all the same, and other authorities are asked.
func TestPublished(t *testing.T) {
	w := newWorld(t)
	x := w.exchange(t)
	id := w.trusted(t, w.pod, time.Hour)
	x.Published = func(authority string) bool { return authority == id.Authority }
	if _, err := x.Token(t.Context(), id, scope); err != nil {
		t.Fatal(err)
	}
	nobody := id
	nobody.TenantID = "99999999-9999-9999-9999-999999999999"
	_, err := x.Token(t.Context(), nobody, scope)
	checkRefusal(t, err, entra.ReasonTenantNotFound)
	if w.Count(azuretest.Metadata) != 0 || w.Count(azuretest.Token) != 2 {
		t.Errorf("two sign-ins cost %v", w.Counts())
	}
	x.Published = func(string) bool { return false }
	if _, err := x.Token(t.Context(), id, scope); err != nil || w.Count(azuretest.Metadata) != 1 {
		t.Errorf("got %v after %v", err, w.Counts())
	}
}
