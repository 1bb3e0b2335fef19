package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// What a node changes on the machine outside its namespaces: the kernel's settings, and a
// cgroup.

// cgroup is the parent of all pods' cgroups.
const cgroup = "/akv-csi-provider-e2e"

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

const hierarchy = "/sys/fs/cgroup"

// hierarchies are the mounted cgroup file systems: one (v2) or, in v1, one for each
// controller and perhaps a v2 without any.
func hierarchies() (dirs []string, v2 bool) {
	if _, err := os.Stat(hierarchy + "/cgroup.controllers"); err == nil {
		return []string{hierarchy}, true
	}
	all, _ := filepath.Glob(hierarchy + "/*/cgroup.procs")
	for _, file := range all {
		dirs = append(dirs, filepath.Dir(file))
	}
	return dirs, false
}

// makeCgroups makes the pods' parent with the controllers that kubelet demands. In v2 they
// stay enabled at the root, where others may use them by now.
func makeCgroups() error {
	dirs, v2 := hierarchies()
	for _, dir := range dirs {
		if err := os.MkdirAll(dir+cgroup, 0o755); err != nil {
			return err
		}
		if v2 {
			if err := delegate(dir); err != nil {
				return err
			}
			continue
		}
		for _, file := range []string{"/cpuset.cpus", "/cpuset.mems"} {
			if text, err := os.ReadFile(dir + file); err == nil { // v1 does not inherit them
				if err := os.WriteFile(dir+cgroup+file, text, 0); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// delegate enables the controllers of a v2 hierarchy that kubelet looks for where the
// kernel has them (pkg/kubelet/cm, cgroup_v2_manager_linux.go).
func delegate(dir string) error {
	text, err := os.ReadFile(dir + "/cgroup.controllers")
	if err != nil {
		return err
	}
	var enable []string
	for _, c := range strings.Fields(string(text)) {
		if slices.Contains([]string{"cpu", "cpuset", "memory", "hugetlb", "pids"}, c) {
			enable = append(enable, "+"+c)
		}
	}
	for _, at := range []string{dir, dir + cgroup} {
		if err := os.WriteFile(at+"/cgroup.subtree_control", []byte(strings.Join(enable, " ")), 0); err != nil {
			return err
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
