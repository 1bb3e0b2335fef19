package kubetest

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Now is the time at which the objects of Sound are a minute old.
var Now = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

// ClientID is that of the ServiceAccount's annotation.
const ClientID = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"

// Paths of the objects of Sound.
const (
	DriverPath   = "/apis/storage.k8s.io/v1/csidrivers/secrets-store.csi.k8s.io"
	NodePath     = "/apis/storage.k8s.io/v1/csinodes/node-1"
	SetPath      = "/apis/apps/v1/namespaces/kube-system/daemonsets/akv-csi-provider"
	ProviderPath = "/api/v1/namespaces/kube-system/pods/akv-csi-provider-x7k2p"
	ClassPath    = "/apis/secrets-store.csi.x-k8s.io/v1/namespaces/shop/secretproviderclasses/web"
	StatusPath   = "/apis/secrets-store.csi.x-k8s.io/v1/namespaces/shop/secretproviderclasspodstatuses/web-shop-web"
	AccountPath  = "/api/v1/namespaces/shop/serviceaccounts/web"
	SecretPath   = "/api/v1/namespaces/shop/secrets/publish"
	PodPath      = "/api/v1/namespaces/shop/pods/web"
	EventPath    = "/api/v1/namespaces/shop/events/web.1"
	LogPath      = ProviderPath + "/log"
	MetricsPath  = "/api/v1/namespaces/kube-system/pods/akv-csi-provider-x7k2p:8898/proxy/metrics"
	IssuerPath   = "/.well-known/openid-configuration"
)

// Sound fills the server with a node that has driver and provider, and pod shop/web that waits for
// its volume though nothing is wrong.
func (s *Server) Sound() {
	s.t.Helper()
	s.Put(DriverPath, Driver("api://AzureADTokenExchange"))
	s.Put(NodePath, storagev1.CSINode{ObjectMeta: metav1.ObjectMeta{Name: "node-1"}, Spec: storagev1.CSINodeSpec{
		Drivers: []storagev1.CSINodeDriver{{Name: "secrets-store.csi.k8s.io", NodeID: "node-1"}}}})
	for path, c := range map[string]corev1.Container{
		SetPath: ProviderContainer(),
		"/apis/apps/v1/namespaces/kube-system/daemonsets/csi-secrets-store": driverContainer(),
		"/apis/apps/v1/namespaces/kube-system/daemonsets/kube-proxy":        {Name: "kube-proxy", Args: []string{"--endpoint=x"}},
	} {
		s.Put(path, set(path[len("/apis/apps/v1/namespaces/kube-system/daemonsets/"):], c))
	}
	s.Put(ProviderPath, SystemPod("akv-csi-provider", "akv-csi-provider-x7k2p", ProviderContainer(), true))
	s.Put("/api/v1/namespaces/kube-system/pods/csi-secrets-store-9fj2v", SystemPod("csi-secrets-store", "csi-secrets-store-9fj2v", driverContainer(), true))
	s.Put(ClassPath, Class("azure", map[string]string{"keyvaultName": "kv-shop", "tenantID": "contoso.example", "objects": "- {objectName: db, objectType: secret}"}))
	s.Put(AccountPath, Account(map[string]string{"azure.workload.identity/client-id": ClientID}, nil))
	s.Put(PodPath, Pod())
	s.Put(IssuerPath, map[string]string{"issuer": "https://oidc.contoso.example/cluster/"})
	s.Put(LogPath, "the log of another program\n")
}

// Driver is the CSIDriver, with rotation.
func Driver(audiences ...string) *storagev1.CSIDriver {
	yes := true
	d := &storagev1.CSIDriver{ObjectMeta: metav1.ObjectMeta{Name: "secrets-store.csi.k8s.io"}, Spec: storagev1.CSIDriverSpec{PodInfoOnMount: &yes, RequiresRepublish: &yes}}
	for _, a := range audiences {
		d.Spec.TokenRequests = append(d.Spec.TokenRequests, storagev1.TokenRequest{Audience: a})
	}
	return d
}

// ProviderContainer is the provider's.
func ProviderContainer() corev1.Container {
	return corev1.Container{Name: "provider", Image: "registry.example/akv-csi-provider:v1.2.3",
		Args: []string{"--endpoint=unix:///provider/azure.sock", "--cloud-file=OurCloud=/etc/akv/our.json"}}
}

func driverContainer() corev1.Container {
	return corev1.Container{Name: "secrets-store", Image: "registry.k8s.io/csi-secrets-store/driver:v1.6.0",
		Args: []string{"--endpoint=$(CSI_ENDPOINT)", "--nodeid=$(KUBE_NODE_NAME)", "--enable-secret-rotation=true", "--rotation-poll-interval=30s"}}
}

func spec(c corev1.Container) corev1.PodSpec {
	return corev1.PodSpec{NodeName: "node-1", Containers: []corev1.Container{c}, Volumes: []corev1.Volume{
		{Name: "plugin", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/var/lib/kubelet/plugins/csi-secrets-store/"}}}}}
}

func set(name string, c corev1.Container) *appsv1.DaemonSet {
	app := map[string]string{"app": name}
	return &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "kube-system"}, Spec: appsv1.DaemonSetSpec{
		Selector: &metav1.LabelSelector{MatchLabels: app}, Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: app}, Spec: spec(c)}}}
}

// SystemPod is a pod of a DaemonSet on the node.
func SystemPod(set, name string, c corev1.Container, ready bool) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "kube-system", Labels: map[string]string{"app": set}}, Spec: spec(c)}
	p.Status.Phase = corev1.PodRunning
	if ready {
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	} else {
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: c.Name, State: corev1.ContainerState{
			Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: "back-off 20s restarting failed container"}}}}
	}
	return p
}

// Class is SecretProviderClass shop/web.
func Class(provider string, parameters map[string]string) map[string]any {
	return map[string]any{"apiVersion": "secrets-store.csi.x-k8s.io/v1", "kind": "SecretProviderClass",
		"metadata": map[string]any{"name": "web", "namespace": "shop"}, "spec": map[string]any{"provider": provider, "parameters": parameters}}
}

// Account is ServiceAccount shop/web.
func Account(annotations, labels map[string]string) *corev1.ServiceAccount {
	return &corev1.ServiceAccount{TypeMeta: metav1.TypeMeta{Kind: "ServiceAccount", APIVersion: "v1"},
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop", Annotations: annotations, Labels: labels}}
}

// Pod is pod shop/web, which waits for its volume.
func Pod() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop", UID: "uid-web", CreationTimestamp: metav1.NewTime(Now.Add(-time.Minute))},
		Spec: corev1.PodSpec{NodeName: "node-1", ServiceAccountName: "web", Volumes: []corev1.Volume{{Name: "secrets", VolumeSource: corev1.VolumeSource{
			CSI: &corev1.CSIVolumeSource{Driver: "secrets-store.csi.k8s.io", VolumeAttributes: map[string]string{"secretProviderClass": "web"}}}}}},
		Status: corev1.PodStatus{Phase: corev1.PodPending, ContainerStatuses: []corev1.ContainerStatus{
			{Name: "main", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}}}}},
	}
}

// Running is pod shop/web with a container that runs.
func Running() *corev1.Pod {
	p := Pod()
	p.Status.Phase = corev1.PodRunning
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "main", ContainerID: "containerd://1", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}
	return p
}

// Mounted is what the driver reports of the pod's volume, written half a minute ago.
func Mounted(uid types.UID) map[string]any {
	return map[string]any{"apiVersion": "secrets-store.csi.x-k8s.io/v1", "kind": "SecretProviderClassPodStatus",
		"metadata": map[string]any{"name": "web-shop-web", "namespace": "shop", "creationTimestamp": Now.Add(-30 * time.Second).Format(time.RFC3339),
			"labels":          map[string]any{"internal.secrets-store.csi.k8s.io/node-name": "node-1"},
			"ownerReferences": []any{map[string]any{"apiVersion": "v1", "kind": "Pod", "name": "web", "uid": uid}}},
		"status": map[string]any{"podName": "web", "secretProviderClassName": "web", "mounted": true,
			"objects": []any{map[string]any{"id": "secret/db", "version": "0123456789abcdef"}}}}
}

// Event is one of the pod's in which kubelet could not mount the volume.
func Event(text string) *corev1.Event {
	return &corev1.Event{ObjectMeta: metav1.ObjectMeta{Name: "web.1", Namespace: "shop"}, Reason: "FailedMount", Count: 3,
		InvolvedObject: corev1.ObjectReference{Kind: "Pod", Name: "web", UID: "uid-web"}, LastTimestamp: metav1.NewTime(Now.Add(-5 * time.Second)),
		Message: `MountVolume.SetUp failed for volume "secrets" : ` + text}
}

// Failed is the event of a mount that the provider could not make.
func Failed(text string) *corev1.Event {
	return Event("rpc error: code = Unknown desc = failed to mount secrets store objects for pod shop/web, err: rpc error: code = PermissionDenied desc = " + text)
}
