package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestPercentile(t *testing.T) {
	if got := percentile(nil, 50); got != 0 {
		t.Errorf("of nothing: %s", got)
	}
	var latencies []time.Duration
	for i := range 200 {
		latencies = append(latencies, time.Duration(200-i))
	}
	for p, want := range map[float64]time.Duration{50: 100, 99: 198, 100: 200} {
		if got := percentile(latencies, p); got != want {
			t.Errorf("p%v: got %d, want %d", p, got, want)
		}
	}
}

func TestJudge(t *testing.T) {
	const limit = 100 << 20
	good := result{Mounts: 100, P99: 999, Peak: 90, Probes: 3, Machine: 50}
	for _, c := range []struct {
		name   string
		bounds bounds
		edit   func(*result)
		want   string // joined; "" if nothing is broken
	}{
		{"good", bounds{}, func(*result) {}, ""},
		{"noise is no slowness", bounds{}, func(r *result) { r.P99 = 1000 }, ""},
		{"slow", bounds{}, func(r *result) { r.P99 = 1001 }, "p99 1001 > 1000 ms"},
		{"slow, as the machine is", bounds{}, func(r *result) { r.P99, r.Machine = 3000, 600 }, ""},
		{"slower than the machine", bounds{}, func(r *result) { r.P99, r.Machine = 3001, 600 }, "p99 3001 > 3000 ms"},
		{"a second above the machine", bounds{above: time.Second}, func(r *result) { r.P99, r.Machine = 1600, 600 }, ""},
		{"more than a second above", bounds{above: time.Second}, func(r *result) { r.P99, r.Machine = 1601, 600 }, "p99 1601 > 1600 ms"},
		{"its own limit of time", bounds{p99: 20 * time.Second}, func(r *result) { r.P99 = 20000 }, ""},
		{"one failed", bounds{}, func(r *result) { r.Failed = 1 }, "1 of 100 failed"},
		{"some may fail", bounds{failures: 0.1}, func(r *result) { r.Failed = 10 }, ""},
		{"large", bounds{}, func(r *result) { r.Peak = 91 }, "91 > 90 MiB"},
		{"less is allowed", bounds{memory: 0.5}, func(r *result) {}, "90 > 50 MiB"},
		{"no innocent", bounds{}, func(r *result) { r.Mounts = 0 }, "no innocent mounted"},
		{"killed", bounds{}, func(r *result) { r.Killed = "killed" }, "killed"},
		{"wrong files", bounds{failures: 1}, func(r *result) { r.Failed, r.Wrong = 1, 1 }, "1 with wrong files"},
		{"unhealthy", bounds{}, func(r *result) { r.Unhealthy = 2 }, "2 of 3 health checks failed"},
		{"may be unhealthy", bounds{health: true}, func(r *result) { r.Unhealthy = 2 }, ""},
		{"its own findings", bounds{}, func(r *result) { r.Broken = []string{"odd"} }, "odd"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := good
			c.edit(&r)
			if got := strings.Join(c.bounds.judge(&r, 100*time.Millisecond, limit), "; "); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// What innocents saw is counted by kinds of failure.
func TestSeen(t *testing.T) {
	var s seen
	for _, err := range []error{
		nil,
		status.Error(codes.FailedPrecondition, "first"),
		status.Error(codes.Unavailable, "cut"),
		fmt.Errorf("%w: %w", errEnded, status.Error(codes.Unavailable, "cut")), // the attack is judged for that
		fmt.Errorf("%w: 3 of 10", errFiles),
	} {
		s.add(time.Second, err)
	}
	if len(s.latencies) != 5 || s.failed != 4 || s.wrong != 1 || s.unnamed != 1 || !strings.Contains(s.failure, "first") {
		t.Errorf("got %+v", &s)
	}
}

func TestForbidden(t *testing.T) {
	for code, want := range map[codes.Code]bool{
		codes.Unavailable: true, codes.Internal: true, codes.Unknown: true,
		codes.FailedPrecondition: false, codes.NotFound: false, codes.DeadlineExceeded: false,
	} {
		if got := forbidden(status.Error(code, "")); got != want {
			t.Errorf("%s: got %v", code, got)
		}
	}
}

func TestParseLimits(t *testing.T) {
	const manifest = `
apiVersion: apps/v1
kind: DaemonSet
spec:
  selector: {}
  template:
    spec:
      terminationGracePeriodSeconds: 40
      containers:
        - name: provider
          args: ["--v=0"]
          env:
            - {name: GOMEMLIMIT, value: 200MiB}
            - {name: LIMIT, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}}
            - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
          resources: {limits: {memory: 256Mi}}
`
	l, err := parseLimits([]byte(manifest))
	if err != nil || l.memory != 256<<20 || l.grace != 40*time.Second || !slices.Equal(l.args, []string{"--v=0"}) {
		t.Errorf("got %+v, %v", l, err)
	}
	if want := []string{"GOMEMLIMIT=200MiB", "LIMIT=256"}; !slices.Equal(l.env, want) {
		t.Errorf("got %q, want %q", l.env, want)
	}
	if _, err := parseLimits([]byte(strings.ReplaceAll(manifest, "limits: {memory: 256Mi}", ""))); err == nil {
		t.Error("a manifest without a limit was accepted")
	}
	if l, err := readLimits("../../deploy/manifests/daemonset.yaml"); err != nil || l.memory == 0 || len(l.args) == 0 {
		t.Errorf("of the project: %+v, %v", l, err)
	}
}

func TestParseUsage(t *testing.T) {
	stat := "7 (a) b) S 1 7 7 0 -1 0 0 0 0 0 150 50 0 0 20 0 8 0 1 0 0"
	u, err := parseUsage([]byte("Name:\tx\nVmHWM:\t  2048 kB\n"), []byte(stat))
	if err != nil || u.peak != 2 || u.cpu != 2*time.Second {
		t.Errorf("got %+v, %v", u, err)
	}
	if _, err := parseUsage(nil, []byte("7 (a) S")); err == nil {
		t.Error("a short line was accepted")
	}
}

func TestTail(t *testing.T) {
	log := new(tail)
	for range 3 {
		if n, err := log.Write([]byte(strings.Repeat("x", maxTail-1) + "y")); n != maxTail || err != nil {
			t.Fatal(n, err)
		}
	}
	if got := log.String(); len(got) != maxTail || got[maxTail-1] != 'y' {
		t.Errorf("%d bytes", len(got))
	}
}
