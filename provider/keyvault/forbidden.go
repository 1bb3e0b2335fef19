package keyvault

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"

	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/request"
)

// rights are what must be granted to read objects of a type: the built-in role with
// the fewest rights ("Azure built-in roles for Key Vault data plane operations"),
// which get and list alike, and the option of az keyvault set-policy.
var rights = map[request.Type]struct{ role, option string }{
	request.TypeSecret: {"Key Vault Secrets User", "--secret-permissions"},
	request.TypeCert:   {"Key Vault Certificate User", "--certificate-permissions"},
	request.TypeKey:    {"Key Vault Crypto User", "--key-permissions"},
}

// forbidden distinguishes the kinds of a 403 by the inner code.
func (q question) forbidden(body errorBody) error {
	switch inner := body.Error.Inner.Code; {
	case strings.HasSuffix(inner, "Disabled"):
		return q.fault(fault.ObjectDisabled, q.Host+" has {objects} disabled", "enable it, or name another version")
	case inner == "ForbiddenByFirewall", inner == "ForbiddenByConnection":
		return q.fault(fault.VaultFirewall, "the firewall of "+q.Host+" does not let this node"+clientAddress(body.Error.Message)+" read {objects}",
			"add the address the node is seen with to the vault's network rules, or reach the vault through a private endpoint")
	}
	return q.accessDenied(body)
}

func (q question) accessDenied(body errorBody) error {
	right := rights[q.Type]
	vault, _, _ := strings.Cut(q.Host, ".")
	permissions, cause := "get", fmt.Sprintf("%s may not get {objects} from %s", q.principal, q.Host)
	if q.access == listing {
		permissions = "get list"
		cause = fmt.Sprintf("%s may not list the versions of {objects} in %s, as objectVersionHistory needs", q.principal, q.Host)
	}
	id := q.principal.ClientID
	if id == "" { // of the node: only the vault knows it
		id = callerID(body.Error.Message)
	}
	role := fmt.Sprintf(`az role assignment create --assignee %s --role "%s" --scope "$(az keyvault show --name %s --query id -o tsv)"`, id, right.role, vault)
	policy := fmt.Sprintf("az keyvault set-policy --name %s --spn %s %s %s", vault, id, right.option, permissions)
	fix := "run " + role + ", or, for a vault with access policies, " + policy
	switch body.Error.Inner.Code {
	case "ForbiddenByRbac":
		fix = "run " + role + " and allow it some minutes to spread"
	case "AccessDenied", "ForbiddenByPolicy":
		fix = "run " + policy
	}
	return q.fault(fault.AccessDenied, cause, fix)
}

var callerText = regexp.MustCompile(`appid=(` + guid + `)`)

// callerID finds the client ID of the caller in the vault's message, for a command.
func callerID(message string) string {
	if m := callerText.FindStringSubmatch(message); m != nil {
		return strings.ToLower(m[1])
	}
	return "CLIENT_ID"
}

var addressText = regexp.MustCompile(`[Cc]lient address:? '?([0-9a-fA-F.:]+)`)

// clientAddress finds the caller's address in the vault's message, to be put into
// a sentence.
func clientAddress(message string) string {
	if m := addressText.FindStringSubmatch(message); m != nil {
		if a, err := netip.ParseAddr(strings.Trim(m[1], ".:")); err == nil {
			return fmt.Sprintf(" (seen as %s)", a)
		}
	}
	return ""
}
