package main

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"regexp"
)

// settings are the environment variables of a run and the names that follow from them. The same
// variables give the same names, so that a later run can clean up after an earlier one.
type settings struct {
	tenant, subscription, location string
	keep, clean                    bool
	group, cluster, registry       string
	vault                          string // of the quick start; the names of the others begin with it
}

var guid = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

func fromEnvironment(get func(string) string) (settings, error) {
	var wrong []error
	read := func(name, fallback, pattern, want string) string {
		value := cmp.Or(get(name), fallback)
		if !regexp.MustCompile(pattern).MatchString(value) {
			wrong = append(wrong, fmt.Errorf("%s=%q: set it to %s", name, value, want))
		}
		return value
	}
	s := settings{
		tenant:       read("AZURE_TENANT_ID", "", guid.String(), "the tenant's GUID, in lower case"),
		subscription: read("AZURE_SUBSCRIPTION_ID", "", guid.String(), "the subscription's GUID, in lower case"),
		location:     read("E2E_LOCATION", "westeurope", `^[a-z0-9]+$`, "a region such as westeurope"),
		keep:         read("E2E_KEEP", "no", `^(yes|no)$`, "yes or no") == "yes",
		clean:        read("E2E_CLEAN", "no", `^(yes|no)$`, "yes or no") == "yes",
	}
	prefix := read("E2E_PREFIX", "", `^[a-z][a-z0-9]{1,9}$`, "2 to 10 lower-case letters and digits, which all names begin with")
	// Names of vaults and registries are host names: they are unique in all of Azure.
	unique := fmt.Sprintf("%.3x", sha256.Sum256([]byte(s.subscription+prefix)))
	s.group, s.cluster = prefix+"-akv-e2e", prefix+"-akv-e2e"
	s.vault, s.registry = prefix+"-"+unique, prefix+unique+"e2e"
	return s, errors.Join(wrong...)
}

// The other vaults.
func (s settings) otherVault() string   { return s.vault + "-o" } // has access policies
func (s settings) closedVault() string  { return s.vault + "-c" } // its firewall admits nobody
func (s settings) privateVault() string { return s.vault + "-p" } // has no public access
func (s settings) missingVault() string { return s.vault + "-n" } // is never created

// vaults are those that a run creates.
func (s settings) vaults() []string {
	return []string{s.vault, s.otherVault(), s.closedVault(), s.privateVault()}
}

// values are the variables for which the quick start asks its reader to choose names.
func (s settings) values() map[string]string {
	return map[string]string{
		"RESOURCE_GROUP": s.group, "LOCATION": s.location, "CLUSTER_NAME": s.cluster, "IDENTITY_NAME": "e2e-quick-start",
		"NAMESPACE": "default", "KEYVAULT_NAME": s.vault, "REGISTRY_NAME": s.registry,
	}
}
