package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"akv-csi-provider/e2e/plugin"

	secretsstore "sigs.k8s.io/secrets-store-csi-driver/pkg/secrets-store"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"
)

// kubeletTimeout is how long kubelet lets the driver mount a volume.
const kubeletTimeout = 2 * time.Minute

var errEnded = errors.New("the plugin ended")

// process is a running plugin with the driver's own client connected to it.
type process struct {
	*plugin.Process
	dir    string
	driver *secretsstore.PluginClientBuilder
	client v1alpha1.CSIDriverProviderClient
}

// startProcess returns when the plugin answers.
func (w *world) startProcess(ctx context.Context, binary string, flags []string) (*process, error) {
	dir, err := os.MkdirTemp("", "akv") // short, for the path of a unix socket
	if err != nil {
		return nil, err
	}
	p := &process{dir: dir, driver: secretsstore.NewPluginClientBuilder([]string{dir})}
	environ, err := w.box.Environ(dir)
	if err == nil {
		p.Process, err = plugin.Start(ctx, binary, dir, environ, flags...)
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if p.client, err = p.driver.Get(ctx, plugin.Name); err == nil {
		_, err = secretsstore.Version(ctx, p.client)
	}
	if err != nil {
		return nil, errors.Join(err, p.stop())
	}
	return p, nil
}

// stop ends the plugin also when the benchmark is being interrupted.
func (p *process) stop() error {
	p.driver.Cleanup()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return errors.Join(p.Stop(ctx), os.RemoveAll(p.dir))
}

// mount requests a volume once, with the driver's retry policy and kubelet's deadline,
// and checks that all its files came. The driver would wait for a plugin that has
// died; mount does not.
func (p *process) mount(ctx context.Context, volume *v1alpha1.MountRequest, files int) error {
	ctx, cancel := context.WithTimeout(ctx, kubeletTimeout)
	defer cancel()
	answered := make(chan error, 1)
	go func() {
		response, err := p.client.Mount(ctx, volume)
		if got := len(response.GetFiles()); err == nil && got != files {
			err = fmt.Errorf("%d files instead of %d", got, files)
		}
		answered <- err
	}()
	select {
	case err := <-answered:
		return err
	case <-p.Ended():
		cancel()
		<-answered
		return errEnded
	}
}

// memory reads a size of /proc/PID/status in MiB, such as VmRSS or, for the peak,
// VmHWM.
func (p *process) memory(field string) (float64, error) {
	text, err := os.ReadFile(p.proc("status"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			kib, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64)
			return kib / 1024, err
		}
	}
	return 0, fmt.Errorf("%s has no %s", p.proc("status"), field)
}

// tick is the unit of CPU time in /proc, the same on every machine Go runs on.
const tick = 10 * time.Millisecond

// cpu is the processor time that the plugin has used, in steps of a tick.
func (p *process) cpu() (time.Duration, error) {
	text, err := os.ReadFile(p.proc("stat"))
	if err != nil {
		return 0, err
	}
	// The second field is a name in parentheses, which may contain anything.
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	const utime, stime = 14 - 3, 15 - 3 // numbered from 1, and the third comes first
	if len(fields) <= stime {
		return 0, fmt.Errorf("%s is short", p.proc("stat"))
	}
	user, err := strconv.ParseInt(string(fields[utime]), 10, 64)
	system, err2 := strconv.ParseInt(string(fields[stime]), 10, 64)
	return time.Duration(user+system) * tick, errors.Join(err, err2)
}

func (p *process) proc(file string) string {
	return filepath.Join("/proc", strconv.Itoa(p.PID()), file)
}
