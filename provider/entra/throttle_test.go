package entra

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"akv-csi-provider/provider/fair"
	"akv-csi-provider/provider/fault"
)

var entraModes = []Mode{WorkloadIdentity, ServicePrincipal}

func TestThrottledSignIn(t *testing.T) {
	const throttling, missing = `{"error":"invalid_request","error_codes":[90055]}`, `{"error":"invalid_client","error_codes":[700213]}`
	const unavailable = `{"error":"temporarily_unavailable"}`
	for name, c := range map[string]struct {
		modes    []Mode
		first    int
		status   int
		after    string
		body     string
		attempts int
		least    time.Duration // until the end
		most     time.Duration
		reason   fault.Reason // "" for a token
	}{
		"once 503":              {entraModes, 1, 503, "", "", 2, 100 * time.Millisecond, 200 * time.Millisecond, ""},
		"once 503, transient":   {entraModes, 1, 503, "", `{"error_codes":[90033]}`, 2, 100 * time.Millisecond, 200 * time.Millisecond, ""},
		"once 400, transient":   {entraModes, 1, 400, "", `{"error":"x","error_codes":[90033]}`, 2, 100 * time.Millisecond, 200 * time.Millisecond, ""},
		"once 408":              {entraModes, 1, 408, "", "", 2, 100 * time.Millisecond, 200 * time.Millisecond, ""},
		"once 429":              {entraModes, 1, 429, "", throttling, 2, time.Second, 1300 * time.Millisecond, ""},
		"once 429, 5 s":         {entraModes, 1, 429, "5", throttling, 2, 5 * time.Second, 6500 * time.Millisecond, ""},
		"once 503, 5 s":         {entraModes, 1, 503, "5", "", 2, 5 * time.Second, 6500 * time.Millisecond, ""},
		"503 for good":          {entraModes, always, 503, "", "", 4, time.Second, 2 * time.Second, fault.ServiceUnavailable},
		"missing credential":    {entraModes[:1], always, 401, "", missing, 3, 2 * time.Second, 2600 * time.Millisecond, fault.FederatedCredentialMissing},
		"... that came":         {entraModes[:1], 2, 401, "", missing, 3, 2 * time.Second, 2600 * time.Millisecond, ""},
		"... of another mode":   {entraModes[1:], always, 401, "", missing, 1, 0, 50 * time.Millisecond, fault.SignInFailed},
		"unavailable":           {entraModes, always, 400, "", unavailable, 3, 2 * time.Second, 2600 * time.Millisecond, fault.ServiceUnavailable},
		"node, unavailable":     {[]Mode{ManagedIdentity}, 2, 400, "", unavailable, 3, 2 * time.Second, 2600 * time.Millisecond, ""},
		"node, passed on":       {[]Mode{ManagedIdentity}, always, 400, "", `{"error":"x","error_description":"AADSTS90024: x"}`, 3, 2 * time.Second, 2600 * time.Millisecond, fault.ServiceUnavailable},
		"node, throttled":       {[]Mode{ManagedIdentity}, 1, 400, "", `{"error":"x","error_description":"AADSTS90033: x"}`, 2, 100 * time.Millisecond, 200 * time.Millisecond, ""},
		"refusal":               {entraModes, always, 401, "", `{"error_codes":[700016]}`, 1, 0, 50 * time.Millisecond, fault.ApplicationNotFound},
		"loop of one client":    {entraModes, always, 429, "9", `{"error_codes":[50196]}`, 1, 0, 50 * time.Millisecond, fault.Throttled},
		"page":                  {entraModes, always, 200, "", `<p>`, 1, 0, 50 * time.Millisecond, fault.ServiceUnavailable},
		"forbidden":             {entraModes, always, 403, "", `<p>`, 1, 0, 50 * time.Millisecond, fault.ServiceUnavailable},
		"node, once 404":        {[]Mode{ManagedIdentity}, 1, 404, "", "", 2, 100 * time.Millisecond, 200 * time.Millisecond, ""},
		"node, once 410":        {[]Mode{ManagedIdentity}, 1, 410, "", "", 2, 100 * time.Millisecond, 200 * time.Millisecond, ""},
		"node, once 500":        {[]Mode{ManagedIdentity}, 1, 500, "", "", 2, 100 * time.Millisecond, 200 * time.Millisecond, ""},
		"node, once 429":        {[]Mode{ManagedIdentity}, 1, 429, "3", "", 2, 3 * time.Second, 4 * time.Second, ""},
		"node, no such":         {[]Mode{ManagedIdentity}, always, 400, "", `{"error":"invalid_request","error_description":"Identity not found"}`, 1, 0, 50 * time.Millisecond, fault.ManagedIdentityUnavailable},
		"node, once 501":        {[]Mode{ManagedIdentity}, always, 501, "", "", 1, 0, 50 * time.Millisecond, fault.ServiceUnavailable},
		"node, page of a proxy": {[]Mode{ManagedIdentity}, always, 200, "", `<p>`, 1, 0, 50 * time.Millisecond, fault.ManagedIdentityUnavailable},
	} {
		for _, mode := range c.modes {
			t.Run(name+" "+string(mode), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					x, s := throttledExchange(t, c.first, c.status, c.after, c.body)
					start := time.Now()
					_, err := x.Token(t.Context(), person(mode).Identity, vault)
					took := time.Since(start)
					if c.reason == "" && err != nil {
						t.Errorf("got %v", err)
					}
					if c.reason != "" {
						if checkText(t, err); err.(*fault.Error).Reason != c.reason {
							t.Errorf("got %s", err.(*fault.Error).Reason)
						}
					}
					if s.asked() != c.attempts || took < c.least || took > c.most {
						t.Errorf("%d attempts in %s, want %d in %s to %s", s.asked(), took, c.attempts, c.least, c.most)
					}
				})
			})
		}
	}
}

// While Entra throttles, a tenant's pods wait. A caller whose time ends before
// fails at once, with an error about its own sign-in. Other tenants do not wait.
func TestThrottleOfATenant(t *testing.T) {
	for _, mode := range []Mode{WorkloadIdentity, ManagedIdentity} {
		synctest.Test(t, func(t *testing.T) {
			x, s := throttledExchange(t, 1, 429, "6", `{"error":"invalid_request","error_codes":[90055]}`)
			var pods sync.WaitGroup
			start := time.Now()
			pods.Go(func() {
				if _, err := x.Token(t.Context(), client(mode, "first"), vault); err != nil || time.Since(start) < 6*time.Second {
					t.Errorf("got %v after %s", err, time.Since(start))
				}
			})
			time.Sleep(time.Second)
			for i := range 30 {
				pods.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
					defer cancel()
					own := fmt.Sprint("caller-", i, ".")
					_, err := x.Token(ctx, client(mode, own), vault)
					if code := err.(*fault.Error).AADSTS; mode != ManagedIdentity && code != 90055 {
						t.Errorf("got number %d", code)
					}
					if checkText(t, err); err.(*fault.Error).Reason != fault.Throttled || strings.Contains(err.Error(), own) != (mode == ManagedIdentity) || strings.Contains(err.Error(), "first") {
						t.Errorf("got %v", err)
					}
					if time.Since(start) > time.Second {
						t.Errorf("failed after %s", time.Since(start))
					}
				})
			}
			if mode != ManagedIdentity {
				foreign := client(mode, "c")
				foreign.TenantID = "another"
				if _, err := x.Token(t.Context(), foreign, vault); err != nil || s.asked() != 2 {
					t.Errorf("another tenant: %v", err)
				}
			}
			time.Sleep(time.Second)
			before := s.asked()
			for range 30 {
				pods.Go(func() {
					if _, err := x.Token(t.Context(), client(mode, "later"), vault); err != nil {
						t.Error(err)
					}
				})
			}
			time.Sleep(3 * time.Second)
			if s.asked() != before {
				t.Errorf("%d requests while the circuit is open", s.asked()-before)
			}
			pods.Wait()
		})
	}
}

// A 429 for one client delays no other, and only its own callers get the error.
func TestThrottleOfAClient(t *testing.T) {
	for _, mode := range entraModes {
		synctest.Test(t, func(t *testing.T) {
			x, s := throttledExchange(t, 1, 429, "60", `{"error":"invalid_request"}`)
			start := time.Now()
			for range 3 { // the first sends a request, the others get its answer
				if _, err := x.Token(t.Context(), client(mode, "busy"), vault); !fault.Is(err, fault.Throttled) || !strings.Contains(err.Error(), `client "busy"`) {
					t.Errorf("got %v", err)
				}
			}
			for i := range 30 {
				if _, err := x.Token(t.Context(), client(mode, fmt.Sprint(i)), vault); err != nil {
					t.Errorf("another client: %v", err)
				}
			}
			if took := time.Since(start); s.asked() != 31 || took > time.Second {
				t.Errorf("%d requests in %s", s.asked(), took)
			}
			time.Sleep(80 * time.Second)
			if _, err := x.Token(t.Context(), client(mode, "BUSY"), vault); err != nil {
				t.Errorf("after a minute: %v", err)
			}
		})
	}
}

// Nor do several of them: only an error number for the tenant says that it is limited. Otherwise a
// pod with some clients could block the sign-ins of all others in its tenant.
func TestThrottleOfSeveralClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &service{answer: func(n int) (*http.Response, error) {
			if n <= 20 {
				return refuse(429, "60", `{"error":"invalid_request"}`)
			}
			return good()
		}}
		x, start := exchangeOf(t, s), time.Now()
		for i := range 20 {
			if _, err := x.Token(t.Context(), client(WorkloadIdentity, fmt.Sprint("busy-", i)), vault); !fault.Is(err, fault.Throttled) {
				t.Errorf("got %v", err)
			}
		}
		if _, err := x.Token(t.Context(), client(WorkloadIdentity, "innocent"), vault); err != nil || time.Since(start) > time.Second {
			t.Errorf("got %v after %s", err, time.Since(start))
		}
	})
}

// While Entra is unavailable, one pod probes for all, and each pod's error is about its own
// sign-in.
func TestEntraUnavailable(t *testing.T) {
	for name, answer := range map[string]func(int) (*http.Response, error){
		"503":   func(int) (*http.Response, error) { return refuse(503, "", "") },
		"429":   func(int) (*http.Response, error) { return refuse(429, "", `{"error_codes":[90055]}`) },
		"reset": func(int) (*http.Response, error) { return nil, io.ErrUnexpectedEOF },
	} {
		for _, mode := range []Mode{WorkloadIdentity, ServicePrincipal, ManagedIdentity} {
			t.Run(name+" "+string(mode), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := &service{answer: answer}
					x := exchangeOf(t, s)
					var pods sync.WaitGroup
					for i := range 200 {
						pods.Go(func() {
							time.Sleep(time.Duration(i) * 300 * time.Millisecond)
							ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
							defer cancel()
							own := fmt.Sprint("caller-", i, ".")
							_, err := x.Token(ctx, client(mode, own), vault)
							var typed *fault.Error
							if !errors.As(err, &typed) {
								t.Errorf("got %T %v", err, err)
							}
							if text := err.Error(); strings.Contains(strings.ReplaceAll(text, own, ""), "caller-") {
								t.Errorf("pod %d: got %v", i, err)
							} else if typed.Reason == fault.Throttled && mode == ManagedIdentity && !strings.Contains(text, own) {
								t.Errorf("got %v", err)
							}
						})
					}
					pods.Wait()
					if n := s.asked(); n > 60 {
						t.Errorf("%d requests in two minutes", n)
					}
				})
			})
		}
	}
}

// A read of metadata that fails is repeated, as a request for a token is.
func TestMetadataIsRetried(t *testing.T) {
	for name, failing := range map[string]func(context.Context) (*http.Response, error){
		"mute":         func(ctx context.Context) (*http.Response, error) { <-ctx.Done(); return nil, ctx.Err() },
		"reset":        func(context.Context) (*http.Response, error) { return nil, io.ErrUnexpectedEOF },
		"503":          func(context.Context) (*http.Response, error) { return refuse(503, "", "") },
		"429 with 6 s": func(context.Context) (*http.Response, error) { return refuse(429, "6", "") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x, s := throttledExchange(t, 0, 0, "", "")
				var reads atomic.Int64
				s.metadata = func(ctx context.Context) (*http.Response, error) {
					if reads.Add(1) == 1 {
						return failing(ctx)
					}
					return nil, nil
				}
				ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
				defer cancel()
				var pods sync.WaitGroup
				for i := range 10 {
					pods.Go(func() {
						if _, err := x.Token(ctx, client(WorkloadIdentity, fmt.Sprint(i)), vault); err != nil {
							t.Error(err)
						}
					})
				}
				pods.Wait()
				if n := reads.Load(); n != 2 {
					t.Errorf("metadata was read %d times", n)
				}
			})
		})
	}
}

// A response that breaks off is one that was not received: asking for another token does no
// harm.
func TestResponseThatBreaksOff(t *testing.T) {
	for _, mode := range append([]Mode{ManagedIdentity}, entraModes...) {
		synctest.Test(t, func(t *testing.T) {
			s := &service{answer: func(n int) (*http.Response, error) {
				if n == 1 {
					return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(io.MultiReader(strings.NewReader(`{"access`), failing{io.ErrUnexpectedEOF}))}, nil
				}
				return good()
			}}
			if _, err := exchangeOf(t, s).Token(t.Context(), person(mode).Identity, vault); err != nil || s.asked() != 2 {
				t.Errorf("%s: got %v after %d requests", mode, err, s.asked())
			}
		})
	}
}

// Tenants that pods name make no more throttles than the bound.
func TestThrottlesAreBounded(t *testing.T) {
	x := exchangeOf(t, new(service))
	s := person(WorkloadIdentity)
	first := x.throttle(s)
	s.TenantID = strings.ToUpper(s.TenantID)
	if x.throttle(s) != first {
		t.Error("two throttles for one tenant")
	}
	for i := range 2 * maxThrottles {
		s.TenantID = fmt.Sprint(i)
		x.throttle(s)
	}
	for i := range 2 * maxThrottles {
		s.ClientID = fmt.Sprint(i)
		x.throttlesOf(s)
	}
	if n, m := x.throttles.Len(), x.clients.Len(); n != maxThrottles || m != maxThrottles {
		t.Errorf("%d throttles of tenants, %d of clients", n, m)
	}
}

// A caller that gets no place within its time has the error of one that got no answer, and
// the metadata service gets no more requests at a time than it takes.
func TestPlacesOfTheThrottle(t *testing.T) {
	for mode, most := range map[Mode]int{WorkloadIdentity: 8, ManagedIdentity: 5} {
		synctest.Test(t, func(t *testing.T) {
			s := &service{answer: func(int) (*http.Response, error) { time.Sleep(10 * time.Second); return good() }}
			x := exchangeOf(t, s)
			inTime, done := context.WithTimeout(t.Context(), time.Minute) // without a deadline, MSAL sets one of 30 s
			defer done()
			var pods sync.WaitGroup
			for i := range 20 {
				pods.Go(func() {
					if _, err := x.Token(fair.WithTenant(inTime, fmt.Sprint(i)), person(mode).Identity, vault); err != nil {
						t.Error(err)
					}
				})
			}
			synctest.Wait()
			if n := s.asked(); n != most {
				t.Errorf("%s: %d at a time", mode, n)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			var network *fault.Error
			if _, err := x.Token(ctx, person(mode).Identity, vault); !errors.As(err, &network) || network.Reason != fault.Timeout {
				t.Errorf("%s: got %v", mode, err)
			}
			left, leave := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, leave)
			if _, err := x.Token(left, person(mode).Identity, vault); err != context.Canceled {
				t.Errorf("%s: got %v", mode, err)
			}
			pods.Wait()
		})
	}
}
