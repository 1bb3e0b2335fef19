package entra

// description is what a number means for a mount, in short, and what to do.
type description struct{ text, fix string }

// descriptions are those of numbers that a mount can meet and that need no separate reason.
// Their sources are those of refusals. Entra's own text is never shown: it contains trace
// IDs and times, and changes.
var descriptions = map[int]description{
	50027:   {"the service account token is not a valid JWT", useKubelets},
	50048:   {"the token's subject does not match its issuer", useKubelets},
	700023:  {"the token has the audience of another authority", "check cloudName; cluster operator: check the audience in spec.tokenRequests of the CSIDriver"},
	700222:  {"the token was issued by Entra itself, which federated credentials reject", useKubelets},
	7000232: {"clientid is that of a managed identity, which has no client secret", "use workload identity (clientID), or the node's identity (useVMManagedIdentity, userAssignedIdentityID)"},
	7000216: {noCredential, checkProxies},
	7000218: {noCredential, checkProxies},
	700025:  {"the client is registered as a public client, which has no credential", "Entra admin: `az ad app update --id {id} --is-fallback-public-client false`"},

	1002012: {"clients may not request this scope", checkCloud},
	70011:   {"clients may not request this scope", checkCloud},
	50001:   {"the tenant has no such resource, or it is disabled", checkCloud},
	650052:  {"the tenant has no subscription to the service", "Entra admin: enable Azure Key Vault in it"},

	50059:   {noTenant, setTenant},
	50128:   {noTenant, setTenant},
	50194:   {"the client is registered for its own tenant only", setTenant},
	9001023: {"tenantID does not name a single tenant", setTenant},
	90019:   {noTenant, setTenant},
	90038:   {"the tenant belongs to another national cloud", checkCloud},
	900382:  {"the client belongs to another national cloud", checkCloud},
	900432:  {"the client belongs to another national cloud", checkCloud},
	5000225: {"the tenant is blocked", "Entra admin: reactivate it"},

	50002:   {restricted, checkRestrictions},
	500021:  {restricted, checkRestrictions},
	500022:  {restricted, checkRestrictions},
	530032:  {"a security policy of the tenant blocks the sign-in", allowNodes},
	530035:  {"the tenant's security defaults block the sign-in", checkLog},
	1000031: {"the application cannot be used at this time", "Entra admin: check the state of its enterprise application"},

	90013:   {malformed, checkProxies},
	90014:   {malformed, checkProxies},
	90023:   {malformed, checkProxies},
	900144:  {malformed, checkProxies},
	900561:  {malformed, checkProxies},
	9002313: {malformed, checkProxies},
}

const (
	allowNodes   = "Entra admin: exclude the client from the policy, or allow the nodes' egress addresses"
	checkLog     = "Entra admin: check the tenant's sign-in log"
	useKubelets  = "cluster operator: add audience {audience} to spec.tokenRequests of the CSIDriver"
	noCredential = "Entra received no credential"
	malformed    = "Entra received an incomplete request"
	checkProxies = "cluster operator: check that no proxy modifies requests"
	checkCloud   = "check cloudName and tenantID"
	noTenant     = "the request names no tenant"
	setTenant    = "set tenantID to the identity's tenant (`az account show --query tenantId`)"
	restricted   = "a proxy restricts the tenants for sign-in"

	checkRestrictions = "cluster operator: add this tenant to the proxy's Restrict-Access-To-Tenants header"
)
