package entra

// description is what a number means for a mount, in short, and what to do.
type description struct{ text, fix string }

// descriptions are those of numbers that a mount can meet and that need no reason of their
// own. Their sources are those of refusals. Entra's own text is never shown: it contains trace
// IDs and times, and changes.
var descriptions = map[int]description{
	50027:   {"the service-account token is no valid JWT", useKubelets},
	50048:   {"the token's subject does not match its issuer", useKubelets},
	700023:  {"the token is made for another audience than this authority", "check cloudName, and the audience in spec.tokenRequests of the CSIDriver"},
	700222:  {"the token was issued by Entra itself, which a federated credential does not take", useKubelets},
	7000232: {"the client ID is that of a managed identity, which has no client secret", "use workload identity (clientID), or the node's identity (useVMManagedIdentity, userAssignedIdentityID)"},
	7000216: {noCredential, checkProxies},
	7000218: {noCredential, checkProxies},
	700025:  {"the client is registered as a public client, which has no credential", "register it as a confidential one: az ad app update --is-fallback-public-client false"},

	1002012: {"the scope is not one that a client may ask for", checkCloud},
	70011:   {"the scope is not one that a client may ask for", checkCloud},
	50001:   {"the tenant does not know the resource, or it is disabled", checkCloud},
	650052:  {"the tenant has no subscription to the service", "let an administrator enable Azure Key Vault for the tenant"},

	50059:   {noTenant, setTenant},
	50128:   {noTenant, setTenant},
	50194:   {"the client is not registered for more than its own tenant", setTenant},
	9001023: {"tenantID names no single tenant", setTenant},
	90019:   {noTenant, setTenant},
	90038:   {"the tenant belongs to another national cloud", checkCloud},
	900382:  {"the client belongs to another national cloud", checkCloud},
	900432:  {"the client belongs to another national cloud", checkCloud},
	5000225: {"the tenant is blocked", "let its administrator reactivate it"},

	50002:   {restricted, checkRestrictions},
	500021:  {restricted, checkRestrictions},
	500022:  {restricted, checkRestrictions},
	530032:  {"a security policy of the tenant blocks the sign-in", "let the policy pass the node's addresses for this identity"},
	530035:  {"the tenant's security defaults block the sign-in", "let the policy pass the node's addresses for this identity"},
	1000031: {"the application cannot be used at this time", "let an administrator of the tenant look at it"},

	90013:   {malformed, checkProxies},
	90014:   {malformed, checkProxies},
	90023:   {malformed, checkProxies},
	900144:  {malformed, checkProxies},
	900561:  {malformed, checkProxies},
	9002313: {malformed, checkProxies},
}

const (
	useKubelets  = "let the CSIDriver object ask kubelet for the token: spec.tokenRequests"
	noCredential = "no credential reached Entra"
	malformed    = "what reached Entra is not a complete request"
	checkProxies = "check that no proxy on the way changes requests"
	checkCloud   = "check that cloudName is the cloud of the tenant"
	noTenant     = "the request names no tenant"
	setTenant    = "set tenantID to the tenant of the identity; az account show --query tenantId shows it"
	restricted   = "a proxy on the way restricts which tenants can be signed in to"

	checkRestrictions = "let the proxy that sets Restrict-Access-To-Tenants name this one"
)
