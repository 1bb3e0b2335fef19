package cluster_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"akv-csi-provider/provider/azuretest"
)

// found: objects that a search finds, and optional ones, appear in running pods and
// disappear with the object in the vault. A pod without a single file runs as well, although the driver wants versions of objects.
func (c *cluster) found(t *testing.T) {
	p := c.newPlace(t)
	app := p.identity("app")
	p.vault.Grant(app.ClientID(), azuretest.SecretsGet, azuretest.SecretsList)
	p.vault.SetSecret("feature-a", azuretest.Secret{Value: "on"})
	const license = "objectName: license, objectType: secret, optional: true"
	p.apply(t, p.account("app", app.ClientID()),
		p.class("found", "find: {name: '^feature-'}, objectType: secret", license), p.class("empty", license),
		p.pod("found", "app", "found", stay), p.pod("empty", "app", "empty", stay))
	p.ready(t, "found", "empty")
	sees := func(within time.Duration, found, empty string) {
		t.Helper()
		for pod, want := range map[string]string{"found": found, "empty": empty} {
			eventually(t, within, "pod "+pod+" has "+want, func(ctx context.Context) error {
				got, err := p.exec(ctx, pod, "cd /mnt/secrets; echo *")
				if err == nil && got != want {
					err = fmt.Errorf("it has %s", got)
				}
				return err
			})
		}
	}
	sees(busy, "feature-a", "*")

	p.vault.SetSecret("feature-b", azuretest.Secret{Value: "on"})
	p.vault.SetSecret("license", azuretest.Secret{Value: "valid"})
	p.vault.Delete("secret", "feature-a")
	sees(2*rotates, "feature-b license", "license")
	eventually(t, rotates, "the pods' status names the objects", func(ctx context.Context) error {
		status, err := p.run(ctx, "", p.kubectlPath(), "-n", p.namespace, "get", "secretproviderclasspodstatus", "-o", "jsonpath={.items[*].status.objects[*].id}")
		if err == nil && (strings.Contains(status, "secret/feature-a") || !strings.Contains(status, "secret/feature-b") || strings.Count(status, "secret/license") != 2) {
			err = fmt.Errorf("it has %s", status)
		}
		return err
	})

	// The driver writes nothing when a volume has no file at all, so the last one stays.
	p.vault.Delete("secret", "license")
	sees(2*rotates, "feature-b", "license")
}

// failover: a pod whose vault is silent starts with the secrets of the other one. It keeps its files
// until the first vault is back.
func (c *cluster) failover(t *testing.T) {
	p := c.newPlace(t)
	app := p.identity("app")
	other := p.box.Vault(p.otherVault(), p.box.Tenant(tenant))
	for vault, value := range map[*azuretest.Vault]string{p.vault: "first", other: "other"} {
		vault.Grant(app.ClientID(), azuretest.SecretsGet)
		vault.SetSecret("password", azuretest.Secret{Value: value})
	}
	t.Cleanup(func() { p.vault.SetFault(azuretest.Fault{}) }) // a stalled mount would delay the end of the plugin
	p.vault.SetFault(azuretest.Fault{Stall: true})
	begun := time.Now()
	p.apply(t, p.account("app", app.ClientID()),
		p.classWith("app", map[string]string{"keyvaultName": p.vaultName, "failoverKeyvaultName": p.otherVault(), "tenantID": tenant}, "password"),
		p.pod("app", "app", "app", stay))
	p.ready(t, "app")
	t.Logf("the pod ran after %.1f s", time.Since(begun).Seconds())
	p.vault.SetFault(azuretest.Fault{Reset: true}) // which ends sooner
	sees := func(within time.Duration, want string) {
		t.Helper()
		eventually(t, within, "the pod reads "+want, func(ctx context.Context) error {
			got, err := p.exec(ctx, "app", "cat /mnt/secrets/password")
			if err == nil && got != want {
				err = fmt.Errorf("it reads %q", got)
			}
			return err
		})
	}
	sees(busy, "other")
	logged := func(rotation bool, texts ...string) {
		t.Helper()
		eventually(t, busy, fmt.Sprintf("a warning with rotation=%t and %q", rotation, texts), func(ctx context.Context) error {
			log, err := c.pluginLog(ctx)
			if err != nil {
				return err
			}
		lines:
			for line := range strings.SplitSeq(log, "\n") {
				for _, text := range append(texts, "level=WARN", "pod=app namespace="+p.namespace+" ", fmt.Sprintf("rotation=%t", rotation)) {
					if !strings.Contains(line, text) {
						continue lines
					}
				}
				return nil
			}
			return fmt.Errorf("not in the log")
		})
	}
	logged(false, "failover=1")
	other.SetSecret("password", azuretest.Secret{Value: "changed"})
	logged(true, "[ServiceUnavailable]")
	sees(busy, "other")
	p.vault.SetFault(azuretest.Fault{})
	sees(2*busy, "first") // kubelet waits longer after each attempt, up to two minutes
}
