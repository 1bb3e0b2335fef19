package azuretest

import (
	"encoding/json"
	"fmt"
	"maps"
	"time"

	"go.yaml.in/yaml/v3"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"
)

// What kubelet adds to the attributes of a CSI volume (csi_mounter.go and csi_plugin.go of
// Kubernetes), and the field of the driver that names the class.
const (
	attrPodName        = "csi.storage.k8s.io/pod.name"
	attrPodNamespace   = "csi.storage.k8s.io/pod.namespace"
	attrPodUID         = "csi.storage.k8s.io/pod.uid"
	attrServiceAccount = "csi.storage.k8s.io/serviceAccount.name"
	attrEphemeral      = "csi.storage.k8s.io/ephemeral"
	attrTokens         = "csi.storage.k8s.io/serviceAccount.tokens"
	attrClass          = "secretProviderClass"

	filePermission = 0o644 // the driver's, for every volume
)

// projectedToken is kubelet's form of a token, the TokenRequestStatus of the authentication API.
type projectedToken struct {
	Token               string    `json:"token"`
	ExpirationTimestamp time.Time `json:"expirationTimestamp"`
}

// MountRequest is what version 1.6.0 of the driver sends for the pod's volume: the parameters of the
// SecretProviderClass in class (YAML), overwritten by the volume's attributes and by what kubelet
// adds to them. Tokens are by audience: nil mints one for [TokenExchangeAudience] that lasts an hour,
// an empty map is a CSIDriver that requests none. Target is the path of the volume.
func (c *Cluster) MountRequest(class []byte, p Pod, tokens map[string]string, target string) (*v1alpha1.MountRequest, error) {
	p, err := p.withDefaults()
	if err != nil {
		return nil, err
	}
	spc, err := parseClass(class, p.Namespace)
	if err != nil {
		return nil, err
	}
	attributes, err := c.volumeContext(p, spc.Metadata.Name, tokens)
	if err != nil {
		return nil, err
	}
	parameters := map[string]string{}
	for name, value := range spc.Spec.Parameters {
		parameters[name] = value.Value
	}
	maps.Copy(parameters, attributes)
	// Kubelet puts the tokens here instead of into the attributes if the CSIDriver says so, and the
	// driver copies them over.
	if inSecrets := p.NodePublishSecret[attrTokens]; inSecrets != "" {
		parameters[attrTokens] = inSecrets
	}
	secrets := p.NodePublishSecret
	if len(secrets) == 0 {
		secrets = nil // gRPC does not distinguish an empty map from none
	}
	return &v1alpha1.MountRequest{
		Attributes: string(mustJSON(parameters)),
		Secrets:    string(mustJSON(secrets)),
		TargetPath: target,
		Permission: string(mustJSON(filePermission)),
	}, nil
}

// secretProviderClass is the part of the resource that the driver reads.
type secretProviderClass struct {
	Kind     string `yaml:"kind"`
	Metadata struct {
		Name      string `yaml:"name"`
		Namespace string `yaml:"namespace"`
	} `yaml:"metadata"`
	Spec struct {
		Provider   string               `yaml:"provider"`
		Parameters map[string]yaml.Node `yaml:"parameters"`
	} `yaml:"spec"`
}

// parseClass reads a class and refuses what the API server or the driver would refuse.
func parseClass(class []byte, namespace string) (*secretProviderClass, error) {
	var spc secretProviderClass
	if err := yaml.Unmarshal(class, &spc); err != nil {
		return nil, fmt.Errorf("parse SecretProviderClass: %w", err)
	}
	switch {
	case spc.Kind != "SecretProviderClass":
		return nil, fmt.Errorf("kind is %q, not SecretProviderClass", spc.Kind)
	case spc.Metadata.Name == "":
		return nil, fmt.Errorf("SecretProviderClass has no name")
	case spc.Spec.Provider == "":
		return nil, fmt.Errorf("SecretProviderClass %s names no provider", spc.Metadata.Name)
	case spc.Metadata.Namespace != "" && spc.Metadata.Namespace != namespace:
		return nil, fmt.Errorf("SecretProviderClass %s is in namespace %s, the pod in %s",
			spc.Metadata.Name, spc.Metadata.Namespace, namespace)
	}
	for name, value := range spc.Spec.Parameters {
		if value.Kind != yaml.ScalarNode || value.Tag != "!!str" {
			return nil, fmt.Errorf("parameter %s is no string (line %d): the API server wants it quoted", name, value.Line)
		}
	}
	return &spc, nil
}

// volumeContext is what kubelet hands the driver: the attributes of the volume, its own over them.
func (c *Cluster) volumeContext(p Pod, class string, tokens map[string]string) (map[string]string, error) {
	attributes := map[string]string{attrClass: class}
	maps.Copy(attributes, p.VolumeAttributes)
	if attributes[attrClass] != class {
		return nil, fmt.Errorf("the volume names the class %s, given is %s", attributes[attrClass], class)
	}
	maps.Copy(attributes, map[string]string{
		attrPodName: p.Name, attrPodNamespace: p.Namespace, attrPodUID: p.UID,
		attrServiceAccount: p.ServiceAccount, attrEphemeral: "true",
	})
	if tokens == nil && p.NodePublishSecret[attrTokens] == "" {
		token, err := c.Token(p, TokenExchangeAudience, time.Hour)
		if err != nil {
			return nil, err
		}
		tokens = map[string]string{TokenExchangeAudience: token}
	}
	if len(tokens) > 0 {
		attributes[attrTokens] = c.Projected(tokens)
	}
	return attributes, nil
}

// Projected is the JSON in which kubelet passes tokens on, by audience. The time of expiry is the
// token's own, or in an hour for what is no token.
func (c *Cluster) Projected(tokens map[string]string) string {
	projected := map[string]projectedToken{}
	for audience, token := range tokens {
		expires := c.box.clock().Add(time.Hour)
		if claims := peek(token); claims.ExpiresAt != nil {
			expires = claims.ExpiresAt.Time
		}
		projected[audience] = projectedToken{token, expires.UTC().Truncate(time.Second)}
	}
	body, err := json.Marshal(projected)
	if err != nil {
		panic(fmt.Sprintf("azuretest: marshal tokens: %v", err)) // only a year beyond 9999 can do that
	}
	return string(body)
}
