package entra

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"akv-csi-provider/provider/gate"
	"akv-csi-provider/provider/transport"
)

// service is an authority and a metadata service that answer token requests as a test
// says, and note when they came.
type service struct {
	mu     sync.Mutex // guards came
	came   []time.Time
	answer func(n int) (*http.Response, error)
}

func (s *service) RoundTrip(req *http.Request) (*http.Response, error) {
	if strings.HasSuffix(req.URL.Path, documentLocation) {
		base := "https://" + req.URL.Host + "/t"
		return answer(200, fmt.Sprintf(`{"authorization_endpoint":"%[1]s/a","token_endpoint":"%[1]s/token","issuer":"%[1]s/v2.0"}`, base)), nil
	}
	s.mu.Lock()
	s.came = append(s.came, time.Now())
	n := len(s.came)
	s.mu.Unlock()
	select {
	case <-time.After(10 * time.Millisecond):
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
	return s.answer(n)
}

func (s *service) asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.came)
}

// good is a token for whoever asks, of both kinds of services.
func good() (*http.Response, error) {
	return answer(200, fmt.Sprintf(`{"access_token":"a","expires_in":3600,"expires_on":"%d","token_type":"Bearer"}`, time.Now().Add(time.Hour).Unix())), nil
}

func refuse(status int, after, body string) (*http.Response, error) {
	resp := answer(status, body)
	resp.Header = http.Header{}
	if after != "" {
		resp.Header.Set("Retry-After", after)
	}
	return resp, nil
}

// gated is an exchange before the service, whose answers after the first few are good.
func gated(first int, status int, after, body string) (*Exchange, *service) {
	s := &service{answer: func(n int) (*http.Response, error) {
		if n <= first {
			return refuse(status, after, body)
		}
		return good()
	}}
	return exchangeOf(s), s
}

func exchangeOf(s *service) *Exchange {
	client := transport.New(s, "test").For(transport.PhaseSignIn)
	return &Exchange{Transport: client, Node: client, Gate: gate.Config{Max: 8, Retries: 3, TryTimeout: 15 * time.Second}}
}

const always = 1 << 30

// client is person with another client ID.
func client(mode Mode, id string) Identity {
	who := person(mode).Identity
	who.ClientID = id
	return who
}

var entraModes = []Mode{WorkloadIdentity, ServicePrincipal}

func TestSignInBehindAGate(t *testing.T) {
	const throttling, missing = `{"error":"invalid_request","error_codes":[90055]}`, `{"error":"invalid_client","error_codes":[700213]}`
	for name, c := range map[string]struct {
		modes  []Mode
		first  int
		status int
		after  string
		body   string
		tries  int
		least  time.Duration // until the end
		most   time.Duration
		reason string // "" for a token
	}{
		"once 503":              {entraModes, 1, 503, "", "", 2, 100 * time.Millisecond, 200 * time.Millisecond, ""},
		"once 503, transient":   {entraModes, 1, 503, "", `{"error_codes":[90033]}`, 2, 100 * time.Millisecond, 200 * time.Millisecond, ""},
		"once 400, transient":   {entraModes, 1, 400, "", `{"error":"x","error_codes":[90033]}`, 2, 100 * time.Millisecond, 200 * time.Millisecond, ""},
		"once 408":              {entraModes, 1, 408, "", "", 2, 100 * time.Millisecond, 200 * time.Millisecond, ""},
		"once 429":              {entraModes, 1, 429, "", throttling, 2, time.Second, 1300 * time.Millisecond, ""},
		"once 429, 5 s":         {entraModes, 1, 429, "5", throttling, 2, 5 * time.Second, 6500 * time.Millisecond, ""},
		"once 503, 5 s":         {entraModes, 1, 503, "5", "", 2, 5 * time.Second, 6500 * time.Millisecond, ""},
		"503 for good":          {entraModes, always, 503, "", "", 4, time.Second, 2 * time.Second, ReasonServiceUnavailable},
		"missing credential":    {entraModes[:1], always, 401, "", missing, 1, 0, 50 * time.Millisecond, ReasonFederatedCredentialMissing},
		"refusal":               {entraModes, always, 401, "", `{"error_codes":[700016]}`, 1, 0, 50 * time.Millisecond, ReasonApplicationNotFound},
		"loop of one client":    {entraModes, always, 429, "9", `{"error_codes":[50196]}`, 1, 0, 50 * time.Millisecond, ReasonThrottled},
		"page":                  {entraModes, always, 200, "", `<p>`, 1, 0, 50 * time.Millisecond, ReasonServiceUnavailable},
		"forbidden":             {entraModes, always, 403, "", `<p>`, 1, 0, 50 * time.Millisecond, ReasonServiceUnavailable},
		"node, once 404":        {[]Mode{ManagedIdentity}, 1, 404, "", "", 2, 100 * time.Millisecond, 200 * time.Millisecond, ""},
		"node, once 410":        {[]Mode{ManagedIdentity}, 1, 410, "", "", 2, 100 * time.Millisecond, 200 * time.Millisecond, ""},
		"node, once 500":        {[]Mode{ManagedIdentity}, 1, 500, "", "", 2, 100 * time.Millisecond, 200 * time.Millisecond, ""},
		"node, once 429":        {[]Mode{ManagedIdentity}, 1, 429, "3", "", 2, 3 * time.Second, 4 * time.Second, ""},
		"node, no such":         {[]Mode{ManagedIdentity}, always, 400, "", `{"error":"invalid_request","error_description":"Identity not found"}`, 1, 0, 50 * time.Millisecond, ReasonManagedIdentityUnavailable},
		"node, page of a proxy": {[]Mode{ManagedIdentity}, always, 200, "", `<p>`, 1, 0, 50 * time.Millisecond, ReasonServiceUnavailable},
	} {
		for _, mode := range c.modes {
			t.Run(name+" "+string(mode), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					x, s := gated(c.first, c.status, c.after, c.body)
					start := time.Now()
					_, err := x.Token(t.Context(), person(mode).Identity, vault)
					took := time.Since(start)
					if c.reason == "" && err != nil {
						t.Errorf("got %v", err)
					}
					if c.reason != "" {
						if checkText(t, err); err.(*Error).Reason() != c.reason {
							t.Errorf("got %s", err.(*Error).Reason())
						}
					}
					if s.asked() != c.tries || took < c.least || took > c.most {
						t.Errorf("%d tries in %s, want %d in %s to %s", s.asked(), took, c.tries, c.least, c.most)
					}
				})
			})
		}
	}
}

// While Entra wants rest, a tenant's pods wait; whose time ends before is told at once,
// in words about itself. Other tenants are not kept out.
func TestGateOfATenant(t *testing.T) {
	for _, mode := range []Mode{WorkloadIdentity, ManagedIdentity} {
		synctest.Test(t, func(t *testing.T) {
			x, s := gated(1, 429, "20", `{"error":"invalid_request","error_codes":[90055]}`)
			var pods sync.WaitGroup
			start := time.Now()
			pods.Go(func() {
				if _, err := x.Token(t.Context(), client(mode, "first"), vault); err != nil || time.Since(start) < 20*time.Second {
					t.Errorf("got %v after %s", err, time.Since(start))
				}
			})
			time.Sleep(time.Second)
			for i := range 30 {
				pods.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
					defer cancel()
					own := fmt.Sprint("caller-", i, ".")
					_, err := x.Token(ctx, client(mode, own), vault)
					if code := err.(*Error).Code; mode != ManagedIdentity && code != 90055 {
						t.Errorf("got number %d", code)
					}
					if checkText(t, err); err.(*Error).Reason() != ReasonThrottled || !strings.Contains(err.Error(), own) || strings.Contains(err.Error(), "first") {
						t.Errorf("got %v", err)
					}
					if time.Since(start) > time.Second {
						t.Errorf("told after %s", time.Since(start))
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
			time.Sleep(15 * time.Second)
			if s.asked() != before {
				t.Errorf("asked %d times while it wants rest", s.asked()-before)
			}
			pods.Wait()
		})
	}
}

// When Entra is away, one pod tries for all, and each is told of its own sign-in.
func TestEntraAway(t *testing.T) {
	for name, answer := range map[string]func(int) (*http.Response, error){
		"503":   func(int) (*http.Response, error) { return refuse(503, "", "") },
		"429":   func(int) (*http.Response, error) { return refuse(429, "", "") },
		"reset": func(int) (*http.Response, error) { return nil, io.ErrUnexpectedEOF },
	} {
		for _, mode := range []Mode{WorkloadIdentity, ServicePrincipal, ManagedIdentity} {
			t.Run(name+" "+string(mode), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := &service{answer: answer}
					x := exchangeOf(s)
					var pods sync.WaitGroup
					for i := range 200 {
						pods.Go(func() {
							time.Sleep(time.Duration(i) * 300 * time.Millisecond)
							ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
							defer cancel()
							own := fmt.Sprint("caller-", i, ".")
							_, err := x.Token(ctx, client(mode, own), vault)
							var typed interface{ Reason() string }
							if !errors.As(err, &typed) {
								t.Errorf("got %T %v", err, err)
							}
							if text := err.Error(); strings.Contains(strings.ReplaceAll(text, own, ""), "caller-") {
								t.Errorf("pod %d: got %v", i, err)
							} else if typed.Reason() == ReasonThrottled && !strings.Contains(text, own) {
								t.Errorf("got %v", err)
							}
						})
					}
					pods.Wait()
					if n := s.asked(); n > 60 {
						t.Errorf("asked %d times in two minutes", n)
					}
				})
			})
		}
	}
}

// What another try would only repeat is not tried again.
func TestJudge(t *testing.T) {
	failing := func(resp *http.Response, err error) error {
		pool := roundTrip(func(*http.Request) (*http.Response, error) { return resp, err })
		req, requestErr := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://a.example", nil)
		if requestErr != nil {
			t.Fatal(requestErr)
		}
		_, err = transport.New(pool, "").Do(req)
		return err
	}
	var untrusted *transport.Error
	if !errors.As(failing(nil, x509.UnknownAuthorityError{}), &untrusted) {
		t.Fatal("no error of the network")
	}
	for name, c := range map[string]struct {
		err  error
		want gate.Verdict
	}{
		"left":          {context.Canceled, gate.Verdict{News: gate.None}},
		"reset":         {failing(nil, io.ErrUnexpectedEOF), gate.Verdict{News: gate.Away}},
		"mute":          {transport.Timeout("a", transport.PhaseSignIn), gate.Verdict{News: gate.Away}},
		"no such host":  {failing(nil, &net.DNSError{IsNotFound: true}), gate.Verdict{News: gate.None}},
		"no trust":      {unreachable(untrusted, "other words"), gate.Verdict{News: gate.None}},
		"no HTTP":       {failing(answer(999, ""), nil), gate.Verdict{News: gate.None}},
		"unknown":       {errors.New("x"), gate.Verdict{News: gate.None}},
		"refusal":       {&Error{}, gate.Verdict{News: gate.Alive}},
		"no such host'": {&Error{verdict: notTheService}, gate.Verdict{News: gate.None}},
	} {
		if got := judge(c.err); got != c.want {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}

// Names that pods choose make no more gates than the bound allows.
func TestGatesAreBounded(t *testing.T) {
	var g gates
	s := person(WorkloadIdentity)
	first := g.before(s, gate.Config{Max: 1})
	if g.before(s, gate.Config{Max: 1}) != first {
		t.Error("two gates for one tenant")
	}
	for i := range 2 * maxGates {
		s.TenantID = fmt.Sprint(i)
		g.before(s, gate.Config{Max: 1})
	}
	if n := g.kept.Len(); n != maxGates {
		t.Errorf("%d gates", n)
	}
}

// A caller that is not let in within its time is told as one that got no answer is, and
// the metadata service is not asked more at a time than it takes.
func TestPlacesBehindTheGate(t *testing.T) {
	for mode, most := range map[Mode]int{WorkloadIdentity: 8, ManagedIdentity: 5} {
		synctest.Test(t, func(t *testing.T) {
			s := &service{answer: func(int) (*http.Response, error) { time.Sleep(10 * time.Second); return good() }}
			x := exchangeOf(s)
			var pods sync.WaitGroup
			for range 20 {
				pods.Go(func() {
					if _, err := x.Token(t.Context(), person(mode).Identity, vault); err != nil {
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
			var network *transport.Error
			if _, err := x.Token(ctx, person(mode).Identity, vault); !errors.As(err, &network) || network.Reason() != transport.ReasonTimeout {
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
