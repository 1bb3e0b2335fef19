package azuretest

import (
	"crypto/tls"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Who the plugin is in its cluster.
const (
	pluginNamespace = "kube-system"
	pluginAccount   = "akv-csi-provider"
)

// APIServer is a cluster's Kubernetes API server as far as the plugin sees it: it returns the
// metadata of service accounts, and on AKS it serves the [TokenProxy] on the same address.
type APIServer struct {
	cluster *Cluster
	ca      *authority
	address string
	token   string

	mu        sync.RWMutex // guards what follows
	accounts  map[accountName]*serviceAccount
	removed   map[accountName]bool
	version   int
	forbidden bool
	proxy     *TokenProxy // nil: turned off
}

type accountName struct{ namespace, name string }

type serviceAccount struct {
	uid         string
	version     int
	created     time.Time
	annotations map[string]string
	labels      map[string]string
}

// APIServer returns the cluster's API server, the same one each time. It is started on first use,
// with TLS on loopback under the cluster's own CA, and closed with the fake. It is not a part of
// Azure: [Box.SetOutage] leaves it alone.
func (c *Cluster) APIServer() (*APIServer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.api != nil {
		return c.api, nil
	}
	ca, err := newAuthority("kubernetes")
	if err != nil {
		return nil, err
	}
	plugin := Pod{Namespace: pluginNamespace, Name: pluginAccount + "-node", ServiceAccount: pluginAccount}
	token, err := c.Token(plugin, c.issuer, 365*24*time.Hour)
	if err != nil {
		return nil, err
	}
	s := &APIServer{
		cluster: c, ca: ca, token: token,
		accounts: map[accountName]*serviceAccount{}, removed: map[accountName]bool{},
	}
	l, err := c.box.start(newConns(), s, &tls.Config{GetCertificate: s.certificate})
	if err != nil {
		return nil, fmt.Errorf("start API server: %w", err)
	}
	s.address = l.Addr().String()
	c.api = s
	return s, nil
}

// Addr is the server's address, "127.0.0.1:port".
func (s *APIServer) Addr() string { return s.address }

// WriteCredentials writes into dir what a pod of the plugin finds in
// /var/run/secrets/kubernetes.io/serviceaccount: token, ca.crt and namespace.
func (s *APIServer) WriteCredentials(dir string) error {
	for name, content := range map[string][]byte{
		"token": []byte(s.token), "ca.crt": s.ca.pem, "namespace": []byte(pluginNamespace),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return fmt.Errorf("write credentials: %w", err)
		}
	}
	return nil
}

// SetServiceAccount creates a service account, or replaces the annotations of the one there is. One
// that was deleted comes back under another UID.
func (s *APIServer) SetServiceAccount(namespace, name string, annotations map[string]string) {
	key := accountName{namespace, name}
	s.mu.Lock()
	defer s.mu.Unlock()
	account := s.accounts[key]
	if account == nil {
		account = &serviceAccount{
			uid:     derivedUUID("serviceaccount", namespace, name), // as in the tokens of its pods
			created: s.cluster.box.clock(),
		}
		if s.removed[key] {
			account.uid = newUUID()
		}
		s.accounts[key] = account
	}
	s.version++
	account.version, account.annotations = s.version, maps.Clone(annotations)
}

// SetLabels replaces the labels of a service account that exists.
func (s *APIServer) SetLabels(namespace, name string, labels map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accounts[accountName{namespace, name}].labels = maps.Clone(labels)
}

// DeleteServiceAccount deletes a service account if it exists.
func (s *APIServer) DeleteServiceAccount(namespace, name string) {
	key := accountName{namespace, name}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.accounts[key] != nil {
		delete(s.accounts, key)
		s.removed[key] = true
	}
}

// Forbid makes RBAC refuse the plugin service accounts, until called with false.
func (s *APIServer) Forbid(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forbidden = on
}

// certificate is the token proxy's for its name, else the API server's.
func (s *APIServer) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	s.mu.RLock()
	proxy := s.proxy
	s.mu.RUnlock()
	names := []string{
		"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "127.0.0.1",
	}
	if proxy != nil {
		if hello.ServerName == proxy.sni {
			return s.ca.mint(proxy.sni)
		}
		names = append(names, "hcp-kubernetes."+proxy.clusterID+".svc.cluster.local")
	}
	return s.ca.mint(names...)
}

// ServeHTTP distinguishes the API server from the token proxy by the server name (SNI).
func (s *APIServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.RLock()
	proxy := s.proxy
	s.mu.RUnlock()
	if proxy != nil && r.TLS.ServerName == proxy.sni {
		s.cluster.box.handle(w, r, proxy.place(r))
		return
	}
	s.cluster.box.handle(w, r, place{api: s})
}

// parseAccountPath reads /api/v1/namespaces/<namespace>/serviceaccounts/<name>.
func parseAccountPath(path string) (namespace, name string, ok bool) {
	parts := strings.Split(path, "/")
	if len(parts) != 7 || strings.Join(parts[:4], "/") != "/api/v1/namespaces" || parts[5] != "serviceaccounts" {
		return "", "", false
	}
	return parts[4], parts[6], parts[4] != "" && parts[6] != ""
}

// answer authenticates, authorizes, and then looks.
func (s *APIServer) answer(x *exchange) reply {
	if bearer(x.Request) != s.token {
		return kubeUnauthorized()
	}
	namespace, name, ok := parseAccountPath(x.URL.Path)
	if !ok || x.Method != http.MethodGet {
		return kubeForbidden("", "", fmt.Sprintf("forbidden: User %q cannot %s path %q", pluginUser, strings.ToLower(x.Method), x.URL.Path))
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.forbidden {
		return accountForbidden(namespace, name)
	}
	account := s.accounts[accountName{namespace, name}]
	if account == nil {
		return accountNotFound(name)
	}
	return jsonReply(http.StatusOK, kubeHeader(), account.object(namespace, name, x.Header.Get("Accept")))
}

// object is what the client accepts: the metadata alone, or all of it. The real server would also
// speak protobuf.
func (a *serviceAccount) object(namespace, name, accept string) any {
	type metadata struct {
		Name            string            `json:"name"`
		Namespace       string            `json:"namespace"`
		UID             string            `json:"uid"`
		ResourceVersion string            `json:"resourceVersion"`
		Created         string            `json:"creationTimestamp"`
		Labels          map[string]string `json:"labels,omitempty"`
		Annotations     map[string]string `json:"annotations,omitempty"`
	}
	object := struct {
		Kind       string   `json:"kind"`
		APIVersion string   `json:"apiVersion"`
		Metadata   metadata `json:"metadata"`
	}{"ServiceAccount", "v1", metadata{
		name, namespace, a.uid, strconv.Itoa(a.version), a.created.UTC().Format(time.RFC3339), a.labels, a.annotations,
	}}
	if strings.Contains(accept, "as=PartialObjectMetadata;") {
		object.Kind, object.APIVersion = "PartialObjectMetadata", "meta.k8s.io/v1"
	}
	return object
}
