package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"akv-csi-provider/e2e/plugin"
)

var provider string // path of the plugin's binary

func TestMain(m *testing.M) {
	os.Exit(plugin.Shipped(func(binary string) int {
		provider = binary
		return m.Run()
	}))
}

// trust runs attacks as main does.
func trust(t *testing.T, all []attack, flags ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, progress bytes.Buffer
	flags = append([]string{"--provider=" + provider, "--manifest=../../deploy/manifests/daemonset.yaml", "--baseline=1s"}, flags...)
	code = run(t.Context(), flags, all, &out, &progress)
	return code, out.String(), progress.String()
}

// Some cheap attacks of the short form. Only times may be broken: the machine decides on them.
func TestAttacks(t *testing.T) {
	code, out, progress := trust(t, attacks(), "--short", "--json", "--attack=^(clocks|vault, odd|CA files half written)$")
	var results []result
	if err := json.Unmarshal([]byte(out), &results); err != nil || len(results) != 4 || code == exitUsage {
		t.Fatalf("code %d, %v\n%s\n%s", code, err, out, progress)
	}
	for _, r := range results {
		if r.Error != "" || r.Killed != "" || r.Wrong > 0 || r.Mounts == 0 || r.P99 < r.P50 || r.Peak == 0 || r.CPU == 0 || r.Machine == 0 || r.Probes == 0 {
			t.Errorf("got %+v", r)
		}
		if r.Attack != "no attack" && r.Attempts == 0 {
			t.Errorf("%s made no attempt", r.Attack)
		}
	}
}

// A plugin that dies is a broken bound, and ends neither the suite nor the next attack.
func TestPluginDies(t *testing.T) {
	dies := attack{name: "dies", run: func(ctx context.Context, s *siege) error {
		s.attempts.Add(1)
		if err := syscall.Kill(s.process().cmd.Process.Pid, syscall.SIGKILL); err != nil {
			return err
		}
		<-ctx.Done()
		return nil
	}}
	code, out, _ := trust(t, []attack{dies, baseline(time.Second)}, "--short")
	if code != exitBroken || !strings.Contains(out, "BROKEN: ended unexpectedly: signal: killed") {
		t.Errorf("code %d\n%s", code, out)
	}
	if got := strings.Count(out, "no attack"); got != 2 {
		t.Errorf("the next attack was not run:\n%s", out)
	}
}

func TestExitCode(t *testing.T) {
	idle := baseline(time.Second)
	strict := idle
	strict.bounds = bounds{p99: 1}
	for _, c := range []struct {
		name  string
		all   []attack
		flags []string
		code  int
		says  string
	}{
		{"too slow", []attack{strict}, nil, exitBroken, "BROKEN: p99 "},
		{"not started", []attack{idle}, []string{"--provider=false"}, exitBroken, "NOT RUN: the plugin ended at its start"},
		{"no such attack", attacks(), []string{"--attack=^$"}, exitUsage, ""},
		{"bad expression", attacks(), []string{"--attack=("}, exitUsage, ""},
		{"argument", attacks(), []string{"histories"}, exitUsage, ""},
		{"no manifest", attacks(), []string{"--manifest=none"}, exitUsage, ""},
		{"list", attacks(), []string{"--list", "--attack=^half-open, HTTP/2"}, exitOK, "    p99 ≤ 20s, no failures, memory ≤ 90 % of the limit\n    long form\n"},
		{"help", nil, []string{"--help"}, exitOK, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, out, progress := trust(t, c.all, c.flags...)
			if code != c.code || !strings.Contains(out, c.says) {
				t.Errorf("code %d, want %d; want %q in\n%s\n%s", code, c.code, c.says, out, progress)
			}
		})
	}
}

func TestTable(t *testing.T) {
	seen := map[string]bool{}
	for _, a := range attacks() {
		if seen[a.name] || a.about == "" || a.run == nil && a.prepare == nil {
			t.Errorf("%+v", a)
		}
		seen[a.name] = true
		if a.lasts > 3*time.Minute || !a.long && a.lasts > 20*time.Second {
			t.Errorf("%s lasts %s", a.name, a.lasts)
		}
	}
}
