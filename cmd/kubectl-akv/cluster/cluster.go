// Package cluster reads what doctor and status need of a Kubernetes cluster: the Secrets Store CSI
// driver, the provider, pods that mount SecretProviderClasses and what happened to them. It works
// with few rights: each read returns its own error, and nothing is read twice. Of a Secret
// only the metadata is requested, which is all that the API server then sends.
package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"github.com/spf13/cobra"

	"akv-csi-provider/cmd/kubectl-akv/cli"
)

// DriverName is the name of the Secrets Store CSI driver.
const DriverName = "secrets-store.csi.k8s.io"

// The driver's own resources.
var (
	Classes  = schema.GroupVersionResource{Group: "secrets-store.csi.x-k8s.io", Version: "v1", Resource: "secretproviderclasses"}
	Statuses = schema.GroupVersionResource{Group: "secrets-store.csi.x-k8s.io", Version: "v1", Resource: "secretproviderclasspodstatuses"}

	Accounts = corev1.SchemeGroupVersion.WithResource("serviceaccounts")
	Secrets  = corev1.SchemeGroupVersion.WithResource("secrets")
)

// systemNamespace is where driver and provider are looked for if not all namespaces can be listed.
const systemNamespace = "kube-system"

// Namespaces say where driver and provider run; "" for wherever they are found.
type Namespaces struct{ Driver, Provider string }

// AddFlags adds the flags of the namespaces.
func (n *Namespaces) AddFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&n.Driver, "driver-namespace", "", "namespace of the Secrets Store CSI driver (default: found by its DaemonSet)")
	cmd.Flags().StringVar(&n.Provider, "provider-namespace", "", "namespace of the provider (default: found by its DaemonSet)")
}

// Reader reads a cluster for one command. It is not safe for concurrent use, except for Metrics.
type Reader struct {
	Kube       kubernetes.Interface
	Dynamic    dynamic.Interface
	Metadata   metadata.Interface
	Namespaces Namespaces

	drivers  memo[*storagev1.CSIDriver]
	nodes    memo[*storagev1.CSINode]
	sets     memo[[]appsv1.DaemonSet]
	pods     memo[[]corev1.Pod]
	classes  memo[*unstructured.Unstructured]
	statuses memo[[]Status]
	issuers  memo[string]
}

// New connects to the user's cluster.
func New(env *cli.Env, namespaces Namespaces) (*Reader, error) {
	config, err := env.Config()
	if err != nil {
		return nil, err
	}
	kube, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	objects, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	partial, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	return &Reader{Kube: kube, Dynamic: objects, Metadata: partial, Namespaces: namespaces}, nil
}

// memo caches what was read, and why it could not be.
type memo[V any] map[string]outcome[V]

type outcome[V any] struct {
	value V
	err   error
}

func (m *memo[V]) get(key string, read func() (V, error)) (V, error) {
	if *m == nil {
		*m = make(memo[V])
	}
	known, ok := (*m)[key]
	if !ok {
		known.value, known.err = read()
		(*m)[key] = known
	}
	return known.value, known.err
}

// CSIDriver returns the driver's object.
func (r *Reader) CSIDriver(ctx context.Context) (*storagev1.CSIDriver, error) {
	return r.drivers.get("", func() (*storagev1.CSIDriver, error) {
		return r.Kube.StorageV1().CSIDrivers().Get(ctx, DriverName, metav1.GetOptions{})
	})
}

// CSINode returns what kubelet says of the drivers on its node.
func (r *Reader) CSINode(ctx context.Context, node string) (*storagev1.CSINode, error) {
	return r.nodes.get(node, func() (*storagev1.CSINode, error) {
		return r.Kube.StorageV1().CSINodes().Get(ctx, node, metav1.GetOptions{})
	})
}

// Class returns a SecretProviderClass.
func (r *Reader) Class(ctx context.Context, namespace, name string) (*unstructured.Unstructured, error) {
	return r.classes.get(namespace+"/"+name, func() (*unstructured.Unstructured, error) {
		return r.Dynamic.Resource(Classes).Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
	})
}

// ClassNames returns the names of the classes of a namespace.
func (r *Reader) ClassNames(ctx context.Context, namespace string) ([]string, error) {
	list, err := r.Metadata.Resource(Classes).Namespace(namespace).List(ctx, metav1.ListOptions{Limit: pageSize})
	if err != nil {
		return nil, err
	}
	names := make([]string, len(list.Items))
	for i, item := range list.Items {
		names[i] = item.Name
	}
	return names, nil
}

// pageSize bounds lists that are read for a hint.
const pageSize = 500

// Issuer returns the issuer of the cluster's service-account tokens, which Entra must trust.
func (r *Reader) Issuer(ctx context.Context) (string, error) {
	return r.issuers.get("", func() (string, error) {
		text, err := r.Kube.Discovery().RESTClient().Get().AbsPath("/.well-known/openid-configuration").
			SetHeader("Accept", "application/json").DoRaw(ctx)
		if err != nil {
			return "", err
		}
		var document struct{ Issuer string }
		if err := json.Unmarshal(text, &document); err != nil {
			return "", fmt.Errorf("the API server's issuer document: %w", err)
		}
		return document.Issuer, nil
	})
}

// Registered returns the nodes, and whether the driver is registered on each.
func (r *Reader) Registered(ctx context.Context) (map[string]bool, error) {
	found := make(map[string]bool)
	err := r.each(ctx, func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
		return r.Kube.StorageV1().CSINodes().List(ctx, options)
	}, func(o runtime.Object) {
		node := o.(*storagev1.CSINode)
		found[node.Name] = slices.ContainsFunc(node.Spec.Drivers, func(d storagev1.CSINodeDriver) bool { return d.Name == DriverName })
	})
	return found, err
}
