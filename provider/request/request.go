// Package request turns what the Secrets Store CSI driver sends with a Mount
// call into a checked value, so that no other package sees a string map.
//
// The driver sends three JSON texts (driver v1.6.0, pkg/secrets-store/nodeserver.go):
// the attributes are the class's parameters, overwritten by the pod's volume
// attributes, overwritten by what kubelet adds; the secrets are the data of the
// volume's nodePublishSecretRef; the permission is the default file mode. Since
// a pod can overwrite every parameter of the class, nothing here is a security
// boundary: it only decides what is asked for, never with whose rights.
package request

import (
	"encoding/json"
	"io/fs"
)

// Mount is everything one Mount call asks for. It is immutable after Parse and
// safe for concurrent use.
type Mount struct {
	Pod      Pod
	Class    string // name of the SecretProviderClass; "" if the driver did not say
	Vault    string // name of the key vault, lower case
	Cloud    Cloud
	Identity Identity
	Objects  []Object // in the order of the class; never empty
	Lax      []Lax    // what is served although it should not be written so
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

// Identity is what the class says about who signs in, and the credentials that
// came with the call. Which of them wins is decided by package provider.
type Identity struct {
	TenantID string // "" if the class names none, or with UseVMManagedIdentity
	ClientID string // likewise

	UseVMManagedIdentity   bool
	UserAssignedIdentityID string // "" without UseVMManagedIdentity
	UseAzureTokenProxy     bool

	// ServicePrincipal is what the volume's nodePublishSecretRef brings.
	ServicePrincipal ServicePrincipal
	// Tokens are the pod's service-account tokens by audience; nil if none came.
	Tokens map[string]Secret
}

// ServicePrincipal is an application's client ID with its password, each "" if it
// did not come. Whether the ID is one is checked only where it is used; it is not to be
// shown before, as people swap the two.
type ServicePrincipal struct {
	ClientID     string
	ClientSecret Secret
}

// complete reports whether both came.
func (p ServicePrincipal) complete() bool { return p.ClientID != "" && p.ClientSecret != "" }

// Keys that kubelet and the driver add to the attributes. The driver exports
// none of them (driver v1.6.0, pkg/secrets-store/nodeserver.go).
const (
	attrPodName        = "csi.storage.k8s.io/pod.name"
	attrPodNamespace   = "csi.storage.k8s.io/pod.namespace"
	attrPodUID         = "csi.storage.k8s.io/pod.uid"
	attrServiceAccount = "csi.storage.k8s.io/serviceAccount.name"
	attrTokens         = "csi.storage.k8s.io/serviceAccount.tokens"
	attrClass          = "secretProviderClass"
)

// Parse checks the three texts of a Mount call, as a [Parser] does that remembers nothing.
func Parse(attributes, secrets, permission string) (*Mount, error) {
	return new(Parser).Parse(attributes, secrets, permission)
}

// Parse checks the three texts of a Mount call. Its error is always an *Error
// that names every problem found, and then the Mount is nil.
func (r *Parser) Parse(attributes, secrets, permission string) (*Mount, error) {
	var attr, sec map[string]string
	// The decoder's own words could quote the text, which may hold tokens.
	if err := json.Unmarshal([]byte(attributes), &attr); err != nil {
		return nil, newError("attributes", "not a JSON object of strings", "the CSI driver sends it; check that its version is supported")
	}
	if err := json.Unmarshal([]byte(secrets), &sec); secrets != "" && err != nil {
		return nil, newError("secrets", "not a JSON object of strings", "the CSI driver sends it; check that its version is supported")
	}
	var e Error
	mode := e.permission(permission)
	p := params{values: attr, e: &e}
	m := &Mount{
		Pod:      p.pod(),
		Class:    p.text(attrClass),
		Vault:    p.vault(),
		Cloud:    Cloud{Name: p.text("cloudName"), EnvFile: p.text("cloudEnvFileName")},
		Identity: p.identity(sec),
	}
	m.Objects, m.Lax = r.objects(attr["objects"], mode, &e)
	if len(e.Problems) > 0 {
		e.Pod = m.Pod
		return nil, &e
	}
	return m, nil
}

// permission reads the driver's default file mode, a JSON number.
func (e *Error) permission(text string) fs.FileMode {
	var mode uint32
	if err := json.Unmarshal([]byte(text), &mode); err != nil || mode > 0o777 {
		e.add("permission", quote(text)+" is not a file mode", "the CSI driver sends a JSON number from 0 to 511")
	}
	return fs.FileMode(mode)
}
