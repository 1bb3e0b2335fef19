package entra_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"akv-csi-provider/provider/entra"
	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/request"
	"akv-csi-provider/provider/throttle"
	"akv-csi-provider/provider/transport"
)

// moody is an Entra that fails at random, also with its metadata. Its tokens name the
// assertion that they were issued for.
type moody struct {
	mu     sync.Mutex // guards random
	random *rand.Rand
}

func (m *moody) number(n int) int { m.mu.Lock(); defer m.mu.Unlock(); return m.random.IntN(n) }

// RoundTrip implements http.RoundTripper.
func (m *moody) RoundTrip(req *http.Request) (*http.Response, error) {
	var form url.Values
	if req.Body != nil {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return nil, err
		}
		if form, err = url.ParseQuery(string(body)); err != nil {
			return nil, err
		}
	}
	select {
	case <-time.After(time.Duration(m.number(3000)) * time.Millisecond):
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
	assertion := form.Get("client_assertion")
	status, body := http.StatusOK, fmt.Sprintf(`{"access_token":"for %s","expires_in":600,"token_type":"Bearer"}`, assertion)
	if strings.HasSuffix(req.URL.Path, "openid-configuration") {
		base := "https://" + req.URL.Host + "/t"
		body = fmt.Sprintf(`{"token_endpoint":"%[1]s/token","authorization_endpoint":"%[1]s/auth","issuer":"%[1]s"}`, base)
	}
	refused := func(code int) string {
		return fmt.Sprintf(`{"error":"x_error","error_description":"AADSTS%d: CANARY %s","error_codes":[%d]}`, code, assertion, code)
	}
	switch n := m.number(30); {
	case n < 3:
		status, body = http.StatusServiceUnavailable, refused(90033)
	case n < 5:
		status, body = http.StatusTooManyRequests, refused(90055)
	case n < 7:
		status, body = http.StatusBadRequest, refused(700016)
	case n < 8:
		return nil, io.ErrUnexpectedEOF
	case n < 9:
		panic("CANARY " + assertion)
	}
	return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)), Request: req}, nil
}

// Whatever happens to Entra and to other callers, a token is one for the caller's own
// assertion, an error names no other client, and all of it ends. The race detector watches.
func TestIsolation(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { isolation(t, seed) })
		})
	}
}

func isolation(t *testing.T, seed uint64) {
	m := &moody{random: rand.New(rand.NewPCG(seed, 2))}
	x, err := entra.NewExchange(entra.Config{
		Transport: transport.New(m, "test").For(transport.PhaseSignIn),
		Throttle:  throttle.Config{Max: 4, Retries: 2},
	})
	if err != nil {
		t.Fatal(err)
	}
	cache, err := entra.NewCache(x, entra.CacheConfig{})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	var answered, failed atomic.Int64
	for range 300 {
		all.Go(func() {
			time.Sleep(time.Duration(m.number(40*60)) * time.Second)
			pod, client := m.number(6), fmt.Sprintf("aaaaaaaa-0000-0000-0000-00000000000%d", m.number(2))
			id := entra.Identity{
				Mode: entra.WorkloadIdentity, Authority: "https://login.contoso.example", TenantID: tenantID, ClientID: client,
				Assertion: request.Secret(jwt(t, map[string]any{"exp": time.Now().Truncate(time.Hour).Add(2 * time.Hour).Unix()}) + fmt.Sprint(pod)),
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+m.number(30_000))*time.Millisecond)
			defer cancel()
			if m.number(5) == 0 {
				time.AfterFunc(time.Duration(m.number(2000))*time.Millisecond, cancel)
			}
			token, err := cache.Token(ctx, id, scope)
			switch {
			case err != nil:
				failed.Add(1)
				checkOwnError(t, err, client)
			default:
				answered.Add(1)
				if token.Value != "for "+id.Assertion {
					t.Errorf("pod %d got the token of another", pod)
				}
				if m.number(4) == 0 {
					cache.Forget(id, scope, token)
				}
			}
		})
	}
	all.Wait()
	if answered.Load() < 50 || failed.Load() < 8 {
		t.Errorf("%d tokens, %d errors: the test tests little", answered.Load(), failed.Load())
	}
	time.Sleep(time.Hour) // what is armed ends
}

func checkOwnError(t *testing.T, err error, client string) {
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
	if strings.Contains(text, "CANARY") || strings.Contains(text, "eyJ") || strings.Contains(strings.ReplaceAll(text, client, ""), "aaaaaaaa-") {
		t.Errorf("%s got %s", client, text)
	}
}
