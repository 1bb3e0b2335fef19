package throttle_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"akv-csi-provider/provider/throttle"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
)

// diary is a Trace that records its calls, one line each.
type diary struct {
	mu    sync.Mutex // guards what follows
	lines []string
}

func (d *diary) write(line string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, line)
}

func (*diary) Urgent() bool { return false }
func (d *diary) Sent()      { d.write("sent") }
func (d *diary) Answered()  { d.write("answered") }

func (d *diary) Retrying(failed error) {
	refused, ok := errors.AsType[*azcore.ResponseError](failed)
	if !ok {
		d.write(fmt.Sprint("retrying: ", failed))
		return
	}
	body, err := io.ReadAll(refused.RawResponse.Body)
	if err != nil {
		body = []byte(err.Error())
	}
	d.write(fmt.Sprintf("retrying: %s: %d %s %s", path.Base(refused.RawResponse.Request.URL.Path), refused.StatusCode, refused.ErrorCode, body))
}

const unavailable = `{"error":{"code":"Unavailable"}}`

func TestTrace(t *testing.T) {
	failed := reply{status: 500, body: unavailable}
	for _, c := range []struct {
		name    string
		replies []reply
		want    []string
	}{
		{"success", []reply{{}}, []string{"sent", "answered"}},
		{"refusal", []reply{{status: 404}}, []string{"sent", "answered"}},
		{"permanent error", []reply{{err: errPermanent}}, []string{"sent"}},
		{"retry", []reply{failed, {err: errReset}, {}},
			[]string{"sent", "retrying: x: 500 Unavailable " + unavailable, "sent", "retrying: connection reset", "sent", "answered"}},
		{"failure", []reply{failed, failed, failed},
			[]string{"sent", "retrying: x: 500 Unavailable " + unavailable, "sent", "retrying: x: 500 Unavailable " + unavailable, "sent"}},
		{"throttled", []reply{{status: 429, body: unavailable}, {}},
			[]string{"sent", "retrying: x: 429 Unavailable " + unavailable, "retrying: x: 429 Unavailable " + unavailable, "sent", "answered"}},
		{"again", []reply{{status: 401}, {}}, []string{"sent", "retrying: x: 401  ", "sent", "answered"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newService(reply{status: http.StatusTeapot})
				s.next = c.replies
				var d diary
				_, _ = newClient(throttle.New(throttle.Config{Max: 1, Retries: 2, Classify: classify}), s).get(throttle.WithTrace(t.Context(), &d, nil), "x")
				if !slices.Equal(d.lines, c.want) {
					t.Errorf("got  %q\nwant %q", d.lines, c.want)
				}
			})
		})
	}
}

// classify has a 401 repeated, as that of a key which the vault has not read yet.
func classify(resp *http.Response, err error) throttle.Result {
	if err == nil && resp.StatusCode == http.StatusUnauthorized {
		return throttle.Result{Outcome: throttle.OK, Retry: true}
	}
	return throttle.Classify(resp, err)
}

// A Classify may have answers repeated that are no failures of the service.
func TestClassify(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(reply{status: http.StatusUnauthorized})
		retries := 0
		c := newClient(throttle.New(throttle.Config{Max: 1, Retries: 3, Classify: classify, OnOpen: func(*throttle.Episode) { t.Error("opened") }, OnRetry: func() { retries++ }}), s)
		for i := range 3 {
			if status, err := c.get(t.Context(), "x"); status != http.StatusUnauthorized || err != nil || s.count() != 4*(i+1) || retries != 3*(i+1) {
				t.Errorf("got %d, %v after %d attempts", status, err, s.count())
			}
		}
	})
}

// The trace of a request that waits while the circuit is open gets the cause, with the request's
// own path.
func TestTraceOfARequestThatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(reply{status: 429, body: unavailable})
		c := newClient(throttle.New(throttle.Config{Max: 1, Retries: 1}), s)
		var other, own diary
		var group sync.WaitGroup
		group.Go(func() { _, _ = c.get(throttle.WithTrace(t.Context(), &other, nil), "other") })
		time.Sleep(2 * latency)
		group.Go(func() { _, _ = c.get(throttle.WithTrace(t.Context(), &own, nil), "own") })
		group.Wait()
		if want := []string{"retrying: own: 429 Unavailable " + unavailable, "retrying: own: 429 Unavailable " + unavailable, "sent"}; !slices.Equal(own.lines, want) {
			t.Errorf("got  %q\nwant %q", own.lines, want)
		}
	})
}

// Seconds and dates are honored, however large; what is neither is ignored.
func TestRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for text, want := range map[string]time.Duration{
			"": 0, "0": 0, "7": 7 * time.Second, "-7": 0, "1.5": 0, "soon": 0, "4294967295": time.Hour, "99999999999999999999": time.Hour,
			time.Now().Add(90 * time.Second).UTC().Format(http.TimeFormat): 90 * time.Second,
			time.Now().Add(-time.Minute).UTC().Format(http.TimeFormat):     0,
			time.Now().AddDate(1, 0, 0).UTC().Format(http.TimeFormat):      time.Hour,
		} {
			if got := throttle.RetryAfter(http.Header{"Retry-After": {text}}); got != want {
				t.Errorf("%q: got %s, want %s", text, got, want)
			}
		}
	})
}

func TestClassifyByStatus(t *testing.T) {
	wait := http.Header{"Retry-After": {"7"}}
	for _, c := range []struct {
		status int
		header http.Header
		err    error
		want   throttle.Result
	}{
		{200, nil, nil, throttle.Result{}},
		{304, nil, nil, throttle.Result{}},
		{401, nil, nil, throttle.Result{}},
		{404, wait, nil, throttle.Result{}},
		{408, nil, nil, throttle.Result{Outcome: throttle.Unavailable}},
		{429, nil, nil, throttle.Result{Outcome: throttle.Throttled}},
		{429, wait, nil, throttle.Result{Outcome: throttle.Throttled, RetryAfter: 7 * time.Second}},
		{500, wait, nil, throttle.Result{Outcome: throttle.Unavailable}},
		{501, nil, nil, throttle.Result{}},
		{502, nil, nil, throttle.Result{Outcome: throttle.Unavailable}},
		{503, nil, nil, throttle.Result{Outcome: throttle.Unavailable}},
		{503, wait, nil, throttle.Result{Outcome: throttle.Throttled, RetryAfter: 7 * time.Second}},
		{599, nil, nil, throttle.Result{Outcome: throttle.Unavailable}},
		{0, nil, errReset, throttle.Result{Outcome: throttle.Unavailable}},
		{0, nil, context.DeadlineExceeded, throttle.Result{Outcome: throttle.Unavailable}},
		{0, nil, fmt.Errorf("read: %w", context.Canceled), throttle.Result{Outcome: throttle.Unknown}},
		{0, nil, fmt.Errorf("read: %w", errPermanent), throttle.Result{Outcome: throttle.Unknown}},
	} {
		resp := &http.Response{StatusCode: c.status, Header: c.header}
		if c.err != nil {
			resp = nil
		}
		if got := throttle.Classify(resp, c.err); got != c.want {
			t.Errorf("%d, %v, %v: got %+v, want %+v", c.status, c.header, c.err, got, c.want)
		}
	}
}
