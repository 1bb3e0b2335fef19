package entra_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"akv-csi-provider/provider/azuretest"
	"akv-csi-provider/provider/entra"
	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/request"
)

// cached is a world with pods of several service accounts that its application trusts.
func cached(t testing.TB, c *clock) (*world, *entra.Cache) {
	t.Helper()
	box, err := azuretest.New(azuretest.Options{Clock: c.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = box.Close() })
	w := &world{Box: box, tenant: box.Tenant(tenantID)}
	if w.cluster, err = box.Cluster(issuer); err != nil {
		t.Fatal(err)
	}
	w.app = w.tenant.Application(clientID)
	cache, err := entra.NewCache(w.exchange(t), entra.CacheConfig{Now: c.Now})
	if err != nil {
		t.Fatal(err)
	}
	return w, cache
}

// trusted is a pod's identity, of whose service account the application has a federated
// credential.
func (w *world) trusted(t testing.TB, pod azuretest.Pod, ttl time.Duration) entra.Identity {
	t.Helper()
	w.app.Federate(issuer, pod.Subject(), entra.Audience)
	assertion, err := w.cluster.Token(pod, entra.Audience, ttl)
	if err != nil {
		t.Fatal(err)
	}
	w.pod = pod
	id := w.identity(entra.WorkloadIdentity)
	id.Assertion = request.Secret(assertion)
	return id
}

func signIn(t testing.TB, c *entra.Cache, id entra.Identity) entra.Token {
	t.Helper()
	token, err := c.Token(t.Context(), id, scope)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func (w *world) wantRequests(t testing.TB, tokens, metadata int) {
	t.Helper()
	if got := w.Counts(); got[azuretest.Token] != tokens || got[azuretest.Metadata] != metadata {
		t.Errorf("got %v, want %d token requests and %d for metadata", got, tokens, metadata)
	}
}

// Pods with service accounts of the same name, in two namespaces or one after the
// other, each have their own exchange, which costs one request.
func TestServiceAccountsOfOneName(t *testing.T) {
	w, c := cached(t, &clock{now: time.Now()})
	pods := []azuretest.Pod{
		{Namespace: "shop", Name: "web-0", ServiceAccount: "reader"},
		{Namespace: "bank", Name: "web-0", ServiceAccount: "reader"},
		{Namespace: "shop", Name: "web-0", ServiceAccount: "reader", ServiceAccountUID: uuid()}, // recreated
		{Namespace: "shop", Name: "web-1", ServiceAccount: "reader"},
	}
	seen := map[request.Secret]bool{}
	for i, pod := range pods {
		id := w.trusted(t, pod, time.Hour)
		for range 3 {
			seen[signIn(t, c, id).Value] = true
		}
		w.wantRequests(t, i+1, 1)
	}
	if len(seen) != len(pods) {
		t.Errorf("%d tokens for %d pods", len(seen), len(pods))
	}
	// The account was deleted, and with it the trust: another of its name gets nothing.
	w.app.Unfederate()
	id := w.identity(entra.WorkloadIdentity)
	assertion, err := w.cluster.Token(azuretest.Pod{Namespace: "shop", Name: "web-0", ServiceAccount: "reader", ServiceAccountUID: uuid()}, entra.Audience, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	id.Assertion = request.Secret(assertion)
	_, err = c.Token(t.Context(), id, scope)
	checkRefusal(t, err, fault.FederatedCredentialMissing)
}

// Whatever a forged token claims, it gets nothing of the victim's, before and after the
// victim has signed in.
func TestForgedTokens(t *testing.T) {
	w, c := cached(t, &clock{now: time.Now()})
	pod := azuretest.Pod{Namespace: "shop", Name: "web-0", ServiceAccount: "reader"}
	victim := w.trusted(t, pod, time.Hour)
	claims, err := w.cluster.Claims(pod, entra.Audience, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	forged := func(unsigned bool) string {
		token, err := w.cluster.ForgedToken(claims, unsigned)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	parts := strings.Split(string(victim.Assertion), ".")
	other := strings.Split(forged(false), ".")
	forgeries := map[string]string{
		"unsigned":               forged(true),
		"wrongly signed":         forged(false),
		"no signature":           parts[0] + "." + parts[1] + ".",
		"cut signature":          string(victim.Assertion[:len(victim.Assertion)-8]),
		"no third part":          parts[0] + "." + parts[1],
		"another's signature":    parts[0] + "." + parts[1] + "." + other[2],
		"another's header":       other[0] + "." + parts[1] + "." + other[2],
		"with something after":   string(victim.Assertion) + ".x",
		"with something between": parts[0] + "." + parts[1] + "." + parts[2] + "AAAA",
	}
	try := func() {
		t.Helper()
		for name, assertion := range forgeries {
			id := victim
			id.Assertion = request.Secret(assertion)
			before := w.Count(azuretest.Token)
			for range 2 {
				token, err := c.Token(t.Context(), id, scope)
				var refusal *fault.Error
				if !errors.As(err, &refusal) || token != (entra.Token{}) {
					t.Errorf("%s: got %v", name, err)
				}
			}
			if n := w.Count(azuretest.Token) - before; n != 2 {
				t.Errorf("%s: %d requests to Entra", name, n)
			}
		}
	}
	try()
	token := signIn(t, c, victim)
	try()
	for _, mode := range []entra.Mode{entra.ServicePrincipal, entra.IdentityBinding} { // nor in another guise
		id := victim
		id.Mode, id.ClientSecret = mode, victim.Assertion
		if _, err := c.Token(t.Context(), id, scope); err == nil {
			t.Errorf("%s got a token", mode)
		}
	}
	if signIn(t, c, victim) != token {
		t.Error("the victim lost its token")
	}
}

// A service-account token that has expired goes to Entra, which refuses it.
func TestExpiredAssertion(t *testing.T) {
	hand := &clock{now: time.Now()}
	w, c := cached(t, hand)
	id := w.trusted(t, azuretest.Pod{Namespace: "shop", Name: "web-0"}, 20*time.Minute)
	first := signIn(t, c, id)
	hand.add(19 * time.Minute)
	if signIn(t, c, id) != first {
		t.Error("another token")
	}
	w.wantRequests(t, 1, 1)
	hand.add(time.Minute)
	for range 2 {
		_, err := c.Token(t.Context(), id, scope)
		checkRefusal(t, err, fault.TokenExpired)
	}
	w.wantRequests(t, 3, 1)
	signIn(t, c, w.trusted(t, azuretest.Pod{Namespace: "shop", Name: "web-0"}, 20*time.Minute)) // as kubelet sends with the next mount
}

// An outage fails no caller whose token is valid, until that expires.
func TestOutage(t *testing.T) {
	hand := &clock{now: time.Now()}
	w, c := cached(t, hand)
	var ids []entra.Identity
	for _, name := range []string{"a", "b", "c"} {
		id := w.trusted(t, azuretest.Pod{Namespace: "shop", Name: name, ServiceAccount: name}, 24*time.Hour)
		signIn(t, c, id)
		ids = append(ids, id)
	}
	w.SetOutage(true)
	for range 59 {
		hand.add(time.Minute)
		for _, id := range ids {
			signIn(t, c, id)
		}
	}
	hand.add(2 * time.Minute) // MSAL has its own clock
	_, err := c.Token(t.Context(), ids[0], scope)
	checkRefusal(t, err, fault.ServiceUnavailable, "login.microsoftonline.com")
	w.SetOutage(false)
	signIn(t, c, ids[0])
}

// Metadata is read once for many pods, and for each tenant.
func TestDiscoveryOnce(t *testing.T) {
	w := newWorld(t)
	x := w.exchange(t)
	tenants := []string{tenantID, uuid()}
	for _, tenant := range tenants {
		w.Tenant(tenant).Application(clientID).AddSecret("right", time.Time{})
	}
	w.SetLatency(azuretest.Metadata, 50*time.Millisecond)
	var pods sync.WaitGroup
	for i := range 40 {
		pods.Go(func() {
			id := w.servicePrincipal("right")
			id.TenantID = tenants[i%2]
			if _, err := x.Token(t.Context(), id, scope); err != nil {
				t.Error(err)
			}
		})
	}
	pods.Wait()
	w.wantRequests(t, 40, 2)
	// The sign-in in a tenant that does not exist is sent every time, and reported.
	for range 2 {
		id := w.servicePrincipal("right")
		id.TenantID = uuid()
		_, err := x.Token(t.Context(), id, scope)
		checkRefusal(t, err, fault.TenantNotFound, id.TenantID)
	}
}

// A failure to read metadata is reported like a failure to get a token.
func TestDiscoveryFails(t *testing.T) {
	w := newWorld(t)
	x := w.exchange(t)
	w.app.AddSecret("right", time.Time{})
	id := w.servicePrincipal("right")
	w.SetFault(azuretest.Metadata, azuretest.Fault{Reset: true})
	_, err := x.Token(t.Context(), id, scope)
	checkRefusal(t, err, fault.ServiceUnavailable, "login.microsoftonline.com", "connection reset")
	w.SetFault(azuretest.Metadata, azuretest.Fault{Stall: true})
	_, err = x.Token(outOfTime(t), id, scope)
	checkRefusal(t, err, fault.Timeout, "timed out signing in to login.microsoftonline.com")
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	if _, err := x.Token(ctx, id, scope); err != context.Canceled {
		t.Errorf("got %v", err)
	}
	w.ClearFaults()
	token(t, x, id)
}
