package main

import (
	"fmt"
	"strings"
	"time"

	"akv-csi-provider/provider/azuretest"
)

// volume is what every pod of a case mounts.
type volume struct {
	parameters string // of the class, besides those of all classes, one a line
	entries    string // of objects, YAML without indentation
	files      int
}

// content fills the world's vaults and says what pods mount of them.
type content = func(*world) volume

// listed is n secrets, each with its own entry.
func listed(n int) content {
	return func(w *world) volume {
		v := volume{files: n}
		for i := range n {
			v.entries += fmt.Sprintf("- {objectName: %s, objectType: secret}\n", w.secret(w.vault, i))
		}
		return v
	}
}

// searched is a search that finds one in every ten of n secrets.
func searched(n int) content {
	return func(w *world) volume {
		for i := range n {
			name := fmt.Sprintf("other-%04d", i)
			if i%10 == 0 {
				name = fmt.Sprintf("wanted-%04d", i)
			}
			w.vault.SetSecret(name, azuretest.Secret{Value: "value of " + name})
		}
		return volume{entries: "- {find: {name: '^wanted-'}, objectType: secret, objectAlias: wanted}\n", files: n / 10}
	}
}

// pieces is one secret that is JSON and becomes n files.
func pieces(n int) content {
	return func(w *world) volume {
		v := volume{entries: "- objectName: settings\n  objectType: secret\n  jmesPath:\n", files: n}
		var fields []string
		for i := range n {
			fields = append(fields, fmt.Sprintf(`"key%d": "value %d"`, i, i))
			v.entries += fmt.Sprintf("    - {path: key%d, objectAlias: settings/key%d}\n", i, i)
		}
		w.vault.SetSecret("settings", azuretest.Secret{Value: "{" + strings.Join(fields, ", ") + "}"})
		return v
	}
}

// templated is a document with n secrets.
func templated(n int) content {
	return func(w *world) volume {
		v := volume{entries: "- objectAlias: app/config.ini\n  template: |\n", files: 1}
		for i := range n {
			v.entries += fmt.Sprintf("    key%d = {{ secret %q }}\n", i, w.secret(w.vault, i))
		}
		return v
	}
}

// inVaults is n secrets in each of several vaults, which take these times for each request besides
// those of all vaults.
func inVaults(n int, slower ...time.Duration) content {
	return func(w *world) volume {
		v := volume{files: n * len(slower)}
		for k, d := range slower {
			name := fmt.Sprintf("%s-%d", vaultName, k)
			vault := w.addVault(name)
			vault.SetLatency(d)
			for i := range n {
				secret := w.secret(vault, i)
				v.entries += fmt.Sprintf("- {objectName: %s, objectType: secret, keyvaultName: %s, objectAlias: %[2]s/%[1]s}\n", secret, name)
			}
		}
		return v
	}
}

// silent is n secrets in a vault that never answers, and in its failover vault.
func silent(n int) content {
	return func(w *world) volume {
		v := listed(n)(w)
		w.vault.SetFault(azuretest.Fault{Stall: true})
		const second = vaultName + "-2"
		vault := w.addVault(second)
		for i := range n {
			w.secret(vault, i)
		}
		v.parameters = "failoverKeyvaultName: " + second
		return v
	}
}
