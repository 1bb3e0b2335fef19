package main

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// A command line that is not understood exits with 2 and one line that says what.
func TestExitUsage(t *testing.T) {
	for _, c := range bad {
		if _, err := parseFlags(c.args); err == nil {
			t.Errorf("%q: was taken", c.args) // and would run
			continue
		}
		r := execute(t, c.args...)
		if r.code != 2 || r.stdout != "" || lines(r.stderr) != 1 || !strings.HasPrefix(r.stderr, "akv-csi-provider: ") {
			t.Errorf("%q: got exit code %d, stdout %q, stderr %q", c.args, r.code, r.stdout, r.stderr)
		}
		for _, s := range c.says {
			if !strings.Contains(r.stderr, s) {
				t.Errorf("%q: got %q, want it to name %s", c.args, r.stderr, s)
			}
		}
	}
}

func TestExitVersion(t *testing.T) {
	form := regexp.MustCompile(`^akv-csi-provider \d+\.\d+\.\d+\S* go\S+ \w+/\w+\n$`)
	for _, args := range [][]string{{"--version"}, {"-version"}, {"--version=true", "-v=2", "--logtostderr"}} {
		if r := execute(t, args...); r.code != 0 || r.stderr != "" || !form.MatchString(r.stdout) {
			t.Errorf("%q: got %+v", args, r)
		}
	}
}

func TestExitHelp(t *testing.T) {
	for _, arg := range []string{"--help", "-help", "-h"} {
		if r := execute(t, arg); r.code != 0 || r.stderr != "" || r.stdout != usage() {
			t.Errorf("%s: got %+v", arg, r)
		}
	}
}

// What cannot run exits with 1 and one line that says why.
func TestExitCannotRun(t *testing.T) {
	dir := socketDir(t)
	file := filepath.Join(dir, "file.sock")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	taken, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() })
	_, port, err := net.SplitHostPort(taken.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	free := strconv.Itoa(freePorts(t, 1)[0])
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"healthz port taken": {[]string{"--healthz-port=" + port, "--prometheus-port=0"}, port},
		"metrics port taken": {[]string{"--healthz-port=0", "--prometheus-port=" + port}, port},
		"pprof port taken":   {[]string{"--healthz-port=0", "--prometheus-port=0", "--enable-pprof", "--pprof-port=" + port}, port},
		"one port for two":   {[]string{"--healthz-port=" + free, "--prometheus-port=" + free}, free},
		"no directory":       {[]string{"--healthz-port=0", "--prometheus-port=0", "--endpoint=unix://" + dir + "/none/azure.sock"}, dir + "/none"},
		"no socket":          {[]string{"--healthz-port=0", "--prometheus-port=0", "--endpoint=unix://" + file}, file},
	} {
		t.Run(name, func(t *testing.T) {
			socket := filepath.Join(dir, "azure.sock")
			r := execute(t, append([]string{"--endpoint=unix://" + socket}, c.args...)...)
			if r.code != 1 || r.stdout != "" || lines(r.stderr) != 1 || !strings.HasPrefix(r.stderr, "akv-csi-provider: ") || !strings.Contains(r.stderr, c.says) {
				t.Errorf("got exit code %d, stdout %q, stderr %q, want one line with %s", r.code, r.stdout, r.stderr, c.says)
			}
			if _, err := os.Lstat(socket); err == nil {
				t.Error("it left its socket behind")
			}
		})
	}
	if _, err := os.Lstat(file); err != nil {
		t.Errorf("the file at the socket's path: %v", err)
	}
}

// A proxy that Go would ignore, or read otherwise than meant, ends the start without a word of it;
// so does a file of a cloud that cannot be read.
func TestExitProxyAndCloud(t *testing.T) {
	socket := "--endpoint=unix://" + filepath.Join(socketDir(t), "azure.sock")
	for _, proxy := range []string{"http://user:p%rdCANARY@proxy:3128", "http://proxyCANARY:3128\n", "http://svc:1234/CANARY@proxy:3128"} {
		t.Setenv("HTTPS_PROXY", proxy)
		r := execute(t, socket, "--healthz-port=0", "--prometheus-port=0")
		if r.code != 1 || r.stdout != "" || lines(r.stderr) != 1 || !strings.HasPrefix(r.stderr, "akv-csi-provider: HTTPS_PROXY ") || strings.Contains(r.stderr, "CANARY") {
			t.Errorf("%q: got %+v", proxy, r)
		}
	}
	t.Setenv("HTTPS_PROXY", "")
	r := execute(t, socket, "--healthz-port=0", "--prometheus-port=0", "--cloud-file=Sky=/no/such/file.json")
	if r.code != 1 || r.stdout != "" || lines(r.stderr) != 1 || !strings.Contains(r.stderr, "cloud Sky") || !strings.Contains(r.stderr, "/no/such/file.json") {
		t.Errorf("got %+v", r)
	}
}

// Go's own debugging of HTTP/2 prints tokens and secrets.
func TestExitHTTP2Debug(t *testing.T) {
	t.Setenv("GODEBUG", "gctrace=0,http2debug=2")
	r := execute(t, "--endpoint=unix://"+filepath.Join(socketDir(t), "azure.sock"), "--healthz-port=0", "--prometheus-port=0")
	if r.code != 1 || r.stdout != "" || lines(r.stderr) != 1 || !strings.HasPrefix(r.stderr, "akv-csi-provider: ") ||
		!strings.Contains(r.stderr, "GODEBUG") || !strings.Contains(r.stderr, "http2debug=2") || !strings.Contains(r.stderr, "tokens and secrets") {
		t.Errorf("got %+v", r)
	}
	if r := execute(t, "--version"); r.code != 0 {
		t.Errorf("--version: got %+v", r)
	}
	for _, godebug := range []string{"http2debug=1", "http2debug=0,http2debug=1", "xhttp2debug=2", "http2debug=", "http2debug=10"} {
		if checkDebug(godebug) == nil {
			t.Errorf("%s was accepted", godebug)
		}
	}
	for _, godebug := range []string{"", "http2debug=0", "http2client=0,http2debug=0,netdns=go", "http2debug"} {
		if err := checkDebug(godebug); err != nil {
			t.Errorf("%s: %v", godebug, err)
		}
	}
}
