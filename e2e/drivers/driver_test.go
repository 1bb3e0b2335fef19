package drivers_test

import (
	"context"
	"errors"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"akv-csi-provider/e2e/plugin"
	"akv-csi-provider/provider/azuretest"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

const (
	driverName = "secrets-store.csi.k8s.io"
	nodeName   = "node-1"
	namespace  = "shop"
	tenantID   = "11111111-2222-3333-4444-555555555555"
	clientID   = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
	audience   = azuretest.TokenExchangeAudience
)

// node is a node of a cluster: the provider and the driver, each as a process, and as much
// of kubelet as calls the driver.
type node struct {
	t       *testing.T
	dir     string
	box     *azuretest.Box
	vault   *azuretest.Vault
	cluster *azuretest.Cluster
	api     *apiServer
	kubelet csi.NodeClient
	pods    int // so far

	environ  []string
	provider *plugin.Process
}

// newNode starts the driver of that program, and the provider.
func newNode(t *testing.T, program string) *node {
	t.Helper()
	dir, err := os.MkdirTemp("", "akv") // short, for the path of a unix socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	box, err := azuretest.New(azuretest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := box.Close(); err != nil {
			t.Error(err)
		}
	})
	n := &node{t: t, dir: dir, box: box, api: newAPIServer()}
	if n.cluster, err = box.Cluster("https://oidc.contoso.example/cluster/"); err != nil {
		t.Fatal(err)
	}
	tenant := box.Tenant(tenantID)
	n.vault = box.Vault("contoso", tenant)
	n.vault.Grant(clientID, azuretest.SecretsGet)
	tenant.Application(clientID).Federate(n.cluster.Issuer(), "system:serviceaccount:"+namespace+":reader", audience)
	if n.environ, err = box.Environ(dir); err != nil {
		t.Fatal(err)
	}
	n.startProvider()
	t.Cleanup(n.stopProvider)
	n.api.token = n.token
	n.api.set("csidrivers", object{"metadata": object{"name": driverName},
		"spec": object{"tokenRequests": []object{{"audience": audience}}}})
	server := httptest.NewServer(n.api)
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections) // watches last
	n.startDriver(program, server.URL)
	return n
}

// token is what the API server answers when the driver requests a token for a pod.
func (n *node) token(namespace, account string, request object) (string, error) {
	bound, _ := request["spec"].(object)["boundObjectRef"].(object)
	if bound == nil {
		return "", errors.New("the token is not bound to a pod")
	}
	return n.cluster.Token(azuretest.Pod{Namespace: namespace, Name: text(bound["name"]), UID: text(bound["uid"]), ServiceAccount: account}, audience, time.Hour)
}

func (n *node) startProvider() {
	n.t.Helper()
	var err error
	if n.provider, err = plugin.Start(n.t.Context(), provider, n.dir, n.environ, "-v=10"); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) stopProvider() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := n.provider.Stop(ctx); err != nil {
		n.t.Errorf("stop the provider: %v\n%s", err, n.provider.Log())
	}
}

// startDriver starts the driver as its DaemonSet does, with a rotation each second. In place of a
// tmpfs, which needs privileges, a volume is a folder: mount and umount do nothing.
func (n *node) startDriver(program, apiURL string) {
	t := n.t
	t.Helper()
	path := filepath.Join(n.dir, "bin")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"mount", "umount"} {
		if err := os.WriteFile(filepath.Join(path, name), []byte("#!/bin/sh\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	config := filepath.Join(n.dir, "kubeconfig")
	if err := os.WriteFile(config, encode(object{"apiVersion": "v1", "kind": "Config", "current-context": "test",
		"clusters": []object{{"name": "test", "cluster": object{"server": apiURL}}},
		"users":    []object{{"name": "test", "user": object{}}},
		"contexts": []object{{"name": "test", "context": object{"cluster": "test", "user": "test"}}}}), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(n.dir, "driver.log"))
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(n.dir, "csi.sock")
	driver := exec.Command(program, "--endpoint=unix://"+socket, "--drivername="+driverName, "--nodeid="+nodeName,
		"--provider-volume="+n.dir, "--additional-provider-volume-paths="+n.dir, "--metrics-addr=0",
		"--enable-secret-rotation", "--rotation-poll-interval=1s", "-v=5")
	driver.Env = []string{"PATH=" + path, "KUBECONFIG=" + config}
	driver.Stdout, driver.Stderr = log, log
	if err := driver.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		err := errors.Join(driver.Process.Signal(syscall.SIGTERM), driver.Wait(), log.Close())
		if err != nil || t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Errorf("the driver ended with %v; its log:\n%s\nthe provider's:\n%s", err, text, n.provider.Log())
		}
	})
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	n.kubelet = csi.NewNodeClient(conn)
	n.eventually("the driver answers", func() bool {
		got, err := csi.NewIdentityClient(conn).GetPluginInfo(t.Context(), &csi.GetPluginInfoRequest{})
		return err == nil && got.GetName() == driverName
	})
}

// eventually waits until the condition holds.
func (n *node) eventually(what string, holds func() bool) {
	n.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	end := time.After(time.Minute)
	for !holds() {
		select {
		case <-tick.C:
		case <-end:
			n.t.Fatalf("not within a minute: %s; events %q", what, n.api.messages())
		}
	}
}

// rotations waits until the provider has answered that many more rotations.
func (n *node) rotations(more int) {
	n.t.Helper()
	answered := func() int { return strings.Count(n.provider.Log(), "rotation=true") }
	want := answered() + more
	n.eventually("the next rotation", func() bool { return answered() >= want })
}

// reported returns whether an event has all of these words.
func (n *node) reported(words ...string) bool {
	return slices.ContainsFunc(n.api.messages(), func(message string) bool {
		return !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(message, word) })
	})
}
