package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"
)

// machineAttacks are accidents of the node: its clock, its disk, its files.
func machineAttacks() []attack {
	return []attack{{
		name: "clocks", about: "Azure's clock is two hours ahead, then two behind, then right again",
		lasts: 10 * time.Second, bounds: bounds{failures: 1}, run: clocks,
	}, {
		name: "disk full", about: "the log is on a disk without space",
		setup: setup{log: logFull}, run: quietly,
	}, {
		name: "log unread", about: "the log is not read", long: true,
		setup: setup{log: logUnread}, lasts: 60 * time.Second, run: logUnreadRun,
	}, {
		name: "CA files half written", about: "token and ca.crt of the provider's ServiceAccount: empty, half, foreign, gone",
		setup: setup{api: true}, lasts: 20 * time.Second, run: halfWritten,
	}}
}

// clocks sets no bounds for innocents while the clocks differ; the attack itself
// checks that they mount again once the clocks agree.
func clocks(ctx context.Context, s *siege) error {
	for _, offset := range []time.Duration{2 * time.Hour, -2 * time.Hour} {
		s.attempts.Add(1)
		s.offset.Store(int64(offset))
		wait(ctx, 1500*time.Millisecond)
	}
	s.offset.Store(0)
	s.nextMount(ctx, "clocks", "after the clocks agree")
	return nil
}

// nextMount checks that one new innocent pod starts at once.
func (s *siege) nextMount(ctx context.Context, name, when string) {
	if ctx.Err() != nil {
		return
	}
	volume, err := s.newInnocent(name)
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		_, err = s.process().mount(ctx, volume)
	}
	s.expect(err == nil, "%s the next mount failed: %v", when, err)
}

// logKind says where the plugin's log goes.
type logKind int

const (
	logRead   logKind = iota
	logFull           // no byte can be written
	logUnread         // a pipe that is never read
)

// open returns the file of the log, and what closes it at the end.
func (k logKind) open() (*os.File, func(), error) {
	switch k {
	case logFull:
		f, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		return f, func() { _ = f.Close() }, err
	case logUnread:
		r, w, err := os.Pipe()
		return w, func() { _ = r.Close(); _ = w.Close() }, err
	}
	return nil, func() {}, nil
}

// quietly only lets hostile pods fail, each of which is a line of the log.
func quietly(ctx context.Context, s *siege) error {
	p, _ := s.small("kv-hostile")
	p.vault = "no vault"
	volumes, err := s.hostile(48, p, nil)
	if err == nil {
		s.flood(ctx, volumes)
	}
	return err
}

// logUnreadRun writes more lines than fit into a pipe.
func logUnreadRun(ctx context.Context, s *siege) error {
	for range 20 {
		round, cancel := context.WithTimeout(ctx, firstBackoff)
		err := quietly(round, s)
		cancel()
		if err != nil || ctx.Err() != nil {
			return err
		}
	}
	return nil
}

// useAPIServer lets the plugin look up ServiceAccounts.
func (s *siege) useAPIServer() error {
	api, err := s.cluster.APIServer()
	if err != nil {
		return err
	}
	dir := s.accountDir()
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	if err := api.WriteCredentials(dir); err != nil {
		return err
	}
	api.SetServiceAccount(innocentSpace, s.client, map[string]string{
		"azure.workload.identity/client-id": s.client, "azure.workload.identity/tenant-id": tenantID,
	})
	host, port, err := net.SplitHostPort(api.Addr())
	if err != nil {
		return err
	}
	s.start.env = append(s.start.env, "KUBERNETES_SERVICE_HOST="+host, "KUBERNETES_SERVICE_PORT="+port)
	s.start.flags = append(s.start.flags, "--service-account-dir="+dir)
	return nil
}

func (s *siege) accountDir() string { return filepath.Join(s.dir, "account") }

// halfWritten spoils the files again and again, and checks after each repair that a pod
// whose client ID is in its ServiceAccount starts. Innocents name theirs in the class, so
// nothing may reach them.
func halfWritten(ctx context.Context, s *siege) error {
	foreign, err := newIssuerOfCertificates()
	if err != nil {
		return err
	}
	for _, name := range []string{"token", "ca.crt"} {
		path := filepath.Join(s.accountDir(), name)
		whole, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, text := range [][]byte{{}, whole[:len(whole)/2], foreign.authority, nil} {
			s.attempts.Add(1)
			if err := spoil(path, text); err != nil {
				return err
			}
			spoiled, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
			_ = s.lookUp(spoiled, "spoiled") // it may fail, or still use what it read before
			cancel()
			if err := os.WriteFile(path, whole, 0o600); err != nil {
				return err
			}
			repaired, cancel := context.WithTimeout(ctx, 5*time.Second)
			err := s.lookUp(repaired, "repaired")
			cancel()
			s.expect(err == nil || ctx.Err() != nil, "%s was %d bytes; once repaired: %v", name, len(text), err)
		}
	}
	return nil
}

// spoil writes the text in place of the file, or removes it if there is none.
func spoil(path string, text []byte) error {
	if text == nil {
		return os.Remove(path)
	}
	return os.WriteFile(path, text, 0o600)
}

// lookUp mounts a new pod whose client ID is in its ServiceAccount, again and again until it
// starts or ctx ends.
func (s *siege) lookUp(ctx context.Context, name string) error {
	volume, err := s.volume(pod{
		namespace: innocentSpace, name: fmt.Sprintf("%s-%d", name, s.attempts.Load()), client: s.client, vault: innocentVault,
		objects:    objects(1, func(int) string { return "objectName: " + innocentName(0) }),
		attributes: map[string]string{"clientID": "", "tenantID": ""},
	})
	for err == nil {
		if _, err = s.process().mount(ctx, volume); err == nil {
			return nil
		}
		if !wait(ctx, 200*time.Millisecond) {
			return err
		}
		err = nil
	}
	return err
}
