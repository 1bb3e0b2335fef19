package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"akv-csi-provider/e2e/plugin"

	secretsstore "sigs.k8s.io/secrets-store-csi-driver/pkg/secrets-store"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"
)

var errEnded = errors.New("the plugin ended")

// start is how one process of the plugin is started.
type start struct {
	binary string
	dir    string // of the socket
	env    []string
	flags  []string
	memory int64    // limit, bytes
	files  int      // limit of open files; 0 leaves it
	before []string // shell commands in its own mount namespace, before the plugin
	stderr *os.File // in place of the end of the log
}

// process is a running plugin under the limits of the manifests, with the driver's own
// client connected to it.
type process struct {
	cmd     *exec.Cmd
	cgroup  cgroup
	log     *tail
	ended   chan struct{} // closed when the process has ended
	err     error         // how; to be read after that
	sampled chan struct{} // closed when the sampler has ended
	driver  *secretsstore.PluginClientBuilder
	client  v1alpha1.CSIDriverProviderClient

	mu     sync.Mutex // guards what follows
	last   usage
	killed string // why the process was killed, unless by an attack's own will
	wanted bool   // an attack ends the process by its own will
}

// startProcess returns when the plugin answers.
func startProcess(ctx context.Context, s start) (*process, error) {
	p := &process{
		cgroup: newCgroup(s.memory), log: new(tail), ended: make(chan struct{}), sampled: make(chan struct{}),
		driver: secretsstore.NewPluginClientBuilder([]string{s.dir}),
	}
	// The shell enters the cgroup before it becomes the plugin, so that no byte is missed.
	var script []string
	if procs := p.cgroup.procs(); procs != "" {
		script = append(script, "echo $$ > "+procs)
	}
	if s.files > 0 {
		script = append(script, fmt.Sprintf("ulimit -n %d", s.files))
	}
	script = append(append(script, s.before...), `exec "$0" "$@"`)
	socket := filepath.Join(s.dir, plugin.Name+".sock")
	p.cmd = exec.Command("/bin/sh", append([]string{"-c", strings.Join(script, " && "), s.binary},
		append(s.flags, "--endpoint=unix://"+socket)...)...)
	p.cmd.Env = s.env
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if s.stderr != nil {
		p.cmd.Stdout, p.cmd.Stderr = s.stderr, s.stderr
	}
	if len(s.before) > 0 {
		p.cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	}
	if err := p.cmd.Start(); err != nil {
		p.cgroup.remove()
		return nil, fmt.Errorf("start the plugin: %w", err)
	}
	go p.wait()
	go p.sample(s.memory)
	if err := p.connect(ctx, socket); err != nil {
		p.kill()
		return nil, fmt.Errorf("%w\n%s", err, p.log)
	}
	return p, nil
}

// connect waits for the socket and dials it as the driver does.
func (p *process) connect(ctx context.Context, socket string) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if c, err := net.Dial("unix", socket); err == nil { // a file alone may be of a process that was killed
			_ = c.Close()
			break
		}
		select {
		case <-tick.C:
		case <-p.ended:
			return fmt.Errorf("the plugin ended at its start: %w", p.err)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	var err error
	if p.client, err = p.driver.Get(ctx, plugin.Name); err != nil {
		return err
	}
	_, err = secretsstore.Version(ctx, p.client)
	return err
}

func (p *process) wait() {
	err := p.cmd.Wait()
	p.mu.Lock()
	switch {
	case p.cgroup.killed():
		p.killed = "killed by the kernel for its memory"
	case p.killed == "" && !p.wanted:
		p.killed = fmt.Sprintf("ended unexpectedly: %v", err)
	}
	p.mu.Unlock()
	p.err = err
	close(p.ended)
}

// death says how the process died against the will of the suite, or "".
func (p *process) death() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.killed
}

// signal sends a signal that is expected to end the process.
func (p *process) signal(s os.Signal) {
	p.mu.Lock()
	p.wanted = true
	p.mu.Unlock()
	_ = p.cmd.Process.Signal(s) // it may have ended
}

// kill ends the process at once and waits for it.
func (p *process) kill() {
	p.signal(os.Kill)
	<-p.ended
	<-p.sampled
	p.driver.Cleanup()
	p.cgroup.remove()
}

// stop ends the process as kubelet does.
func (p *process) stop(grace time.Duration) error {
	p.signal(syscall.SIGTERM)
	defer p.kill()
	select {
	case <-p.ended:
		return nil
	case <-time.After(grace):
		return fmt.Errorf("SIGTERM did not end the plugin within %s", grace)
	}
}

// mount requests a volume once. The driver would wait for a plugin that has died; mount
// does not.
func (p *process) mount(ctx context.Context, volume *v1alpha1.MountRequest) (*v1alpha1.MountResponse, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	answered := make(chan struct{})
	var response *v1alpha1.MountResponse
	var err error
	go func() {
		defer close(answered)
		response, err = p.client.Mount(ctx, volume)
	}()
	select {
	case <-answered:
		return response, err
	case <-p.ended:
		cancel(errEnded)
		<-answered
		if err == nil {
			return response, nil
		}
		return nil, fmt.Errorf("%w: %w", errEnded, err)
	}
}

// tail is the end of a log.
type tail struct {
	mu   sync.Mutex // guards text
	text []byte
}

var _ io.Writer = (*tail)(nil)

const maxTail = 4096

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	t.text = append(t.text[:0], t.text[max(0, len(t.text)-maxTail):]...)
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}
