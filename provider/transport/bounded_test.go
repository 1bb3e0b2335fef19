package transport_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"akv-csi-provider/provider/fair"
	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/transport"
)

// open sends a GET and does not read the answer.
func open(ctx context.Context, c *transport.Client) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, secretURL, nil)
	if err != nil {
		return nil, err
	}
	return c.Do(req)
}

// A request is under way until its answer was read, or closed, or until it failed.
func TestRequestsAreBounded(t *testing.T) {
	for name, end := range map[string]func(*http.Response){
		"read":   func(r *http.Response) { _, _ = io.Copy(io.Discard, r.Body) },
		"closed": func(r *http.Response) { _ = r.Body.Close() },
		"both":   func(r *http.Response) { _, _ = io.Copy(io.Discard, r.Body); _ = r.Body.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client := reader(roundTripper(func(r *http.Request) (*http.Response, error) {
					if r.Header.Get("Fail") != "" {
						return nil, io.EOF
					}
					return answer("x"), nil
				})).Bounded(1)
				for range 3 {
					first, err := open(t.Context(), client)
					if err != nil {
						t.Fatal(err)
					}
					var second atomic.Bool
					go func() {
						if err := get(t.Context(), client, secretURL); err != nil {
							t.Error(err)
						}
						second.Store(true)
					}()
					synctest.Wait()
					if second.Load() {
						t.Error("two requests at a time")
					}
					end(first)
					synctest.Wait()
					if !second.Load() {
						t.Error("the second request did not leave")
					}
				}
			})
		})
	}
}

// A request that fails, or panics, releases its place.
func TestFailuresLeave(t *testing.T) {
	var panics bool
	client := reader(roundTripper(func(*http.Request) (*http.Response, error) {
		if panics = !panics; panics {
			panic("a bug")
		}
		return nil, io.EOF
	})).Bounded(1)
	for range 4 {
		func() {
			defer func() { _ = recover() }()
			failure(t, get(t.Context(), client, secretURL))
		}()
	}
	odd := reader(roundTripper(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(failingReader{io.ErrUnexpectedEOF})}, nil
	})).Bounded(1)
	for range 2 {
		resp, err := open(t.Context(), odd)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(resp.Body); failure(t, err).Reason != fault.ServiceUnavailable {
			t.Error(err)
		}
	}
}

// One namespace with many requests does not block another.
func TestRequestsAreDivided(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := reader(roundTripper(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		})).Bounded(16)
		ctx, cancel := context.WithCancel(t.Context())
		for range 100 {
			go func() { _ = get(fair.WithTenant(ctx, "greedy"), client, secretURL) }()
		}
		synctest.Wait()
		start := time.Now()
		if err := get(fair.WithTenant(t.Context(), "other"), client, secretURL); failure(t, err).Reason != fault.Timeout {
			t.Error(err)
		}
		if took := time.Since(start); took != transport.Attempt {
			t.Errorf("took %v", took)
		}
		cancel()
	})
}

// The time of an attempt begins when it leaves. One that could not leave says nothing about
// the service.
func TestWaitingIsNoAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stalls := reader(roundTripper(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		})).Bounded(1)
		start := time.Now()
		go func() { _ = get(t.Context(), stalls, secretURL) }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		err := get(ctx, stalls, secretURL)
		if failure(t, err).Reason != fault.Timeout || !isPermanent(err) || !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		checkText(t, err, "too many other requests")
		cancel()
		if err := get(ctx, stalls, secretURL); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		gone, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if err := get(gone, stalls, secretURL); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if err := get(t.Context(), stalls, secretURL); failure(t, err).Reason != fault.Timeout || isPermanent(err) {
			t.Error(err)
		}
		if took := time.Since(start); took != 2*transport.Attempt {
			t.Errorf("took %v", took)
		}
	})
}

// What Azure sends is shorter than what others may send.
func TestAzureResponseBound(t *testing.T) {
	for size, fits := range map[int]bool{transport.MaxAzureBody: true, transport.MaxAzureBody + 1: false} {
		client := reader(roundTripper(func(*http.Request) (*http.Response, error) { return answer(strings.Repeat("x", size)), nil })).Bounded(1)
		err := get(t.Context(), client, secretURL)
		if (err == nil) != fits {
			t.Errorf("%d bytes: %v", size, err)
		}
		if err != nil {
			checkText(t, err, "524288 bytes")
		}
	}
}
