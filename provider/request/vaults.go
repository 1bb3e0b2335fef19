package request

import (
	"slices"
	"strings"
)

// vaults reads where the entry is read.
func (r *fieldReader) vaults(o *Object) {
	o.Vault, o.Failover = r.vaultName("keyvaultName"), r.vaultName("failoverKeyvaultName")
	own := o.Vault
	if own == "" {
		own = r.vault
	}
	if o.Failover != "" && o.Failover == own {
		r.wrong("failoverKeyvaultName", sameVault, otherVault)
	}
	if own == r.vault {
		o.Vault = ""
		if o.Failover == "" {
			o.Failover = r.failover
		}
	}
}

func (r *fieldReader) vaultName(field string) string {
	name := r.values[field]
	if name != "" && !vaultName.MatchString(name) {
		r.wrong(field, invalid(name, notValid), vaultFixOf(name))
	}
	return strings.ToLower(name)
}

// checkVaults reports the entries without a vault if the class has none, and others have one.
// For a class without any vault see ParseClass.
func (r *objectsReader) checkVaults(objects []Object, entries []fieldReader) {
	if r.vault != "" || !slices.ContainsFunc(objects, func(o Object) bool { return o.Vault != "" }) {
		return
	}
	for i, o := range objects {
		if o.Vault == "" && !entries[i].has("keyvaultName") {
			entries[i].lacks("keyvaultName", "set it here, or as a parameter of the class")
		}
	}
}

// ownVaults reports whether the objects, or what of them could be read, name vaults themselves.
func ownVaults(text string, objects []Object) bool {
	if len(objects) == 0 {
		return strings.Contains(text, "keyvaultName")
	}
	return slices.ContainsFunc(objects, func(o Object) bool { return o.Vault != "" })
}
