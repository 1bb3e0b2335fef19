package request

import (
	"cmp"
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
)

var (
	vaultName = bounded(24, `^[-A-Za-z0-9]{3,}$`)
	// What azidentity accepts as a tenant and is safe in a URL path.
	tenantID = bounded(253, `^[A-Za-z0-9][A-Za-z0-9.-]*$`)
	// Client IDs are GUIDs, but fake clouds of tests use other names.
	clientID = bounded(128, `^[A-Za-z0-9][A-Za-z0-9._-]*$`)
	// A managed identity can also be named by its resource, of which the resource group has at most
	// 90 characters, and the name 128.
	managedID = bounded(640, `^([A-Za-z0-9][A-Za-z0-9._-]*|(?i:/subscriptions/[0-9a-f-]{36}/resourcegroups/[^/?#%\s\pC]+`+
		`/providers/Microsoft\.ManagedIdentity/userAssignedIdentities/[A-Z0-9_-]+))$`)
	guid = regexp.MustCompile(`^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$`)
)

// pattern is a regular expression with a bound: one that counts takes a kilobyte and more for each
// repetition, and a megabyte for a class of Unicode.
type pattern struct {
	*regexp.Regexp
	max int // bytes
}

func bounded(most int, expression string) pattern {
	return pattern{regexp.MustCompile(expression), most}
}

// MatchString reports whether the text matches and is not too long.
func (p pattern) MatchString(text string) bool {
	return len(text) <= p.max && p.Regexp.MatchString(text)
}

// params reads single parameters and collects what is wrong with them.
type params struct {
	values   map[string]string
	problems *problems
}

func (p params) text(name string) string { return trimmed(p.values[name]) }

// trimmed returns a text without the white space around it. It copies what it cuts out: names are
// in caches for longer than a request, of which a part would keep the whole in memory.
func trimmed(text string) string {
	if short := strings.TrimSpace(text); len(short) < len(text) {
		return strings.Clone(short)
	}
	return text
}

func (p params) boolean(name string) bool {
	text := p.text(name)
	b, err := strconv.ParseBool(cmp.Or(text, "false"))
	if err != nil {
		p.problems.add(name, invalid(text, "is not a boolean"), `use "true" or "false"`)
	}
	return b
}

func (p params) matching(name string, allowed pattern, fix string) string {
	text := p.text(name)
	if text != "" && !allowed.MatchString(text) {
		p.problems.add(name, invalid(text, notValid), fix)
	}
	return text
}

// absent adds the problem of a required parameter without a value.
func (p params) absent(name, fix string) {
	cause := "missing"
	if _, ok := p.values[name]; ok {
		cause = "empty"
	}
	p.problems.add(name, cause, fix)
}

func (p params) pod() Pod {
	for _, name := range []string{attrPodName, attrPodNamespace} {
		if p.text(name) == "" {
			p.absent(name, "cluster operator: set podInfoOnMount: true on the CSIDriver")
		}
	}
	return Pod{
		Namespace:      p.text(attrPodNamespace),
		Name:           p.text(attrPodName),
		UID:            p.text(attrPodUID),
		ServiceAccount: p.text(attrServiceAccount),
	}
}

const (
	vaultNameFix = "use the vault's name (3-24 letters, digits, hyphens)"
	vaultFix     = vaultNameFix + ", not its URL"
)

// vaultFixOf is the fix of a name that is not valid: the name in the URL of a vault, if it is one.
func vaultFixOf(text string) string {
	if _, host, ok := strings.Cut(text, "://"); ok {
		text = host
	}
	host, _, _ := strings.Cut(text, "/")
	name, domain, _ := strings.Cut(host, ".")
	if strings.HasPrefix(domain, "vault.") && vaultName.MatchString(name) { // as in all clouds
		return "use " + strconv.Quote(name)
	}
	return vaultFix
}

// vault returns the vault's name in lower case: DNS names ignore case, so that one vault
// must have one name in caches. It is "" if the class names none.
func (p params) vault() string {
	const field = "keyvaultName"
	return strings.ToLower(p.matching(field, vaultName, vaultFixOf(p.text(field))))
}

// failover returns the vault that is read when the class's is unavailable.
func (p params) failover(vault string) string {
	const field = "failoverKeyvaultName"
	name := strings.ToLower(p.matching(field, vaultName, vaultFixOf(p.text(field))))
	switch {
	case name == "":
	case vault == "":
		p.problems.add(field, "set without keyvaultName", "set keyvaultName too, or failoverKeyvaultName on the objects")
	case name == vault:
		p.problems.add(field, sameVault, otherVault)
	}
	return name
}

const (
	sameVault  = "same vault as keyvaultName"
	otherVault = "use another vault, or remove it"
)

// cloud returns what the class says about its cloud. Which clouds and files there are is not
// known here.
func (p params) cloud() Cloud {
	c := Cloud{Name: p.text("cloudName"), EnvFile: p.text("cloudEnvFileName")}
	if findPlaceholder(placeholder, c.Name) != nil {
		p.problems.add("cloudName", invalid(c.Name, ""), "use the name of a cloud, or remove it for the provider's default")
	}
	return c
}

func (p params) identity() Identity {
	const (
		guidFix   = "use the client ID, a GUID"
		directory = "use the tenant's GUID or domain name"
	)
	id := Identity{
		UseVMManagedIdentity: p.boolean("useVMManagedIdentity"),
		UseAzureTokenProxy:   p.boolean("useAzureTokenProxy"),
	}
	// What the mode does not use is ignored: with the replaced provider, classes with
	// placeholders and leftovers there work.
	if id.UseVMManagedIdentity {
		id.UserAssignedIdentityID = p.matching("userAssignedIdentityID", managedID, "use a client ID or /subscriptions/…/userAssignedIdentities/NAME")
	} else {
		id.ClientID = p.matching("clientID", clientID, guidFix)
		id.TenantID = p.matching("tenantID", tenantID, directory)
		if id.TenantID == "" {
			id.TenantID = p.matching("tenantId", tenantID, directory)
		}
	}
	if p.boolean("usePodIdentity") {
		p.problems.add("usePodIdentity", "AAD Pod Identity is retired",
			"use workload identity: set clientID; Azure admin: federate it with the pod's ServiceAccount")
	}
	if id.UseVMManagedIdentity && id.UseAzureTokenProxy {
		p.problems.add("useVMManagedIdentity", "set together with useAzureTokenProxy", "use one of the two")
	}
	return id
}

// credentials adds those that came with the call.
func (p params) credentials(id *Identity, secrets map[string]string) {
	id.ServicePrincipal = ServicePrincipal{
		ClientID:          trimmed(inAnyCase(secrets, "clientid")),
		TenantID:          trimmed(inAnyCase(secrets, "tenantid")),
		ClientSecret:      Secret(inAnyCase(secrets, "clientsecret")),
		ClientCertificate: Secret(trimmed(inAnyCase(secrets, "clientcertificate"))),
	}
	// Tokens that no mode would use are not parsed.
	principal := id.ServicePrincipal.ClientID != "" && (id.ServicePrincipal.ClientSecret != "" || id.ServicePrincipal.ClientCertificate != "")
	if !id.UseVMManagedIdentity && (id.ClientID != "" || !principal) {
		id.Tokens = p.tokens(secrets)
	}
}

// inAnyCase finds a value by its key in any case. The exact spelling takes precedence, and
// after it the first key in the order of bytes.
func inAnyCase(m map[string]string, key string) string {
	if v, ok := m[key]; ok {
		return v
	}
	for _, k := range sortedKeys(m) {
		if strings.EqualFold(k, key) {
			return m[k]
		}
	}
	return ""
}

// IsClientID reports whether the text can be a client ID.
func IsClientID(text string) bool { return clientID.MatchString(text) }

// IsGUID reports whether the text is a GUID, which no client secret is.
func IsGUID(text string) bool { return guid.MatchString(text) }

// IsTenantID reports whether the text can be a tenant: a GUID, a domain or "adfs".
func IsTenantID(text string) bool { return tenantID.MatchString(text) }

// tokens reads the pod's service-account tokens. They are in the attributes, or in the
// secrets if the CSIDriver has serviceAccountTokenInSecrets (Kubernetes 1.35, KEP-5538). Then
// a pod can set the attribute, and nothing in it, such as {} or null, hides the secrets'.
func (p params) tokens(secrets map[string]string) map[string]Secret {
	tokens := make(map[string]Secret)
	broken := false
	for _, text := range []string{p.text(attrTokens), strings.TrimSpace(secrets[attrTokens])} {
		var byAudience map[string]struct {
			Token string `json:"token"`
		}
		if text != "" && json.Unmarshal([]byte(text), &byAudience) != nil {
			broken = broken || text != `""`
			continue
		}
		for audience, t := range byAudience {
			if t.Token != "" && tokens[audience] == "" {
				tokens[audience] = Secret(t.Token)
			}
		}
	}
	switch {
	case len(tokens) > 0:
		return tokens
	case broken:
		p.problems.add(attrTokens, "not the JSON that kubelet writes", "remove it from volumeAttributes; cluster operator: add the audience to spec.tokenRequests of the CSIDriver")
	}
	return nil
}
