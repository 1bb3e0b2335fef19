package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// usage is what a process has used so far.
type usage struct {
	peak float64 // memory, MiB
	cpu  time.Duration
}

// sample reads the usage again and again, since nothing of it can be read once the process
// has ended. Without a cgroup it is what kills a process beyond its limit.
func (p *process) sample(limit int64) {
	defer close(p.sampled)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if u, err := p.read(); err == nil && u.peak > 0 {
			p.mu.Lock()
			p.last = u
			over := p.cgroup.dir == "" && u.peak > mebibytes(limit)
			if over {
				p.killed = "killed by this suite: its memory passed the limit"
			}
			p.mu.Unlock()
			if over {
				_ = p.cmd.Process.Kill()
			}
		}
		select {
		case <-tick.C:
		case <-p.ended:
			return
		}
	}
}

// usage is that of the process until now, or until its end.
func (p *process) usage() usage {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last
}

func (p *process) read() (usage, error) {
	proc := filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid))
	status, err := os.ReadFile(filepath.Join(proc, "status"))
	if err != nil {
		return usage{}, err
	}
	stat, err := os.ReadFile(filepath.Join(proc, "stat"))
	if err != nil {
		return usage{}, err
	}
	return parseUsage(status, stat)
}

// tick is the unit of CPU time in /proc, the same on every machine Go runs on.
const tick = 10 * time.Millisecond

// parseUsage reads /proc/PID/status and /proc/PID/stat. A process that is ending has no
// memory any more.
func parseUsage(status, stat []byte) (usage, error) {
	var u usage
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64)
			if err != nil {
				return usage{}, err
			}
			u.peak = kib / 1024
		}
	}
	// The second field is a name in parentheses, which may contain anything.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	const user, system = 14 - 3, 15 - 3 // numbered from 1, and the third comes first
	if len(fields) <= system {
		return usage{}, fmt.Errorf("short line in stat: %q", stat)
	}
	for _, i := range []int{user, system} {
		ticks, err := strconv.ParseInt(string(fields[i]), 10, 64)
		if err != nil {
			return usage{}, err
		}
		u.cpu += time.Duration(ticks) * tick
	}
	return u, nil
}

func mebibytes(n int64) float64 { return float64(n) / (1 << 20) }
