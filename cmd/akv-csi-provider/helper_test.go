package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// binary is the plugin as it is shipped, built once for all tests.
var binary string

func TestMain(m *testing.M) {
	code, err := buildAndTest(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func buildAndTest(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "akv")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary = filepath.Join(dir, "akv-csi-provider")
	if runtime.GOOS == "windows" {
		binary += ".exe"
	}
	build := exec.Command("go", "build", "-buildvcs=false", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // the tests may have it on, for the race detector
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("build: %w\n%s", err, out)
	}
	return m.Run(), nil
}

// result is what a process left behind.
type result struct {
	code           int
	stdout, stderr string
}

// execute runs the plugin until it exits, which it must do without a signal.
func execute(t *testing.T, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

var givenPorts sync.Map // by freePorts, to any test

// freePorts finds different ports below those that the kernel uses for outgoing
// connections.
func freePorts(t *testing.T, n int) []int {
	t.Helper()
	var ports []int
	for range 1000 {
		port := 20000 + rand.IntN(10000)
		l, err := net.Listen("tcp", ":"+strconv.Itoa(port))
		if err != nil {
			continue
		}
		_ = l.Close()
		if _, taken := givenPorts.LoadOrStore(port, true); taken {
			continue // by a test that runs in parallel, and whose process does not listen yet
		}
		if ports = append(ports, port); len(ports) == n {
			return ports
		}
	}
	t.Fatal("no free ports")
	return nil
}

// socketDir is a directory whose name is short enough for a socket's path.
func socketDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "akv")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// lines counts the lines of a text that ends with its last one's break.
func lines(text string) int {
	if text != "" && !strings.HasSuffix(text, "\n") {
		return -1
	}
	return strings.Count(text, "\n")
}

// process is a plugin that runs.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	output chan string // all of stderr, once it has ended
}

func startProcess(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.CommandContext(t.Context(), binary, args...), output: make(chan string, 1)}
	p.cmd.Env = env
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		text, _ := io.ReadAll(stderr) // until the process ends
		p.output <- string(text)
	}()
	t.Cleanup(func() {
		if t.Failed() && len(p.output) > 0 {
			t.Logf("the process has ended:\n%s", <-p.output)
		}
	})
	return p
}

// end sends the signal and returns the exit code and what was logged.
func (p *process) end(signal os.Signal) (code int, output string) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(signal); err != nil {
		p.t.Fatal(err)
	}
	output = <-p.output // before Wait, which closes the pipe
	_ = p.cmd.Wait()    // the exit code says it all
	return p.cmd.ProcessState.ExitCode(), output
}
