package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"akv-csi-provider/e2e/plugin"
	"akv-csi-provider/provider/azuretest"

	"golang.org/x/net/dns/dnsmessage"
	secretsstore "sigs.k8s.io/secrets-store-csi-driver/pkg/secrets-store"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"
)

// networkAttacks are accidents of the network, and what uses up connections.
func networkAttacks() []attack {
	return []attack{{
		name: "half-open, HTTP/1.1", about: "all connections fall silent, as behind a firewall that forgot them",
		setup: setup{http1: true, front: true, pace: halfOpenPace}, long: true, lasts: 45 * time.Second,
		bounds: bounds{p99: 20 * time.Second}, prepare: forHalfOpen, run: halfOpen,
	}, {
		name: "half-open, HTTP/2", about: "the same over HTTP/2",
		setup: setup{front: true, pace: halfOpenPace}, long: true, lasts: 45 * time.Second,
		bounds: bounds{p99: 20 * time.Second}, prepare: forHalfOpen, run: halfOpen,
	}, {
		name: "descriptors", about: "15 vaults with 80 connections each, 1,024 open files",
		setup: setup{http1: true, files: 1024}, prepare: vaults(15), run: starve,
	}, {
		name: "64 descriptors", about: "3 vaults with 80 connections each, 64 open files", long: true,
		setup: setup{http1: true, files: 64}, prepare: vaults(3), run: starve,
	}, {
		name: "foreign 429", about: "Entra limits the sign-ins of one hostile client: 429 with Retry-After: 60",
		setup: setup{front: true}, prepare: foreign429,
	}, {
		name: "short deadlines", about: "24 calls at a time that arrive with 30 ms left",
		run: shortDeadlines,
	}, {
		name: "DNS of others", about: "the names of hostile vaults: no answer, SERVFAIL, REFUSED, NXDOMAIN", root: true,
		setup: setup{dns: true}, prepare: foreignDNS,
	}, {
		name: "DNS down", about: "no name is resolved for 3 s, and then all are", root: true,
		setup: setup{dns: true}, lasts: 12 * time.Second, bounds: bounds{p99: 12 * time.Second}, run: dnsDown,
	}}
}

// halfOpenPace keeps the mounts that wait for an answer below the number that may wait for
// the whole of --mount-timeout: more of them would fail for that alone.
const halfOpenPace = 500 * time.Millisecond

// forHalfOpen is a volume whose reads make 40 connections to the innocents' vault.
func forHalfOpen(s *siege) ([]*v1alpha1.MountRequest, error) {
	p, vault := s.small(innocentVault)
	name := func(i int) string { return fmt.Sprintf("x-%d", i) }
	for i := range 40 {
		vault.SetSecret(name(i), azuretest.Secret{Value: "v"})
	}
	p.objects = objects(40, func(i int) string { return "objectName: " + name(i) })
	return s.hostile(1, p, nil)
}

func halfOpen(ctx context.Context, s *siege) error {
	s.flood(ctx, s.volumes)
	s.front.freeze()
	<-ctx.Done()
	return nil
}

// starve reads many vaults, and meanwhile connects to the socket again as a restarted
// driver does.
func starve(ctx context.Context, s *siege) error {
	flooded := make(chan struct{})
	go func() { defer close(flooded); s.flood(ctx, s.volumes) }()
	for wait(ctx, time.Second) {
		begin := time.Now()
		ok := s.connects(ctx)
		if ctx.Err() != nil && time.Since(begin) < probeTimeout {
			break
		}
		s.expect(ok, "a new connection to the socket was not served within %s", probeTimeout)
	}
	<-flooded
	return nil
}

// connects reports whether a new connection to the socket is served.
func (s *siege) connects(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	driver := secretsstore.NewPluginClientBuilder([]string{s.dir})
	defer driver.Cleanup()
	client, err := driver.Get(ctx, plugin.Name)
	if err != nil {
		return false
	}
	_, err = secretsstore.Version(ctx, client)
	return err == nil
}

func foreign429(s *siege) ([]*v1alpha1.MountRequest, error) {
	p, _ := s.small("kv-hostile")
	s.front.oddEntra(map[string]http.HandlerFunc{p.client: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "60")
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusTooManyRequests)
		_, _ = w.Write([]byte(`{"error":"temporarily_unavailable","error_description":"Too many requests."}`))
	}})
	return s.hostile(3, p, nil)
}

func shortDeadlines(ctx context.Context, s *siege) error {
	p, _ := s.small("kv-hostile")
	for ctx.Err() == nil {
		volumes, err := s.hostile(24, p, nil) // tokens that are new, so that each signs in
		if err != nil {
			return err
		}
		round, cancel := context.WithTimeout(ctx, 30*time.Millisecond)
		s.flood(round, volumes)
		cancel()
		wait(ctx, 50*time.Millisecond)
	}
	return nil
}

func foreignDNS(s *siege) ([]*v1alpha1.MountRequest, error) {
	s.front.dns.fail(
		dnsFault{name: "kv-drop", drops: true},
		dnsFault{name: "kv-servfail", code: dnsmessage.RCodeServerFailure},
		dnsFault{name: "kv-refused", code: dnsmessage.RCodeRefused},
		dnsFault{name: "kv-none", code: dnsmessage.RCodeNameError},
	)
	p, _ := s.small("kv-hostile")
	names := []string{"kv-drop", "kv-servfail", "kv-refused", "kv-none"}
	return s.hostile(48, p, func(i int, p *pod) { p.vault = names[i%len(names)] })
}

func dnsDown(ctx context.Context, s *siege) error {
	s.front.dns.fail(dnsFault{drops: true})
	s.box.SetOutage(true) // no connection is left
	s.box.SetOutage(false)
	wait(ctx, 3*time.Second)
	s.front.dns.fail()
	wait(ctx, 3*time.Second)
	return nil
}
