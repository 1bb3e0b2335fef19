package server_test

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"

	"akv-csi-provider/provider"
	"akv-csi-provider/provider/request"
	"akv-csi-provider/provider/server"
)

// slowVault does not answer for one vault until the test says so.
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

func fromVault(vault, namespace string) *v1alpha1.MountRequest {
	return &v1alpha1.MountRequest{Permission: "420", Secrets: "{}", TargetPath: "/" + vault, Attributes: `{"keyvaultName":"` + vault +
		`","objects":"[{objectName: x, objectType: secret}]","csi.storage.k8s.io/pod.name":"p","csi.storage.k8s.io/pod.namespace":"` + namespace + `"}`}
}

// crowd mounts many volumes of a vault that does not answer.
type crowd struct {
	t      *testing.T
	ctx    context.Context
	client v1alpha1.CSIDriverProviderClient
	vault  slowVault
	ended  chan error
	log    *buffer
}

func newCrowd(t *testing.T) *crowd {
	t.Helper()
	c := &crowd{t: t, vault: slowVault{make(chan question, 256)}, ended: make(chan error, 256), log: new(buffer)}
	cfg := config(t, c.vault)
	cfg.Log = slog.New(slog.NewTextHandler(c.log, nil))
	cfg.MountTimeout = time.Minute
	start(t, cfg)
	c.client = dial(t, cfg.Socket)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	c.ctx = ctx
	return c
}

func (c *crowd) mount(n int, namespace string) {
	for range n {
		go func() {
			_, err := c.client.Mount(c.ctx, fromVault("evil", namespace))
			c.ended <- err
		}()
	}
}

// running waits until so many mounts more have reached the vault, and returns how many of
// them have more time than others in a crowd.
func (c *crowd) running(n int) (long int, last question) {
	c.t.Helper()
	for i := range n {
		select {
		case last = <-c.vault.asked:
			if last.left > 5*time.Second {
				long++
			}
		case <-c.ctx.Done():
			c.t.Fatalf("%d of %d mounts run", i, n)
		}
	}
	return long, last
}

// A namespace whose vault does not answer has at most three quarters of the places, and half
// of those with the whole time of a mount. Others mount at once, as many with all of their time.
func TestNamespaceLeavesPlaces(t *testing.T) {
	c := newCrowd(t)
	c.mount(72, "shop")
	if long, _ := c.running(72); long != 24 {
		t.Errorf("%d mounts have all of the time, want 24", long)
	}
	c.mount(24, "shop") // later, as a mount with all of its time could be among those that wait
	before := time.Now()
	if _, err := c.client.Mount(c.ctx, fromVault("good", "bank")); err != nil || time.Since(before) > time.Second {
		t.Errorf("the other namespace waited for %s: %v", time.Since(before), err)
	}
	if len(c.vault.asked) > 0 {
		t.Errorf("%d mounts of the first run beyond their share", len(c.vault.asked))
	}
	for i := range 12 {
		c.mount(2, fmt.Sprint("bank-", i))
		if long, _ := c.running(2); long != 2 && i < 11 || long == 0 {
			t.Errorf("namespace %d has %d mounts with all of the time", i, long)
		}
	}
}

// Places with the whole time of a mount are reused when they are free.
func TestLongPlacesAreReused(t *testing.T) {
	c := newCrowd(t)
	c.mount(1, "shop")
	_, first := c.running(1)
	c.mount(40, "shop")
	if long, _ := c.running(40); long != 23 {
		t.Errorf("%d mounts have all of the time, want 23 more", long)
	}
	close(first.answer)
	if err := <-c.ended; err != nil {
		t.Fatal(err)
	}
	c.mount(1, "shop")
	if long, _ := c.running(1); long != 1 {
		t.Error("the place is not free again")
	}
}

// A volume whose rotation finds no place is known all the same, and the log names its pod.
func TestRotationWithoutPlace(t *testing.T) {
	c := newCrowd(t)
	known := fromVault("good", "shop")
	known.TargetPath = "/var/lib/kubelet/pods/uid-1/volumes/kubernetes.io~csi/x/mount"
	known.Attributes = strings.Replace(known.Attributes, "{", `{"csi.storage.k8s.io/pod.uid":"uid-1",`, 1)
	large := proto.CloneOf(known) // so large that it waits for its turn to be parsed
	large.Secrets = `{"x":"` + strings.Repeat("x", 80<<10) + `"}`
	if _, err := c.client.Mount(c.ctx, known); err != nil {
		t.Fatal(err)
	}
	c.mount(96, "shop")
	_, _ = c.running(72)
	for _, req := range []*v1alpha1.MountRequest{known, large} {
		ctx, cancel := context.WithTimeout(c.ctx, time.Second)
		_, err := c.client.Mount(ctx, req)
		cancel()
		if err == nil {
			t.Fatal("it had a place")
		}
	}
	const want = "pod=p namespace=shop rotation=true podUID=uid-1 "
	for deadline := time.Now().Add(10 * time.Second); strings.Count(c.log.String(), want) < 2; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no two lines with %q:\n%s", want, c.log.String())
		}
	}
}

// What has no place waits, and has one as soon as another mount's time in a crowd is over.
func TestCrowdPasses(t *testing.T) {
	t.Parallel() // it waits for 5 s
	c := newCrowd(t)
	c.mount(100, "shop")
	_, _ = c.running(72)
	for range 100 - 24 { // all but those with the whole time, or that waited for a place for too long
		select {
		case err := <-c.ended:
			if status.Code(err) != codes.FailedPrecondition || status.Convert(err).Message() != "too many slow mounts run on this node; kubelet retries [Timeout]" {
				t.Errorf("got %v", err)
			}
		case <-c.ctx.Done():
			t.Fatal("the places are not free again")
		}
	}
	if len(c.ended) > 0 {
		t.Errorf("%d mounts more than those ended", len(c.ended))
	}
}

// A request above the bound is not read.
func TestLargeRequest(t *testing.T) {
	c := newCrowd(t)
	req := fromVault("good", "shop")
	req.Secrets = `{"x":"` + strings.Repeat("x", 640<<10) + `"}`
	if _, err := c.client.Mount(c.ctx, req); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("got %.200v", err)
	}
	if _, err := c.client.Mount(c.ctx, fromVault("good", "shop")); err != nil {
		t.Errorf("after that: %v", err)
	}
}

// Requests that take much memory run one after the other, and small ones beside them.
func TestLargeRequestsWait(t *testing.T) {
	c := newCrowd(t)
	large := fromVault("evil", "shop")
	large.Secrets = `{"x":"` + strings.Repeat("x", 600<<10) + `"}`
	for range 24 {
		go func() { _, _ = c.client.Mount(c.ctx, large) }()
	}
	_, _ = c.running(15) // of 2.4 MB each, three quarters of 48 MiB
	c.mount(1, "bank")
	_, _ = c.running(1)
	if n := len(c.vault.asked); n > 0 {
		t.Errorf("%d large requests run beyond the bound", n)
	}
}

// A mount that runs keeps nothing of a large request in memory but what it is about.
func TestLargeRequestsAreFreed(t *testing.T) {
	const mounts, large = 10, 400 << 10
	cfg, h := config(t, nil), newHeld()
	cfg.Mounter = h
	s, err := server.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // pools are emptied by the second one
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	var requests [mounts]*v1alpha1.MountRequest // which gRPC keeps
	var done sync.WaitGroup
	for i := range requests {
		requests[i] = fromVault(fmt.Sprint("vault-", i), "shop")
		requests[i].Attributes = overwrite(t, requests[i].GetAttributes(), map[string]string{"keyvaultName": "contoso" + strings.Repeat(" ", large)})
		done.Go(func() { _, _ = s.Call(t.Context(), requests[i]) })
		<-h.entered
	}
	if per := (heap() - before) / mounts; per > large/4 {
		t.Errorf("a mount takes %d KiB", per>>10)
	}
	close(h.release)
	done.Wait()
	runtime.KeepAlive(requests)
}

// The namespace is that of kubelet, whatever a pod puts into its parameters.
func TestAttributeOf(t *testing.T) {
	for attributes, want := range map[string]string{
		`{"csi.storage.k8s.io/pod.name":"p","csi.storage.k8s.io/pod.namespace":"shop"}`:                   "shop",
		`{"a":"\"csi.storage.k8s.io/pod.namespace\":\"bank\"","csi.storage.k8s.io/pod.namespace":"shop"}`: "shop",
		`{"a":"x\\","csi.storage.k8s.io/pod.namespace":"shop"}`:                                           "shop",
		`{"keyvaultName":"contoso"}`: "",
		``:                           "",
	} {
		if got := server.AttributeOf(attributes, "pod.namespace"); got != want {
			t.Errorf("%s: got %q, want %q", attributes, got, want)
		}
	}
}
