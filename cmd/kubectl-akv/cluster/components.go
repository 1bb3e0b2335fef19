package cluster

import (
	"context"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
)

// Drivers returns the DaemonSets of the driver: one for each operating system.
func (r *Reader) Drivers(ctx context.Context) ([]appsv1.DaemonSet, error) {
	return r.daemonSets(ctx, r.Namespaces.Driver, driverContainer)
}

// Providers returns the DaemonSets that serve the driver as the provider "azure", also those of the
// provider that this one replaces.
func (r *Reader) Providers(ctx context.Context) ([]appsv1.DaemonSet, error) {
	return r.daemonSets(ctx, r.Namespaces.Provider, providerContainer)
}

// daemonSets finds DaemonSets by one of their containers: names and labels differ between Helm
// charts, manifests and add-ons.
func (r *Reader) daemonSets(ctx context.Context, namespace string, find func(corev1.PodSpec) *corev1.Container) ([]appsv1.DaemonSet, error) {
	all, err := r.sets.get(namespace, func() ([]appsv1.DaemonSet, error) {
		list, err := r.Kube.AppsV1().DaemonSets(namespace).List(ctx, metav1.ListOptions{})
		if namespace == "" && apierrors.IsForbidden(err) {
			list, err = r.Kube.AppsV1().DaemonSets(systemNamespace).List(ctx, metav1.ListOptions{})
		}
		if err != nil {
			return nil, err
		}
		return list.Items, nil
	})
	var found []appsv1.DaemonSet
	for _, set := range all {
		if find(set.Spec.Template.Spec) != nil {
			found = append(found, set)
		}
	}
	return found, err
}

// PodsOf returns the pods of DaemonSets, those of one node unless it is "".
func (r *Reader) PodsOf(ctx context.Context, sets []appsv1.DaemonSet, node string) ([]corev1.Pod, error) {
	var all []corev1.Pod
	for _, set := range sets {
		pods, err := r.pods.get(set.Namespace+"/"+set.Name+"/"+node, func() ([]corev1.Pod, error) {
			options := metav1.ListOptions{LabelSelector: metav1.FormatLabelSelector(set.Spec.Selector)}
			if node != "" {
				options.FieldSelector = fields.OneTermEqualSelector("spec.nodeName", node).String()
			}
			list, err := r.Kube.CoreV1().Pods(set.Namespace).List(ctx, options)
			if err != nil {
				return nil, err
			}
			return list.Items, nil
		})
		if err != nil {
			return nil, err
		}
		all = append(all, pods...)
	}
	return all, nil
}

// driverContainer returns the container of the driver itself; nil if there is none. Its sidecars
// have no --endpoint.
func driverContainer(spec corev1.PodSpec) *corev1.Container {
	return container(spec, func(c corev1.Container) bool {
		_, endpoint := Flag(c, "endpoint")
		_, node := Flag(c, "nodeid")
		return endpoint && node && mounts(spec, "plugins/csi-secrets-store")
	})
}

// providerContainer returns the container that serves azure.sock; nil if there is none.
func providerContainer(spec corev1.PodSpec) *corev1.Container {
	return container(spec, func(c corev1.Container) bool {
		endpoint, _ := Flag(c, "endpoint")
		return strings.HasSuffix(endpoint, "azure.sock")
	})
}

func container(spec corev1.PodSpec, is func(corev1.Container) bool) *corev1.Container {
	for i, c := range spec.Containers {
		if is(c) {
			return &spec.Containers[i]
		}
	}
	return nil
}

func mounts(spec corev1.PodSpec, folder string) bool {
	for _, v := range spec.Volumes {
		if v.HostPath != nil && strings.Contains(strings.ReplaceAll(v.HostPath.Path, `\`, "/"), folder) {
			return true
		}
	}
	return false
}

// Flag returns the value of a flag among a container's arguments, and whether it is there. A flag
// without a value is true.
func Flag(c corev1.Container, name string) (string, bool) {
	args := append(append([]string{}, c.Command...), c.Args...)
	for i := len(args) - 1; i >= 0; i-- { // the last one counts
		flag, value, assigned := strings.Cut(strings.TrimLeft(args[i], "-"), "=")
		if flag != name || !strings.HasPrefix(args[i], "-") {
			continue
		}
		if !assigned {
			value = "true"
		}
		return value, true
	}
	return "", false
}

// DriverContainer returns the driver's container of a pod; an empty one if there is none.
func DriverContainer(pod corev1.Pod) corev1.Container { return orEmpty(driverContainer(pod.Spec)) }

// ProviderContainer returns the provider's container of a pod; an empty one if there is none.
func ProviderContainer(pod corev1.Pod) corev1.Container { return orEmpty(providerContainer(pod.Spec)) }

func orEmpty(c *corev1.Container) corev1.Container {
	if c == nil {
		return corev1.Container{}
	}
	return *c
}

// Version returns the tag of an image, or its digest.
func Version(image string) string {
	if _, digest, ok := strings.Cut(image, "@"); ok {
		return digest
	}
	if i := strings.LastIndexByte(image, ':'); i > strings.LastIndexByte(image, '/') {
		return image[i+1:]
	}
	return "latest"
}

// Replaced reports whether an image is that of the provider that this one replaces.
func Replaced(image string) bool {
	return strings.Contains(image, "azure/secrets-store/provider-azure")
}

// Ready reports whether a pod is ready, and if not, why.
func Ready(pod corev1.Pod) (ready bool, why string) {
	if pod.DeletionTimestamp != nil {
		return false, "is being deleted"
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
			return true, ""
		}
	}
	for _, c := range append(append([]corev1.ContainerStatus{}, pod.Status.InitContainerStatuses...), pod.Status.ContainerStatuses...) {
		switch {
		case c.State.Waiting != nil:
			return false, "is not ready: container " + c.Name + ": " + strings.TrimSuffix(c.State.Waiting.Reason+": "+c.State.Waiting.Message, ": ")
		case c.State.Terminated != nil:
			return false, "is not ready: container " + c.Name + ": " + c.State.Terminated.Reason
		}
	}
	return false, "is not ready (" + string(pod.Status.Phase) + ")"
}
