package fault

// Reason is the stable word for a kind of failure: users search for it, metrics and logs
// are labelled with it. The set is closed.
type Reason string

// The reasons. [Reasons] says what each means.
const (
	InvalidParameter Reason = "InvalidParameter"

	NoIdentity          Reason = "NoIdentity"
	IdentityModeRefused Reason = "IdentityModeRefused"
	TokenRequestMissing Reason = "TokenRequestMissing"

	FederatedCredentialMissing    Reason = "FederatedCredentialMissing"
	ApplicationNotFound           Reason = "ApplicationNotFound"
	TenantNotFound                Reason = "TenantNotFound"
	ClientSecretInvalid           Reason = "ClientSecretInvalid"
	ClientSecretExpired           Reason = "ClientSecretExpired"
	TokenExpired                  Reason = "TokenExpired"
	TokenInvalid                  Reason = "TokenInvalid"
	IssuerUnreachable             Reason = "IssuerUnreachable"
	SignInFailed                  Reason = "SignInFailed"
	ManagedIdentityUnavailable    Reason = "ManagedIdentityUnavailable"
	ServiceAccountLookupForbidden Reason = "ServiceAccountLookupForbidden"

	AccessDenied   Reason = "AccessDenied"
	VaultFirewall  Reason = "VaultFirewall"
	WrongTenant    Reason = "WrongTenant"
	TokenRejected  Reason = "TokenRejected"
	ObjectNotFound Reason = "ObjectNotFound"
	ObjectDisabled Reason = "ObjectDisabled"
	VaultNotFound  Reason = "VaultNotFound"
	VaultRefused   Reason = "VaultRefused"
	ContentInvalid Reason = "ContentInvalid"
	TooLarge       Reason = "TooLarge"

	Throttled          Reason = "Throttled"
	TLSUntrusted       Reason = "TLSUntrusted"
	ProxyRefused       Reason = "ProxyRefused"
	Timeout            Reason = "Timeout"
	ServiceUnavailable Reason = "ServiceUnavailable"

	Canceled Reason = "Canceled"
	Internal Reason = "Internal"
)

// Reasons are all reasons with their meaning, in the order of the reference.
var Reasons = []struct {
	Reason  Reason
	Meaning string
}{
	{InvalidParameter, "A parameter of the SecretProviderClass, or a field of one of its objects, is not valid."},

	{NoIdentity, "The class, the pod and its ServiceAccount configure no identity."},
	{IdentityModeRefused, "The provider's flags disable this kind of identity, or disable it in the pod's namespace."},
	{TokenRequestMissing, "The mount has no service account token for the audience that the identity needs."},

	{FederatedCredentialMissing, "The identity does not trust the pod's service account token."},
	{ApplicationNotFound, "The tenant has no usable application or managed identity with the client ID."},
	{TenantNotFound, "Microsoft Entra ID does not know the tenant."},
	{ClientSecretInvalid, "Microsoft Entra ID rejected the client secret."},
	{ClientSecretExpired, "The client secret has expired."},
	{TokenExpired, "The service account token is expired or not yet valid."},
	{TokenInvalid, "Microsoft Entra ID cannot verify the signature of the service account token."},
	{IssuerUnreachable, "Microsoft Entra ID cannot read the OIDC metadata of the cluster's issuer."},
	{SignInFailed, "Microsoft Entra ID refused the sign-in for another reason."},
	{ManagedIdentityUnavailable, "The node's instance metadata service issued no token for the managed identity."},
	{ServiceAccountLookupForbidden, "The provider cannot read the annotations of the pod's ServiceAccount."},

	{AccessDenied, "The identity lacks the right to read the object."},
	{VaultFirewall, "The vault's network rules or perimeter do not admit the node."},
	{WrongTenant, "The vault belongs to another tenant than the identity."},
	{TokenRejected, "The vault rejects the access token."},
	{ObjectNotFound, "The vault has no such object or version."},
	{ObjectDisabled, "The secret or its version is disabled."},
	{VaultNotFound, "No vault has this host name."},
	{VaultRefused, "The vault rejects the request."},
	{ContentInvalid, "The object's value does not have the format that the class asks for."},
	{TooLarge, "The volume is larger than the limit."},

	{Throttled, "The service limits the number of requests, and retries did not succeed in time."},
	{TLSUntrusted, "The TLS certificate of the service is not trusted."},
	{ProxyRefused, "The HTTP proxy refused the connection or cannot be reached."},
	{Timeout, "The service did not answer in time."},
	{ServiceUnavailable, "The service cannot be reached or reports an internal error."},

	{Canceled, "The caller ended the mount before it was complete; kubelet calls again."},
	{Internal, "The provider has a bug."},
}
