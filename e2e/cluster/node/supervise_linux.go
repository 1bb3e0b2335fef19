package node

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// service is a process of the node that must run.
type service struct {
	name  string
	ready func() error // what it needs at its start; nil if nothing
	start func() (pid int, err error)
}

// supervisor is the part of an init system that a node needs. As systemd does with
// Restart=always, it starts a service again when it has ended, however that was, and as often
// as that happens: kubelet, for example, ends when containerd does not serve the CRI yet.
type supervisor struct {
	delay time.Duration // before a service is started again
	log   io.Writer
	// Only the goroutine of start and run uses it.
	running map[int]service // by PID
}

// start starts a service, or reports false if it is not ready.
func (s *supervisor) start(v service) bool {
	if v.ready != nil {
		if err := v.ready(); err != nil {
			s.logf("%s waits: %v", v.name, err)
			return false
		}
	}
	pid, err := v.start()
	if err != nil {
		s.logf("%s does not start: %v", v.name, err)
		return false
	}
	s.running[pid] = v
	return true
}

// run starts the services that wait, reaps what ends, which includes orphans, and starts
// services again. It returns when stop is closed; the program must have no other children
// that it waits for.
func (s *supervisor) run(stop <-chan struct{}, waiting ...service) error {
	children := make(chan os.Signal, 1)
	signal.Notify(children, syscall.SIGCHLD)
	defer signal.Stop(children)
	due := make(chan service)
	later := func(v service) {
		time.AfterFunc(s.delay, func() {
			select {
			case due <- v:
			case <-stop:
			}
		})
	}
	for _, v := range waiting {
		if !s.start(v) {
			later(v)
		}
	}
	for {
		ended, err := s.reap() // also what ended before this was called
		if err != nil {
			return err
		}
		for _, v := range ended {
			later(v)
		}
		select {
		case <-children:
		case v := <-due:
			if !s.start(v) {
				later(v)
			}
		case <-stop:
			return nil
		}
	}
}

// reap reaps all processes that have ended and returns which of them were services.
func (s *supervisor) reap() (ended []service, err error) {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.ECHILD), err == nil && pid == 0:
			return ended, nil
		case err != nil:
			return ended, fmt.Errorf("wait: %w", err)
		}
		if v, known := s.running[pid]; known {
			delete(s.running, pid)
			ended = append(ended, v)
			s.logf("%s ended: exit code %d, signal %d; it is started again in %s", v.name, status.ExitStatus(), status.Signal(), s.delay)
		}
	}
}

func (s *supervisor) logf(format string, args ...any) {
	fmt.Fprintf(s.log, time.Now().Format(time.TimeOnly)+" "+format+"\n", args...)
}
