package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The parts of the program, and the variable that names the one to play.
const (
	variable = "AKV_E2E_PART"
	inside   = "inside"
	first    = "init"
)

// cgroup is where everything that a node runs is accounted.
const cgroup = "/akv-csi-provider-e2e"

// packages are the programs that a node takes from the machine, with their packages' names
// in Debian and Ubuntu.
var packages = []struct{ program, name string }{
	{"containerd", "containerd"}, {"ctr", "containerd"}, {"containerd-shim-runc-v2", "containerd"},
	{"runc", "runc"}, {"/usr/lib/cni/bridge", "containernetworking-plugins"}, {"/usr/lib/cni/host-local", "containernetworking-plugins"},
	{"busybox", "busybox-static"}, {"ip", "iproute2"}, {"mount", "mount"},
}

// Missing returns the packages of Debian and Ubuntu with what a node needs and this machine
// has not, or [ErrUnsupported].
func Missing() ([]string, error) {
	if os.Geteuid() != 0 {
		return nil, ErrUnsupported
	}
	var names []string
	for _, p := range packages {
		if _, err := exec.LookPath(p.program); err != nil && !strings.Contains(strings.Join(names, " "), p.name) {
			names = append(names, p.name)
		}
	}
	return names, nil
}

// Enter runs f in a network namespace of its own and returns its exit code. It is the first
// thing a program does: outside, Enter prepares the machine and starts the program again,
// inside, with f; as a node's PID 1, it does not return. What Enter prepares it puts back,
// however the inner program ends.
func Enter(prepare func() error, f func() int) int {
	switch os.Getenv(variable) {
	case first:
		err := runNode()
		fmt.Fprintln(os.Stderr, "node:", err)
		return 1
	case inside:
		if err := network(); err != nil {
			fmt.Fprintln(os.Stderr, "network namespace:", err)
			return 1
		}
		return f()
	}
	if err := prepare(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	saved := saveSettings()
	defer saved.restore()
	defer removeCgroups()
	signal.Ignore(os.Interrupt) // it ends the inner program, which is waited for
	// The kernel kills the inner program when the thread that started it ends, so that
	// must be one that does not.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := again(inside, os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		return exit.ExitCode()
	}
	fmt.Fprintln(os.Stderr, "in the network namespace:", err)
	return 1
}

// again is this program in another part.
func again(part string, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), variable+"="+part)
	return cmd
}

// network gives the namespace its addresses.
func network() error {
	for _, args := range [][]string{
		{"link", "set", "lo", "up"},
		{"addr", "add", address + "/32", "dev", "lo"},
		{"addr", "add", apiServer + "/32", "dev", "lo"},
	} {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w\n%s", strings.Join(args, " "), err, out)
		}
	}
	return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0)
}

// Running is a node that runs.
type Running struct {
	process  *exec.Cmd
	lifeline *os.File // closed with this process; the node's PID 1 ends with it
}

// Start starts the node, over the state of its folder if it ran before, and returns once
// its processes were started; it may be called inside [Enter] only. The API server needs
// some seconds more to answer.
func (n *Node) Start(ctx context.Context) (*Running, error) {
	if err := writePKI(n.pki()); err != nil {
		return nil, err
	}
	if err := n.configure(); err != nil {
		return nil, err
	}
	text, err := json.Marshal(n)
	if err != nil {
		return nil, err
	}
	if err := makeCgroups(); err != nil {
		return nil, fmt.Errorf("cgroups: %w", err)
	}
	started := filepath.Join(n.Dir, "started")
	if err := os.Remove(started); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	log, err := os.OpenFile(filepath.Join(n.Dir, "log", "init.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer func() { _ = read.Close() }()
	cmd := again(first)
	cmd.Env = append(cmd.Env, "AKV_E2E_NODE="+string(text))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = read, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS, Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, write.Close())
	}
	r := &Running{process: cmd, lifeline: write}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		if _, err := os.Stat(started); err == nil {
			return r, nil
		}
		select {
		case err := <-ended:
			return nil, fmt.Errorf("the node's first process ended, see %s: %w", log.Name(), err)
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), r.Stop())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Stop ends the node as a power cut does: its PID 1 is killed, and with it the kernel kills
// all processes and mounts of its namespaces. It returns when they are gone.
func (r *Running) Stop() error {
	pid := r.process.Process.Pid
	err := r.process.Process.Kill()
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	_ = r.lifeline.Close()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if syscall.Kill(pid, 0) != nil { // reaped, which the kernel allows when all others are dead
			return err
		}
		if time.Now().After(deadline) {
			return errors.Join(err, fmt.Errorf("the node's PID 1 (%d) does not end", pid))
		}
	}
}

// In returns the path under which this process reaches a file of the node, whose own mounts
// it does not see: a pod's volume, say.
func (r *Running) In(path string) string {
	return filepath.Join("/proc", fmt.Sprint(r.process.Process.Pid), "root", path)
}

// settings are those of the machine's kernel that kubelet changes for all.
type settings map[string][]byte

func saveSettings() settings {
	s := settings{}
	for _, name := range []string{"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes"} {
		if text, err := os.ReadFile("/proc/sys/" + name); err == nil { // not every kernel has each
			s[name] = text
		}
	}
	return s
}

func (s settings) restore() {
	for name, text := range s {
		if err := os.WriteFile("/proc/sys/"+name, text, 0); err != nil {
			fmt.Fprintln(os.Stderr, "put back a setting of the kernel:", err)
		}
	}
}

// hierarchies are the mounted cgroup file systems: one (v2) or, in v1, one for each
// controller and perhaps a v2 without any.
func hierarchies() (dirs []string, v2 bool) {
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		return []string{"/sys/fs/cgroup"}, true
	}
	all, _ := filepath.Glob("/sys/fs/cgroup/*/cgroup.procs")
	for _, file := range all {
		dirs = append(dirs, filepath.Dir(file))
	}
	return dirs, false
}

func makeCgroups() error {
	dirs, v2 := hierarchies()
	for _, dir := range dirs {
		if err := os.MkdirAll(dir+cgroup, 0o755); err != nil {
			return err
		}
		if v2 {
			for _, file := range []string{dir, dir + cgroup} {
				if err := os.WriteFile(file+"/cgroup.subtree_control", []byte("+cpu +cpuset +memory +pids"), 0); err != nil {
					return err
				}
			}
		}
		for _, file := range []string{"/cpuset.cpus", "/cpuset.mems"} {
			if text, err := os.ReadFile(dir + file); err == nil && !v2 { // v1 does not inherit them
				if err := os.WriteFile(dir+cgroup+file, text, 0); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// removeCgroups is for when the node's processes are gone.
func removeCgroups() {
	dirs, _ := hierarchies()
	for _, dir := range dirs {
		var below []string
		_ = filepath.WalkDir(dir+cgroup, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				below = append(below, path)
			}
			return nil
		})
		for i := len(below) - 1; i >= 0; i-- {
			for range 100 { // the kernel frees what died a moment ago
				if err := syscall.Rmdir(below[i]); err == nil || !errors.Is(err, syscall.EBUSY) {
					break
				}
				time.Sleep(20 * time.Millisecond)
			}
		}
	}
}
