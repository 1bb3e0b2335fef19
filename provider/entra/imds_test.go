package entra_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"akv-csi-provider/provider/azuretest"
	"akv-csi-provider/provider/entra"
	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/transport"
)

func nodeIdentity(clientID string) entra.Identity {
	return entra.Identity{Mode: entra.ManagedIdentity, ClientID: clientID, ClientIDFrom: "userAssignedIdentityID"}
}

// lastSent is the client ID of the last request to the metadata service.
func (w *world) lastSent(t *testing.T) string {
	t.Helper()
	requests := w.Requests()
	if len(requests) == 0 || requests[len(requests)-1].Kind != azuretest.Identity {
		t.Fatalf("got %+v", requests)
	}
	return requests[len(requests)-1].ClientID
}

func TestManagedIdentitySignsIn(t *testing.T) {
	w := newWorld(t)
	first, second, system := uuid(), uuid(), uuid()
	w.IMDS().Assign(w.tenant.Application(first))
	w.IMDS().Assign(w.tenant.Application(second))
	w.IMDS().AssignSystem(w.tenant.Application(system))
	x := w.exchange(t)
	seen := map[string]bool{}
	for _, id := range []string{first, second, ""} {
		seen[string(token(t, x, nodeIdentity(id)).Value)] = true
		if sent := w.lastSent(t); sent != id {
			t.Errorf("sent client ID %q, want %q", sent, id)
		}
	}
	if len(seen) != 3 || w.Count(azuretest.Identity) != 3 || w.Count(azuretest.Token) != 0 {
		t.Errorf("%d tokens, counts %v", len(seen), w.Counts())
	}
}

// A caller whose token the vault rejects gets another: MSAL's cache, which the whole
// process shares, is not used.
func TestManagedIdentityBypassesMSALsCache(t *testing.T) {
	w := newWorld(t)
	id := uuid()
	w.IMDS().Assign(w.tenant.Application(id))
	x := w.exchange(t)
	a, b := token(t, x, nodeIdentity(id)), token(t, x, nodeIdentity(id))
	if a.Value == b.Value || w.Count(azuretest.Identity) != 2 {
		t.Errorf("%d requests", w.Count(azuretest.Identity))
	}
}

func TestManagedIdentityRefusals(t *testing.T) {
	first, second, other := uuid(), uuid(), uuid()
	for _, c := range []struct {
		name     string
		assigned []string
		ask      string
		setup    func(*world)
		reason   fault.Reason
		says     []string
		attempts int
	}{
		{"not assigned", []string{first}, other, nil, fault.ManagedIdentityUnavailable,
			[]string{other, "userAssignedIdentityID", "az vmss identity assign"}, 1},
		{"several, none named", []string{first, second}, "", nil, fault.ManagedIdentityUnavailable,
			[]string{"several user-assigned identities", "set userAssignedIdentityID"}, 1},
		{"none at all", nil, "", nil, fault.ManagedIdentityUnavailable,
			[]string{"no system-assigned identity", "userAssignedIdentityID", "az vmss identity assign"}, 1},
		{"Entra refuses", []string{first}, first, func(w *world) { w.tenant.Application(first).FailWith(7000112) }, fault.ManagedIdentityUnavailable,
			[]string{first, "400 Bad Request, unauthorized_client, AADSTS7000112"}, 1},
		{"other cloud", []string{first}, first, func(w *world) { w.tenant.Application(first).FailWith(500011) }, fault.ManagedIdentityUnavailable,
			[]string{"https://vault.azure.net", "cloudName"}, 1},
		{"404", []string{first}, first, func(w *world) { w.SetFault(azuretest.Identity, azuretest.Fault{Status: 404}) }, fault.ManagedIdentityUnavailable,
			[]string{"404 Not Found"}, 2},
		{"410", []string{first}, first, func(w *world) { w.SetFault(azuretest.Identity, azuretest.Fault{Status: 410}) }, fault.ServiceUnavailable, []string{"410 Gone"}, 2},
		{"429", []string{first}, first, func(w *world) { w.SetFault(azuretest.Identity, azuretest.Fault{Status: 429}) }, fault.Throttled, []string{"metadata service is throttling", first}, 2},
		{"Entra throttles", []string{first}, first, func(w *world) { w.tenant.Application(first).FailWith(90055) }, fault.Throttled,
			[]string{"Entra is throttling sign-ins of the node's user-assigned identity", first}, 2},
		{"Entra is down", []string{first}, first, func(w *world) { w.tenant.Application(first).FailWith(90033) }, fault.Throttled,
			[]string{"Entra is temporarily unavailable to the node's user-assigned identity", first, "AADSTS90033", "status page"}, 2},
		{"500", []string{first}, first, func(w *world) { w.SetFault(azuretest.Identity, azuretest.Fault{Status: 500}) }, fault.ServiceUnavailable, []string{"500 Internal Server Error"}, 2},
		{"501", []string{first}, first, func(w *world) { w.SetFault(azuretest.Identity, azuretest.Fault{Status: 501}) }, fault.ServiceUnavailable, []string{"501 Not Implemented"}, 1},
		{"page of a proxy", []string{first}, first, func(w *world) { w.SetFault(azuretest.Identity, azuretest.Fault{HTML: true}) }, fault.ManagedIdentityUnavailable, []string{"is not Azure's metadata service"}, 1},
		{"forbidden page", []string{first}, first, func(w *world) { w.SetFault(azuretest.Identity, azuretest.Fault{HTML: true, Status: 403}) }, fault.ManagedIdentityUnavailable, []string{"403 Forbidden"}, 1},
		{"reset", []string{first}, first, func(w *world) { w.SetFault(azuretest.Identity, azuretest.Fault{Reset: true}) }, fault.ServiceUnavailable,
			[]string{"connection reset", "direct access"}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.IMDS()
			for _, id := range c.assigned {
				w.IMDS().Assign(w.tenant.Application(id))
			}
			if c.setup != nil {
				c.setup(w)
			}
			_, err := w.exchange(t, retryOnce).Token(t.Context(), nodeIdentity(c.ask), scope)
			checkRefusal(t, err, c.reason, c.says...)
			if n := w.Count(azuretest.Identity); n != c.attempts {
				t.Errorf("%d requests, want %d", n, c.attempts)
			}
		})
	}
}

// A failure that is over by the next attempt fails no mount.
func TestMetadataServiceBeingUpdated(t *testing.T) {
	w := newWorld(t)
	id := uuid()
	w.IMDS().Assign(w.tenant.Application(id))
	w.SetFault(azuretest.Identity, azuretest.Fault{Status: 410, Times: 1})
	token(t, w.exchange(t, retryOnce), nodeIdentity(id))
}

func TestNoMetadataService(t *testing.T) {
	_, err := newWorld(t).exchange(t).Token(t.Context(), nodeIdentity(clientID), scope)
	checkRefusal(t, err, fault.ServiceUnavailable, "169.254.169.254", "network unreachable", "only Azure nodes")
}

func TestMuteMetadataService(t *testing.T) {
	w := newWorld(t)
	w.IMDS()
	w.SetFault(azuretest.Identity, azuretest.Fault{Stall: true})
	_, err := w.exchange(t).Token(outOfTime(t), nodeIdentity(clientID), scope)
	checkRefusal(t, err, fault.Timeout, "timed out signing in to 169.254.169.254")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.exchange(t).Token(ctx, nodeIdentity(clientID), scope); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

type transporter func(*http.Request) (*http.Response, error)

func (f transporter) Do(req *http.Request) (*http.Response, error) { return f(req) }

// Variables that make azidentity believe it is somewhere else must not make it send
// the node's name, or a token, off the node.
func TestEnvironmentLeadsAstray(t *testing.T) {
	for name, env := range map[string]map[string]string{
		"App Service":    {"IDENTITY_ENDPOINT": "http://203.0.113.9/token", "IDENTITY_HEADER": "CANARY"},
		"over TLS":       {"IDENTITY_ENDPOINT": "https://127.0.0.1/token", "IDENTITY_HEADER": "CANARY"},
		"by name":        {"IDENTITY_ENDPOINT": "http://localhost/token", "IDENTITY_HEADER": "CANARY"},
		"Service Fabric": {"IDENTITY_ENDPOINT": "https://203.0.113.9/token", "IDENTITY_HEADER": "CANARY", "IDENTITY_SERVER_THUMBPRINT": "CANARY"},
		"Cloud Shell":    {"MSI_ENDPOINT": "http://203.0.113.9/token"},
	} {
		t.Run(name, func(t *testing.T) {
			for k, v := range env {
				t.Setenv(k, v)
			}
			none := transporter(func(req *http.Request) (*http.Response, error) {
				t.Errorf("a request to %s", req.URL)
				return nil, errors.New("no")
			})
			x := newExchange(t, entra.Config{Transport: none, IMDS: none})
			_, err := x.Token(t.Context(), nodeIdentity(clientID), scope)
			checkRefusal(t, err, fault.ManagedIdentityUnavailable, "environment", "IDENTITY_ENDPOINT", "DaemonSet")
			if strings.Contains(err.Error(), "CANARY") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestNoTransportToIMDSIsABug(t *testing.T) {
	_, err := exchange(t, nil).Token(t.Context(), nodeIdentity(clientID), scope)
	if _, typed := err.(*fault.Error); err == nil || typed {
		t.Errorf("got %v", err)
	}
}

func TestIMDSEndpoint(t *testing.T) {
	w := newWorld(t)
	id := uuid()
	w.IMDS().Assign(w.tenant.Application(id))
	direct := &http.Transport{} // knows nothing of the fake Azure
	t.Cleanup(direct.CloseIdleConnections)
	node, err := entra.WithIMDSEndpoint(w.IMDS().URL(), transport.New(direct, "test"))
	if err != nil {
		t.Fatal(err)
	}
	token(t, newExchange(t, entra.Config{Transport: node, IMDS: node}), nodeIdentity(id))
	for _, endpoint := range []string{
		"https://127.0.0.1", "http://localhost", "http://203.0.113.9", "http://127.0.0.1/path", "http://u@127.0.0.1",
		"http://127.0.0.1?q=1", "127.0.0.1:80", "http://", "://",
	} {
		if _, err := entra.WithIMDSEndpoint(endpoint, nil); err == nil {
			t.Errorf("%s was accepted", endpoint)
		}
	}
	for _, endpoint := range []string{"", "http://169.254.169.254", "http://[::1]:8080/", "http://[fe80::1]"} {
		if _, err := entra.WithIMDSEndpoint(endpoint, nil); err != nil {
			t.Errorf("%s: %v", endpoint, err)
		}
	}
}
