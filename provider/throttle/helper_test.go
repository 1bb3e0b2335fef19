package throttle_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"akv-csi-provider/provider/throttle"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
)

// latency is how long the service takes for an answer.
const latency = 20 * time.Millisecond

var (
	errReset     = errors.New("connection reset")
	errPermanent = permanent{}
)

// permanent is an error that azcore does not retry.
type permanent struct{}

func (permanent) Error() string { return "certificate not trusted" }
func (permanent) NonRetriable() {}

// reply is what the service answers.
type reply struct {
	status     int // 0 is 200
	retryAfter string
	body       string
	err        error
}

// service is a policy.Transporter whose reply changes.
type service struct {
	start time.Time

	mu       sync.Mutex // guards what follows
	reply    reply
	next     []reply         // before it
	sent     []time.Duration // since the start
	names    []string        // the last elements of the paths
	bodies   []string
	underWay int
	most     int // at a time
}

func newService(r reply) *service { return &service{start: time.Now(), reply: r} }

func (s *service) set(r reply) { s.mu.Lock(); defer s.mu.Unlock(); s.reply = r }

func (s *service) count() int { s.mu.Lock(); defer s.mu.Unlock(); return len(s.sent) }

func (s *service) arrived(req *http.Request) (reply, error) {
	var body []byte
	if req.Body != nil {
		var err error
		if body, err = io.ReadAll(req.Body); err != nil {
			return reply{}, err
		}
		_ = req.Body.Close()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent = append(s.sent, time.Since(s.start))
	s.names = append(s.names, path.Base(req.URL.Path))
	s.bodies = append(s.bodies, string(body))
	s.underWay++
	s.most = max(s.most, s.underWay)
	if len(s.next) > 0 {
		first := s.next[0]
		s.next = s.next[1:]
		return first, nil
	}
	return s.reply, nil
}

// Do implements policy.Transporter.
func (s *service) Do(req *http.Request) (*http.Response, error) {
	r, err := s.arrived(req)
	if err != nil {
		return nil, err
	}
	defer func() { s.mu.Lock(); defer s.mu.Unlock(); s.underWay-- }()
	select {
	case <-time.After(latency):
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
	if r.err != nil {
		return nil, r.err
	}
	return r.response(req), nil
}

func (r reply) response(req *http.Request) *http.Response {
	resp := &http.Response{StatusCode: r.status, Header: http.Header{"X-Name": {path.Base(req.URL.Path)}}, Body: io.NopCloser(strings.NewReader(r.body)), Request: req}
	if resp.StatusCode == 0 {
		resp.StatusCode = http.StatusOK
	}
	if r.retryAfter != "" {
		resp.Header.Set("Retry-After", r.retryAfter)
	}
	return resp
}

// transport is a policy.Transporter.
type transport func(*http.Request) (*http.Response, error)

func (f transport) Do(req *http.Request) (*http.Response, error) { return f(req) }

// bounded ends each attempt after a while, as the plugin's transport does.
func bounded(most time.Duration, next transport) transport {
	return func(req *http.Request) (*http.Response, error) {
		ctx, cancel := context.WithTimeout(req.Context(), most)
		defer cancel()
		return next(req.WithContext(ctx))
	}
}

// client sends requests as the SDK's clients do.
type client struct{ pipeline runtime.Pipeline }

func newClient(t *throttle.Throttle, service policy.Transporter) client {
	return client{runtime.NewPipeline("test", "v1", runtime.PipelineOptions{}, &policy.ClientOptions{
		PerCallPolicies: []policy.Policy{t}, Transport: service, Retry: policy.RetryOptions{MaxRetries: -1},
	})}
}

func (c client) send(ctx context.Context, name, body string) (*http.Response, error) {
	req, err := runtime.NewRequest(ctx, http.MethodGet, "https://contoso.vault.azure.net/secrets/"+name)
	if err != nil {
		return nil, err
	}
	if body != "" {
		if err := req.SetBody(streaming.NopCloser(strings.NewReader(body)), "text/plain"); err != nil {
			return nil, err
		}
	}
	return c.pipeline.Do(req)
}

// get sends a request and returns the status; 0 with an error.
func (c client) get(ctx context.Context, name string) (int, error) {
	resp, err := c.send(ctx, name, "")
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, nil
}

// must sends a request that must succeed.
func (c client) must(t *testing.T, name string) {
	t.Helper()
	if status, err := c.get(t.Context(), name); status != http.StatusOK || err != nil {
		t.Errorf("%s: got %d, %v", name, status, err)
	}
}

// checkFree checks that no place is in use and no request waits.
func checkFree(t *testing.T, th *throttle.Throttle) {
	t.Helper()
	if inUse, waiting, retained := th.State(); inUse != 0 || waiting != 0 || retained != 0 {
		t.Errorf("%d places in use, %d requests wait, %d are in memory", inUse, waiting, retained)
	}
}

// urgency is a Trace that says how urgent its request is, and no more.
type urgency func() bool

func (u urgency) Urgent() bool { return u() }
func (urgency) Sent()          {}
func (urgency) Answered()      {}
func (urgency) Retrying(error) {}

func notUrgent() bool { return false }
func urgent() bool    { return true }
