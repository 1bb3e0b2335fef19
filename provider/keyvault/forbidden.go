package keyvault

import (
	"fmt"
	"net/http"
	"net/netip"
	"regexp"
	"strings"

	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/request"
)

// rights are what must be granted to read objects of a type: the built-in role with the fewest
// rights ("Azure built-in roles for Key Vault data plane operations"), which allows get and the
// list of versions, and the option of az keyvault set-policy. A role named after the type allows
// more: with a key to decrypt, and with a certificate to read its private key.
var rights = map[request.Type]struct{ role, option string }{
	request.TypeSecret: {"Key Vault Secrets User", "--secret-permissions"},
	request.TypeCert:   {lister, "--certificate-permissions"},
	request.TypeKey:    {lister, "--key-permissions"},
}

// lister is the role that lists the objects of a vault, without values of secrets.
const lister = "Key Vault Reader"

// The kinds of a 403. Key Vault's inner codes are not documented and may be missing, so each kind
// is recognized by code or message. Codes of missing rights come first: the message of such a 403
// contains names that users choose.
var (
	byRole       = regexp.MustCompile(`(?i)^ForbiddenByRbac\b|is not authorized to perform action`)
	byPolicy     = regexp.MustCompile(`(?i)^(?:AccessDenied|ForbiddenByPolicy)\b|does not have \w+ \w+ permission|not found on any access policy`)
	disabled     = regexp.MustCompile(`(?i)^(?:Secret|Key|Certificate)Disabled\b|not allowed on a disabled`)
	byConnection = regexp.MustCompile(`(?i)^ForbiddenByConnection\b|public ?(?:network ?)?access\b[^.;\r\n]*\bis (?:disabled|set to '?disabled)|not an approved private link`)
	byFirewall   = regexp.MustCompile(`(?i)^ForbiddenByFirewall\b|(?:client|address|subnet)\W{1,3}(?:[0-9a-f.:/]{2,64}\W{1,3})?is not (?:authorized|allowed)|caller is not a trusted service|virtual network rule`)
	byPerimeter  = regexp.MustCompile(`(?i)^\w*(?:Perimeter|Nsp)\b|network ?security ?perimeter|perimeter (?:profile|configuration|(?:access )?rule)|\bnsp rules?\b`)

	notRegistered = regexp.MustCompile(`(?i)subscription[^.;\r\n]*(?:not ?|un)registered|MissingSubscriptionRegistration`)
	noContract    = regexp.MustCompile(`(?i)subscription[^.;\r\n]*(?:disabled|deleted|suspended|expired|canceled|cancelled)|DisabledSubscription`)
)

// forbidden distinguishes the kinds of a 403.
func (q question) forbidden(header http.Header, body errorBody) error {
	text := body.Error.Inner.Code + " " + body.Error.Message
	node := "this node" + clientAddress(header, body.Error.Message)
	switch {
	case byRole.MatchString(text), byPolicy.MatchString(text):
		return q.accessDenied(body)
	case disabled.MatchString(text):
		fix := "set another objectVersion; or, Azure admin: enable it if it was disabled by mistake"
		if q.Type == request.TypeSecret {
			fix = "if it belongs to a certificate, wait until that is issued; else " + fix
		}
		return q.fault(fault.ObjectDisabled, "{objects} in "+q.Host+" is disabled", fix)
	case byConnection.MatchString(text):
		return q.fault(fault.VaultFirewall, q.Host+" has public network access disabled, and "+node+" requested {objects} without a private endpoint",
			"Azure admin: create one if there is none, and link its private DNS zone to the node's network; firewall rules do not help")
	case byFirewall.MatchString(text):
		fix := "Azure admin: add the nodes' egress addresses to the vault's network rules, or use a private endpoint"
		if byPerimeter.MatchString(text) {
			fix = "Azure admin: add the nodes' egress addresses to the vault's network rules or, in a network security perimeter, to an inbound access rule; or use a private endpoint"
		}
		return q.fault(fault.VaultFirewall, "the firewall of "+q.Host+" blocks "+node+" from {objects}", fix)
	case byPerimeter.MatchString(text):
		return q.fault(fault.VaultFirewall, "the network security perimeter of "+q.Host+" blocks "+node+" from {objects}",
			"Azure admin: add the nodes' egress addresses to an inbound access rule of the perimeter, or use a private endpoint")
	case notRegistered.MatchString(body.Error.Code + " " + text):
		return q.fault(fault.VaultRefused, "the subscription of "+q.Host+" is not registered for Key Vault, which rejected {objects}",
			"Azure admin: in that subscription, `az provider register --namespace Microsoft.KeyVault`")
	case noContract.MatchString(body.Error.Code + " " + text):
		return q.fault(fault.VaultRefused, "the subscription of "+q.Host+" is disabled or deleted, so Key Vault rejected {objects}",
			"set keyvaultName to a vault of another subscription; or, Azure admin: reactivate this one")
	}
	return q.accessDenied(body)
}

func (q question) accessDenied(body errorBody) error {
	right, who := rights[q.Type], q.principal.name()
	role, scope, others := right.role, fmt.Sprintf("/%ss/{name}", q.Type.Word()), "{others}"
	permissions, cause := "get", fmt.Sprintf("%s is not allowed to get {objects} from %s", who, q.Host)
	switch q.access {
	case accessObjects:
		role, scope, others = lister, "", "" // on the vault; each found object is authorized separately
		permissions = "get list"
		cause = fmt.Sprintf("%s is not allowed to list the %ss of %s for find", who, q.Type.Word(), q.Host)
	case accessVersions:
		permissions = "get list"
		cause = fmt.Sprintf("%s is not allowed to list the versions of {objects} in %s for objectVersionHistory", who, q.Host)
	}
	id := q.principal.ClientID
	if id == "" || strings.HasPrefix(id, "/") { // of the node, not named by it: only the vault knows it
		id = callerID(body.Error.Message)
	}
	assign := fmt.Sprintf("`az role assignment create --assignee %s --role \"%s\" --scope \"$(az keyvault show -n %s --query id -o tsv)%s\"` (takes minutes)%s",
		id, role, q.vaultName(), scope, others)
	set := fmt.Sprintf("`az keyvault set-policy --name %s --spn %s %s %s` (vault-wide; replaces its %s permissions: list all that it needs)",
		q.vaultName(), id, right.option, permissions, q.Type.Word())
	fix := assign + "; or, for a vault with access policies, " + set
	switch text := body.Error.Inner.Code + " " + body.Error.Message; {
	case byRole.MatchString(text):
		fix = assign
	case byPolicy.MatchString(text):
		fix = set
	}
	q.Version = "" // rights are on objects, not on versions
	e := q.fault(fault.AccessDenied, cause, "Azure admin: "+fix)
	e.Name = q.Name
	return e
}

var callerText = regexp.MustCompile(`appid=(` + guid + `)`)

// callerID finds the client ID of the caller in the vault's message, for a command.
func callerID(message string) string {
	if m := callerText.FindStringSubmatch(message); m != nil {
		return strings.ToLower(m[1])
	}
	return "CLIENT_ID"
}

var (
	addressText  = regexp.MustCompile(`(?i)\b(?:client|ip) (?:ip )?address:? ['(]?([0-9a-f.:]+)`)
	addressField = regexp.MustCompile(`\baddr=([0-9a-fA-F.:]+)`)
)

// clientAddress finds the caller's address in the vault's message, or in the header that has it on
// all answers, to be put into a sentence.
func clientAddress(header http.Header, message string) string {
	for _, m := range [][]string{addressText.FindStringSubmatch(message), addressField.FindStringSubmatch(header.Get("x-ms-keyvault-network-info"))} {
		if m == nil {
			continue
		}
		if a, err := netip.ParseAddr(strings.TrimRight(m[1], ".")); err == nil {
			return fmt.Sprintf(" (egress address %s)", a)
		}
	}
	return ""
}
