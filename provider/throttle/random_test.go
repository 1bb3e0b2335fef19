package throttle_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"path"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"akv-csi-provider/provider/fair"
	"akv-csi-provider/provider/throttle"
)

// moody is a service whose answers are random. It checks that nothing comes while the
// circuit is open, and never more at a time than may.
type moody struct {
	t   *testing.T
	max int

	mu           sync.Mutex // guards what follows
	random       *rand.Rand
	mood         int // how many of ten attempts fail
	underWay     int
	opened, open time.Time // when the circuit opened, and until when
	openings     int       // in episodes that are not over
}

func (m *moody) number(n int) int { m.mu.Lock(); defer m.mu.Unlock(); return m.random.IntN(n) }

func (m *moody) onOpen(e *throttle.Episode) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.opened = time.Now()
	m.open = m.opened.Add(e.Pause)
	if m.openings++; e.Openings != m.openings || e.Waited > requests || e.Refused > requests {
		m.t.Errorf("opening %d, %+v", m.openings, e)
	}
}

func (m *moody) onClose(e *throttle.Episode) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if quiet := time.Since(e.Began) - e.Lasted; e.Openings != m.openings || quiet != time.Minute || time.Since(m.open) < quiet {
		m.t.Errorf("after %v, %d openings, %+v", quiet, m.openings, e)
	}
	m.openings = 0
}

func (m *moody) arrived() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.underWay++; m.underWay > m.max {
		m.t.Errorf("%d requests at a time", m.underWay)
	}
	if now := time.Now(); now.After(m.opened) && now.Before(m.open) {
		m.t.Error("a request while the circuit is open")
	}
	if m.random.IntN(20) == 0 {
		m.mood = m.random.IntN(11)
	}
}

// Do implements policy.Transporter.
func (m *moody) Do(req *http.Request) (*http.Response, error) {
	m.arrived()
	defer func() { m.mu.Lock(); defer m.mu.Unlock(); m.underWay-- }()
	select {
	case <-time.After(time.Duration(m.number(3000)) * time.Millisecond):
	case <-req.Context().Done():
		if m.number(2) == 0 { // the response comes at the same moment
			break
		}
		return nil, req.Context().Err()
	}
	name := path.Base(req.URL.Path)
	if m.number(10) >= m.mood {
		return reply{body: "secret of " + name}.response(req), nil
	}
	switch m.number(7) {
	case 0:
		panic("a bug")
	case 1:
		return nil, errReset
	case 2:
		return nil, errPermanent
	case 3:
		return reply{status: 429, retryAfter: fmt.Sprint(m.number(100))}.response(req), nil
	case 4:
		return reply{status: 503, body: unavailable}.response(req), nil
	case 5:
		return reply{status: 404}.response(req), nil
	}
	return reply{status: 500, body: "x"}.response(req), nil
}

// requests is how many there are.
const requests = 60

// Whatever happens to requests and their callers, no place and no request is lost, a success is
// that of the request itself, and each opening is reported in one episode.
func TestRandomRequests(t *testing.T) {
	for seed := range uint64(100) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &moody{t: t, max: 1 + int(seed%4), random: rand.New(rand.NewPCG(seed, 0))}
				th := throttle.New(throttle.Config{Max: m.max, Retries: int(seed % 3), OnOpen: m.onOpen, OnClose: m.onClose})
				c := newClient(th, bounded(2*time.Second, m.Do))
				var group sync.WaitGroup
				for i := range requests {
					group.Go(func() { m.call(c, fmt.Sprint("s", i)) })
				}
				group.Wait()
				checkFree(t, th)
				time.Sleep(time.Hour)
				newClient(th, newService(reply{})).must(t, "x") // the service is back
				checkFree(t, th)
				time.Sleep(time.Hour)
				if synctest.Wait(); m.openings != 0 {
					t.Errorf("%d openings in an episode without an end", m.openings)
				}
			})
		})
	}
}

// call sends a request at some moment, with some patience.
func (m *moody) call(c client, name string) {
	time.Sleep(time.Duration(m.number(60_000)) * time.Millisecond)
	ctx, cancel := context.WithCancel(m.t.Context())
	defer cancel()
	switch m.number(4) {
	case 0:
		ctx, cancel = context.WithTimeout(ctx, time.Duration(m.number(20_000))*time.Millisecond)
		defer cancel()
	case 1:
		timer := time.AfterFunc(time.Duration(m.number(20_000))*time.Millisecond, cancel)
		defer timer.Stop()
	}
	urgent := m.number(2) == 0
	ctx = throttle.WithTrace(ctx, urgency(func() bool { return urgent }), nil)
	ctx = fair.WithTenant(ctx, fmt.Sprint(m.number(3)))
	defer func() {
		if v := recover(); v != nil && v != "a bug" {
			m.t.Errorf("recovered %v", v)
		}
	}()
	resp, err := c.send(ctx, name, "")
	switch {
	case err != nil && resp != nil:
		m.t.Errorf("%s got a response and %v", name, err)
	case err != nil:
	default:
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode == http.StatusOK && string(body) != "secret of "+name || path.Base(resp.Request.URL.Path) != name {
			m.t.Errorf("%s got %d %q, %v", name, resp.StatusCode, body, err)
		}
	}
}
