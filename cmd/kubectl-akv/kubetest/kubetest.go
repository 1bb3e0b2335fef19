// Package kubetest is a Kubernetes API server for tests of commands: it serves objects as JSON, with
// selectors and as metadata only, and answers 403 where the test wants it.
package kubetest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
)

// Server is the API server. Its methods may be called while it serves.
type Server struct {
	// Kubeconfig is the path of a file that names the server, with namespace shop.
	Kubeconfig string

	t         testing.TB
	metadata  bool       // no data of a Secret may be requested, and nothing but reads
	mu        sync.Mutex // guards what follows
	objects   map[string]any
	groups    map[string]bool // which have or had an object
	handlers  map[string]http.HandlerFunc
	forbidden []string
	requests  []string
}

// New starts a server that ends with the test.
func New(t testing.TB) *Server {
	t.Helper()
	s := &Server{t: t, objects: make(map[string]any), groups: make(map[string]bool), handlers: make(map[string]http.HandlerFunc)}
	listener := httptest.NewServer(s)
	t.Cleanup(listener.Close)
	s.Kubeconfig = filepath.Join(t.TempDir(), "kubeconfig")
	config := fmt.Sprintf(`{apiVersion: v1, kind: Config, current-context: c, clusters: [{name: c, cluster: {server: %q}}],
  users: [{name: u, user: {token: t}}], contexts: [{name: c, context: {cluster: c, user: u, namespace: shop}}]}`, listener.URL)
	if err := os.WriteFile(s.Kubeconfig, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

// NewReadOnly is New for commands that only read: the test fails if one does not, or if it requests
// the data of a Secret.
func NewReadOnly(t testing.TB) *Server {
	t.Helper()
	s := New(t)
	s.metadata = true
	return s
}

// Put serves an object, or a text such as a pod's log, under its path, such as
// /api/v1/namespaces/shop/pods/web. Objects are also served in lists.
func (s *Server) Put(path string, object any) {
	s.t.Helper()
	if _, isText := object.(string); !isText {
		text, err := json.Marshal(object)
		if err != nil {
			s.t.Fatal(err)
		}
		var value map[string]any
		if err := json.Unmarshal(text, &value); err != nil {
			s.t.Fatal(err)
		}
		object = value
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects[path] = object
	s.groups[groupVersion(path)] = true
}

// Remove removes an object.
func (s *Server) Remove(path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.objects[path] == nil {
		s.t.Errorf("there is no %s", path)
	}
	delete(s.objects, path)
}

// Handle answers all methods of a path.
func (s *Server) Handle(path string, handler http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handlers[path] = handler
}

// Forbid answers 403 for requests, such as "GET /api/v1/namespaces", and for resources everywhere,
// such as "events" or "pods/log".
func (s *Server) Forbid(what ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forbidden = append(s.forbidden, what...)
}

// Requests are the methods and paths that were requested.
func (s *Server) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	request := r.Method + " " + r.URL.Path
	resource, isList := resourceOf(r.URL.Path)
	partial := strings.Contains(r.Header.Get("Accept"), "as=PartialObjectMetadata")
	if s.metadata && resource == "secrets" && !partial {
		s.t.Errorf("%s requests the data of a Secret: Accept %s", request, r.Header.Get("Accept"))
	}
	if s.metadata && r.Method != http.MethodGet {
		s.t.Errorf("%s: not a read", request)
	}
	s.mu.Lock()
	s.requests = append(s.requests, request)
	forbidden := slices.Contains(s.forbidden, request) || slices.Contains(s.forbidden, resource)
	object, handler := partialIf(partial, s.objects[r.URL.Path]), s.handlers[r.URL.Path]
	if object == nil && isList && s.groups[groupVersion(r.URL.Path)] {
		object = s.list(r, partial)
	}
	s.mu.Unlock()
	switch {
	case forbidden:
		status(w, http.StatusForbidden, metav1.StatusReasonForbidden, resource+` is forbidden: User "dev" cannot do this`)
	case handler != nil:
		handler(w, r)
	case object != nil && r.Method == http.MethodGet:
		Write(w, http.StatusOK, object)
	default:
		status(w, http.StatusNotFound, metav1.StatusReasonNotFound, resource+" not found")
	}
}

// resourceOf returns the resource of a path with its subresource, and whether it is that of a list.
func resourceOf(path string) (resource string, list bool) {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	skip := 2 // api/v1
	if parts[0] == "apis" {
		skip = 3
	}
	parts = parts[min(skip, len(parts)):]
	if len(parts) > 2 && parts[0] == "namespaces" {
		parts = parts[2:]
	}
	switch {
	case len(parts) == 0:
		return strings.Trim(path, "/"), false
	case len(parts) == 1:
		return parts[0], true
	case len(parts) > 2:
		return parts[0] + "/" + parts[2], false
	}
	return parts[0], false
}

// list is a list of the objects below the path, in one namespace or in all.
func (s *Server) list(r *http.Request, partial bool) any {
	field, err := fields.ParseSelector(r.URL.Query().Get("fieldSelector"))
	if err != nil {
		s.t.Error(err)
		return nil
	}
	label, err := labels.Parse(r.URL.Query().Get("labelSelector"))
	if err != nil {
		s.t.Error(err)
		return nil
	}
	items := []any{}
	for _, path := range slices.Sorted(maps.Keys(s.objects)) {
		folder := path[:strings.LastIndexByte(path, '/')]
		o, isObject := s.objects[path].(map[string]any)
		if isObject && (folder == r.URL.Path || everywhere(folder) == r.URL.Path) && label.Matches(labels.Set(texts(o, "metadata", "labels"))) && field.Matches(fieldsOf(o)) {
			items = append(items, partialIf(partial, o))
		}
	}
	list := map[string]any{"kind": kinds[r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]], "apiVersion": groupVersion(r.URL.Path),
		"metadata": map[string]any{"resourceVersion": "1"}, "items": items}
	if partial {
		list["kind"], list["apiVersion"] = "PartialObjectMetadataList", "meta.k8s.io/v1"
	}
	return list
}

// kinds are those of lists, which clients of generated types insist on.
var kinds = map[string]string{"pods": "PodList", "events": "EventList", "daemonsets": "DaemonSetList", "csinodes": "CSINodeList",
	"secretproviderclasses": "SecretProviderClassList", "secretproviderclasspodstatuses": "SecretProviderClassPodStatusList"}

func groupVersion(path string) string {
	parts := append(strings.Split(strings.Trim(path, "/"), "/"), "", "")
	if parts[0] == "apis" {
		return parts[1] + "/" + parts[2]
	}
	return parts[1]
}

// everywhere is the path of a list of all namespaces.
func everywhere(folder string) string {
	before, after, ok := strings.Cut(folder, "/namespaces/")
	if !ok {
		return folder
	}
	_, resource, _ := strings.Cut(after, "/")
	return before + "/" + resource
}

func fieldsOf(o map[string]any) fields.Set {
	set := fields.Set{}
	for _, path := range []string{"spec.nodeName", "involvedObject.uid", "reason", "metadata.name"} {
		var value any = o
		for part := range strings.SplitSeq(path, ".") {
			m, _ := value.(map[string]any)
			value = m[part]
		}
		set[path], _ = value.(string)
	}
	return set
}

func texts(o map[string]any, path ...string) map[string]string {
	var value any = o
	for _, part := range path {
		m, _ := value.(map[string]any)
		value = m[part]
	}
	found := make(map[string]string)
	m, _ := value.(map[string]any)
	for name, v := range m {
		found[name] = fmt.Sprint(v)
	}
	return found
}

// partialIf is an object's metadata, if only that was requested.
func partialIf(partial bool, object any) any {
	o, isObject := object.(map[string]any)
	if !partial || !isObject {
		return object
	}
	return map[string]any{"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": o["metadata"]}
}

// Write writes an object, or a text.
func Write(w http.ResponseWriter, code int, object any) {
	if text, ok := object.(string); ok {
		fmt.Fprint(w, text)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(object) // the client has gone
}

func status(w http.ResponseWriter, code int, reason metav1.StatusReason, message string) {
	Write(w, code, metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure, Code: int32(code), Reason: reason, Message: message})
}
