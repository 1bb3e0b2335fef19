package admin_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"akv-csi-provider/provider/admin"
)

// flood opens connections, sends the text over each, and returns them; the test closes them.
func flood(t *testing.T, at, text string, n int) []net.Conn {
	t.Helper()
	var conns []net.Conn
	for range n {
		conn, err := net.DialTimeout("tcp", strings.TrimPrefix(at, "http://"), 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		_, _ = io.WriteString(conn, text) // the server may have closed it
		conns = append(conns, conn)
	}
	return conns
}

// stillOpen counts the connections that the server has neither answered nor closed.
func stillOpen(conns []net.Conn) int {
	var open atomic.Int32
	var group sync.WaitGroup
	deadline := time.Now().Add(300 * time.Millisecond)
	for _, conn := range conns {
		group.Go(func() {
			_ = conn.SetReadDeadline(deadline)
			if _, err := conn.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
				open.Add(1)
			}
		})
	}
	group.Wait()
	return int(open.Load())
}

// A flood of connections is bounded, and does not keep out a probe.
func TestFlood(t *testing.T) {
	at := serve(t, all(t))
	for part, path := range []string{"/healthz", "/metrics"} {
		for name, text := range map[string]string{
			"idle":         "",
			"half headers": "GET " + path + " HTTP/1.1\r\nHost: x\r\nX-Junk: junk",
			"long headers": "GET " + path + " HTTP/1.1\r\nHost: x\r\nX-Junk: " + strings.Repeat("a", 15000),
			"bodies":       "POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nx",
		} {
			t.Run(name+" of "+path, func(t *testing.T) {
				conns := flood(t, at[part], text, 500)
				start := time.Now()
				if status, _ := send(t, http.MethodGet, at[part]+path); status != http.StatusOK {
					t.Errorf("got %d", status)
				}
				if took := time.Since(start); took > 5*time.Second {
					t.Errorf("the probe took %v", took)
				}
				if open := stillOpen(conns); open > 100 {
					t.Errorf("%d connections are open", open)
				}
			})
		}
	}
}

// Requests under way are answered, whatever arrives after them.
func TestFloodCutsNoRequest(t *testing.T) {
	asked, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	at := serve(t, admin.Config{HealthPort: freePort(t), HealthPath: "/healthz", HealthTimeout: time.Minute, Ready: healthy,
		Healthy: func(context.Context) error {
			once.Do(func() { close(asked) })
			<-release
			return nil
		}})[0]
	var group sync.WaitGroup
	group.Go(func() {
		if status, _ := send(t, http.MethodGet, at+"/healthz"); status != http.StatusOK {
			t.Errorf("got %d", status)
		}
	})
	<-asked
	flood(t, at, "", 300)
	if status, _ := send(t, http.MethodGet, at+"/readyz"); status != http.StatusOK {
		t.Errorf("beside it: got %d", status)
	}
	close(release)
	group.Wait()
}

// The health check and the metrics may be on one address; the profiles stay on loopback.
func TestBindAddress(t *testing.T) {
	for address, network := range map[string]string{"127.0.0.1": "tcp4", "::1": "tcp6"} {
		probe, err := net.Listen(network, net.JoinHostPort(address, "0"))
		if err != nil {
			t.Logf("%s: %v", address, err) // there are hosts without IPv6
			continue
		}
		_ = probe.Close()
		cfg := all(t)
		cfg.BindAddress = address
		l, err := admin.Listen(cfg)
		if err != nil {
			t.Fatal(err)
		}
		for i, a := range l.Addrs() {
			want := address
			if i == 2 {
				want = "127.0.0.1"
			}
			if host, _, _ := net.SplitHostPort(a.String()); host != want {
				t.Errorf("%s: part %d listens on %s", address, i, a)
			}
		}
		stop(t, l)
	}
	for _, address := range []string{"localhost", "127.0.0.1:80", "10.0.0", " ", "[::1]"} {
		cfg := all(t)
		cfg.BindAddress = address
		if l, err := admin.Listen(cfg); err == nil {
			t.Errorf("%q was accepted", address)
			stop(t, l)
		}
	}
}
