package status

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"akv-csi-provider/cmd/kubectl-akv/cluster"
)

// Summary is the state of a cluster's nodes.
type Summary struct {
	Nodes []*Node `json:"nodes"`
	// NotSeen says what could not be read.
	NotSeen []string `json:"notSeen,omitempty"`
}

// Node is a node with its driver, its provider and the pods that use them.
type Node struct {
	Name     string           `json:"node"`
	Driver   *bool            `json:"driverRegistered,omitempty"` // nil if it is not known
	Provider *Provider        `json:"provider,omitempty"`
	Volumes  *int             `json:"mountedVolumes,omitempty"` // nil if it is not known
	Metrics  *cluster.Metrics `json:"sinceStart,omitempty"`
	Waiting  []Waiting        `json:"waitingPods,omitempty"`
}

// Provider is the provider's pod on a node.
type Provider struct {
	Pod       string `json:"pod"`
	Namespace string `json:"namespace"`
	Version   string `json:"version"`
	Ready     bool   `json:"ready"`
	Why       string `json:"why,omitempty"` // it is not ready
}

// Waiting is a pod that has a volume of the driver and has not started.
type Waiting struct {
	Namespace string   `json:"namespace"`
	Pod       string   `json:"pod"`
	Reasons   []string `json:"reasons,omitempty"` // of its last failed mount
	Message   string   `json:"message,omitempty"` // of kubelet or the driver, without a reason
}

// unhealthy reports whether a provider is down, or a mount failed.
func (s *Summary) unhealthy() bool {
	return slices.ContainsFunc(s.Nodes, func(n *Node) bool {
		failed := slices.ContainsFunc(n.Waiting, func(w Waiting) bool { return len(w.Reasons) > 0 || w.Message != "" })
		return failed || n.Provider != nil && !n.Provider.Ready || n.Provider == nil && len(n.Waiting) > 0
	})
}

// collector reads a summary.
type collector struct {
	reader    *cluster.Reader
	namespace string // whose pods are read if those of all namespaces cannot be
	summary   Summary
	nodes     map[string]*Node
}

// Collect reads the state of all nodes. It returns an error only if it could see no node at all.
func Collect(ctx context.Context, reader *cluster.Reader, namespace string) (*Summary, error) {
	c := &collector{reader: reader, namespace: namespace, nodes: make(map[string]*Node)}
	if err := c.providers(ctx); err != nil {
		return nil, err
	}
	c.drivers(ctx)
	c.volumes(ctx)
	c.waiting(ctx)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	for _, n := range c.nodes {
		c.summary.Nodes = append(c.summary.Nodes, n)
	}
	slices.SortFunc(c.summary.Nodes, func(a, b *Node) int { return strings.Compare(a.Name, b.Name) })
	return &c.summary, nil
}

func (c *collector) node(name string) *Node {
	if c.nodes[name] == nil {
		c.nodes[name] = &Node{Name: name}
	}
	return c.nodes[name]
}

// notSeen notes what could not be read.
func (c *collector) notSeen(what string, err error) {
	text := what + ": " + err.Error()
	if apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) {
		text = what + ": no right"
	}
	if !slices.Contains(c.summary.NotSeen, text) {
		c.summary.NotSeen = append(c.summary.NotSeen, text)
	}
}

func (c *collector) providers(ctx context.Context) error {
	sets, err := c.reader.Providers(ctx)
	if err != nil {
		if apierrors.IsForbidden(err) {
			c.notSeen("providers (DaemonSets)", err)
			return nil
		}
		return err
	}
	pods, err := c.reader.PodsOf(ctx, sets, "")
	if err != nil {
		c.notSeen("providers (pods)", err)
		return nil
	}
	serving := make(map[*Node]corev1.Pod)
	for _, pod := range pods {
		if pod.Spec.NodeName == "" {
			continue
		}
		node := c.node(pod.Spec.NodeName)
		ready, why := cluster.Ready(pod)
		if node.Provider != nil && (node.Provider.Ready || !ready) {
			continue // while one replaces the other
		}
		node.Provider = &Provider{Pod: pod.Name, Namespace: pod.Namespace, Version: cluster.Version(cluster.ProviderContainer(pod).Image), Ready: ready, Why: why}
		serving[node] = pod
	}
	c.metrics(ctx, serving)
	return nil
}

// atOnce is how many metrics are read at the same time, by way of the API server.
const atOnce = 16

func (c *collector) metrics(ctx context.Context, serving map[*Node]corev1.Pod) {
	var group errgroup.Group
	group.SetLimit(atOnce)
	var mu sync.Mutex // guards the summary
	for node, pod := range serving {
		if !node.Provider.Ready {
			continue
		}
		group.Go(func() error {
			m, err := c.reader.Metrics(ctx, pod)
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				c.notSeen("metrics of providers (pods/proxy)", err)
				return nil
			}
			if node.Metrics = m; m.Version != "" {
				node.Provider.Version = m.Version
			}
			return nil
		})
	}
	_ = group.Wait() // no error
}

func (c *collector) drivers(ctx context.Context) {
	registered, err := c.reader.Registered(ctx)
	if err != nil {
		c.notSeen("drivers (CSINodes)", err)
		return
	}
	for name, has := range registered {
		c.node(name).Driver = &has
	}
}

func (c *collector) volumes(ctx context.Context) {
	all, err := c.reader.Statuses(ctx, "")
	if err != nil {
		c.notSeen("mounted volumes (SecretProviderClassPodStatuses)", err)
		return
	}
	for _, n := range c.nodes {
		n.Volumes = new(int)
	}
	for _, s := range all {
		if n := c.nodes[s.Node]; n != nil {
			*n.Volumes++
		}
	}
}

// waiting finds pods that wait, and why.
func (c *collector) waiting(ctx context.Context) {
	pods, err := c.reader.Pods(ctx, "")
	if apierrors.IsForbidden(err) {
		c.notSeen(fmt.Sprintf("pods outside namespace %s", c.namespace), err)
		pods, err = c.reader.Pods(ctx, c.namespace)
	}
	if err != nil {
		c.notSeen("pods", err)
		return
	}
	for _, pod := range pods {
		if pod.Status.Phase != corev1.PodPending || pod.Spec.NodeName == "" || cluster.Started(pod) {
			continue
		}
		w := Waiting{Namespace: pod.Namespace, Pod: pod.Name}
		failures, err := c.reader.Failures(ctx, pod, "")
		if err != nil {
			c.notSeen("events", err)
		}
		if len(failures) > 0 {
			if w.Reasons = failures[0].Reasons; len(w.Reasons) == 0 {
				w.Message = failures[0].Before
			}
		}
		n := c.node(pod.Spec.NodeName)
		n.Waiting = append(n.Waiting, w)
	}
}
