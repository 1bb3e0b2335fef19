package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// cgroup bounds the memory of one process, as the container runtime does on a node. Its
// zero value bounds nothing.
type cgroup struct {
	dir    string
	events string // file that counts what the kernel killed
}

// newCgroup makes one with that limit, or a zero one where this machine has none for us:
// without root, or without a controller of memory.
func newCgroup(limit int64) cgroup {
	if os.Geteuid() != 0 {
		return cgroup{}
	}
	name := fmt.Sprintf("akv-trust-%d-%d", os.Getpid(), time.Now().UnixNano())
	for _, version := range []struct{ parent, limit, swap, swapValue, events string }{
		{"/sys/fs/cgroup", "memory.max", "memory.swap.max", "0", "memory.events"},
		{"/sys/fs/cgroup/memory" + ownCgroup(), "memory.limit_in_bytes", "memory.memsw.limit_in_bytes", fmt.Sprint(limit), "memory.oom_control"},
		{"/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes", fmt.Sprint(limit), "memory.oom_control"},
	} {
		c := cgroup{dir: filepath.Join(version.parent, name)}
		c.events = filepath.Join(c.dir, version.events)
		if err := os.Mkdir(c.dir, 0o755); err != nil {
			continue
		}
		// Where the file does not exist, the folder is not one of this version, or without the controller.
		if err := write(filepath.Join(c.dir, version.limit), fmt.Sprint(limit)); err != nil {
			_ = os.Remove(c.dir)
			continue
		}
		_ = write(filepath.Join(c.dir, version.swap), version.swapValue) // not on every kernel
		return c
	}
	return cgroup{}
}

// ownCgroup is the path of this process in the hierarchy of version 1.
func ownCgroup() string {
	f, err := os.Open("/proc/self/cgroup")
	if err != nil {
		return ""
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if _, path, ok := strings.Cut(lines.Text(), ":memory:"); ok {
			return path
		}
	}
	return ""
}

// write is like os.WriteFile, but never creates the file.
func write(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// procs is the file that moves a process into the cgroup, or "".
func (c cgroup) procs() string {
	if c.dir == "" {
		return ""
	}
	return filepath.Join(c.dir, "cgroup.procs")
}

// killed reports whether the kernel killed a process for its memory.
func (c cgroup) killed() bool {
	text, err := os.ReadFile(c.events)
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) == 2 && fields[0] == "oom_kill" {
			n, err := strconv.Atoi(fields[1])
			return err == nil && n > 0
		}
	}
	return false
}

// remove deletes the cgroup, whose process has ended. The kernel may need a moment.
func (c cgroup) remove() {
	if c.dir == "" {
		return
	}
	for range 100 {
		if err := os.Remove(c.dir); !errors.Is(err, syscall.EBUSY) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}
