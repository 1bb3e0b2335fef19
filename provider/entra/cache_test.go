package entra

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"akv-csi-provider/provider/request"
	"akv-csi-provider/provider/transport"
)

// signer counts exchanges. Its tokens are numbered, and good for an hour.
type signer struct {
	asked atomic.Int64
	hook  func(ctx context.Context, n int64) error // nil: none
	life  time.Duration
}

func (s *signer) Token(ctx context.Context, id Identity, _ string) (Token, error) {
	n := s.asked.Add(1)
	if s.hook != nil {
		if err := s.hook(ctx, n); err != nil {
			return Token{}, err
		}
	}
	life := s.life
	if life == 0 {
		life = time.Hour
	}
	return Token{Value: request.Secret(fmt.Sprintf("CANARY %s %d", id.ClientID, n)), ExpiresOn: time.Now().Add(life)}, nil
}

const vault = "https://vault.azure.net/.default"

// ending is a service-account token of a pod whose claims say so.
func ending(pod, claims string) request.Secret {
	return request.Secret("e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + "." + pod)
}

// podIdentity is one whose service-account token is good for the time.
func podIdentity(pod string, ttl time.Duration) Identity {
	return Identity{Mode: WorkloadIdentity, Authority: "https://login.microsoftonline.com", TenantID: "t", ClientID: "c",
		Assertion: ending(pod, fmt.Sprintf(`{"exp":%d}`, time.Now().Add(ttl).Unix()))}
}

func cacheOf(t testing.TB, next Signer, cfg CacheConfig) *Cache {
	t.Helper()
	c, err := NewCache(next, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func mustToken(t testing.TB, c *Cache, id Identity) Token {
	t.Helper()
	token, err := c.Token(t.Context(), id, vault)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func (c *Cache) size() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.entries.Len()
}

func TestCacheKnowsCredentials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := podIdentity("a", time.Hour)
		change := func(f func(*Identity)) Identity { id := base; f(&id); return id }
		principal := Identity{Mode: ServicePrincipal, Authority: base.Authority, TenantID: "t", ClientID: "c", ClientSecret: "s"}
		ids := []Identity{
			base,
			podIdentity("b", time.Hour),
			change(func(id *Identity) { id.Mode = IdentityBinding }),
			change(func(id *Identity) { id.Authority = "https://login.chinacloudapi.cn" }),
			change(func(id *Identity) { id.TenantID = "u" }),
			change(func(id *Identity) { id.ClientID = "d" }),
			change(func(id *Identity) { id.TenantID, id.ClientID = "tc", "" }), // no two fields run together
			change(func(id *Identity) { id.TenantID = "t\x00" }),
			change(func(id *Identity) { id.TenantIDFrom = "\x00" }),
			change(func(id *Identity) { id.ClientIDFrom = "another place" }), // whose errors name that place
			change(func(id *Identity) { id.ServiceAccount = "system:serviceaccount:a:b" }),
			principal,
			func() Identity { id := principal; id.ClientSecret = "t"; return id }(),
			{Mode: ManagedIdentity},
			{Mode: ManagedIdentity, ClientID: "c"},
		}
		var hits int
		s := new(signer)
		c := cacheOf(t, s, CacheConfig{Asked: func(hit bool) {
			if hit {
				hits++
			}
		}})
		seen := map[request.Secret]bool{}
		for _, id := range ids {
			seen[mustToken(t, c, id).Value] = true
		}
		for _, id := range ids {
			seen[mustToken(t, c, id).Value] = true
		}
		if n := int(s.asked.Load()); n != len(ids) || len(seen) != len(ids) || hits != len(ids) {
			t.Errorf("%d exchanges, %d tokens, %d hits for %d identities", n, len(seen), hits, len(ids))
		}
		if _, err := c.Token(t.Context(), base, "https://other/.default"); err != nil || int(s.asked.Load()) != len(ids)+1 {
			t.Errorf("another scope: %v", err)
		}
		// A service principal's service account has no part in its sign-in.
		principal.ServiceAccount = "system:serviceaccount:a:b"
		if mustToken(t, c, principal); int(s.asked.Load()) != len(ids)+1 {
			t.Error("pods of two service accounts with one client secret had an exchange each")
		}
		// What proves nothing is for the signer to refuse.
		for _, id := range []Identity{{Mode: "other"}, {Mode: ServicePrincipal}, {Mode: WorkloadIdentity}} {
			before := s.asked.Load()
			mustToken(t, c, id)
			mustToken(t, c, id)
			c.Forget(id, vault, Token{})
			if s.asked.Load() != before+2 {
				t.Errorf("%q was kept", id.Mode)
			}
		}
	})
}

// Only a service-account token that says when it ends, and has not ended, is kept for.
func TestCacheNeedsAnEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now().Unix()
		for claims, kept := range map[string]bool{
			fmt.Sprintf(`{"exp":%d}`, now+60):                 true,
			fmt.Sprintf(`{"exp":%d.5}`, now+60):               true,
			fmt.Sprintf(`{"exp":%d,"EXP":%d}`, now-1, now+60): false,
			fmt.Sprintf(`{"EXP":%d}`, now+60):                 false,
			fmt.Sprintf(`{"exp":"%d"}`, now+60):               false,
			fmt.Sprintf(`{"exp":%d}`, now):                    false,
			`{"exp":null}`:                                    false, `{"exp":true}`: false, `{"exp":0}`: false, `{"exp":-1}`: false, `{"exp":1e300}`: false,
			`{"exp":[9999999999]}`: false, `{}`: false, `[]`: false, `null`: false, ``: false, `{"exp":253402300800}`: false,
		} {
			for _, mode := range []Mode{WorkloadIdentity, IdentityBinding} {
				s := new(signer)
				c := cacheOf(t, s, CacheConfig{})
				id := Identity{Mode: mode, Assertion: ending("x", claims)}
				mustToken(t, c, id)
				mustToken(t, c, id)
				if (s.asked.Load() == 1) != kept || (c.size() == 1) != kept {
					t.Errorf("%s: %s: %d exchanges, %d kept", mode, claims, s.asked.Load(), c.size())
				}
			}
		}
		for _, text := range []request.Secret{"a", "a.b", "a.b.c", "e30.e30.x.y", ending("x", `{"exp":9999999999}`) + ".y", ending("x", `{"exp":0}`), ending("x", `{"exp":-1e300}`)} {
			if _, ok := expiry(text); ok {
				t.Errorf("%q ends", string(text))
			}
		}
	})
}

// A token is handed out until it ends, or the service-account token does, and not at
// that moment.
func TestNothingOutlivesItsToken(t *testing.T) {
	for name, c := range map[string]struct{ token, account, end time.Duration }{
		"the token ends first":                 {time.Hour, 2 * time.Hour, time.Hour},
		"the service account's ends first":     {time.Hour, 10 * time.Minute, 10 * time.Minute},
		"a token that has ended":               {-time.Second, time.Hour, 0},
		"a service account's that has ended":   {time.Hour, -time.Second, 0},
		"a token for less than the back-off":   {20 * time.Second, time.Hour, 20 * time.Second},
		"one that ends with the other":         {time.Hour, time.Hour, time.Hour},
		"a service account's of a day, a year": {24 * time.Hour, 24 * 365 * time.Hour, 24 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				gone := errors.New("gone")
				s := &signer{life: c.token, hook: func(_ context.Context, n int64) error {
					if n > 1 {
						return gone
					}
					return nil
				}}
				cache := cacheOf(t, s, CacheConfig{})
				id := podIdentity("a", c.account)
				mustToken(t, cache, id)
				for step := min(c.end/50, 5*time.Minute); step > 0 && time.Since(start) < c.end; time.Sleep(step) {
					mustToken(t, cache, id)
				}
				time.Sleep(time.Until(start.Add(c.end)))
				if _, err := cache.Token(t.Context(), id, vault); err != gone {
					t.Errorf("got %v after %s", err, time.Since(start))
				}
			})
		})
	}
}

// However many ask for a token that ends soon, it is renewed once, and nobody waits.
func TestRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		s := &signer{hook: func(ctx context.Context, n int64) error {
			if n == 2 {
				<-gate
			}
			return ctx.Err()
		}}
		c := cacheOf(t, s, CacheConfig{})
		id := podIdentity("a", 24*time.Hour)
		first := mustToken(t, c, id)
		use := func(d time.Duration) { // keeps it from being dropped as idle
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Minute) {
				mustToken(t, c, id)
			}
		}
		use(50 * time.Minute)
		if s.asked.Load() != 1 {
			t.Errorf("%d exchanges before it was time", s.asked.Load())
		}
		start := time.Now()
		var callers sync.WaitGroup
		for range 100 {
			callers.Go(func() {
				ctx, leave := context.WithCancel(t.Context())
				defer leave()
				if got, err := c.Token(ctx, id, vault); err != nil || got.Value != first.Value {
					t.Errorf("got %v", err)
				}
			})
		}
		callers.Wait()
		synctest.Wait()
		if time.Since(start) > 0 || s.asked.Load() != 2 {
			t.Errorf("%d exchanges in %s", s.asked.Load(), time.Since(start))
		}
		close(gate)
		synctest.Wait()
		if got := mustToken(t, c, id); got.Value == first.Value {
			t.Error("the renewed token is not handed out")
		}
		if use(49 * time.Minute); s.asked.Load() != 2 {
			t.Errorf("%d exchanges", s.asked.Load())
		}
	})
}

// While Entra is away, those with a good token notice nothing, and it is asked seldom.
func TestEntraDownTokensGood(t *testing.T) {
	for name, fail := range map[string]func(context.Context) error{
		"refuses": func(context.Context) error { return errors.New("down") },
		"is mute": func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
		"panics":  func(context.Context) error { panic("broken") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var down atomic.Bool
				var mu sync.Mutex // guards tries
				var tries []time.Time
				s := &signer{hook: func(ctx context.Context, _ int64) error {
					if !down.Load() {
						return nil
					}
					mu.Lock()
					tries = append(tries, time.Now())
					mu.Unlock()
					return fail(ctx)
				}}
				c := cacheOf(t, s, CacheConfig{})
				id := podIdentity("a", 24*time.Hour)
				mustToken(t, c, id)
				down.Store(true)
				for end := time.Now().Add(59*time.Minute + 59*time.Second); time.Now().Before(end); time.Sleep(time.Second) {
					for range 3 {
						mustToken(t, c, id)
					}
				}
				time.Sleep(time.Minute) // the last one ends
				mu.Lock()
				defer mu.Unlock()
				if n := len(tries); n < 5 || n > 20 {
					t.Errorf("asked %d times in ten minutes", n)
				}
				for i := 1; i < len(tries); i++ {
					if gap := tries[i].Sub(tries[i-1]); gap < renewAgain {
						t.Errorf("asked again after %s", gap)
					}
				}
			})
		})
	}
}

// A renewal that brings no more time, as IMDS keeps its tokens, is not repeated at once.
func TestRenewalThatBringsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		end := time.Now().Add(20 * time.Minute)
		var asked atomic.Int64
		c := cacheOf(t, fake(func(context.Context, Identity, string) (Token, error) {
			asked.Add(1)
			return Token{Value: "CANARY", ExpiresOn: end}, nil
		}), CacheConfig{})
		for time.Now().Before(end) {
			mustToken(t, c, Identity{Mode: ManagedIdentity})
			time.Sleep(time.Second)
		}
		synctest.Wait()
		if n := asked.Load(); n < 2 || n > 10 {
			t.Errorf("asked %d times", n)
		}
	})
}

type fake func(context.Context, Identity, string) (Token, error)

func (f fake) Token(ctx context.Context, id Identity, scope string) (Token, error) {
	return f(ctx, id, scope)
}

func TestForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(signer)
		c := cacheOf(t, s, CacheConfig{})
		id, other := podIdentity("a", time.Hour), podIdentity("b", time.Hour)
		first := mustToken(t, c, id)
		mustToken(t, c, other)
		c.Forget(id, "https://other/.default", first)
		c.Forget(other, vault, first)
		if mustToken(t, c, id); s.asked.Load() != 2 {
			t.Error("what belongs to another was forgotten")
		}
		c.Forget(id, vault, first)
		var callers sync.WaitGroup
		for range 10 {
			callers.Go(func() {
				if got := mustToken(t, c, id); got.Value == first.Value {
					t.Error("the forgotten token came back")
				}
			})
		}
		callers.Wait()
		if s.asked.Load() != 3 {
			t.Errorf("%d exchanges after it", s.asked.Load()-2)
		}
		// Who held the old token until now does not take the new one from the others.
		c.Forget(id, vault, first)
		mustToken(t, c, id)
		mustToken(t, c, other)
		if s.asked.Load() != 3 {
			t.Error("the newer token was forgotten")
		}
	})
}

// A renewal that is under way is as good as an exchange.
func TestForgetWhileRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		s := &signer{hook: func(_ context.Context, n int64) error {
			if n == 2 {
				<-gate
			}
			return nil
		}}
		c := cacheOf(t, s, CacheConfig{})
		id := podIdentity("a", 24*time.Hour)
		first := mustToken(t, c, id)
		for range 10 {
			time.Sleep(5 * time.Minute)
			mustToken(t, c, id)
		}
		c.Forget(id, vault, first)
		var callers sync.WaitGroup
		for range 3 {
			callers.Go(func() {
				if got := mustToken(t, c, id); got.Value == first.Value {
					t.Error("the forgotten token came back")
				}
			})
		}
		synctest.Wait()
		close(gate)
		callers.Wait()
		if mustToken(t, c, id); s.asked.Load() != 2 {
			t.Errorf("%d exchanges", s.asked.Load())
		}
	})
}

// Concurrent callers share an exchange; who leaves, or has less time, fails nobody else.
func TestSharedExchange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &signer{hook: func(ctx context.Context, _ int64) error {
			select {
			case <-time.After(20 * time.Second): // longer than a flight takes else
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}}
		c := cacheOf(t, s, CacheConfig{})
		id := podIdentity("a", time.Hour)
		first, leave := context.WithCancel(t.Context())
		var callers sync.WaitGroup
		callers.Go(func() {
			if _, err := c.Token(first, id, vault); err != context.Canceled {
				t.Errorf("who left got %v", err)
			}
		})
		synctest.Wait()
		callers.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			start := time.Now()
			_, err := c.Token(ctx, id, vault)
			var network *transport.Error
			if !errors.As(err, &network) || network.Reason() != transport.ReasonTimeout || network.Host != "login.microsoftonline.com" || network.Phase != transport.PhaseSignIn || time.Since(start) != time.Second {
				t.Errorf("whose time was over got %v after %s", err, time.Since(start))
			}
		})
		for range 20 {
			callers.Go(func() { mustToken(t, c, id) })
		}
		time.Sleep(500 * time.Millisecond)
		leave()
		callers.Wait()
		if s.asked.Load() != 1 {
			t.Errorf("%d exchanges", s.asked.Load())
		}
	})
}

// A caller hears from its own exchange why it failed, even when its time is over; whoever
// joined it and has more time goes on.
func TestTimeOfWhoeverStarted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &signer{hook: func(ctx context.Context, n int64) error {
			if n > 1 {
				return nil
			}
			<-ctx.Done()
			return &Error{cause: "mute"}
		}}
		c := cacheOf(t, s, CacheConfig{})
		id := podIdentity("a", time.Hour)
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var callers sync.WaitGroup
		callers.Go(func() {
			var own *Error
			if _, err := c.Token(short, id, vault); !errors.As(err, &own) || own.cause != "mute" {
				t.Errorf("got %v", err)
			}
		})
		synctest.Wait()
		for range 5 {
			callers.Go(func() { mustToken(t, c, id) })
		}
		callers.Wait()
		if s.asked.Load() != 2 {
			t.Errorf("%d exchanges", s.asked.Load())
		}
	})
}

func TestErrorsAreNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &signer{hook: func(_ context.Context, n int64) error {
			if n < 3 {
				return errors.New("refused")
			}
			return nil
		}}
		c := cacheOf(t, s, CacheConfig{})
		id := podIdentity("a", time.Hour)
		for range 2 {
			if token, err := c.Token(t.Context(), id, vault); err == nil || token != (Token{}) {
				t.Errorf("got %v", err)
			}
		}
		mustToken(t, c, id)
	})
}

// A panic in an exchange is that of the mounts that wait for it.
func TestPanicInAnExchange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &signer{hook: func(_ context.Context, n int64) error {
			if n == 1 {
				time.Sleep(time.Second)
				panic("broken")
			}
			return nil
		}}
		c := cacheOf(t, s, CacheConfig{})
		id, other := podIdentity("a", time.Hour), podIdentity("b", time.Hour)
		var recovered atomic.Int64
		var callers sync.WaitGroup
		for range 3 {
			callers.Go(func() {
				defer func() {
					if recover() == "broken" {
						recovered.Add(1)
					}
				}()
				_, _ = c.Token(t.Context(), id, vault)
			})
		}
		synctest.Wait()
		mustToken(t, c, other)
		callers.Wait()
		if recovered.Load() != 3 {
			t.Errorf("%d mounts heard of it", recovered.Load())
		}
		mustToken(t, c, id)
	})
}

// What nobody asks for, and what has ended, leaves the memory by itself, and then
// nothing runs any more.
func TestIdleTokensGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cacheOf(t, new(signer), CacheConfig{})
		idle, used, short := podIdentity("idle", time.Hour), podIdentity("used", time.Hour), podIdentity("short", 90*time.Second)
		mustToken(t, c, idle)
		mustToken(t, c, used)
		mustToken(t, c, short)
		for minute := 1; minute <= 12; minute++ {
			time.Sleep(time.Minute)
			mustToken(t, c, used)
			synctest.Wait()
			want := 3
			if minute > 1 {
				want-- // the short one
			}
			if minute > 10 {
				want--
			}
			if n := c.size(); minute != 2 && minute != 10 && minute != 11 && n != want {
				t.Errorf("minute %d: %d are kept, want %d", minute, n, want)
			}
		}
		time.Sleep(keepIdle + 2*sweepEvery)
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.entries.Len() != 0 || c.sweeper != nil {
			t.Errorf("%d are kept; swept: %t", c.entries.Len(), c.sweeper != nil)
		}
	})
}

// Ten thousand pods take no more room than the bound allows.
func TestCacheIsBounded(t *testing.T) {
	const pods, size = 10000, 2000
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	for _, most := range []int{0, 100} {
		c := cacheOf(t, fake(func(_ context.Context, id Identity, _ string) (Token, error) {
			return Token{Value: request.Secret(strings.Repeat("x", size)), ExpiresOn: time.Now().Add(time.Hour)}, nil
		}), CacheConfig{Max: most})
		if most == 0 {
			most = maxTokens
		}
		before := heap()
		for i := range pods {
			id := podIdentity(fmt.Sprint(i), time.Hour)
			mustToken(t, c, id)
			if n := c.size(); n > most {
				t.Fatalf("%d are kept", n)
			}
		}
		perToken := float64(heap()-before) / float64(c.size())
		if n := c.size(); n != most || perToken > size+1000 {
			t.Errorf("%d are kept, %.0f bytes each", n, perToken)
		}
		t.Logf("%d tokens of %d bytes: %.0f bytes each", c.size(), size, perToken)
		runtime.KeepAlive(c)
	}
}

func TestCacheSettings(t *testing.T) {
	for _, cfg := range []CacheConfig{{Max: -1}, {Timeout: -1}} {
		if _, err := NewCache(new(signer), cfg); err == nil {
			t.Errorf("%+v was taken", cfg)
		}
	}
	if _, err := NewCache(nil, CacheConfig{}); err == nil {
		t.Error("no signer, no error")
	}
}

func TestCacheDoesNotPrint(t *testing.T) {
	c := cacheOf(t, new(signer), CacheConfig{})
	id := podIdentity("CANARY", time.Hour)
	token := mustToken(t, c, id)
	if text := fmt.Sprintf("%+v", c); text != "entra.Cache" {
		t.Errorf("got %s", text)
	}
	key, _ := keyOf(id, vault)
	e, _ := c.entries.Peek(key)
	for _, value := range []any{c, e, key, token, id, struct{ C *Cache }{c}, []*entry{e}, map[cacheKey]*entry{key: e}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x", "%q"} {
			text := fmt.Sprintf(verb, value)
			if strings.Contains(text, "CANARY") || strings.Contains(text, "43414e415259") || strings.Contains(text, strings.Trim(fmt.Sprint(key[:3]), "[]")) {
				t.Errorf("%s of %T: %s", verb, value, text)
			}
		}
	}
}

// The errors of who waits name the host that would have been asked.
func TestHostOfACachedExchange(t *testing.T) {
	proxy, err := NewTokenProxy(TokenProxyConfig{URL: "https://10.0.0.1", CAFile: "x"})
	if err != nil {
		t.Fatal(err)
	}
	c := cacheOf(t, &Exchange{Proxy: proxy}, CacheConfig{})
	for mode, want := range map[Mode]string{ManagedIdentity: nodeHost, IdentityBinding: "10.0.0.1", WorkloadIdentity: "a.example", ServicePrincipal: "a.example"} {
		if got := c.host(Identity{Mode: mode, Authority: "https://a.example"}); got != want {
			t.Errorf("%s: got %s", mode, got)
		}
	}
}
