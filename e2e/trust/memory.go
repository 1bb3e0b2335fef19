package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"akv-csi-provider/provider/azuretest"

	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"
)

// memoryAttacks are volumes that are large in one way or another, as a pod author may
// write them.
func memoryAttacks() []attack {
	return []attack{{
		name: "histories", about: "one volume of 4,096 objects with 130 versions each",
		prepare: histories,
	}, {
		name: "large volumes", about: "48 volumes of 4 MiB: 160 secrets of 25 KB",
		prepare: largeVolumes,
	}, {
		name: "unknown parameters", about: "32 volumes of a class with 110,000 unknown parameters",
		prepare: unknownParameters,
	}, {
		name: "large parameter", about: "96 volumes with one unknown parameter of 1.4 MB, of a slow vault",
		prepare: largeParameter,
	}, {
		name: "large client secret", about: "96 volumes with a client secret of 1 MB",
		prepare: largeClientSecret,
	}, {
		name: "large tokens", about: "96 volumes with a token of 1.4 MB",
		prepare: largeTokens,
	}, {
		name: "refused objects", about: "47 volumes of 4,096 objects of the innocents' vault, all refused with 403",
		prepare: refusedObjects,
	}, {
		name: "many vaults", about: "48 volumes of 80 objects, each of another vault, over HTTP/1.1",
		setup: setup{http1: true}, prepare: vaults(48),
	}, {
		name: "large classes", about: "96 volumes with 512 KB of YAML, most of it comments",
		long: true, prepare: largeClasses,
	}, {
		name: "vault names", about: "5,000 names of vaults that do not exist", long: true, lasts: time.Minute,
		run: vaultNames,
	}}
}

func histories(s *siege) ([]*v1alpha1.MountRequest, error) {
	client := s.newClient()
	vault := s.newVault("kv-hostile", client)
	for range 150 {
		vault.SetSecret("x", azuretest.Secret{Value: "v"})
	}
	return s.alike(1, pod{client: client, vault: "kv-hostile", objects: objects(4096, func(i int) string {
		return fmt.Sprintf("objectName: x, objectVersionHistory: 99999, objectAlias: a%d", i)
	})})
}

func largeVolumes(s *siege) ([]*v1alpha1.MountRequest, error) {
	client := s.newClient()
	vault := s.newVault("kv-hostile", client)
	value := strings.Repeat("v", 25<<10)
	for i := range 160 {
		vault.SetSecret(fmt.Sprintf("s%d", i), azuretest.Secret{Value: value})
	}
	return s.alike(48, pod{client: client, vault: "kv-hostile", objects: objects(160, func(i int) string {
		return fmt.Sprintf("objectName: s%d", i)
	})})
}

// small makes a vault with one secret and a pod that reads it.
func (s *siege) small(vault string) (pod, *azuretest.Vault) {
	client := s.newClient()
	v := s.newVault(vault, client)
	v.SetSecret("x", azuretest.Secret{Value: "v"})
	return pod{client: client, vault: vault, objects: objects(1, func(int) string { return "objectName: x" })}, v
}

func unknownParameters(s *siege) ([]*v1alpha1.MountRequest, error) {
	p, vault := s.small("kv-hostile")
	vault.SetLatency(3 * time.Second)
	p.attributes = make(map[string]string, 110_000)
	for i := range 110_000 {
		p.attributes[fmt.Sprintf("p%d", i)] = ""
	}
	return s.alike(32, p)
}

func largeParameter(s *siege) ([]*v1alpha1.MountRequest, error) {
	p, vault := s.small("kv-hostile")
	vault.SetLatency(3 * time.Second)
	p.attributes = map[string]string{"p": strings.Repeat("v", 1_400_000)}
	return s.alike(96, p)
}

func largeClientSecret(s *siege) ([]*v1alpha1.MountRequest, error) {
	p, _ := s.small("kv-hostile")
	p.attributes = map[string]string{"clientID": ""}
	p.secrets = map[string]string{"clientid": p.client, "clientsecret": strings.Repeat("s", 1_000_000)}
	return s.alike(96, p)
}

func largeTokens(s *siege) ([]*v1alpha1.MountRequest, error) {
	p, _ := s.small("kv-hostile")
	claims, err := s.cluster.Claims(azuretest.Pod{Namespace: hostileSpace, Name: "x", ServiceAccount: p.client},
		azuretest.TokenExchangeAudience, time.Hour)
	if err != nil {
		return nil, err
	}
	claims["pad"] = strings.Repeat("v", 1_050_000)
	token, err := s.cluster.Sign(claims)
	if err != nil {
		return nil, err
	}
	p.tokens = map[string]string{azuretest.TokenExchangeAudience: token}
	return s.alike(96, p)
}

func refusedObjects(s *siege) ([]*v1alpha1.MountRequest, error) {
	return s.alike(47, pod{client: s.newClient(), vault: innocentVault, objects: objects(4096, func(i int) string {
		return fmt.Sprintf("objectName: n%d", i)
	})})
}

// vaults makes n vaults of 80 secrets, each read by one of n volumes.
func vaults(n int) func(*siege) ([]*v1alpha1.MountRequest, error) {
	return func(s *siege) ([]*v1alpha1.MountRequest, error) {
		client := s.newClient()
		list := objects(80, func(i int) string { return fmt.Sprintf("objectName: s%d", i) })
		for i := range n {
			vault := s.newVault(fmt.Sprintf("kv-hostile-%d", i), client)
			vault.SetLatency(200 * time.Millisecond) // so that all 80 are under way at once
			for k := range 80 {
				vault.SetSecret(fmt.Sprintf("s%d", k), azuretest.Secret{Value: "v"})
			}
		}
		return s.hostile(n, pod{client: client, objects: list}, func(i int, p *pod) {
			p.vault = fmt.Sprintf("kv-hostile-%d", i)
		})
	}
}

func largeClasses(s *siege) ([]*v1alpha1.MountRequest, error) {
	p, _ := s.small("kv-hostile")
	list := strings.Repeat("- a # c\n", 64_000)
	return s.hostile(96, p, func(i int, p *pod) { p.objects = fmt.Sprintf("# %d\n%s", i, list) })
}

func vaultNames(ctx context.Context, s *siege) error {
	p, _ := s.small("kv-hostile")
	for i := 0; i < 5000 && ctx.Err() == nil; i += 50 {
		volumes, err := s.hostile(50, p, func(n int, p *pod) { p.vault = fmt.Sprintf("kv-none-%d", i+n) })
		if err != nil {
			return err
		}
		round, cancel := context.WithTimeout(ctx, firstBackoff) // no second attempt
		s.flood(round, volumes)
		cancel()
	}
	return nil
}
