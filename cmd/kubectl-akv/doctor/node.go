package doctor

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"akv-csi-provider/cmd/kubectl-akv/cluster"
)

const installDriver = "install the driver, see deploy/README.md, \"The driver\""

// registered checks the driver: its object, and that kubelet of the pod's node knows it.
func (e *examination) registered() *Check {
	const name = "driver"
	e.findDriver()
	_, err := e.reader.CSIDriver(e.ctx)
	if apierrors.IsNotFound(err) {
		return problem(name, "the Secrets Store CSI driver is not installed: there is no CSIDriver "+cluster.DriverName, installDriver)
	}
	node := e.pod.Spec.NodeName
	if node == "" {
		return notReached(name, "the pod is on no node")
	}
	csiNode, err := e.reader.CSINode(e.ctx, node)
	switch {
	case apierrors.IsNotFound(err):
		csiNode = &storagev1.CSINode{} // kubelet makes it with the first driver
	case err != nil:
		return unread(name, "CSINode "+node, err)
	}
	is := func(d storagev1.CSINodeDriver) bool { return d.Name == cluster.DriverName }
	if !slices.ContainsFunc(csiNode.Spec.Drivers, is) {
		return problem(name, "the Secrets Store CSI driver is not registered on node "+node+e.driverPod(),
			"let its DaemonSet run a pod on that node: check nodeSelector and tolerations, and the logs of that pod",
			"kubectl get daemonsets -A", "kubectl get pods -A -o wide --field-selector spec.nodeName="+node)
	}
	text := cluster.DriverName + " is registered on the node"
	if e.driver != nil {
		text += "; version " + cluster.Version(e.driver.Image)
	}
	return fine(name, text)
}

// findDriver looks for the driver's container on the node, or of any node.
func (e *examination) findDriver() {
	sets, err := e.reader.Drivers(e.ctx)
	if err != nil || len(sets) == 0 {
		return
	}
	c := cluster.DriverContainer(corev1.Pod{Spec: sets[0].Spec.Template.Spec})
	if pods, err := e.reader.PodsOf(e.ctx, sets, e.pod.Spec.NodeName); err == nil && len(pods) > 0 && e.pod.Spec.NodeName != "" {
		c = cluster.DriverContainer(pods[0])
	}
	e.driver = &c
}

// driverPod says how the driver's pod on the node is, as an addition to a text.
func (e *examination) driverPod() string {
	sets, err := e.reader.Drivers(e.ctx)
	switch {
	case err != nil:
		return ""
	case len(sets) == 0:
		return ": no DaemonSet of it was found"
	}
	pods, err := e.reader.PodsOf(e.ctx, sets, e.pod.Spec.NodeName)
	switch {
	case err != nil:
		return ""
	case len(pods) == 0:
		return fmt.Sprintf(": DaemonSet %s/%s has no pod there", sets[0].Namespace, sets[0].Name)
	}
	if ready, why := cluster.Ready(pods[0]); !ready {
		return fmt.Sprintf(": its pod %s/%s %s", pods[0].Namespace, pods[0].Name, why)
	}
	return ""
}

// findProvider looks for the provider's pod on the node.
func (e *examination) findProvider() []corev1.Pod {
	if e.pod.Spec.NodeName == "" {
		return nil
	}
	sets, err := e.reader.Providers(e.ctx)
	if err != nil {
		return nil
	}
	pods, err := e.reader.PodsOf(e.ctx, sets, e.pod.Spec.NodeName)
	pods = slices.DeleteFunc(slices.Clone(pods), func(p corev1.Pod) bool { return p.DeletionTimestamp != nil })
	if err != nil || len(pods) == 0 {
		return nil
	}
	best := 0
	for i := range pods {
		if ready, _ := cluster.Ready(pods[i]); ready {
			best = i
		}
	}
	e.provider = &pods[best]
	return pods
}

// served checks that the provider is ready on the pod's node.
func (e *examination) served() *Check {
	const name = "provider"
	if e.pod.Spec.NodeName == "" {
		return notReached(name, "the pod is on no node")
	}
	sets, err := e.reader.Providers(e.ctx)
	if err != nil {
		return unread(name, "DaemonSets", err)
	}
	if len(sets) == 0 {
		return problem(name, "no provider \"azure\" is installed: no DaemonSet serves azure.sock",
			"install akv-csi-provider, see deploy/README.md, \"The provider\"; if it is installed in a namespace that you cannot list, set --provider-namespace")
	}
	if _, err := e.reader.PodsOf(e.ctx, sets, e.pod.Spec.NodeName); err != nil {
		return unread(name, "pods of DaemonSet "+sets[0].Namespace+"/"+sets[0].Name, err)
	}
	pods := e.findProvider()
	set := sets[0]
	if e.provider == nil {
		return problem(name, fmt.Sprintf("the provider does not run on node %s: DaemonSet %s/%s has no pod there", e.pod.Spec.NodeName, set.Namespace, set.Name),
			"let the DaemonSet run a pod on that node: check its nodeSelector, affinity and tolerations",
			fmt.Sprintf("kubectl -n %s describe daemonset %s", set.Namespace, set.Name))
	}
	p := *e.provider
	image := cluster.ProviderContainer(p).Image
	ready, why := cluster.Ready(p)
	switch {
	case !ready:
		return problem(name, fmt.Sprintf("the provider on node %s is down: pod %s/%s %s", p.Spec.NodeName, p.Namespace, p.Name, why),
			"find out why that pod is not ready", fmt.Sprintf("kubectl -n %s describe pod %s", p.Namespace, p.Name),
			fmt.Sprintf("kubectl -n %s logs %s --previous", p.Namespace, p.Name))
	case len(pods) > 1 && everyReady(pods):
		return problem(name, fmt.Sprintf("two providers serve azure.sock on node %s: pods %s and %s", p.Spec.NodeName, pods[0].Name, pods[1].Name),
			"uninstall the one that you replace, see deploy/MOVING.md")
	case cluster.Replaced(image):
		return fine(name, fmt.Sprintf("pod %s is ready; it is Azure's own provider, version %s, whose errors have no reason in brackets", p.Name, cluster.Version(image)))
	}
	return fine(name, fmt.Sprintf("pod %s is ready; version %s", p.Name, cluster.Version(image)))
}

func everyReady(pods []corev1.Pod) bool {
	return !slices.ContainsFunc(pods, func(p corev1.Pod) bool { ready, _ := cluster.Ready(p); return !ready })
}

// flag returns a flag of the provider on the node; "" if it is not set, or the pod not known.
func (e *examination) flag(name string) string {
	if e.provider == nil {
		return ""
	}
	value, _ := cluster.Flag(cluster.ProviderContainer(*e.provider), name)
	return value
}

// csiDriver is the driver's object, or what the check that needs it says without one.
func (e *examination) csiDriver(check string) (*storagev1.CSIDriver, *Check) {
	driver, err := e.reader.CSIDriver(e.ctx)
	switch {
	case apierrors.IsNotFound(err):
		return nil, notReached(check, "there is no CSIDriver")
	case err != nil:
		return nil, unread(check, "CSIDriver "+cluster.DriverName, err)
	}
	return driver, nil
}

// tokens checks that kubelet is configured to send the tokens that the identity needs.
func (e *examination) tokens() *Check {
	const name = "tokens"
	driver, missing := e.csiDriver(name)
	if missing != nil {
		return missing
	}
	if driver.Spec.PodInfoOnMount == nil || !*driver.Spec.PodInfoOnMount {
		return problem(name, "the CSIDriver has no podInfoOnMount, so the driver does not know the pod", "set podInfoOnMount: true, see deploy/README.md, \"The driver\"")
	}
	var requested []string
	for _, r := range driver.Spec.TokenRequests {
		requested = append(requested, r.Audience)
	}
	wanted := e.class.audiences(e.flag("token-audience"))
	if len(wanted) == 0 {
		return fine(name, "not needed: "+e.class.credential)
	}
	if !slices.ContainsFunc(wanted, func(a string) bool { return slices.Contains(requested, a) }) {
		if e.class.err != nil {
			return notReached(name, "which tokens are needed depends on the class; the CSIDriver requests: "+list(requested))
		}
		return problem(name, fmt.Sprintf("the CSIDriver requests no service account token for audience %s (requested: %s)", wanted[0], list(requested)),
			"add the audience to those of spec.tokenRequests of the CSIDriver; cluster operator, with the driver's Helm chart (helm list -A shows its release, namespace and version):",
			e.upgradeDriver(append(requested, wanted[0])))
	}
	text := "the CSIDriver requests tokens for " + list(requested)
	if s := driver.Spec.ServiceAccountTokenInSecrets; s != nil && *s {
		text += ", sent as secrets"
	}
	return fine(name, text)
}

// upgradeDriver is a command by which the driver requests tokens for these audiences. Helm replaces
// a list of values as a whole, so that it must name all of them.
func (e *examination) upgradeDriver(audiences []string) string {
	command := "helm upgrade csi-secrets-store secrets-store-csi-driver -n kube-system --repo https://kubernetes-sigs.github.io/secrets-store-csi-driver/charts"
	if e.driver != nil {
		if version, ok := strings.CutPrefix(cluster.Version(e.driver.Image), "v"); ok {
			command += " --version " + version
		}
	}
	command += " --reset-then-reuse-values"
	for i, a := range audiences {
		command += fmt.Sprintf(" --set 'tokenRequests[%d].audience=%s'", i, a)
	}
	return command
}

func list(texts []string) string {
	if len(texts) == 0 {
		return "none"
	}
	return strings.Join(texts, ", ")
}

// rotation says whether running pods get what changes in the vault.
func (e *examination) rotation() *Check {
	const name = "rotation"
	driver, missing := e.csiDriver(name)
	if missing != nil {
		return missing
	}
	calls := driver.Spec.RequiresRepublish != nil && *driver.Spec.RequiresRepublish
	if e.driver == nil {
		if !calls {
			return fine(name, "off: a running pod keeps the files that it started with")
		}
		return notChecked(name, "kubelet requests it (requiresRepublish); the driver's flags were not found")
	}
	enabled, _ := cluster.Flag(*e.driver, "enable-secret-rotation")
	interval, _ := cluster.Flag(*e.driver, "rotation-poll-interval")
	switch {
	case enabled == "true" && calls:
		return fine(name, "on: a running pod gets changes, at most every "+cmp.Or(interval, "2m"))
	case enabled == "true" && e.started():
		return problem(name, "the driver runs with rotation, but its CSIDriver has no requiresRepublish, so kubelet never requests it: the pod keeps the files that it started with",
			"set requiresRepublish: true in the CSIDriver; the driver's Helm chart does it from version 1.5 on")
	}
	return fine(name, "off: a running pod keeps the files that it started with")
}
