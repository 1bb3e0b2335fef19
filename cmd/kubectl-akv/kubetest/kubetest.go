// Package kubetest is a Kubernetes API server for tests of commands: it answers each path with an
// object, and refuses what the user has no right to.
package kubetest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Server is the API server. Its methods may be called from any goroutine.
type Server struct {
	// Kubeconfig is the path of a file that names the server, with namespace shop.
	Kubeconfig string

	mu        sync.Mutex // guards what follows
	objects   map[string]any
	handlers  map[string]http.HandlerFunc
	forbidden []string
	requests  []string
}

// New starts a server that ends with the test.
func New(t testing.TB) *Server {
	t.Helper()
	s := &Server{objects: make(map[string]any), handlers: make(map[string]http.HandlerFunc)}
	listener := httptest.NewServer(s)
	t.Cleanup(listener.Close)
	s.Kubeconfig = filepath.Join(t.TempDir(), "kubeconfig")
	config := fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","current-context":"test",
"clusters":[{"name":"test","cluster":{"server":%q}}],"users":[{"name":"test","user":{"token":"user"}}],
"contexts":[{"name":"test","context":{"cluster":"test","user":"test","namespace":"shop"}}]}`, listener.URL)
	if err := os.WriteFile(s.Kubeconfig, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

// Set answers GET of a path, such as /api/v1/namespaces/shop/secrets/a, with an object.
func (s *Server) Set(path string, object any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects[path] = object
}

// Handle answers all methods of a path.
func (s *Server) Handle(path string, handler http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handlers[path] = handler
}

// Forbid refuses requests, such as "GET /api/v1/namespaces"; one that ends with * is a prefix.
func (s *Server) Forbid(requests ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forbidden = append(s.forbidden, requests...)
}

// Requests are the methods and paths that were requested.
func (s *Server) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.requests...)
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	request := r.Method + " " + r.URL.Path
	s.mu.Lock()
	s.requests = append(s.requests, request)
	forbidden := s.forbids(request)
	object, known := s.objects[r.URL.Path]
	handler := s.handlers[r.URL.Path]
	s.mu.Unlock()
	switch {
	case forbidden:
		Status(w, http.StatusForbidden, metav1.StatusReasonForbidden, `forbidden: User "dev" cannot do this`)
	case handler != nil:
		handler(w, r)
	case known && r.Method == http.MethodGet:
		Write(w, http.StatusOK, object)
	default:
		Status(w, http.StatusNotFound, metav1.StatusReasonNotFound, r.URL.Path+" not found")
	}
}

func (s *Server) forbids(request string) bool {
	for _, f := range s.forbidden {
		if prefix, ok := strings.CutSuffix(f, "*"); ok && strings.HasPrefix(request, prefix) || f == request {
			return true
		}
	}
	return false
}

// Status writes an error of the API server.
func Status(w http.ResponseWriter, code int, reason metav1.StatusReason, message string) {
	Write(w, code, metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure, Code: int32(code), Reason: reason, Message: message})
}

// Write writes an object.
func Write(w http.ResponseWriter, code int, object any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(object) // the client has gone
}
