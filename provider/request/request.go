// Package request turns what the Secrets Store CSI driver sends with a Mount
// call into a validated value, so that no other package sees a string map.
//
// The driver sends three JSON texts (driver v1.6.0, pkg/secrets-store/nodeserver.go). The
// attributes are the parameters of the SecretProviderClass ("class" below), overridden by
// the pod's volume attributes, overridden by what kubelet adds. The secrets are the data of
// the volume's nodePublishSecretRef. The permission is the default file mode. A pod can
// override every parameter of the class, so nothing here is a security boundary: it only
// decides what is requested, never with whose rights.
package request

import (
	"encoding/json"
	"io/fs"
	"strings"

	"akv-csi-provider/provider/fault"
)

// Mount is everything that one Mount call requests. It is immutable after Parse and safe
// for concurrent use.
type Mount struct {
	Pod      Pod
	Class    string // name of the SecretProviderClass; "" if the driver did not say
	Vault    string // name of the key vault, lower case; "" if every object names its own
	Cloud    Cloud
	Identity Identity
	Objects  []Object  // in the order of the class; never empty
	Warnings []Warning // mistakes in the class that are accepted
}

// Pod is the pod that mounts the volume, as kubelet names it.
type Pod struct {
	Namespace      string
	Name           string
	UID            string
	ServiceAccount string
}

// Cloud is the Azure cloud the class names.
type Cloud struct {
	Name    string // as written; "" means the plugin's default
	EnvFile string // cloudEnvFileName, as written
}

// Identity is what the class says about authentication, and the credentials in the call.
// Package provider decides which of them is used.
type Identity struct {
	TenantID string // "" if the class names none, or with UseVMManagedIdentity
	ClientID string // likewise

	UseVMManagedIdentity   bool
	UserAssignedIdentityID string // client ID or ARM resource ID; "" without UseVMManagedIdentity
	UseAzureTokenProxy     bool

	// ServicePrincipal comes from the volume's nodePublishSecretRef.
	ServicePrincipal ServicePrincipal
	// Tokens are the pod's service-account tokens by audience; nil if there are none.
	Tokens map[string]Secret
}

// ServicePrincipal is an application's client ID and tenant with its password or certificate,
// each "" if it is missing. The IDs are validated only where they are used. They must not be
// shown before, because people swap ID and password.
type ServicePrincipal struct {
	ClientID          string
	TenantID          string
	ClientSecret      Secret
	ClientCertificate Secret
}

// Keys that kubelet and the driver add to the attributes. The driver exports none of them
// (v1.6.0, pkg/secrets-store/nodeserver.go).
const (
	attrPodName        = "csi.storage.k8s.io/pod.name"
	attrPodNamespace   = "csi.storage.k8s.io/pod.namespace"
	attrPodUID         = "csi.storage.k8s.io/pod.uid"
	attrServiceAccount = "csi.storage.k8s.io/serviceAccount.name"
	attrTokens         = "csi.storage.k8s.io/serviceAccount.tokens"
	attrClass          = "secretProviderClass"
)

// Parse validates the three texts of a Mount call. Its error is a *fault.Error with every
// problem found. The Mount is never nil: with an error, only its Pod and Class are set,
// as far as they could be read, so that the log can name them.
func (r *Parser) Parse(attributes, secrets, permission string) (*Mount, error) {
	var attr, sec map[string]string
	// The decoder's own error could quote the text, which may contain tokens.
	if err := json.Unmarshal([]byte(attributes), &attr); err != nil {
		return new(Mount), notJSON("attributes")
	}
	if err := json.Unmarshal([]byte(secrets), &sec); secrets != "" && err != nil {
		return new(Mount), notJSON("secrets")
	}
	var found problems
	mode := found.permission(permission)
	p := params{values: attr, problems: &found}
	pod, class := p.pod(), p.text(attrClass)
	m, wrong := r.ParseClass(attr, mode)
	m.Pod, m.Class = pod, class
	p.credentials(&m.Identity, sec)
	if found = append(found, wrong...); len(found) > 0 {
		return &Mount{Pod: pod, Class: class}, fault.Invalid(found...)
	}
	return m, nil
}

// ParseClass validates the parameters of a SecretProviderClass, as its author writes them:
// everything that does not come from the pod. The mode is that of objects without
// filePermission. It returns every problem, and, as far as it could be read, what a Mount of
// the class requests, with every warning.
func (r *Parser) ParseClass(parameters map[string]string, mode fs.FileMode) (*Mount, []fault.Problem) {
	var found problems
	p := params{values: parameters, problems: &found}
	m := &Mount{Vault: p.vault()}
	class := defaults{vault: m.Vault, failover: p.failover(m.Vault), mode: mode}
	var wrong problems
	empty := strings.TrimSpace(parameters["objects"]) == ""
	if !empty {
		m.Objects, m.Warnings, wrong = r.objects(parameters["objects"], class)
	}
	if m.Vault == "" && !ownVaults(parameters["objects"], m.Objects) {
		p.absent("keyvaultName", vaultNameFix)
	}
	m.Cloud, m.Identity = p.cloud(), p.identity()
	if empty {
		p.absent("objects", objectsFix)
	}
	return m, append(found, wrong...)
}

func notJSON(field string) error {
	return fault.Invalid(fault.Problem{Field: field, Cause: "not a JSON object of strings",
		Fix: "the CSI driver sets it; cluster operator: check that its version is supported"})
}

// permission reads the driver's default file mode, a JSON number.
func (p *problems) permission(text string) fs.FileMode {
	var mode uint32
	if err := json.Unmarshal([]byte(text), &mode); err != nil || mode > 0o777 {
		p.add("permission", quote(text)+" is not a file mode", "the CSI driver sets it, to a number from 0 to 511; cluster operator: check that its version is supported")
	}
	return fs.FileMode(mode)
}
