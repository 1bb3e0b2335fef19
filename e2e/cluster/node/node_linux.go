package node

import (
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The parts of the program, the variable that names the one to play, and the one with the
// folder of the node's state.
const (
	part   = "AKV_E2E_PART"
	inside = "inside"
	first  = "init"
	state  = "AKV_E2E_DIR"
)

// packages are the programs that a node takes from the machine, with their packages' names
// in Debian and Ubuntu.
var packages = []struct{ program, name string }{
	{"containerd", "containerd"}, {"ctr", "containerd"}, {"containerd-shim-runc-v2", "containerd"},
	{"runc", "runc"}, {"busybox", "busybox-static"}, {"ip", "iproute2"}, {"mount", "mount"},
}

// cniDirs are where distributions put the plugins of the Container Network Interface.
var cniDirs = []string{"/usr/lib/cni", "/usr/libexec/cni", "/opt/cni/bin"}

// cniDir is the folder with the plugins that a node needs; empty if there is none.
func cniDir() string {
	for _, dir := range cniDirs {
		_, err := os.Stat(filepath.Join(dir, "bridge"))
		if _, also := os.Stat(filepath.Join(dir, "host-local")); err == nil && also == nil {
			return dir
		}
	}
	return ""
}

// Missing returns the packages of Debian and Ubuntu with what a node needs and this machine
// has not, or an error that is [ErrUnsupported] if no node can run here at all.
func Missing() ([]string, error) {
	if os.Getenv(part) != "" {
		return nil, nil // it was checked outside
	}
	if os.Geteuid() != 0 {
		return nil, ErrUnsupported
	}
	probe := exec.Command("true")
	probe.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID}
	if err := probe.Run(); err != nil {
		return nil, fmt.Errorf("%w that may make namespaces: %w", ErrUnsupported, err)
	}
	var names []string
	for _, p := range packages {
		path, err := exec.LookPath(p.program)
		if (err != nil || p.program == "busybox" && !isStatic(path)) && !slices.Contains(names, p.name) {
			names = append(names, p.name)
		}
	}
	if cniDir() == "" {
		names = append(names, "containernetworking-plugins")
	}
	return names, nil
}

// isStatic reports whether a program needs no dynamic linker, which images do not have.
func isStatic(path string) bool {
	f, err := elf.Open(path)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	return !slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP })
}

// Enter runs f in its own network namespace and returns its exit code. It is the first
// thing a program does: outside, Enter prepares the machine and starts the program again,
// inside, with f; as a node's PID 1, it does not return. What Enter changes on the machine
// it restores, however the inner program ends, and also when it gets a signal to end.
func Enter(prepare func() error, f func() int) int {
	switch os.Getenv(part) {
	case first:
		fmt.Fprintln(os.Stderr, "node:", runNode())
		return 1
	case inside:
		if err := network(); err != nil {
			fmt.Fprintln(os.Stderr, "network namespace:", err)
			return 1
		}
		return f()
	}
	code, err := outside(prepare)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func outside(prepare func() error) (int, error) {
	// One at a time: the pods' cgroup, the kernel's settings and what is built are the machine's.
	lock, err := os.OpenFile(filepath.Join(os.TempDir(), "akv-csi-provider-e2e.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return 0, err
	}
	defer func() { _ = lock.Close() }()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return 0, fmt.Errorf("another run has %s: %w", lock.Name(), err)
	}
	if err := prepare(); err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp("/var/tmp", "akv-e2e-") // not /tmp, which may be in memory; short, for sockets
	if err != nil {
		return 0, err
	}
	defer func() {
		if err := os.RemoveAll(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}()
	defer saveSettings().restore()
	defer removeCgroups()

	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	// The kernel kills the inner program when the thread that started it ends, so that must be
	// one that does not.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := again(inside, os.Args[1:]...)
	cmd.Env = append(cmd.Env, state+"="+dir)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	go func() {
		for s := range signals {
			if s != os.Interrupt { // which a terminal sends to both
				_ = cmd.Process.Signal(s)
			}
		}
	}()
	err = cmd.Wait()
	var exit *exec.ExitError
	if err == nil || errors.As(err, &exit) && exit.ExitCode() > 0 {
		return cmd.ProcessState.ExitCode(), nil
	}
	return 0, fmt.Errorf("in the network namespace: %w", err)
}

// again is this program in another part, in which there is no proxy: nothing is outside.
func again(name string, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	for _, v := range os.Environ() {
		if key, _, _ := strings.Cut(v, "="); !strings.HasSuffix(strings.ToUpper(key), "_PROXY") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, part+"="+name)
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

// Dir is the folder for the state of a node inside [Enter], which removes it.
func Dir() string { return os.Getenv(state) }

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

// Kill kills the processes in the node's network whose command line begins with that
// program, and returns how many there were.
func (r *Running) Kill(program string) (int, error) {
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return 0, err
	}
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, err
	}
	killed := 0
	for _, dir := range all {
		command, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err != nil || !strings.HasPrefix(string(command), program+"\x00") {
			continue
		}
		if network, err := os.Readlink(filepath.Join(dir, "ns/net")); err != nil || network != own {
			continue
		}
		var pid int
		if _, err := fmt.Sscan(filepath.Base(dir), &pid); err != nil {
			return killed, err
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			return killed, err
		}
		killed++
	}
	return killed, nil
}
