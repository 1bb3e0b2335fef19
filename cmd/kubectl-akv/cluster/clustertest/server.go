// Package clustertest is an API server for tests: it serves objects as JSON, with selectors, answers
// 403 where the test wants it, and fails the test if the data of a Secret is requested.
package clustertest

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

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
)

// Server is the API server. Its methods may be called while it serves.
type Server struct {
	Kubeconfig string // path of one for it

	t       *testing.T
	mu      sync.Mutex // guards the rest
	objects map[string]map[string]any
	texts   map[string]string
	refused map[string]bool
}

// New starts a server for the test.
func New(t *testing.T) *Server {
	t.Helper()
	s := &Server{t: t, objects: make(map[string]map[string]any), texts: make(map[string]string), refused: make(map[string]bool)}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.Kubeconfig = filepath.Join(t.TempDir(), "kubeconfig")
	config := fmt.Sprintf(`{apiVersion: v1, kind: Config, current-context: c, clusters: [{name: c, cluster: {server: %q}}],
  users: [{name: u, user: {token: t}}], contexts: [{name: c, context: {cluster: c, user: u, namespace: shop}}]}`, server.URL)
	if err := os.WriteFile(s.Kubeconfig, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

// Put serves an object under its path, such as /api/v1/namespaces/shop/pods/web.
func (s *Server) Put(path string, object any) {
	s.t.Helper()
	text, err := json.Marshal(object)
	if err != nil {
		s.t.Fatal(err)
	}
	var value map[string]any
	if err := json.Unmarshal(text, &value); err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects[path] = value
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

// PutText serves a text under a path, such as a pod's log.
func (s *Server) PutText(path, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.texts[path] = text
}

// Refuse answers 403 for these resources, such as "events" or "pods/log".
func (s *Server) Refuse(resources ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range resources {
		s.refused[r] = true
	}
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	resource, kind := resourceOf(r.URL.Path)
	partial := strings.Contains(r.Header.Get("Accept"), "as=PartialObjectMetadata")
	if resource == "secrets" && !partial {
		s.t.Errorf("%s %s requests the data of a Secret: Accept %s", r.Method, r.URL.Path, r.Header.Get("Accept"))
	}
	if r.Method != http.MethodGet {
		s.t.Errorf("%s %s: not a read", r.Method, r.URL.Path)
	}
	switch {
	case s.refused[resource]:
		status(w, http.StatusForbidden, "Forbidden", fmt.Sprintf("%s is forbidden", resource))
	case s.texts[r.URL.Path] != "":
		fmt.Fprint(w, s.texts[r.URL.Path])
	case s.objects[r.URL.Path] != nil:
		answer(w, partialIf(partial, s.objects[r.URL.Path]))
	case kind == "list":
		s.list(w, r, partial)
	default:
		status(w, http.StatusNotFound, "NotFound", resource+" not found")
	}
}

// resourceOf returns the resource of a path with its subresource, and "list" or "get".
func resourceOf(path string) (resource, kind string) {
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
		return strings.Trim(path, "/"), "get"
	case len(parts) == 1:
		return parts[0], "list"
	case len(parts) > 2:
		return parts[0] + "/" + parts[2], "get"
	}
	return parts[0], "get"
}

func (s *Server) list(w http.ResponseWriter, r *http.Request, partial bool) {
	field, err := fields.ParseSelector(r.URL.Query().Get("fieldSelector"))
	if err != nil {
		s.t.Error(err)
		return
	}
	label, err := labels.Parse(r.URL.Query().Get("labelSelector"))
	if err != nil {
		s.t.Error(err)
		return
	}
	items := []any{}
	for _, path := range slices.Sorted(maps.Keys(s.objects)) {
		folder := path[:strings.LastIndexByte(path, '/')]
		o := s.objects[path]
		if (folder == r.URL.Path || everywhere(folder) == r.URL.Path) && label.Matches(labels.Set(texts(o, "metadata", "labels"))) && field.Matches(fieldsOf(o)) {
			items = append(items, partialIf(partial, o))
		}
	}
	list := map[string]any{"kind": kinds[r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]], "apiVersion": groupVersion(r.URL.Path),
		"metadata": map[string]any{"resourceVersion": "1"}, "items": items}
	if partial {
		list["kind"], list["apiVersion"] = "PartialObjectMetadataList", "meta.k8s.io/v1"
	}
	answer(w, list)
}

// kinds are those of lists, which clients of generated types insist on.
var kinds = map[string]string{"pods": "PodList", "events": "EventList", "daemonsets": "DaemonSetList", "csinodes": "CSINodeList",
	"secretproviderclasses": "SecretProviderClassList", "secretproviderclasspodstatuses": "SecretProviderClassPodStatusList"}

func groupVersion(path string) string {
	parts := strings.Split(strings.Trim(path, "/"), "/")
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

func partialIf(partial bool, o map[string]any) map[string]any {
	if !partial {
		return o
	}
	return map[string]any{"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": o["metadata"]}
}

func answer(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(value)
}

func status(w http.ResponseWriter, code int, reason, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code, "message": message})
}
