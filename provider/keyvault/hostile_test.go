package keyvault_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/request"
	"akv-csi-provider/provider/throttle"
)

// A caller that joins a read which the last of its callers has just given up.
func TestReadGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := configured(t, func(req *http.Request) (*http.Response, error) {
			select {
			case <-time.After(rtt):
				return secret(req, "v")
			case <-req.Context().Done():
				time.Sleep(time.Millisecond) // the pool needs a moment
				return nil, req.Context().Err()
			}
		}, func(c *keyvault.Config) { c.CacheTTL = ttl })
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = r.Get(ctx, caller("a"), object(request.TypeSecret, "s"), fresh())()
		}()
		synctest.Wait()
		cancel()
		<-done
		if _, err := r.Get(t.Context(), caller("a"), object(request.TypeSecret, "s"), later())(); err != nil {
			t.Errorf("another's rotation: %v (canceled: %t)", err, errors.Is(err, context.Canceled))
		}
		time.Sleep(time.Hour)
	})
}

// pages is a list of two pages, whose second fails once while a version is made.
func pages() func(req *http.Request) (*http.Response, error) {
	var second atomic.Bool
	var created atomic.Bool
	return func(req *http.Request) (*http.Response, error) {
		page := req.URL.Query().Get("page")
		ids := listed("secret", "a", 1, "")
		if created.Load() && page == "" {
			ids = listed("secret", "new", 9, "") + "," + ids
		}
		time.Sleep(rtt)
		if page == "" {
			return answer(http.StatusOK, `{"value":[`+ids+`],"nextLink":"https://contoso.vault.azure.net`+req.URL.Path+`?page=2"}`)
		}
		if !second.Swap(true) {
			created.Store(true) // a new version, while the second page is under way
			return answer(http.StatusBadGateway, `{"error":{"code":"x"}}`)
		}
		return answer(http.StatusOK, `{"value":[`+listed("secret", "b", 2, "")+`]}`)
	}
}

// A list is as old as its first page: a pod that starts after that reads another.
func TestFirstMountOfAnOlderList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := configured(t, func() func(req *http.Request) (*http.Response, error) {
			var created, n atomic.Int32
			go func() { time.Sleep(rtt + rtt/4); created.Store(1) }()
			return func(req *http.Request) (*http.Response, error) {
				n.Add(1)
				page := req.URL.Query().Get("page")
				ids := listed("secret", "a", 1, "")
				if created.Load() == 1 {
					ids += "," + listed("secret", "new", 9, "")
				}
				time.Sleep(rtt)
				switch page {
				case "":
					return answer(http.StatusOK, `{"value":[`+ids+`],"nextLink":"https://contoso.vault.azure.net`+req.URL.Path+`?page=2"}`)
				case "2":
					return answer(http.StatusOK, `{"value":[],"nextLink":"https://contoso.vault.azure.net`+req.URL.Path+`?page=3"}`)
				}
				return answer(http.StatusOK, `{"value":[`+listed("secret", "b", 2, "")+`]}`)
			}
		}(), func(c *keyvault.Config) { c.CacheTTL = ttl })
		go func() {
			_, _ = r.Versions(t.Context(), caller("a"), object(request.TypeSecret, "x"), 9, fresh())()
		}()
		time.Sleep(rtt + rtt/2) // page 2 is under way; the new version is in the vault
		need := fresh()         // pod 2 arrives
		time.Sleep(3 * rtt)     // and signs in
		got, err := r.Versions(t.Context(), caller("a"), object(request.TypeSecret, "x"), 9, need)()
		if err != nil || got[0] != "new" {
			t.Errorf("first mount got %v, %v: from page 1 of before it arrived", got, err)
		}
		time.Sleep(time.Hour)
	})
}

// The same while a later page waits for its next attempt.
func TestFirstMountBetweenAttemptsOfAPage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := configured(t, pages(), func(c *keyvault.Config) { c.CacheTTL = ttl })
		go func() {
			_, _ = r.Versions(t.Context(), caller("a"), object(request.TypeSecret, "x"), 9, fresh())()
		}()
		time.Sleep(2*rtt + 10*time.Millisecond) // page 2 failed, its quick retry is awaited
		got, err := r.Versions(t.Context(), caller("a"), object(request.TypeSecret, "x"), 9, fresh())()
		if err != nil || got[0] != "new" {
			t.Errorf("first mount got %v, %v", got, err)
		}
		time.Sleep(time.Hour)
	})
}

// What a list may hold is bounded, not only its pages.
func TestFatPages(t *testing.T) {
	page := `{"value":[` + strings.Repeat(`{"id":"https://v/secrets/x/a"},`, 30000) + `null]`
	var n int
	r := reader(t, 1, func(req *http.Request) (*http.Response, error) {
		if n++; n == 60 {
			return answer(200, page+"}")
		}
		return answer(200, page+`,"nextLink":"https://contoso.vault.azure.net`+req.URL.Path+`"}`)
	})
	_, err := r.Versions(t.Context(), caller("a"), object(request.TypeSecret, "x"), 1, fresh())()
	if n > 1 || err == nil {
		t.Errorf("%d pages of 30,000 entries were read, %v", n, err)
	}
}

func throttled(retryAfter string) (*http.Response, error) {
	resp, err := answer(http.StatusTooManyRequests, `{"error":{"code":"Throttled"}}`)
	resp.Header.Set("Retry-After", retryAfter)
	return resp, err
}

// Classes that name many vaults do not evict the Retry-After of another vault.
func TestRetryAfterIsNotEvicted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		victim := 0
		r := configured(t, func(req *http.Request) (*http.Response, error) {
			if req.URL.Host == host {
				victim++
				return throttled("60")
			}
			return secret(req, "v")
		}, func(c *keyvault.Config) { c.Throttle.Retries = 0; c.Timeout = 10 * time.Second })
		ask := func(h string) {
			o := object(request.TypeSecret, "s")
			o.Host = h
			_, _ = r.Get(t.Context(), caller("a"), o, fresh())()
		}
		ask(host)
		ask(host)
		if victim != 1 {
			t.Fatal("the circuit is not open", victim)
		}
		for i := range 256 {
			ask(fmt.Sprintf("v%d.vault.azure.net", i))
		}
		ask(host)
		if victim != 1 {
			t.Errorf("a request was sent before Retry-After ended")
		}
		time.Sleep(time.Hour)
	})
}

// A Retry-After that is too long is shortened to the longest that the plugin honors.
func TestLongRetryAfter(t *testing.T) {
	for _, retryAfter := range []string{"60", "70000", "31536000"} {
		synctest.Test(t, func(t *testing.T) {
			var open time.Duration
			r := configured(t, func(*http.Request) (*http.Response, error) { return throttled(retryAfter) },
				func(c *keyvault.Config) {
					c.Throttle = throttle.Config{Max: 1, OnOpen: func(e *throttle.Episode) { open = e.Pause }}
				})
			_, _ = r.Get(t.Context(), caller("a"), object(request.TypeSecret, "s"), fresh())()
			if open < time.Minute {
				t.Errorf("Retry-After %s: open for %v", retryAfter, open)
			}
			time.Sleep(time.Hour)
		})
	}
}

// A list that is throttled once is retried, and blocks no other request once the vault is
// available again.
func TestListIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lists, gets, opened atomic.Int32
		r := configured(t, func(req *http.Request) (*http.Response, error) {
			if strings.HasSuffix(req.URL.Path, "/versions") {
				if lists.Add(1) == 1 {
					return throttled("1") // once; the vault is available from then on
				}
				return answer(http.StatusOK, `{"value":[`+listed("secret", "b", 2, "")+`]}`)
			}
			gets.Add(1)
			return secret(req, "v")
		}, func(c *keyvault.Config) {
			c.Throttle = throttle.Config{Max: 32, Retries: 3, OnOpen: func(*throttle.Episode) { opened.Add(1) }}
		})
		go func() {
			_, _ = r.Versions(t.Context(), caller("evil"), object(request.TypeSecret, "x"), 9, fresh())()
		}()
		synctest.Wait()
		begin := time.Now()
		_, err := r.Get(t.Context(), caller("victim"), object(request.TypeSecret, "s"), fresh())()
		if err != nil || time.Since(begin) > 2*time.Second || opened.Load() > 1 {
			t.Errorf("another's first mount: %v after %v; the circuit opened %d times for one 429; %d gets sent", err, time.Since(begin), opened.Load(), gets.Load())
		}
		time.Sleep(time.Hour)
		if lists.Load() < 2 {
			t.Errorf("the list was never retried: %d requests", lists.Load())
		}
	})
}

// A page that fails is read again, and each version is listed once.
func TestListGoesOn(t *testing.T) {
	for _, kind := range []request.Type{request.TypeSecret, request.TypeKey, request.TypeCert} {
		synctest.Test(t, func(t *testing.T) {
			word := map[request.Type]string{request.TypeSecret: "secret", request.TypeKey: "key", request.TypeCert: "certificate"}[kind]
			seen := map[string]int{}
			r := configured(t, func(req *http.Request) (*http.Response, error) {
				page := req.URL.Query().Get("page")
				if seen[page]++; seen[page] == 1 {
					return answer(http.StatusBadGateway, `{"error":{"code":"x"}}`)
				}
				next := map[string]string{"": "2", "2": "3"}[page]
				id := map[string]string{"": "a", "2": "b", "3": "c"}[page]
				created := map[string]int{"": 1, "2": 2, "3": 3}[page]
				if next != "" {
					return answer(http.StatusOK, `{"value":[`+listed(word, id, created, "")+`],"nextLink":"https://contoso.vault.azure.net`+req.URL.Path+`?page=`+next+`"}`)
				}
				return answer(http.StatusOK, `{"value":[`+listed(word, id, created, "")+`]}`)
			}, nil)
			got, err := r.Versions(t.Context(), caller("a"), object(kind, "x"), 9, fresh())()
			if err != nil || strings.Join(got, " ") != "c b a" || seen[""] != 2 || seen["2"] != 2 || seen["3"] != 2 {
				t.Errorf("%s: %v, %v, requests %v", kind, got, err, seen)
			}
		})
	}
}

// A vault that knows no signing key at all is unavailable: the circuit opens, and each caller that
// waits for it gets the cause, with the name of its object.
func TestSigningKeyNotKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var opened, requests atomic.Int32
		r := configured(t, func(*http.Request) (*http.Response, error) {
			requests.Add(1)
			return answer(http.StatusUnauthorized, `{"error":{"code":"Unauthorized","message":"AKV10046: Unable to resolve the key used for signature validation."}}`)
		}, func(c *keyvault.Config) {
			c.Throttle = throttle.Config{Max: 32, OnOpen: func(*throttle.Episode) { opened.Add(1) }}
		})
		for i := range 8 {
			name := fmt.Sprintf("s%d", i)
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			_, err := r.Get(ctx, caller("a"), object(request.TypeSecret, name), fresh())()
			cancel()
			wantReason(t, err, fault.ServiceUnavailable)
			if err == nil || !strings.Contains(err.Error(), `secret "`+name+`"`) || !strings.Contains(err.Error(), "AKV10046") {
				t.Errorf("got %v", err)
			}
		}
		if opened.Load() != 1 || requests.Load() != 5 {
			t.Errorf("the circuit opened %d times after %d requests", opened.Load(), requests.Load())
		}
		time.Sleep(time.Hour)
	})
}
