// Package plugin runs the real binary as a separate process, for the programs that
// simulate the node around it: the demo and the benchmark.
package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// Name is the provider's, by which the driver finds its socket.
const Name = "azure"

// Process is a running plugin. Its methods may be called from any goroutine.
type Process struct {
	process *exec.Cmd
	ended   chan struct{} // closed when the process has ended
	err     error         // how; to be read after that
	log     *os.File      // already without a name
}

// Start runs the binary with nothing but that environment, its socket in dir, and
// returns once it listens. It opens no port unless a flag names one.
func Start(ctx context.Context, binary, dir string, environ []string, flags ...string) (*Process, error) {
	socket := filepath.Join(dir, Name+".sock")
	log, err := newLog()
	if err != nil {
		return nil, err
	}
	p := &Process{ended: make(chan struct{}), log: log}
	p.process = exec.Command(binary, append([]string{
		"--endpoint=unix://" + socket, "--healthz-port=0", "--prometheus-port=0",
	}, flags...)...)
	p.process.Env = environ
	p.process.Stdout, p.process.Stderr = log, log
	if err := p.process.Start(); err != nil {
		return nil, fmt.Errorf("start the plugin: %w", err)
	}
	go func() {
		p.err = p.process.Wait()
		close(p.ended)
	}()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(socket); err == nil {
			return p, nil
		}
		select {
		case <-tick.C:
		case <-p.ended:
			return nil, fmt.Errorf("the plugin ended at its start: %w\n%s", p.err, p.Log())
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), p.kill())
		}
	}
}

// PID is the process's ID.
func (p *Process) PID() int { return p.process.Process.Pid }

// Ended is closed when the process has ended, for whatever reason.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Log is what the plugin has written so far. Its calls do not wait for their lines, so a line can
// come after the answer; it is complete once the process has ended.
func (p *Process) Log() string {
	text, err := io.ReadAll(io.NewSectionReader(p.log, 0, maxLog))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// maxLog bounds what is read of the plugin's output.
const maxLog = 64 << 20

// newLog makes a file that vanishes with the last process that has it open.
func newLog() (*os.File, error) {
	f, err := os.CreateTemp("", "akv-log")
	if err != nil {
		return nil, err
	}
	return f, os.Remove(f.Name())
}

// Stop ends the plugin as kubelet does and waits for it, until ctx ends.
func (p *Process) Stop(ctx context.Context) error {
	if err := p.process.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return errors.Join(err, p.kill())
	}
	select {
	case <-p.ended:
		return p.err
	case <-ctx.Done():
		return errors.Join(ctx.Err(), p.kill())
	}
}

// kill ends the process at once and waits for it.
func (p *Process) kill() error {
	if err := p.process.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-p.ended
	return nil
}
