package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"akv-csi-provider/provider/azuretest"

	secretsstore "sigs.k8s.io/secrets-store-csi-driver/pkg/secrets-store"
)

// node is a node of the cluster: the plugin's process, and the driver's code that
// calls it.
type node struct {
	process *exec.Cmd
	exited  chan error // the process's end, once
	log     *log
	driver  *secretsstore.PluginClientBuilder
	volumes string // folder that stands for /var/lib/kubelet/pods
}

// startNode starts the plugin with nothing but the environment that leads it to
// the box and, as kubelet sets it, to the cluster, and waits until it listens.
func startNode(ctx context.Context, provider, dir string, box *azuretest.Box, api *azuretest.APIServer) (*node, error) {
	environ, err := box.Environ(dir)
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(api.Addr())
	if err != nil {
		return nil, err
	}
	environ = append(environ, "KUBERNETES_SERVICE_HOST="+host, "KUBERNETES_SERVICE_PORT="+port)
	account := filepath.Join(dir, "serviceaccount")
	if err := errors.Join(os.Mkdir(account, 0o700), api.WriteCredentials(account)); err != nil {
		return nil, err
	}
	// The driver looks for a socket that is named after the class's provider.
	socket := filepath.Join(dir, "azure.sock")
	n := &node{
		exited:  make(chan error, 1),
		log:     new(log),
		driver:  secretsstore.NewPluginClientBuilder([]string{dir}),
		volumes: filepath.Join(dir, "pods"),
	}
	n.process = exec.Command(provider, "--endpoint=unix://"+socket, "--healthz-port=0", "--prometheus-port=0", "-v=10",
		"--service-account-dir="+account)
	n.process.Env = environ
	n.process.Stdout, n.process.Stderr = n.log, n.log
	if err := n.process.Start(); err != nil {
		return nil, fmt.Errorf("start the plugin: %w", err)
	}
	go func() { n.exited <- n.process.Wait() }()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(socket); err == nil {
			return n, nil
		}
		select {
		case <-tick.C:
		case err := <-n.exited:
			return nil, fmt.Errorf("the plugin ended at its start: %w\n%s", err, n.log)
		case <-ctx.Done():
			_ = n.process.Process.Kill()
			return nil, ctx.Err()
		}
	}
}

// mount publishes the class's volume for a pod as the driver does: with its gRPC
// client and retry policy, and its atomic writer. It returns the volume's folder.
func (n *node) mount(ctx context.Context, cluster *azuretest.Cluster, class []byte, pod azuretest.Pod) (string, error) {
	target := filepath.Join(n.volumes, pod.Namespace, pod.Name, "secrets")
	if err := os.MkdirAll(target, 0o755); err != nil {
		return "", err
	}
	req, err := cluster.MountRequest(class, pod, nil, target)
	if err != nil {
		return "", err
	}
	client, err := n.driver.Get(ctx, "azure")
	if err != nil {
		return "", err
	}
	_, _, err = secretsstore.MountContent(ctx, client, req.GetAttributes(), req.GetSecrets(), target, req.GetPermission(), nil)
	return target, err
}

// stop ends the plugin as kubelet does and waits for it.
func (n *node) stop(ctx context.Context) error {
	n.driver.Cleanup()
	if err := n.process.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case err := <-n.exited:
		return err
	case <-ctx.Done():
		return errors.Join(ctx.Err(), n.process.Process.Kill())
	}
}

// log keeps the plugin's output.
type log struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
