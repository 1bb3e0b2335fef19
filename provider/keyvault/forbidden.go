package keyvault

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"

	"akv-csi-provider/provider/request"
)

// access is what was asked of an object.
type access int

const (
	getting access = iota
	listing        // its versions
)

// rights are what must be granted to read objects of a type: the built-in role with
// the fewest rights ("Azure built-in roles for Key Vault data plane operations"),
// which get and list alike, and the option of az keyvault set-policy.
var rights = map[request.Type]struct{ role, option string }{
	request.TypeSecret: {"Key Vault Secrets User", "--secret-permissions"},
	request.TypeCert:   {"Key Vault Certificate User", "--certificate-permissions"},
	request.TypeKey:    {"Key Vault Crypto User", "--key-permissions"},
}

// forbidden tells the kinds of a 403 apart by the inner code.
func (e *Error) forbidden(a answer, p Principal, to access) {
	host := e.Objects[0].Host
	switch inner := a.Error.Inner.Code; {
	case strings.HasSuffix(inner, "Disabled"):
		e.reason = ReasonObjectDisabled
		e.cause = host + " has {objects} disabled"
		e.fix = "enable it, or name another version"
	case inner == "ForbiddenByFirewall", inner == "ForbiddenByConnection":
		e.reason = ReasonVaultFirewall
		e.cause = "the firewall of " + host + " does not let this node" + clientAddress(a.Error.Message) + " read {objects}"
		e.fix = "add the address the node is seen with to the vault's network rules, or reach the vault through a private endpoint"
	default:
		e.accessDenied(a, p, to)
	}
}

func (e *Error) accessDenied(a answer, p Principal, to access) {
	host, right := e.Objects[0].Host, rights[e.Objects[0].Type]
	vault, _, _ := strings.Cut(host, ".")
	verb, permissions := "get", "get"
	if to == listing {
		verb, permissions = "list the versions of", "get list"
	}
	id := p.ClientID
	if id == "" { // of the node: only the vault knows it
		id = callerID(a.Error.Message)
	}
	role := fmt.Sprintf(`az role assignment create --assignee %s --role "%s" --scope "$(az keyvault show --name %s --query id -o tsv)"`, id, right.role, vault)
	policy := fmt.Sprintf("az keyvault set-policy --name %s --spn %s %s %s", vault, id, right.option, permissions)
	e.reason = ReasonAccessDenied
	e.cause = fmt.Sprintf("%s may not %s {objects} from %s", p, verb, host)
	if to == listing {
		e.cause = fmt.Sprintf("%s may not %s {objects} in %s, as objectVersionHistory needs", p, verb, host)
	}
	switch a.Error.Inner.Code {
	case "ForbiddenByRbac":
		e.fix = "run " + role + " and allow it some minutes to spread"
	case "AccessDenied", "ForbiddenByPolicy":
		e.fix = "run " + policy
	default:
		e.fix = "run " + role + ", or, for a vault with access policies, " + policy
	}
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
