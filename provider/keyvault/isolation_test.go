package keyvault_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/request"
)

// moody is a vault that fails at random. Its values name the token and the path of their
// request, and so do its refusals, in texts that must not be shown.
type moody struct {
	mu     sync.Mutex // guards random
	random *rand.Rand
}

func (m *moody) number(n int) int { m.mu.Lock(); defer m.mu.Unlock(); return m.random.IntN(n) }

func (m *moody) answer(req *http.Request) (*http.Response, error) {
	token := strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer ")
	left := time.Now()
	select {
	case <-time.After(time.Duration(m.number(3000)) * time.Millisecond):
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
	refuse := func(status int, inner string) (*http.Response, error) {
		return answer(status, fmt.Sprintf(`{"error":{"code":"Refused","message":"CANARY %s %s","innererror":{"code":%q}}}`, token, req.URL.Path, inner))
	}
	switch n := m.number(40); {
	case n < 4:
		return refuse(http.StatusServiceUnavailable, "")
	case n < 6:
		return refuse(http.StatusTooManyRequests, "")
	case n < 8:
		return refuse(http.StatusForbidden, "ForbiddenByRbac")
	case n < 10:
		return refuse(http.StatusNotFound, "SecretNotFound")
	case n < 11:
		return refuse(http.StatusUnauthorized, "")
	case n < 13:
		return nil, io.ErrUnexpectedEOF
	case n < 14:
		panic("CANARY " + token)
	}
	return secret(req, fmt.Sprintf("%s %s %d", token, req.URL.Path, left.UnixNano()))
}

// Whatever happens to a vault and to other callers, an answer is one to the caller's own
// principal and object and is as fresh as the caller requires, an error names nothing of
// another principal, and all of it ends. The race detector watches.
func TestIsolation(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { isolation(t, seed) })
		})
	}
}

func isolation(t *testing.T, seed uint64) {
	m := &moody{random: rand.New(rand.NewPCG(seed, 1))}
	r := configured(t, m.answer, func(c *keyvault.Config) {
		c.CacheTTL, c.CacheBytes = ttl, 16<<10
		c.Throttle.Max = 4
		if seed%2 == 1 {
			c.StaleIfError = time.Minute
		}
		c.Unshared = seed == 2
	})
	var all sync.WaitGroup
	var answered, failed atomic.Int64
	for i := range 400 {
		all.Go(func() {
			time.Sleep(time.Duration(m.number(300_000)) * time.Millisecond)
			who, name := fmt.Sprintf("client-%d-", i%5), fmt.Sprintf("s%d", m.number(3))
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+m.number(30_000))*time.Millisecond)
			defer cancel()
			if m.number(5) == 0 {
				time.AfterFunc(time.Duration(m.number(2000))*time.Millisecond, cancel)
			}
			c := keyvault.Caller{Principal: keyvault.Principal{Authority: "a", TenantID: "t", ClientID: who}, Token: request.Secret("token-of-" + who), Expires: time.Now().Add(time.Hour)}
			need := fresh()
			if i%2 == 0 {
				need = later()
			}
			value, err := r.Get(ctx, c, object(request.TypeSecret, name), need)()
			if err != nil {
				failed.Add(1)
				checkOwnError(t, err, who, name)
				return
			}
			answered.Add(1)
			var token, path string
			var left int64
			if _, err := fmt.Sscan(value.Text, &token, &path, &left); err != nil {
				t.Error(err)
			}
			if token != "token-of-"+who || path != "/secrets/"+name+"/" {
				t.Errorf("%s requested %s and got %q", who, name, value.Text)
			}
			if !value.Stale && time.Unix(0, left).Before(need.NotBefore) {
				t.Errorf("%s is %s too old", value.Text, need.NotBefore.Sub(time.Unix(0, left)))
			}
		})
	}
	all.Wait()
	if answered.Load() < 50 || failed.Load() < 50 {
		t.Errorf("%d answers, %d errors: the test tests little", answered.Load(), failed.Load())
	}
	time.Sleep(time.Hour) // what is armed ends
}

func checkOwnError(t *testing.T, err error, who, name string) {
	t.Helper()
	if errors.Is(err, context.Canceled) || errors.As(err, new(*fault.Panic)) {
		return
	}
	typed, ok := errors.AsType[*fault.Error](err)
	if !ok {
		t.Errorf("got %T %v", err, err)
		return
	}
	text := typed.Error()
	if strings.Contains(text, "CANARY") || strings.Contains(text, "token-of") || !strings.Contains(text, `"`+name+`"`) ||
		strings.Contains(strings.ReplaceAll(text, who, ""), "client-") {
		t.Errorf("%s requested %s and got %s", who, name, text)
	}
}
