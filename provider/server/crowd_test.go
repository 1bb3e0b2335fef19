package server_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
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

// A pod with more volumes than there are places, of a vault that does not answer, keeps
// others out for some seconds and not for as long as a mount may take; the first of them
// have all of that time.
func TestOnePodTakesNotAllPlaces(t *testing.T) {
	t.Parallel() // it waits for 5 s
	const places, patient, volumes = 96, 48, 128
	vault := slowVault{make(chan struct{}, volumes)}
	cfg := config(t, vault)
	cfg.MountTimeout = time.Minute
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
	failed := make(chan error, volumes)
	for range volumes {
		go func() {
			_, err := client.Mount(ctx, req("evil"))
			failed <- err
		}()
	}
	mine, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	asked := func(n int) {
		t.Helper()
		for begun := range n {
			select {
			case <-vault.asked:
			case <-mine.Done():
				t.Fatalf("%d mounts are under way", begun)
			}
		}
	}
	asked(places)
	if len(vault.asked) > 0 {
		t.Errorf("more than %d mounts are under way", places)
	}
	if _, err := client.Mount(mine, req("good")); err != nil {
		t.Errorf("another pod's mount: %v", err)
	}
	asked(volumes - places)
	for range places - patient {
		select {
		case err := <-failed:
			if status.Code(err) != codes.FailedPrecondition || !strings.HasSuffix(status.Convert(err).Message(), "[Timeout]") {
				t.Errorf("got %v", err)
			}
		case <-mine.Done():
			t.Fatal("the places were not free again")
		}
	}
	if len(failed) > 0 {
		t.Errorf("%d mounts more than those ended", len(failed))
	}
}
