package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"akv-csi-provider/provider/azuretest"
)

// watch prints the files each time the volume is written, which the driver does by turning
// the link ..data.
const watch = `trap 'exit 0' TERM
while :; do
  now=$(readlink /mnt/secrets/..data)
  if [ "$now" != "$last" ]; then echo "$(cat /mnt/secrets/changes) $(cat /mnt/secrets/stays)"; last=$now; fi
  sleep 0.1
done`

// rotation: a change reaches a running pod, what did not change is not written, and a
// rotation that fails leaves the files and is seen in the metrics and in the log.
func (c *cluster) rotation(t *testing.T) {
	p := c.newPlace(t)
	app := p.identity("app")
	p.vault.Grant(app.ClientID(), azuretest.SecretsGet)
	p.vault.SetSecret("changes", azuretest.Secret{Value: "one"})
	p.vault.SetSecret("stays", azuretest.Secret{Value: "same"})
	p.apply(t, p.account("app", app.ClientID()), p.class("app", "changes", "stays"), p.pod("app", "app", "app", watch))
	p.ready(t, "app")
	printed := func(want string) func(context.Context) error {
		return func(ctx context.Context) error {
			got, err := p.log(ctx, "app")
			if err == nil && got != want {
				err = fmt.Errorf("the watcher printed %q, want %q", got, want)
			}
			return err
		}
	}
	eventually(t, busy, "the watcher sees the files", printed("one same\n"))
	before := p.requests(app.ClientID())[azuretest.GetSecret]
	eventually(t, 2*rotates, "two rotations read the vault", func(context.Context) error {
		if n := p.requests(app.ClientID())[azuretest.GetSecret]; n < before+4 {
			return fmt.Errorf("%d reads", n-before)
		}
		return nil
	})
	if err := printed("one same\n")(t.Context()); err != nil {
		t.Errorf("nothing changed: %v", err)
	}

	start := time.Now()
	p.vault.SetSecret("changes", azuretest.Secret{Value: "two"})
	eventually(t, rotates, "the change is in the pod", printed("one same\ntwo same\n"))
	t.Logf("the change was seen after %.1f s", time.Since(start).Seconds())

	// The metric is the whole node's; the line in the log is the pod's own.
	failed, err := c.metric(t.Context(), `akv_csi_rotations_total{result="failed"}`)
	if err != nil {
		t.Fatal(err)
	}
	p.vault.Revoke(app.ClientID())
	eventually(t, rotates, "the failure is in the log and the metrics", func(ctx context.Context) error {
		log, err := c.pluginLog(ctx)
		if err != nil {
			return err
		}
		warned := false
		for line := range strings.SplitSeq(log, "\n") {
			warned = warned || strings.Contains(line, "level=WARN") && strings.Contains(line, "pod=app namespace="+p.namespace+" ") &&
				strings.Contains(line, "rotation=true") && strings.Contains(line, "[AccessDenied]")
		}
		now, err := c.metric(ctx, `akv_csi_rotations_total{result="failed"}`)
		if err == nil && (!warned || now <= failed) {
			err = fmt.Errorf("warning in the log: %t; failed rotations: %v, before %v", warned, now, failed)
		}
		return err
	})
	if err := printed("one same\ntwo same\n")(t.Context()); err != nil {
		t.Errorf("a failed rotation: %v", err)
	}

	p.vault.SetSecret("changes", azuretest.Secret{Value: "three"})
	p.vault.Grant(app.ClientID(), azuretest.SecretsGet)
	eventually(t, rotates, "rotations go on", printed("one same\ntwo same\nthree same\n"))
}

// outage is how long Azure is unavailable.
const outage = time.Minute

// outages: while the vault or Entra is unavailable or throttles, running pods keep their files;
// pods that want to start do so when it is over.
func (c *cluster) outages(t *testing.T) {
	for _, o := range []struct {
		name, reason string
		begin        func(*place)
		end          func(*place)
	}{
		{"VaultDown", "ServiceUnavailable", func(p *place) { p.vault.SetFault(azuretest.Fault{Reset: true}) }, func(p *place) { p.vault.SetFault(azuretest.Fault{}) }},
		{"Throttled", "Throttled", func(p *place) { p.vault.SetFault(azuretest.Fault{Status: 429}) }, func(p *place) { p.vault.SetFault(azuretest.Fault{}) }},
		{"EntraDown", "ServiceUnavailable", func(p *place) { p.box.Tenant(p.tenant).SetFault(azuretest.Fault{Reset: true}) },
			func(p *place) { p.box.Tenant(p.tenant).SetFault(azuretest.Fault{}) }},
	} {
		t.Run(o.name, func(t *testing.T) {
			t.Parallel()
			p := c.newPlace(t)
			p.tenant = fmt.Sprintf("0a0a0a0a-0000-4000-8000-%012d", p.number()) // its own, to be unavailable alone
			p.vaultName = fmt.Sprintf("kv-down-%d", p.number())
			p.vault = p.box.Vault(p.vaultName, p.box.Tenant(p.tenant))
			p.vault.SetSecret("password", azuretest.Secret{Value: "geheim"})
			for _, account := range []string{"old", "new"} { // the new one has no token yet
				app := p.identity(account)
				p.vault.Grant(app.ClientID(), azuretest.SecretsGet)
				p.apply(t, p.account(account, app.ClientID()))
			}
			p.apply(t, p.class("app", "password"), p.pod("old", "old", "app", stay))
			p.ready(t, "old")

			o.begin(p)
			begun := time.Now()
			p.apply(t, p.pod("new", "new", "app", stay))
			p.refused(t, "new", o.reason)
			select {
			case <-time.After(time.Until(begun.Add(outage))):
			case <-t.Context().Done():
				t.Fatal(context.Cause(t.Context()))
			}
			if got, err := p.exec(t.Context(), "old", "cat /mnt/secrets/password"); err != nil || got != "geheim" {
				t.Errorf("the running pod reads %q, %v", got, err)
			}
			pod, err := p.getPod(t.Context(), "new")
			if err != nil {
				t.Fatal(err)
			}
			if runs(pod) == nil {
				t.Error("the new pod runs in the middle of the outage")
			}
			o.end(p)
			over := time.Now()
			p.ready(t, "new") // kubelet waits longer after each attempt, up to two minutes
			if got, err := p.exec(t.Context(), "new", "cat /mnt/secrets/password"); err != nil || got != "geheim" {
				t.Error(errors.Join(err, fmt.Errorf("the new pod reads %q", got)))
			}
			t.Logf("the new pod ran %.1f s after the outage", time.Since(over).Seconds())
		})
	}
}
