// Package node runs a Kubernetes of one node on this machine, without Docker and without
// pulling images: etcd, the control plane, containerd and kubelet as processes in mount,
// PID and network namespaces. It is isolated from the host, and everything ends when its
// first process is killed.
//
// The program that uses it lives in three parts, distinguished by an environment variable:
// the one that the user started (see [Enter]), the same program inside the network
// namespace, where it can talk to the node, and the node's PID 1.
package node

import (
	"errors"
	"path/filepath"
)

// Addresses inside the network namespace. kubelet wants the node's outside 127/8. There is
// no kube-proxy: the API server itself listens on the first address of the services.
const (
	Name      = "node1"
	address   = "10.66.0.1"
	apiServer = "10.96.0.1"
	services  = "10.96.0.0/16"
	pods      = "10.67.0.0/24"
)

// Issuer is the issuer of service-account tokens, as pods' tokens carry it.
const Issuer = "https://kubernetes.default.svc.cluster.local"

// Node is what a node is made of.
type Node struct {
	Dir      string   // folder of its state, which outlives a restart; on no overlay file system
	Programs string   // folder with etcd, and the programs of Kubernetes in kubernetes-<Version>
	Images   []string // archives to import before kubelet starts, the first time
	Version  string   // of Kubernetes, such as 1.37
}

// ErrUnsupported says that a node cannot run here at all.
var ErrUnsupported = errors.New("it needs Linux and root")

// Kubeconfig is the administrator's, good inside the network namespace.
func (n *Node) Kubeconfig() string { return filepath.Join(n.pki(), "admin.kubeconfig") }

// Logs are the files that the node's processes write.
func (n *Node) Logs() ([]string, error) { return filepath.Glob(filepath.Join(n.Dir, "log", "*.log")) }

func (n *Node) pki() string    { return filepath.Join(n.Dir, "pki") }
func (n *Node) socket() string { return filepath.Join(n.Dir, "containerd.sock") }
