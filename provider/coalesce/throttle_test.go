package coalesce_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"akv-csi-provider/provider/coalesce"
	"akv-csi-provider/provider/throttle"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

// flaky answers every request after a while, and every third with a 503.
type flaky struct{ requests atomic.Int64 }

// Do implements policy.Transporter.
func (f *flaky) Do(req *http.Request) (*http.Response, error) {
	n := f.requests.Add(1)
	select {
	case <-time.After(latency):
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
	resp := &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(req.URL.Path)), Request: req}
	if n%3 == 0 {
		resp.StatusCode = http.StatusServiceUnavailable
	}
	return resp, nil
}

// A Call is the trace of its requests. The throttle asks it with its own lock held, and the
// group cancels requests with the group's: they must not wait for each other.
func TestCallAsTrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service := new(flaky)
		pipeline := runtime.NewPipeline("test", "v1", runtime.PipelineOptions{}, &policy.ClientOptions{
			PerCallPolicies: []policy.Policy{throttle.New(throttle.Config{Max: 2, Retries: 3})},
			Transport:       service, Retry: policy.RetryOptions{MaxRetries: -1},
		})
		g := newGroup(caching(coalesce.NewBudget(100)))
		get := func(key string) do {
			return func(ctx context.Context, c *coalesce.Call) (string, coalesce.Life, error) {
				req, err := runtime.NewRequest(throttle.WithTrace(ctx, c, nil), http.MethodGet, "https://contoso.vault.azure.net/"+key)
				if err != nil {
					return "", coalesce.Life{}, err
				}
				resp, err := pipeline.Do(req)
				if err != nil {
					return "", coalesce.Life{}, err
				}
				if !runtime.HasStatusCode(resp, http.StatusOK) {
					return "", coalesce.Life{}, runtime.NewResponseError(resp)
				}
				body, err := runtime.Payload(resp)
				return string(body), coalesce.Life{Until: time.Now().Add(ttl)}, err
			}
		}
		var callers sync.WaitGroup
		var answered atomic.Int64
		for i := range 500 {
			callers.Go(func() {
				time.Sleep(time.Duration(i) * time.Millisecond)
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+i%10)*100*time.Millisecond)
				defer cancel()
				key := fmt.Sprint(i % 7)
				got, _, err := g.Do(ctx, key, coalesce.Freshness{NotBefore: time.Now(), Urgent: i%2 == 0}, get(key))
				if err == nil {
					answered.Add(1)
				}
				if err == nil && got != "/"+key {
					t.Errorf("%s got %q", key, got)
				}
			})
		}
		callers.Wait()
		if n := service.requests.Load(); n > 200 || answered.Load() < 100 {
			t.Errorf("%d requests, %d callers answered", n, answered.Load())
		}
		checkIdle(t, g)
	})
}
