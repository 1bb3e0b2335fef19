package main

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"

	"akv-csi-provider/e2e/plugin"
	"akv-csi-provider/provider/azuretest"

	secretsstore "sigs.k8s.io/secrets-store-csi-driver/pkg/secrets-store"
)

// node is a node of the cluster: the plugin's process, and the driver's code that
// calls it.
type node struct {
	*plugin.Process
	driver  *secretsstore.PluginClientBuilder
	volumes string // folder that stands for /var/lib/kubelet/pods
}

// startNode starts the plugin with nothing but the environment that leads it to the
// fake Azure and, as kubelet sets it, to the cluster, and waits until it listens.
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
	process, err := plugin.Start(ctx, provider, dir, environ, "-v=10", "--service-account-dir="+account)
	if err != nil {
		return nil, err
	}
	return &node{
		Process: process,
		driver:  secretsstore.NewPluginClientBuilder([]string{dir}),
		volumes: filepath.Join(dir, "pods"),
	}, nil
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
	client, err := n.driver.Get(ctx, plugin.Name)
	if err != nil {
		return "", err
	}
	_, _, err = secretsstore.MountContent(ctx, client, req.GetAttributes(), req.GetSecrets(), target, req.GetPermission(), nil)
	return target, err
}

// stop ends the plugin as kubelet does and waits for it.
func (n *node) stop(ctx context.Context) error {
	n.driver.Cleanup()
	return n.Stop(ctx)
}
