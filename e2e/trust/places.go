package main

import (
	"fmt"
	"time"

	"akv-csi-provider/provider/azuretest"

	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"
)

// placesAttacks take the places that mounts and reads have, from one namespace.
func placesAttacks() []attack {
	return []attack{{
		name: "places, fast vault", about: "150 stalled mounts of one namespace", prepare: stalls(150),
	}, {
		name: "places by namespace", about: "96 stalled mounts of one namespace; pods of another start within 1 s of their usual time",
		bounds: bounds{above: time.Second}, prepare: stalls(96),
	}, {
		name: "places, slow vault", about: "60 stalled mounts, and the innocents' vault takes 6 s",
		setup: setup{vault: 6 * time.Second, pace: 2 * time.Second}, long: true, lasts: 30 * time.Second,
		bounds: bounds{p99: 12 * time.Second}, prepare: stalls(60),
	}, {
		name: "places of the vault", about: "8 volumes of 4,096 missing objects of the innocents' vault, which takes 200 ms",
		setup: setup{vault: 200 * time.Millisecond}, bounds: bounds{p99: 3 * time.Second}, prepare: vaultPlaces,
	}}
}

// stalls are n volumes of a vault that does not answer.
func stalls(n int) func(*siege) ([]*v1alpha1.MountRequest, error) {
	return func(s *siege) ([]*v1alpha1.MountRequest, error) {
		p, vault := s.small("kv-hostile")
		vault.SetFault(azuretest.Fault{Stall: true})
		return s.hostile(n, p, nil)
	}
}

func vaultPlaces(s *siege) ([]*v1alpha1.MountRequest, error) {
	client := s.newClient()
	s.vault.Grant(client, azuretest.SecretsGet)
	return s.hostile(8, pod{client: client, vault: innocentVault}, func(i int, p *pod) {
		p.objects = objects(4096, func(n int) string { return fmt.Sprintf("objectName: n%d-%d", i, n) })
	})
}
