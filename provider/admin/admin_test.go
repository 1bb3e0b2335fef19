package admin_test

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"akv-csi-provider/provider/admin"
)

// freePorts finds different ports below those that the kernel uses for outgoing
// connections.
func freePorts(t testing.TB, n int) []int {
	t.Helper()
	var ports []int
	for range 1000 {
		port := 10000 + rand.IntN(10000) // tests of the command use those from 20000 on
		l, err := net.Listen("tcp", ":"+strconv.Itoa(port))
		if err != nil {
			continue
		}
		defer func() { _ = l.Close() }() // open until all are found
		if ports = append(ports, port); len(ports) == n {
			return ports
		}
	}
	t.Fatal("no free ports")
	return nil
}

func freePort(t testing.TB) int {
	t.Helper()
	return freePorts(t, 1)[0]
}

func healthy(context.Context) error { return nil }

var someMetrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "some_metric 1\n") })

// all is a configuration with everything turned on.
func all(t testing.TB) admin.Config {
	t.Helper()
	ports := freePorts(t, 3)
	return admin.Config{
		HealthPort: ports[0], HealthPath: "/healthz", HealthTimeout: time.Minute, Ready: healthy, Healthy: healthy,
		MetricsPort: ports[1], Metrics: someMetrics,
		PprofPort: ports[2],
	}
}

// serve runs the parts until the test ends and returns their addresses.
func serve(t testing.TB, cfg admin.Config) []string {
	t.Helper()
	l, err := admin.Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	var addresses []string
	for _, a := range l.Addrs() {
		_, port, err := net.SplitHostPort(a.String())
		if err != nil {
			t.Fatal(err)
		}
		addresses = append(addresses, "http://"+net.JoinHostPort("127.0.0.1", port))
	}
	return addresses
}

func send(t testing.TB, method, address string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func TestHealth(t *testing.T) {
	var err error // what the check finds; set between requests
	cfg := admin.Config{HealthPort: freePort(t), HealthPath: "/healthz", HealthTimeout: time.Minute, Ready: healthy,
		Healthy: func(context.Context) error { return err }}
	at := serve(t, cfg)[0]
	if status, body := send(t, http.MethodGet, at+"/healthz"); status != 200 || strings.TrimSpace(body) != "ok" {
		t.Errorf("healthy: got %d %q", status, body)
	}
	if status, body := send(t, http.MethodHead, at+"/healthz"); status != 200 || body != "" {
		t.Errorf("HEAD: got %d %q", status, body)
	}
	err = errors.New("the socket is missing")
	if status, body := send(t, http.MethodGet, at+"/healthz"); status != 503 || strings.TrimSpace(body) != "the socket is missing" {
		t.Errorf("unhealthy: got %d %q", status, body)
	}
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete} {
		if status, _ := send(t, method, at+"/healthz"); status != 405 {
			t.Errorf("%s: got %d, want 405", method, status)
		}
	}
	for _, path := range []string{"/", "/healthz/", "/healthz/x", "/metrics", "/debug/pprof/", "/debug/pprof/heap"} {
		if status, _ := send(t, http.MethodGet, at+path); status != 404 {
			t.Errorf("%s: got %d, want 404", path, status)
		}
	}
}

// Readiness has its own path, which the health check may take instead.
func TestReady(t *testing.T) {
	notYet := errors.New("the socket is not served yet")
	err := notYet // what is found; set between requests
	cfg := admin.Config{HealthPort: freePort(t), HealthPath: "/healthz", HealthTimeout: time.Minute,
		Healthy: healthy, Ready: func(context.Context) error { return err }}
	at := serve(t, cfg)[0]
	if status, body := send(t, http.MethodGet, at+"/readyz"); status != 503 || strings.TrimSpace(body) != notYet.Error() {
		t.Errorf("not ready: got %d %q", status, body)
	}
	if status, _ := send(t, http.MethodGet, at+"/healthz"); status != 200 {
		t.Errorf("healthy, but not ready: got %d", status)
	}
	err = nil
	if status, body := send(t, http.MethodGet, at+"/readyz"); status != 200 || strings.TrimSpace(body) != "ok" {
		t.Errorf("ready: got %d %q", status, body)
	}
	if status, _ := send(t, http.MethodPost, at+"/readyz"); status != 405 {
		t.Errorf("POST: got %d, want 405", status)
	}
	cfg.HealthPort, cfg.HealthPath = freePort(t), admin.ReadyPath
	cfg.Healthy = func(context.Context) error { return errors.New("the health check") }
	if status, body := send(t, http.MethodGet, serve(t, cfg)[0]+"/readyz"); status != 503 || strings.TrimSpace(body) != "the health check" {
		t.Errorf("the health check at /readyz: got %d %q", status, body)
	}
}

// A check that hangs is given up in time.
func TestHealthTimeout(t *testing.T) {
	at := serve(t, admin.Config{HealthPort: freePort(t), HealthPath: "/live", HealthTimeout: time.Nanosecond, Ready: healthy,
		Healthy: func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}})[0]
	if status, body := send(t, http.MethodGet, at+"/live"); status != 503 || !strings.Contains(body, "deadline") {
		t.Errorf("got %d %q", status, body)
	}
}

// A check answers all requests that arrive while it is under way, and continues without
// the first of them.
func TestHealthChecksAreShared(t *testing.T) {
	var checks atomic.Int32
	asked, release := make(chan struct{}), make(chan struct{})
	at := serve(t, admin.Config{HealthPort: freePort(t), HealthPath: "/healthz", HealthTimeout: time.Hour, Ready: healthy,
		Healthy: func(ctx context.Context) error {
			if checks.Add(1) == 1 {
				close(asked)
			}
			select {
			case <-release:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}})[0]
	conn, err := net.Dial("tcp", strings.TrimPrefix(at, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-asked
	_ = conn.Close()
	var group sync.WaitGroup
	for range 3 {
		group.Go(func() {
			if status, _ := send(t, http.MethodGet, at+"/healthz"); status != http.StatusOK {
				t.Errorf("got %d", status)
			}
		})
	}
	close(release)
	group.Wait()
	if n := checks.Load(); n > 4 {
		t.Errorf("%d checks for 4 callers", n)
	}
}

// Each part answers for itself alone.
func TestPartsAreApart(t *testing.T) {
	at := serve(t, all(t))
	for i, part := range []string{"health", "metrics", "pprof"} {
		for path, owner := range map[string]int{"/healthz": 0, "/metrics": 1, "/debug/pprof/": 2, "/debug/pprof/cmdline": 2, "/debug/pprof/symbol": 2} {
			want := 404
			if owner == i {
				want = 200
			}
			if status, _ := send(t, http.MethodGet, at[i]+path); status != want {
				t.Errorf("%s of the %s port: got %d, want %d", path, part, status, want)
			}
		}
	}
	if _, body := send(t, http.MethodGet, at[1]+"/metrics"); body != "some_metric 1\n" {
		t.Errorf("metrics: got %q", body)
	}
	if status, _ := send(t, http.MethodPost, at[1]+"/metrics"); status != 405 {
		t.Errorf("POST of metrics: got %d, want 405", status)
	}
}

// Profiles show memory: they stay on the loopback address. kubelet and Prometheus
// come from elsewhere.
func TestAddresses(t *testing.T) {
	l, err := admin.Listen(all(t))
	if err != nil {
		t.Fatal(err)
	}
	for i, a := range l.Addrs() {
		tcp, ok := a.(*net.TCPAddr)
		if !ok || tcp.IP.IsLoopback() != (i == 2) || tcp.IP.IsUnspecified() != (i != 2) {
			t.Errorf("part %d listens on %s", i, a)
		}
	}
	stop(t, l)
}

// A port of 0 turns a part off.
func TestOff(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*admin.Config)
		parts  int
	}{
		{"nothing", func(c *admin.Config) { *c = admin.Config{} }, 0},
		{"no health", func(c *admin.Config) { c.HealthPort, c.HealthPath, c.Healthy = 0, "", nil }, 2},
		{"no metrics", func(c *admin.Config) { c.MetricsPort, c.Metrics = 0, nil }, 2},
		{"no pprof", func(c *admin.Config) { c.PprofPort = 0 }, 2},
	} {
		cfg := all(t)
		c.change(&cfg)
		l, err := admin.Listen(cfg)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := len(l.Addrs()); got != c.parts {
			t.Errorf("%s: got %d parts, want %d", c.name, got, c.parts)
		}
		stop(t, l)
	}
}

// stop ends what was only bound.
func stop(t testing.TB, l *admin.Listener) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Run(ctx); err != nil {
		t.Error(err)
	}
}

// A port that is taken fails the start, and nothing stays bound.
func TestPortTaken(t *testing.T) {
	cfg := all(t)
	for _, taken := range []int{cfg.HealthPort, cfg.MetricsPort, cfg.PprofPort} {
		holder, err := net.Listen("tcp", ":"+strconv.Itoa(taken))
		if err != nil {
			t.Fatal(err)
		}
		l, err := admin.Listen(cfg)
		if l != nil || !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), strconv.Itoa(taken)) {
			t.Errorf("got %v, %v, want an error that names port %d", l, err, taken)
		}
		_ = holder.Close()
		for _, port := range []int{cfg.HealthPort, cfg.MetricsPort, cfg.PprofPort} {
			l, err := net.Listen("tcp", ":"+strconv.Itoa(port))
			if err != nil {
				t.Errorf("after port %d was taken: %v", taken, err)
				continue
			}
			_ = l.Close()
		}
	}
	cfg.MetricsPort = cfg.HealthPort
	if _, err := admin.Listen(cfg); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("two parts on one port: got %v", err)
	}
}

// What cannot work is refused, not found out by the first probe.
func TestIncomplete(t *testing.T) {
	for name, change := range map[string]func(*admin.Config){
		"no path":       func(c *admin.Config) { c.HealthPath = "" },
		"relative path": func(c *admin.Config) { c.HealthPath = "healthz" },
		"unclean path":  func(c *admin.Config) { c.HealthPath = "//healthz" },
		"no timeout":    func(c *admin.Config) { c.HealthTimeout = 0 },
		"no readiness":  func(c *admin.Config) { c.Ready = nil },
		"no check":      func(c *admin.Config) { c.Healthy = nil },
		"no metrics":    func(c *admin.Config) { c.Metrics = nil },
	} {
		cfg := all(t)
		change(&cfg)
		if l, err := admin.Listen(cfg); err == nil {
			t.Errorf("%s: was taken", name)
			stop(t, l)
		}
	}
}

func TestValidPath(t *testing.T) {
	for path, want := range map[string]bool{
		"/healthz": true, "/": true, "/a/b": true, "/a/b/": true, "/a.b-c_d~e": true, "/über": true, "/a%20b": true,
		"": false, "healthz": false, "//healthz": false, "/a//b": false, "/a/../b": false, "/./a": false, "/a//": false,
		"/{x}": false, "/a b": false, "/a\n": false, "/a?b": false, "/a#b": false,
	} {
		if got := admin.ValidPath(path); got != want {
			t.Errorf("%q: got %t, want %t", path, got, want)
		}
		if !want {
			continue
		}
		cfg := admin.Config{HealthPort: freePort(t), HealthPath: path, HealthTimeout: time.Minute, Ready: healthy, Healthy: healthy}
		if status, _ := send(t, http.MethodGet, serve(t, cfg)[0]+path); status != 200 {
			t.Errorf("%q: got %d", path, status)
		}
	}
}

// Run ends with its context, also while a request hangs, and frees the ports.
func TestRunEnds(t *testing.T) {
	cfg := all(t)
	asked := make(chan struct{})
	cfg.HealthTimeout = time.Hour
	cfg.Healthy = func(ctx context.Context) error {
		close(asked)
		<-ctx.Done()
		return ctx.Err()
	}
	l, err := admin.Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	probed := make(chan error, 1)
	go func() {
		resp, err := http.Get("http://127.0.0.1:" + strconv.Itoa(cfg.HealthPort) + "/healthz")
		if err == nil {
			_ = resp.Body.Close()
		}
		probed <- err
	}()
	<-asked
	cancel()
	if err := <-done; err != nil {
		t.Errorf("run: %v", err)
	}
	if err := <-probed; err == nil {
		t.Error("the probe that hung was answered")
	}
	for _, port := range []int{cfg.HealthPort, cfg.MetricsPort, cfg.PprofPort} {
		again, err := net.Listen("tcp", ":"+strconv.Itoa(port))
		if err != nil {
			t.Errorf("after the end: %v", err)
			continue
		}
		_ = again.Close()
	}
}
