package entra_test

import (
	"strings"
	"testing"
	"time"

	"akv-csi-provider/provider/azuretest"
	"akv-csi-provider/provider/entra"
	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/request"
)

func TestServicePrincipalSignsIn(t *testing.T) {
	w := newWorld(t)
	w.app.AddSecret("right", time.Time{})
	token(t, w.exchange(t), w.servicePrincipal("right"))
	if n := w.Count(azuretest.Token); n != 1 {
		t.Errorf("%d token requests", n)
	}
}

// A token that the right secret was exchanged for is not for a caller that only knows the
// client ID.
func TestSecretIsCheckedEveryTime(t *testing.T) {
	w := newWorld(t)
	w.app.AddSecret("right", time.Time{})
	x := w.exchange(t)
	token(t, x, w.servicePrincipal("right"))
	_, err := x.Token(t.Context(), w.servicePrincipal("wrong"), scope)
	checkRefusal(t, err, fault.ClientSecretInvalid)
}

func TestServicePrincipalRefusals(t *testing.T) {
	for _, c := range []struct {
		name   string
		setup  func(*world, *entra.Identity)
		reason fault.Reason
		code   int
		says   []string
	}{
		{"wrong secret", func(w *world, id *entra.Identity) { id.ClientSecret = "CANARY" }, fault.ClientSecretInvalid, 7000215,
			[]string{clientID, "clientsecret of the nodePublishSecretRef", "not its ID"}},
		{"line break behind the secret", func(w *world, id *entra.Identity) { id.ClientSecret = "CANARY\n" }, fault.ClientSecretInvalid, 7000215,
			[]string{clientID, "white space", "line break"}},
		{"blank before the secret", func(w *world, id *entra.Identity) { id.ClientSecret = " CANARY" }, fault.ClientSecretInvalid, 7000215, []string{"white space"}},
		{"expired", func(w *world, _ *entra.Identity) { w.app.AddSecret("old", time.Now().Add(-time.Hour)) }, fault.ClientSecretExpired, 7000222,
			[]string{clientID, "clientsecret of the nodePublishSecretRef", "az ad app credential reset"}},
		{"unknown application", func(_ *world, id *entra.Identity) { id.ClientID = uuid() }, fault.ApplicationNotFound, 700016,
			[]string{"clientid of the nodePublishSecretRef", tenantID, "tenantID of the class"}},
		{"no service principal", func(w *world, _ *entra.Identity) { w.app.FailWith(7000229) }, fault.ApplicationNotFound, 7000229, nil},
		{"unknown tenant", func(_ *world, id *entra.Identity) { id.TenantID = uuid() }, fault.TenantNotFound, 90002, []string{"tenantID of the class"}},
		{"managed identity", func(w *world, _ *entra.Identity) { w.app.FailWith(7000232) }, fault.SignInFailed, 7000232,
			[]string{"AADSTS7000232", "managed identity, which has no client secret"}},
		{"number of federation", func(w *world, _ *entra.Identity) { w.app.FailWith(700213) }, fault.SignInFailed, 700213, []string{"AADSTS700213"}},
		{"unknown number", func(w *world, _ *entra.Identity) { w.app.FailWith(123456) }, fault.SignInFailed, 123456, []string{"AADSTS123456", "error?code=123456"}},
		{"blocked", func(w *world, _ *entra.Identity) { w.app.FailWith(53003) }, fault.SignInFailed, 53003, []string{"Conditional Access"}},
		{"loop", func(w *world, _ *entra.Identity) { w.app.FailWith(50196) }, fault.Throttled, 50196, []string{"login.microsoftonline.com"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			id := w.servicePrincipal("old")
			c.setup(w, &id)
			_, err := w.exchange(t).Token(t.Context(), id, scope)
			checkRefusal(t, err, c.reason, c.says...)
			if typed, ok := err.(*fault.Error); !ok || typed.AADSTS != c.code {
				t.Errorf("got %+v, want number %d", err, c.code)
			}
			if strings.Contains(err.Error(), "CANARY") {
				t.Error("the client secret is in the message")
			}
		})
	}
}

func TestNoSecretIsABug(t *testing.T) {
	w := newWorld(t)
	_, err := w.exchange(t).Token(t.Context(), w.servicePrincipal(""), scope)
	if _, typed := err.(*fault.Error); err == nil || typed || w.Count(azuretest.Token) != 0 {
		t.Errorf("got %v", err)
	}
	if _, err := w.exchange(t).Token(t.Context(), entra.Identity{Mode: "other"}, scope); err == nil {
		t.Error("no error of a mode that is none")
	}
}

// AD FS on Azure Stack Hub has no tenants: "adfs" stands in their place.
func TestADFS(t *testing.T) {
	w := newWorld(t)
	const home = "adfs.local.azurestack.external"
	w.AddCloud(azuretest.Cloud{AuthorityHost: home, VaultSuffix: "vault.local.azurestack.external", Resource: "https://vault.azure.net"})
	app := w.Tenant("adfs").Application(clientID)
	app.AddSecret("right", time.Time{})
	app.Federate(issuer, w.pod.Subject(), entra.Audience)
	assertion, err := w.cluster.Token(w.pod, entra.Audience, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for _, mode := range []entra.Mode{entra.ServicePrincipal, entra.WorkloadIdentity} {
		for _, base := range []string{"https://" + home, "https://" + home + "/adfs"} { // environment files have either
			id := w.identity(mode)
			id.Authority, id.TenantID = base, "adfs"
			id.ClientSecret, id.Assertion = "right", request.Secret(assertion)
			if _, err := w.exchange(t).Token(t.Context(), id, scope); err != nil {
				t.Errorf("%s at %s: %v", mode, base, err)
			}
		}
	}
	for _, r := range w.Requests() {
		if !strings.HasPrefix(r.Path, "/adfs/") && r.Kind != azuretest.Issuer {
			t.Errorf("a request to %s%s", r.Host, r.Path)
		}
	}
}
