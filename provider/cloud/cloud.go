// Package cloud knows the Azure clouds: where Entra signs in, under which DNS
// suffix vaults live, and which audience their tokens carry.
package cloud

import (
	"fmt"
	"slices"
	"strings"
)

// Cloud is one Azure cloud. The zero value is not usable; see [Lookup].
type Cloud struct {
	Name        string   // as a class names it
	aliases     []string // the old names of go-autorest, which classes still hold
	Authority   string   // of Entra, without a final slash
	VaultSuffix string   // DNS suffix of key vaults, without a leading dot
}

// clouds is the table of Microsoft's documentation: "National clouds" for the
// authorities, "Azure Key Vault security worlds and geographic boundaries" and
// the Azure CLI's cloud profiles for the suffixes.
var clouds = []Cloud{
	{Name: "AzurePublicCloud", aliases: []string{"AzureCloud"}, Authority: "https://login.microsoftonline.com", VaultSuffix: "vault.azure.net"},
	{Name: "AzureUSGovernmentCloud", aliases: []string{"AzureUSGovernment"}, Authority: "https://login.microsoftonline.us", VaultSuffix: "vault.usgovcloudapi.net"},
	{Name: "AzureChinaCloud", Authority: "https://login.chinacloudapi.cn", VaultSuffix: "vault.azure.cn"},
}

// Names lists the names that Lookup knows, first names only.
func Names() []string {
	names := make([]string, len(clouds))
	for i, c := range clouds {
		names[i] = c.Name
	}
	return names
}

// UnknownError says that there is no such cloud, and which there are.
type UnknownError struct {
	Cause string
	Fix   string
}

// Error implements error.
func (e *UnknownError) Error() string { return e.Cause + "; " + e.Fix }

// Lookup finds a cloud by its name in any case. Its error is an *UnknownError.
func Lookup(name string) (Cloud, error) {
	for _, c := range clouds {
		if strings.EqualFold(name, c.Name) || slices.ContainsFunc(c.aliases, func(a string) bool { return strings.EqualFold(name, a) }) {
			return c, nil
		}
	}
	e := &UnknownError{Cause: fmt.Sprintf("%.64q is not a cloud", name), Fix: "one of " + strings.Join(Names(), ", ")}
	switch {
	case strings.EqualFold(name, "AzureGermanCloud"):
		e.Cause = "AzureGermanCloud was closed in 2021"
	case strings.EqualFold(name, "AzureStackCloud"):
		e.Cause = "AzureStackCloud is not supported by this version"
	}
	return Cloud{}, e
}

// VaultHost is the DNS name of a vault in this cloud.
func (c Cloud) VaultHost(vault string) string { return vault + "." + c.VaultSuffix }

// VaultScope is the OAuth scope of tokens for this cloud's vaults.
func (c Cloud) VaultScope() string { return "https://" + c.VaultSuffix + "/.default" }
