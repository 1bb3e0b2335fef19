package server_test

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"akv-csi-provider/provider/azuretest"
	"akv-csi-provider/provider/entra"
	"akv-csi-provider/provider/metrics"
	"akv-csi-provider/provider/server"
	"akv-csi-provider/provider/tracing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"
)

// canaries are the marks of a row and everything that the plugin emits while it runs.
type canaries struct {
	mu    sync.Mutex // guards marks
	marks []string

	metrics   *metrics.Metrics
	tracing   *tracing.Tracing
	collector *httptest.Server
	text      buffer // the log as text
	spans     buffer
	headers   buffer // of the exports, which contain the collector's API key
	status    buffer // what the driver receives, without the files
}

// newMark returns a text that each encoding changes.
func newMark() string { return `m"/+<& ?>%` + rand.Text() }

// mark makes a mark and remembers it.
func (c *canaries) mark() string {
	m := newMark()
	c.add(m)
	return m
}

// add remembers marks. Shorter ones could be anything.
func (c *canaries) add(marks ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range marks {
		if len(m) >= 6 && !slices.Contains(c.marks, m) {
			c.marks = append(c.marks, m)
		}
	}
}

func (c *canaries) all() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.marks)
}

// addToken marks a JSON Web Token, its payload and its signature.
func (c *canaries) addToken(token string) {
	c.add(token)
	if parts := strings.Split(token, "."); len(parts) == 3 {
		c.add(parts[1], parts[2])
	}
}

// addFile marks the content of a file. All PEM blocks begin alike, and all keys of one kind: of
// those it marks what differs.
func (c *canaries) addFile(content []byte) {
	c.add(string(content))
	for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
		c.add(string(block.Bytes[len(block.Bytes)/2:]))
		if parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
			if key, ok := parsed.(*ecdsa.PrivateKey); ok {
				c.addKey(key)
			}
		}
	}
}

func (c *canaries) addKey(key *ecdsa.PrivateKey) {
	scalar, err := key.Bytes()
	if err != nil {
		panic(err)
	}
	c.add(string(scalar))
}

// newCanaries also starts a collector of spans, with a mark as its API key.
func newCanaries(t *testing.T) *canaries {
	t.Helper()
	c := &canaries{metrics: metrics.New("1.2.3")}
	c.collector = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(&c.spans, r.Body)
		_, _ = fmt.Fprint(&c.headers, r.Header)
	}))
	t.Cleanup(c.collector.Close)
	key := "apikey-" + rand.Text()
	c.add(key)
	env := map[string]string{tracing.EndpointVariable: c.collector.URL, "OTEL_EXPORTER_OTLP_HEADERS": "x-api-key=" + key}
	var err error
	c.tracing, err = tracing.Start(func(name string) string { return env[name] }, "1.2.3", slog.New(slog.NewTextHandler(&c.text, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.tracing.Stop()
		if !strings.Contains(c.headers.String(), key) {
			t.Error("the collector received no API key")
		}
	})
	return c
}

// setup adds to that of the row what listens: a second log as text, metrics, spans, and a transport
// that sees the access tokens.
func (c *canaries) setup(s setup) setup {
	row := s
	s.metrics, s.tracing = c.metrics, c.tracing
	s.config = func(cfg *server.Config) {
		if row.config != nil {
			row.config(cfg)
		}
		text := slog.NewTextHandler(&c.text, &slog.HandlerOptions{Level: slog.LevelDebug})
		cfg.Log, cfg.Observe = slog.New(slog.NewMultiHandler(cfg.Log.Handler(), text)), c.metrics
		cfg.Interceptors = append(c.tracing.Interceptors(), c.metrics.Interceptor())
	}
	s.roundTripper = func(next http.RoundTripper) http.RoundTripper {
		if row.roundTripper != nil {
			next = row.roundTripper(next)
		}
		return roundTripper(func(req *http.Request) (*http.Response, error) {
			if _, token, ok := strings.Cut(req.Header.Get("Authorization"), " "); ok {
				c.addToken(token)
			}
			return next.RoundTrip(req)
		})
	}
	return s
}

// tokens are the pod's, with a mark as one of the claims.
func (c *canaries) tokens(t *testing.T, w *world, pod azuretest.Pod, audience string) map[string]string {
	t.Helper()
	claims, err := w.cluster.Claims(pod, audience, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	claims["canary"] = c.mark()
	token, err := w.cluster.Sign(claims)
	if err != nil {
		t.Fatal(err)
	}
	c.addToken(token)
	return map[string]string{audience: token}
}

// credentials are those of the row, and a mark as each setting that is not read.
func (c *canaries) credentials(row map[string]string) map[string]string {
	secret := maps.Clone(row)
	if secret == nil {
		secret = map[string]string{"clientsecret": c.mark()} // without a client ID: it is not used
	}
	for _, value := range secret {
		if !guids.MatchString(value) {
			c.add(value)
		}
	}
	secret[c.mark()] = c.mark()
	return secret
}

const tokensAttribute = "csi.storage.k8s.io/serviceAccount.tokens"

// prepareRequest returns the row's request with marks in it.
func (c *canaries) prepareRequest(t *testing.T, w *world, row canaryRow) *v1alpha1.MountRequest {
	t.Helper()
	c.add("CANARY") // the values that are in the table already
	value := c.mark()
	w.vault.SetSecret("my-secret", azuretest.Secret{Value: value})
	if row.failure.prepare != nil {
		row.failure.prepare(w)
	}
	if row.prepare != nil {
		row.prepare(t, c, w)
	}
	pod := w.pod
	pod.VolumeAttributes, pod.NodePublishSecret = maps.Clone(row.pod), c.credentials(row.secret)
	if row.objects != "" {
		if pod.VolumeAttributes == nil {
			pod.VolumeAttributes = map[string]string{}
		}
		pod.VolumeAttributes["objects"] = row.objects
	}
	tokens := row.tokens
	switch {
	case row.bound:
		tokens = c.tokens(t, w, pod, azuretest.BindingAudience)
	case tokens == nil:
		tokens = c.tokens(t, w, pod, entra.Audience)
	}
	req := w.requestFor(t, "one.yaml", pod, tokens)
	more := maps.Clone(row.pod)
	if more == nil {
		more = map[string]string{}
	}
	more[c.mark()] = c.mark()
	req.Attributes = overwrite(t, req.GetAttributes(), more)
	if row.request != nil {
		row.request(c, req)
	}
	return req
}

// mount mounts, twice if that succeeds, as then the second time is a rotation, and collects what the
// driver receives. It returns the reasons of the failure.
func (c *canaries) mount(t *testing.T, w *world, req *v1alpha1.MountRequest) (reasons []string) {
	t.Helper()
	for range 2 {
		var header, trailer metadata.MD
		resp, err := w.mount(t, req, grpc.Header(&header), grpc.Trailer(&trailer))
		s := status.Convert(err)
		_, _ = fmt.Fprintln(&c.status, header, trailer, s.Message(), s.Details(), s.Proto(), resp.GetObjectVersion(), resp.GetError())
		for _, m := range regexp.MustCompile(`\[([A-Z][A-Za-z]+)\]`).FindAllStringSubmatch(s.Message(), -1) {
			reasons = append(reasons, m[1])
		}
		for _, f := range resp.GetFiles() {
			_, _ = fmt.Fprintln(&c.status, f.GetPath(), f.GetMode())
			c.addFile(f.GetContents())
		}
		if err != nil {
			break
		}
	}
	return reasons
}

// outputs are what the plugin emitted, by where.
func (c *canaries) outputs(w *world) map[string]string {
	c.tracing.Stop() // sends the spans
	exposition := httptest.NewRecorder()
	c.metrics.Handler().ServeHTTP(exposition, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return map[string]string{
		"status": c.status.String(), "log as JSON": w.log.String(), "log as text": c.text.String(), "audit": w.audit.String(),
		"metrics": exposition.Body.String(), "spans": c.spans.String(),
	}
}
