package entra

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"akv-csi-provider/provider/request"
	"akv-csi-provider/provider/throttle"
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

// Host implements Exchanger.
func (s *signer) Host(id Identity) string { return strings.TrimPrefix(id.Authority, "https://") }

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

func cacheOf(t testing.TB, next Exchanger, cfg CacheConfig) *Cache {
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

// has reports whether a token of the identity is in the cache's memory and has not ended.
func (c *Cache) has(id Identity) bool {
	key, _ := keyOf(id, vault)
	_, ok := c.tokens.Cached(key, time.Time{})
	return ok
}

type fake func(context.Context, Identity, string) (Token, error)

func (f fake) Token(ctx context.Context, id Identity, scope string) (Token, error) {
	return f(ctx, id, scope)
}

func (fake) Host(Identity) string { return "a.example" }

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
		c := cacheOf(t, s, CacheConfig{OnToken: func(_ context.Context, hit bool) {
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
		// A service principal signs in without its service account.
		principal.ServiceAccount = "system:serviceaccount:a:b"
		if mustToken(t, c, principal); int(s.asked.Load()) != len(ids)+1 {
			t.Error("pods of two service accounts with one client secret each had an exchange")
		}
		// What proves nothing is for the signer to refuse.
		for _, id := range []Identity{{Mode: "other"}, {Mode: ServicePrincipal}, {Mode: WorkloadIdentity}} {
			before := s.asked.Load()
			mustToken(t, c, id)
			mustToken(t, c, id)
			c.Forget(id, vault, Token{})
			if s.asked.Load() != before+2 {
				t.Errorf("%q was cached", id.Mode)
			}
		}
	})
}

// Only a service-account token that says when it ends, and has not ended, has its access token cached.
func TestCacheNeedsAnEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now().Unix()
		for claims, cached := range map[string]bool{
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
				if (s.asked.Load() == 1) != cached || c.has(id) != cached {
					t.Errorf("%s: %s: %d exchanges", mode, claims, s.asked.Load())
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

func TestErrorsAreNotCached(t *testing.T) {
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

// Ten thousand pods take no more memory than the bound allows.
func TestCacheIsBounded(t *testing.T) {
	const pods, size = 10000, 2000
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	ids := make([]Identity, pods)
	for i := range ids {
		ids[i] = podIdentity(fmt.Sprint(i), time.Hour)
	}
	c := cacheOf(t, fake(func(_ context.Context, id Identity, _ string) (Token, error) {
		return Token{Value: request.Secret(strings.Repeat("x", size)), ExpiresOn: time.Now().Add(time.Hour)}, nil
	}), CacheConfig{})
	before := heap()
	for _, id := range ids {
		mustToken(t, c, id)
	}
	used := heap() - before
	n := 0
	for _, id := range ids {
		if c.has(id) {
			n++
		}
	}
	perToken := float64(used) / float64(n)
	if n != maxTokens || perToken > size+1000 {
		t.Errorf("%d are cached, %.0f bytes each", n, perToken)
	}
	t.Logf("%d tokens of %d bytes: %.0f bytes each", n, size, perToken)
	runtime.KeepAlive(c)
}

func TestCacheSettings(t *testing.T) {
	if _, err := NewCache(new(signer), CacheConfig{Timeout: -1}); err == nil {
		t.Error("a negative timeout was accepted")
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
	for _, value := range []any{c, key, token, id, struct{ C *Cache }{c}, []cacheKey{key}, map[cacheKey]Token{key: token}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x", "%q"} {
			text := fmt.Sprintf(verb, value)
			if strings.Contains(text, "CANARY") || strings.Contains(text, "43414e415259") || strings.Contains(text, strings.Trim(fmt.Sprint(key[:3]), "[]")) {
				t.Errorf("%s of %T: %s", verb, value, text)
			}
		}
	}
}

// The errors of callers that wait name the host that the request would go to.
func TestHostOfASignIn(t *testing.T) {
	proxy, err := NewTokenProxy(TokenProxyConfig{URL: "https://10.0.0.1", CAFile: "x"})
	if err != nil {
		t.Fatal(err)
	}
	x, err := NewExchange(Config{Transport: new(directory), Proxy: proxy, Throttle: throttle.Config{Max: 1}})
	if err != nil {
		t.Fatal(err)
	}
	for mode, want := range map[Mode]string{ManagedIdentity: imdsHost, IdentityBinding: "10.0.0.1", WorkloadIdentity: "a.example", ServicePrincipal: "a.example"} {
		if got := x.Host(Identity{Mode: mode, Authority: "https://a.example"}); got != want {
			t.Errorf("%s: got %s", mode, got)
		}
	}
}
