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

// slowVault does not answer for one vault until it is told.
type slowVault struct{ asked chan question }

// question is a mount that waits for that vault.
type question struct {
	left   time.Duration // that it has
	answer chan<- struct{}
}

func (s slowVault) Mount(ctx context.Context, req *request.Mount, _ time.Time) (*provider.Volume, error) {
	if req.Vault == "evil" {
		deadline, _ := ctx.Deadline()
		answer := make(chan struct{})
		s.asked <- question{time.Until(deadline), answer}
		select {
		case <-answer:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return &provider.Volume{Versions: []provider.Version{{ID: "secret/x", Version: "1"}}}, nil
}

func fromVault(name string) *v1alpha1.MountRequest {
	return &v1alpha1.MountRequest{Permission: "420", Secrets: "{}", TargetPath: "/" + name, Attributes: `{"keyvaultName":"` + name + `","objects":"[{objectName: x, objectType: secret}]","csi.storage.k8s.io/pod.name":"p","csi.storage.k8s.io/pod.namespace":"n"}`}
}

// Places with all of a mount's time are had again when they are free, also in a crowd.
func TestPatienceIsHadAgain(t *testing.T) {
	const patient, impatient = 48, 10
	vault := slowVault{make(chan question, patient+impatient)}
	cfg := config(t, vault)
	cfg.MountTimeout = time.Minute
	start(t, cfg)
	client := dial(t, cfg.Socket)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second) // the places of the impatient are free again later
	defer cancel()
	ended := make(chan error, patient+impatient+1)
	mount := func() question {
		t.Helper()
		go func() {
			_, err := client.Mount(context.WithoutCancel(ctx), fromVault("evil"))
			ended <- err
		}()
		select {
		case q := <-vault.asked:
			return q
		case <-ctx.Done():
			t.Fatal("no place is free")
			return question{}
		}
	}
	var first question
	for i := range patient + impatient {
		q := mount()
		if i == 0 {
			first = q
		}
		if long := q.left > 5*time.Second; long != (i < patient) {
			t.Fatalf("mount %d has %s", i, q.left)
		}
	}
	close(first.answer)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if q := mount(); q.left <= 5*time.Second {
		t.Errorf("a mount after that has %s", q.left)
	}
}

// A pod with more volumes than there are places, of a vault that does not answer, keeps
// others out for some seconds and not for as long as a mount may take; the first of them
// have all of that time.
func TestOnePodTakesNotAllPlaces(t *testing.T) {
	t.Parallel() // it waits for 5 s
	const places, patient, volumes = 96, 48, 128
	vault := slowVault{make(chan question, volumes)}
	cfg := config(t, vault)
	cfg.MountTimeout = time.Minute
	start(t, cfg)
	client := dial(t, cfg.Socket)
	if _, err := client.Mount(t.Context(), fromVault("good")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	failed := make(chan error, volumes)
	for range volumes {
		go func() {
			_, err := client.Mount(ctx, fromVault("evil"))
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
	if _, err := client.Mount(mine, fromVault("good")); err != nil {
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
