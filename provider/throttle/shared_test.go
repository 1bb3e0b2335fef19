package throttle_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"akv-csi-provider/provider/throttle"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

// Requests that fail with another's probe each get a copy of the response: with the body, which
// they may read at the same time, and with their own request, which contains nothing of the
// other caller. The race detector watches.
func TestFailedProbeFailsAllThatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const body = `{"error":{"code":"Throttled"}}`
		s := newService(reply{status: 429, retryAfter: "7", body: body})
		c := newClient(throttle.New(throttle.Config{Max: 4, Retries: 1}), s)
		var group sync.WaitGroup
		for i := range 50 {
			group.Go(func() {
				name := fmt.Sprint("s", i)
				resp, err := c.send(t.Context(), name, "")
				if err != nil {
					t.Error(err)
					return
				}
				if got := path.Base(resp.Request.URL.Path); got != name {
					t.Errorf("%s got the request of %s", name, got)
				}
				if resp.StatusCode != 429 || throttle.RetryAfter(resp.Header) != 7*time.Second {
					t.Errorf("got %d, %v", resp.StatusCode, resp.Header)
				}
				resp.Header.Set("Retry-After", "of "+name)
				if i%2 == 0 {
					if got, err := io.ReadAll(resp.Body); string(got) != body || err != nil {
						t.Errorf("got the body %q, %v", got, err)
					}
					_ = resp.Body.Close()
					return
				}
				for range 2 {
					got, err := runtime.Payload(resp)
					if string(got) != body || err != nil {
						t.Errorf("got the body %q, %v", got, err)
					}
				}
				if got := runtime.NewResponseError(resp).Error(); got == "" {
					t.Error("no text")
				}
			})
		}
		group.Wait()
		if s.count() > 6 {
			t.Errorf("%d attempts", s.count())
		}
	})
}

// Network errors reach those that wait as they are.
func TestFailedProbeWithoutResponse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(reply{err: errReset})
		c := newClient(throttle.New(throttle.Config{Max: 1}), s)
		var group sync.WaitGroup
		for range 5 {
			_, _ = c.get(t.Context(), "x")
		}
		for range 5 {
			group.Go(func() {
				if _, err := c.get(t.Context(), "x"); !errors.Is(err, errReset) {
					t.Errorf("got %v", err)
				}
			})
		}
		group.Wait()
		if s.count() != 6 {
			t.Errorf("%d attempts", s.count())
		}
	})
}

// Azcore's retry policy returns the response together with the context's error if the time
// of an attempt is over just when the response comes. It may contain a secret, and must not
// become the failure of those that wait.
func TestResponseOfAnEndedAttemptIsNotShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		late := transport(func(req *http.Request) (*http.Response, error) {
			<-req.Context().Done()
			return reply{body: "CANARY"}.response(req), nil
		})
		c := newClient(throttle.New(throttle.Config{Max: 1}), late)
		send := func(name string) (*http.Response, error) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			return c.send(ctx, name, "")
		}
		for i := range 7 { // the circuit opens at the fifth
			if resp, err := send(fmt.Sprint(i)); resp != nil || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%d: got %v, %v", i, resp, err)
			}
		}
		var group sync.WaitGroup
		for range 5 {
			group.Go(func() {
				resp, err := send("x")
				if resp != nil || !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v, %v", resp, err)
				}
			})
		}
		group.Wait()
	})
}

// Whatever a Classify makes of a success, it is no failure of other requests.
func TestSuccessIsNotShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(reply{body: "CANARY"})
		c := newClient(throttle.New(throttle.Config{Max: 1, Classify: func(*http.Response, error) throttle.Result {
			return throttle.Result{Outcome: throttle.Throttled}
		}}), s)
		var group sync.WaitGroup
		var successes atomic.Int32
		for range 5 {
			group.Go(func() {
				if _, err := c.get(t.Context(), "x"); err == nil {
					successes.Add(1)
				}
			})
			synctest.Wait()
		}
		group.Wait()
		if s.count() != 2 || successes.Load() != 2 {
			t.Errorf("%d attempts, %d successes", s.count(), successes.Load())
		}
	})
}
