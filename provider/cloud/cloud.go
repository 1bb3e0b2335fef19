// Package cloud knows the Azure clouds: where Entra signs in, under which DNS
// suffix vaults live, and which audience their tokens carry.
package cloud

import (
	"fmt"
	"slices"
	"strings"
)

// Cloud is one Azure cloud. The zero value is not usable; see [Resolver].
type Cloud struct {
	Name        string   // as a class names it
	aliases     []string // the old names of go-autorest, which classes still hold
	Authority   string   // of Entra or AD FS, without a final slash
	VaultSuffix string   // DNS suffix of key vaults, without a leading dot
	// Resource is what tokens for the cloud's vaults are made for. In a custom cloud
	// the vault has the last word.
	Resource string
	Custom   bool // it comes from a file
}

// stackCloud is the name of every cloud that comes from a file.
const stackCloud = "AzureStackCloud"

// clouds is the table of Microsoft's documentation: "National clouds" for the
// authorities, "Azure Key Vault security worlds and geographic boundaries" and
// the Azure CLI's cloud profiles for the suffixes.
var clouds = []Cloud{
	{Name: "AzurePublicCloud", aliases: []string{"AzureCloud"}, Authority: "https://login.microsoftonline.com",
		VaultSuffix: "vault.azure.net", Resource: "https://vault.azure.net"},
	{Name: "AzureUSGovernmentCloud", aliases: []string{"AzureUSGovernment"}, Authority: "https://login.microsoftonline.us",
		VaultSuffix: "vault.usgovcloudapi.net", Resource: "https://vault.usgovcloudapi.net"},
	{Name: "AzureChinaCloud", Authority: "https://login.chinacloudapi.cn",
		VaultSuffix: "vault.azure.cn", Resource: "https://vault.azure.cn"},
}

// Names lists the names of clouds, first names only.
func Names() []string {
	names := make([]string, 0, len(clouds)+1)
	for _, c := range clouds {
		names = append(names, c.Name)
	}
	return append(names, stackCloud)
}

// IsPublished reports whether the authority is one of the table: Microsoft publishes the
// endpoints of those.
func IsPublished(authority string) bool {
	return slices.ContainsFunc(clouds, func(c Cloud) bool { return c.Authority == authority })
}

// The parameters of a class that this package reads.
const (
	paramName    = "cloudName"
	paramEnvFile = "cloudEnvFileName"
)

// Error says why there is no such cloud and what to name instead. Its text is one
// line.
type Error struct {
	Field string // parameter of the class
	Cause string
	Fix   string
}

// Error implements error.
func (e *Error) Error() string { return e.Cause + "; " + e.Fix }

// CheckName reports with an *Error that there is no cloud of the name, in any case.
func CheckName(name string) error {
	if strings.EqualFold(name, stackCloud) {
		return nil
	}
	_, err := lookup(name)
	return err
}

// lookup finds a cloud of the table.
func lookup(name string) (Cloud, error) {
	for _, c := range clouds {
		if strings.EqualFold(name, c.Name) || slices.ContainsFunc(c.aliases, func(a string) bool { return strings.EqualFold(name, a) }) {
			return c, nil
		}
	}
	e := &Error{Field: paramName, Cause: fmt.Sprintf("%.64q is not a cloud", name), Fix: "one of " + strings.Join(Names(), ", ")}
	if strings.EqualFold(name, "AzureGermanCloud") {
		e.Cause = "AzureGermanCloud was closed in 2021"
	}
	return Cloud{}, e
}

// VaultHost is the DNS name of a vault in this cloud.
func (c Cloud) VaultHost(vault string) string { return vault + "." + c.VaultSuffix }

// Scope is the OAuth scope of tokens for a resource (Microsoft identity platform,
// "The .default scope").
func Scope(resource string) string { return strings.TrimSuffix(resource, "/") + "/.default" }
