package node

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// shell is a service that runs a script.
func shell(name, script string) service {
	return service{name: name, start: func() (int, error) {
		cmd := exec.Command("/bin/sh", "-c", script)
		err := cmd.Start()
		if err != nil {
			return 0, err
		}
		return cmd.Process.Pid, nil
	}}
}

// supervise runs services until the function returns, and returns the log. No other test may
// run, since a supervisor reaps all children.
func supervise(t *testing.T, until func() bool, services ...service) string {
	t.Helper()
	var log bytes.Buffer
	s := &supervisor{delay: 10 * time.Millisecond, log: &log, running: map[int]service{}}
	stop, stopped := make(chan struct{}), make(chan error, 1)
	go func() { stopped <- s.run(stop, services...) }()
	for deadline := time.Now().Add(30 * time.Second); !until() && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond)
	}
	close(stop)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	for pid := range s.running {
		_ = syscall.Kill(pid, syscall.SIGKILL)
		_, _ = syscall.Wait4(pid, nil, 0, nil)
	}
	return log.String()
}

func lines(t *testing.T, file string) int {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return bytes.Count(text, []byte("\n"))
}

// A service is started again whether it fails, ends well or is killed, and also when it is the
// only child; one that runs is not started again.
func TestSupervise(t *testing.T) {
	for name, end := range map[string]string{"Fails": "exit 3", "Ends": "exit 0", "Killed": "kill -9 $$"} {
		t.Run(name, func(t *testing.T) {
			starts := filepath.Join(t.TempDir(), "starts")
			log := supervise(t, func() bool { return lines(t, starts) >= 3 }, shell("ends", "echo >>"+starts+"; "+end))
			if lines(t, starts) < 3 || strings.Count(log, "ends ended: ") < 2 {
				t.Errorf("%d starts; log:\n%s", lines(t, starts), log)
			}
		})
	}
	t.Run("Stays", func(t *testing.T) {
		ends, stays := filepath.Join(t.TempDir(), "ends"), filepath.Join(t.TempDir(), "stays")
		log := supervise(t, func() bool { return lines(t, ends) >= 3 },
			shell("stays", "echo >>"+stays+"; exec sleep 1000"), shell("ends", "echo >>"+ends))
		if lines(t, stays) != 1 || strings.Contains(log, "stays") {
			t.Errorf("%d starts of what stays; log:\n%s", lines(t, stays), log)
		}
	})
}

// The start of a service that is not ready, or cannot be started, is repeated until it is.
func TestSuperviseNotReady(t *testing.T) {
	starts := filepath.Join(t.TempDir(), "starts")
	v := shell("kubelet", "echo >>"+starts+"; exec sleep 1000")
	checks, attempts, start := 0, 0, v.start
	v.ready = func() error {
		if checks++; checks < 3 {
			return errors.New("no CRI")
		}
		return nil
	}
	v.start = func() (int, error) {
		if attempts++; attempts < 2 {
			return 0, errors.New("text file busy")
		}
		return start()
	}
	log := supervise(t, func() bool { return lines(t, starts) > 0 }, v)
	want := []string{"kubelet waits: no CRI", "kubelet waits: no CRI", "kubelet does not start: text file busy"}
	if got := strings.Split(strings.TrimSpace(log), "\n"); len(got) != len(want) || lines(t, starts) != 1 {
		t.Fatalf("%d starts; log:\n%s", lines(t, starts), log)
	}
	for i, line := range strings.Split(strings.TrimSpace(log), "\n") {
		if !strings.HasSuffix(line, want[i]) {
			t.Errorf("line %d is %q, want %q", i, line, want[i])
		}
	}
}
