package cluster

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/pager"
)

// Status is a SecretProviderClassPodStatus: what the driver last wrote into a volume.
type Status struct {
	Namespace, Pod, PodUID, Class, Node string
	Objects                             []Object
	Since                               time.Time // of the last change; zero if it is not known
}

// Object is what a volume has of a vault.
type Object struct {
	ID      string `json:"id"`
	Version string `json:"version"`
}

// Statuses returns those of a namespace, or of all with "".
func (r *Reader) Statuses(ctx context.Context, namespace string) ([]Status, error) {
	return r.statuses.get(namespace, func() ([]Status, error) {
		var found []Status
		err := r.each(ctx, func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			return r.Dynamic.Resource(Statuses).Namespace(namespace).List(ctx, options)
		}, func(o runtime.Object) {
			found = append(found, newStatus(o.(*unstructured.Unstructured)))
		})
		return found, err
	})
}

// each reads a list in pages.
func (r *Reader) each(ctx context.Context, list pager.ListPageFunc, do func(runtime.Object)) error {
	p := pager.New(list)
	p.PageSize, p.PageBufferSize = pageSize, 0
	return p.EachListItem(ctx, metav1.ListOptions{}, func(o runtime.Object) error {
		do(o)
		return nil
	})
}

const nodeLabel = "internal.secrets-store.csi.k8s.io/node-name"

func newStatus(o *unstructured.Unstructured) Status {
	text := func(m map[string]any, fields ...string) string {
		s, _, _ := unstructured.NestedString(m, fields...)
		return s
	}
	s := Status{Namespace: o.GetNamespace(), Node: o.GetLabels()[nodeLabel], Since: o.GetCreationTimestamp().Time,
		Pod: text(o.Object, "status", "podName"), Class: text(o.Object, "status", "secretProviderClassName")}
	for _, owner := range o.GetOwnerReferences() {
		if owner.Kind == "Pod" {
			s.PodUID = string(owner.UID)
		}
	}
	objects, _, _ := unstructured.NestedSlice(o.Object, "status", "objects")
	for _, object := range objects {
		if m, ok := object.(map[string]any); ok {
			s.Objects = append(s.Objects, Object{text(m, "id"), text(m, "version")})
		}
	}
	// An update without a change leaves these.
	for _, m := range o.GetManagedFields() {
		if m.Time != nil && m.Time.After(s.Since) {
			s.Since = m.Time.Time
		}
	}
	return s
}

// Volume is a volume of a pod that the driver mounts.
type Volume struct {
	Name       string
	Class      string
	Secret     string            // of nodePublishSecretRef; "" for none
	Attributes map[string]string // which override the class's parameters
}

// Volumes returns those of a pod.
func Volumes(pod *corev1.Pod) []Volume {
	var found []Volume
	for _, v := range pod.Spec.Volumes {
		if v.CSI == nil || v.CSI.Driver != DriverName {
			continue
		}
		volume := Volume{Name: v.Name, Class: v.CSI.VolumeAttributes["secretProviderClass"], Attributes: v.CSI.VolumeAttributes}
		if v.CSI.NodePublishSecretRef != nil {
			volume.Secret = v.CSI.NodePublishSecretRef.Name
		}
		found = append(found, volume)
	}
	return found
}

// Pods returns the pods of a namespace, or of all with "", that have such volumes and did not end.
func (r *Reader) Pods(ctx context.Context, namespace string) ([]*corev1.Pod, error) {
	var found []*corev1.Pod
	err := r.each(ctx, func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
		return r.Kube.CoreV1().Pods(namespace).List(ctx, options)
	}, func(o runtime.Object) {
		pod := o.(*corev1.Pod)
		if ended := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed; !ended && len(Volumes(pod)) > 0 {
			found = append(found, pod)
		}
	})
	return found, err
}

// Started reports whether a container of the pod has started at least once: its volumes were
// mounted then, or the driver believed so.
func Started(pod *corev1.Pod) bool {
	for _, c := range append(append([]corev1.ContainerStatus{}, pod.Status.InitContainerStatuses...), pod.Status.ContainerStatuses...) {
		if c.ContainerID != "" {
			return true
		}
	}
	return false
}

// Mounted returns what the driver wrote into a volume of a pod; nil if it says nothing of it. An
// older pod of the same name is ignored.
func Mounted(all []Status, pod *corev1.Pod, class string) *Status {
	for i, s := range all {
		if s.Namespace == pod.Namespace && s.PodUID == string(pod.UID) && s.Class == class {
			return &all[i]
		}
	}
	return nil
}
