package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"akv-csi-provider/e2e/plugin"
	"akv-csi-provider/provider/azuretest"
)

var provider string // path of the plugin's binary

func TestMain(m *testing.M) {
	os.Exit(plugin.Built(func(binary string) int {
		provider = binary
		return m.Run()
	}))
}

// bench runs cases as main does.
func bench(t *testing.T, cases []benchmark, flags ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, progress bytes.Buffer
	code = run(t.Context(), append([]string{"--provider=" + provider}, flags...), cases, &out, &progress)
	return code, out.String(), progress.String()
}

// small is a case that takes a moment: three pods of one service account.
func small(targets ...target) benchmark {
	return benchmark{name: "small", secrets: 2, targets: targets, run: crowd(3, 3, false)}
}

// The table's counts are those of the fake Azure, under both versions of HTTP.
func TestCounts(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		c := small(requests.atMost(3*(1+1+2)), failures.none())
		c.http2 = http2
		var box *azuretest.Box
		c.run = func(ctx context.Context, trial *trial) error {
			box = trial.box
			return crowd(3, 3, false)(ctx, trial)
		}
		code, out, progress := bench(t, []benchmark{c}, "--json")
		var rows []row
		if err := json.Unmarshal([]byte(out), &rows); err != nil || len(rows) != 1 || code != exitOK {
			t.Fatalf("code %d, %v\n%s\n%s", code, err, out, progress)
		}
		got, want := rows[0], map[string]int{}
		for kind, n := range box.Counts() {
			want[string(kind)] = n
		}
		delete(want, string(azuretest.Issuer))
		if !maps.Equal(got.Requests, want) || got.Handshakes != box.Handshakes() {
			t.Errorf("got %v and %d handshakes, the fake Azure saw %v and %d", got.Requests, got.Handshakes, want, box.Handshakes())
		}
		if got.Requests["token"] != 3 || got.Mounts != 3 || got.Of != 3 || got.Failed != 0 {
			t.Errorf("got %+v", got)
		}
		if version := map[bool]string{false: "1.1", true: "2.0"}[http2]; got.HTTP != version {
			t.Errorf("got HTTP %s, want %s", got.HTTP, version)
		}
		if got.P50 <= 0 || got.P99 < got.P50 || got.Wall < got.P99 || got.Peak <= 0 {
			t.Errorf("got %+v", got)
		}
	}
}

// A missed number of requests is a failure; a missed time only if asked for.
func TestExitCode(t *testing.T) {
	for _, c := range []struct {
		name  string
		cases []benchmark
		flags []string
		code  int
		says  string
	}{
		{"held", []benchmark{small(requests.atMost(12))}, nil, exitOK, "requests ≤ 12 ok"},
		{"too many requests", []benchmark{small(failures.none(), requests.atMost(1))}, nil, exitMissed, "no failures ok, requests ≤ 1 MISSED ("},
		{"slow", []benchmark{small(p50.atMost(1))}, nil, exitOK, "p50 ≤ 1 ms MISSED ("},
		{"slow, strict", []benchmark{small(p50.atMost(1))}, []string{"--strict"}, exitMissed, "p50 ≤ 1 ms MISSED ("},
		{"not started", []benchmark{small()}, []string{"--provider=false"}, exitMissed, "NOT MEASURED: the plugin ended at its start"},
		{"unknown flag", []benchmark{{name: "x", flags: []string{"--no-such-flag=1"}, run: cold(1)}}, nil, exitMissed, "no-such-flag"},
		{"no such case", cases(), []string{"--case=^$"}, exitUsage, ""},
		{"bad expression", cases(), []string{"--case=("}, exitUsage, ""},
		{"argument", cases(), []string{"cold"}, exitUsage, ""},
		{"list", cases(), []string{"--list", "--case=^cold, 1 "}, exitOK, "cold, 1 secret: the first mount of a fresh process\n    p50 ≤ 90 ms\n    requests ≤ 3\n    no failures\n"},
		{"help", nil, []string{"--help"}, exitOK, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, out, progress := bench(t, c.cases, c.flags...)
			if code != c.code || !strings.Contains(out, c.says) {
				t.Errorf("code %d, want %d; want %q in\n%s\n%s", code, c.code, c.says, out, progress)
			}
		})
	}
}

// Every way to run a case works, at a reduced size.
func TestDrives(t *testing.T) {
	for _, c := range []struct {
		name    string
		run     drive
		mounts  int // 0: some
		failing bool
	}{
		{"cold", cold(2), 2, false},
		{"warm", warm(2), 2, false},
		{"new pods", newPods(2), 2, false},
		{"identities", crowd(2, 1, true), 2, false},
		{"rotations", rotations(2, 2, nil), 4, false},
		{"scattered", scattered(2, 10*time.Millisecond), 2, false},
		{"quota", rotations(2, 1, quota(100, time.Minute)), 2, false},
		{"503", under(fault(azuretest.Fault{Status: 503, Every: 2, Times: 1}, azuretest.GetSecret), crowd(2, 2, false)), 2, false},
		{"vault down", vaultDown(1, time.Millisecond), 0, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := benchmark{secrets: 1, run: c.run}
			r, err := b.measure(t.Context(), provider)
			if err != nil {
				t.Fatal(err)
			}
			if got := len(r.latencies); got != c.mounts && c.mounts > 0 || got == 0 || (r.failed > 0) != c.failing {
				t.Errorf("got %d mounts, %d failed: %s", got, r.failed, r.failure)
			}
			if wrongErrors.of(r) > 0 {
				t.Errorf("not one of our errors: %s", r.failure)
			}
		})
	}
	t.Run("idle", func(t *testing.T) {
		b := benchmark{run: idle(0)}
		if r, err := b.measure(t.Context(), provider); err != nil || idleMemory.of(r) < 1 || idleMemory.of(r) > peak.of(r) {
			t.Errorf("got %+v, %v", r, err)
		}
	})
}

// Pods mount each content with the requests that it takes.
func TestContents(t *testing.T) {
	for _, c := range []struct {
		name                string
		content             content
		files, lists, reads int
	}{
		{"listed", listed(2), 2, 0, 2},
		{"searched", searched(30), 3, 2, 3},
		{"pieces", pieces(3), 3, 0, 1},
		{"templated", templated(2), 1, 0, 2},
		{"in vaults", inVaults(2, 0, time.Millisecond), 4, 0, 4},
		{"silent", silent(1), 1, 0, 2}, // one of each vault
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := benchmark{content: c.content, run: func(ctx context.Context, trial *trial) error {
				if got := trial.volume.files; got != c.files {
					t.Errorf("%d files, want %d", got, c.files)
				}
				return cold(1)(ctx, trial)
			}}
			r, err := b.measure(t.Context(), provider)
			if err != nil || r.failed > 0 || lists.of(r) != float64(c.lists) || reads.of(r) != float64(c.reads) {
				t.Fatalf("got %+v, %v", r, err)
			}
		})
	}
}

// A plugin that dies does not hang the benchmark, as it would the driver.
func TestPluginDies(t *testing.T) {
	c := small()
	c.run = func(ctx context.Context, trial *trial) error {
		pods, err := trial.knownPods(ctx, 1)
		if err != nil {
			return err
		}
		if err := syscall.Kill(trial.plugin.PID(), syscall.SIGKILL); err != nil {
			return err
		}
		return trial.one(ctx, pods[0]).err
	}
	if _, err := c.measure(t.Context(), provider); !errors.Is(err, errEnded) {
		t.Errorf("got %v", err)
	}
}

func TestCases(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range cases() {
		if seen[c.name] || c.about == "" || c.run == nil || len(c.targets) == 0 {
			t.Errorf("%+v", c)
		}
		seen[c.name] = true
		// A time below the floor cannot be reached.
		for _, target := range c.targets {
			if target.name == c.floor.of.name && target.most < milliseconds(c.floor.time) {
				t.Errorf("%s: %s, but its floor is %s", c.name, target, c.floor.time)
			}
		}
	}
}

func TestPercentile(t *testing.T) {
	r := new(result)
	if got := r.percentile(50); got != 0 {
		t.Errorf("of nothing: %s", got)
	}
	for i := range 200 {
		r.latencies = append(r.latencies, time.Duration(200-i))
	}
	for p, want := range map[float64]time.Duration{50: 100, 99: 198, 100: 200} {
		if got := r.percentile(p); got != want {
			t.Errorf("p%v: got %d, want %d", p, got, want)
		}
	}
}

func TestMostWithin(t *testing.T) {
	start := time.Now()
	for _, c := range []struct {
		seconds []int
		want    int
	}{
		{nil, 0},
		{[]int{0}, 1},
		{[]int{0, 9, 10, 19, 20}, 2}, // 10 s do not reach both ends
		{[]int{0, 5, 30, 31, 32, 50}, 3},
	} {
		var requests []azuretest.Request
		for _, s := range c.seconds {
			requests = append(requests, azuretest.Request{Time: start.Add(time.Duration(s) * time.Second)})
		}
		if got := mostWithin(requests, 10*time.Second); got != c.want {
			t.Errorf("%v: got %d, want %d", c.seconds, got, c.want)
		}
	}
}

// Of several parts the table shows the most requests and all latencies.
func TestAdd(t *testing.T) {
	var r result
	failed := mounted{30, errors.New("first")}
	r.add(sample{mounts: []mounted{{10, nil}, failed}, wall: 40, requests: map[azuretest.Kind]int{azuretest.Token: 2}, handshakes: 1, peak: 3})
	r.add(sample{mounts: []mounted{{20, nil}, failed}, wall: 50, requests: map[azuretest.Kind]int{azuretest.Token: 1}, handshakes: 4, peak: 2})
	if !slices.Equal(r.latencies, []time.Duration{10, 30, 20, 30}) || r.failed != 2 || r.failure != "first" {
		t.Errorf("got %+v", r)
	}
	if r.of != 2 || r.wall != 90 || requests.of(&r) != 2 || handshakes.of(&r) != 4 || peak.of(&r) != 3 {
		t.Errorf("got %+v", r)
	}
}

func TestVerdict(t *testing.T) {
	r := &result{latencies: []time.Duration{28200 * time.Microsecond}, failed: 1}
	for _, c := range []struct {
		target target
		want   string
	}{
		{p50.atMost(28), "p50 ≤ 28 ms MISSED (28.2 ms)"},
		{p50.atMost(28.2), "p50 ≤ 28.2 ms ok"},
		{failures.none(), "no failures MISSED (1)"},
		{handshakes.none(), "no handshakes ok"},
	} {
		if got := c.target.judge(r).String(); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}
