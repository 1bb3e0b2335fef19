package server_test

import (
	"context"
	"testing"
	"time"

	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"akv-csi-provider/provider"
	"akv-csi-provider/provider/request"
)

// slowVault never answers for one vault.
type slowVault struct{ asked chan struct{} }

func (s slowVault) Mount(ctx context.Context, req *request.Mount, _ time.Time) (*provider.Volume, error) {
	if req.Vault == "evil" {
		s.asked <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return &provider.Volume{Versions: []provider.Version{{ID: "secret/x", Version: "1"}}}, nil
}

// A pod with hundreds of volumes of a vault that does not answer leaves room for others.
func TestOnePodTakesNotAllCalls(t *testing.T) {
	const volumes = 500
	vault := slowVault{make(chan struct{}, volumes)}
	cfg := config(t, vault)
	start(t, cfg)
	client := dial(t, cfg.Socket)
	req := func(vault string) *v1alpha1.MountRequest {
		return &v1alpha1.MountRequest{Permission: "420", Secrets: "{}", TargetPath: "/" + vault, Attributes: `{"keyvaultName":"` + vault + `","objects":"[{objectName: x, objectType: secret}]","csi.storage.k8s.io/pod.name":"p","csi.storage.k8s.io/pod.namespace":"n"}`}
	}
	if _, err := client.Mount(t.Context(), req("good")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range volumes {
		go func() { _, _ = client.Mount(ctx, req("evil")) }()
	}
	mine, stop := context.WithTimeout(t.Context(), 5*time.Second)
	defer stop()
	for begun := range volumes {
		select {
		case <-vault.asked:
		case <-mine.Done():
			t.Fatalf("%d mounts are under way", begun)
		}
	}
	if _, err := client.Mount(mine, req("good")); err != nil {
		t.Errorf("another pod's mount: %v", err)
	}
}
