// Package cloud knows the Azure clouds: the authority of Entra, for which audience it accepts the
// tokens of pods, under which DNS suffix vaults live, and which audience their tokens carry.
package cloud

import (
	"fmt"
	"slices"
	"strings"

	"akv-csi-provider/provider/fault"
)

// Cloud is one Azure cloud. The zero value is not usable; see [Resolver].
type Cloud struct {
	Name        string   // as a class names it
	aliases     []string // the old names of go-autorest, which classes still contain
	Authority   string   // of Entra or AD FS, without a final slash
	other       string   // another authority of the same Entra; "" for none
	VaultSuffix string   // DNS suffix of key vaults, without a leading dot
	// TokenAudience is the audience of service-account tokens that Entra takes; "" if the cloud
	// comes from a file that names none of Microsoft's authorities.
	TokenAudience string
	// Resource is the audience of tokens for the cloud's vaults. In a custom cloud the
	// challenge of the vault takes precedence.
	Resource string
	// APIVersion is the version of Key Vault's API with which to begin; "" for the newest.
	APIVersion string
	Custom     bool // the cloud comes from a file
}

// stackCloud is the name of every cloud that comes from a file.
const stackCloud = "AzureStackCloud"

// clouds is the table of Microsoft's documentation: "National clouds" for the authorities,
// "Azure Key Vault security worlds and geographic boundaries" and the Azure CLI's cloud profiles
// for the suffixes, and for the audiences "Important considerations and restrictions for federated
// identity credentials" and the Microsoft Authentication Library.
var clouds = []Cloud{
	{Name: "AzurePublicCloud", aliases: []string{"AzureCloud"}, Authority: "https://login.microsoftonline.com",
		TokenAudience: "api://AzureADTokenExchange", VaultSuffix: "vault.azure.net", Resource: "https://vault.azure.net"},
	{Name: "AzureUSGovernmentCloud", aliases: []string{"AzureUSGovernment"}, Authority: "https://login.microsoftonline.us", other: "https://login.usgovcloudapi.net",
		TokenAudience: "api://AzureADTokenExchangeUSGov", VaultSuffix: "vault.usgovcloudapi.net", Resource: "https://vault.usgovcloudapi.net"},
	// Clusters sign in at the older authority: their firewalls may know no other.
	{Name: "AzureChinaCloud", Authority: "https://login.chinacloudapi.cn", other: "https://login.partner.microsoftonline.cn",
		TokenAudience: "api://AzureADTokenExchangeChina", VaultSuffix: "vault.azure.cn", Resource: "https://vault.azure.cn"},
	{Name: "AzureBleuCloud", Authority: "https://login.sovcloud-identity.fr",
		TokenAudience: "api://AzureADTokenExchangeFrance", VaultSuffix: "vault.sovcloud-api.fr", Resource: "https://vault.sovcloud-api.fr"},
	{Name: "AzureDelosCloud", Authority: "https://login.sovcloud-identity.de",
		TokenAudience: "api://AzureADTokenExchangeGermany", VaultSuffix: "vault.sovcloud-api.de", Resource: "https://vault.sovcloud-api.de"},
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
	_, known := published(authority)
	return known
}

// published finds the cloud of the table that has the authority.
func published(authority string) (Cloud, bool) {
	i := slices.IndexFunc(clouds, func(c Cloud) bool {
		return authority != "" && (c.Authority == authority || c.other == authority)
	})
	if i < 0 {
		return Cloud{}, false
	}
	return clouds[i], true
}

// CheckName returns an error if there is no cloud of the name, in any case, neither here nor
// among the operator's own. The error is a *fault.Error that does not name the parameter, since
// the name may come from a flag.
func CheckName(name string, own ...string) error {
	is := func(other string) bool { return strings.EqualFold(name, other) }
	if is(stackCloud) || slices.ContainsFunc(own, is) {
		return nil
	}
	if _, known := lookup(name); known {
		return nil
	}
	p := unknown(name, own)
	return &fault.Error{Reason: fault.InvalidParameter, Cause: p.Cause, Fix: p.Fix}
}

// lookup finds a cloud of the table.
func lookup(name string) (Cloud, bool) {
	is := func(other string) bool { return strings.EqualFold(name, other) }
	for _, c := range clouds {
		if is(c.Name) || slices.ContainsFunc(c.aliases, is) {
			return c, true
		}
	}
	return Cloud{}, false
}

// unknown is the problem of a name that is not in the table, nor one of the operator's.
func unknown(name string, own []string) fault.Problem {
	p := fault.Problem{Field: "cloudName", Cause: fmt.Sprintf("unknown cloud %.64q", name), Fix: "use one of " + strings.Join(append(Names(), own...), ", ")}
	if strings.EqualFold(name, "AzureGermanCloud") {
		p.Cause = "AzureGermanCloud was closed in 2021"
	}
	return p
}

// VaultHost is the DNS name of a vault in this cloud.
func (c Cloud) VaultHost(vault string) string { return vault + "." + c.VaultSuffix }

// Scope is the OAuth scope of tokens for a resource (Microsoft identity platform,
// "The .default scope").
func Scope(resource string) string { return strings.TrimSuffix(resource, "/") + "/.default" }
