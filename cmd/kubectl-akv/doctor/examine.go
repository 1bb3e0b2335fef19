package doctor

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"akv-csi-provider/cmd/kubectl-akv/cluster"
)

// examination is of one volume of a pod. The fields below the report are what earlier checks found.
type examination struct {
	ctx    context.Context
	reader *cluster.Reader
	now    time.Time
	pod    *corev1.Pod
	volume cluster.Volume
	report *Report

	driver     *corev1.Container // nil if it was not found
	provider   *corev1.Pod       // likewise
	class      class
	failure    *cluster.Failure // the last one; nil if there is none
	failureErr error            // why events could not be read
	mounted    *cluster.Status  // nil if the driver reports none
}

// Examine checks a pod, in the order in which a mount needs what is checked.
func Examine(ctx context.Context, reader *cluster.Reader, pod *corev1.Pod, now time.Time) *Report {
	report := &Report{Namespace: pod.Namespace, Pod: pod.Name, Node: pod.Spec.NodeName, state: stateOf(pod, now)}
	volumes := cluster.Volumes(pod)
	for i, volume := range volumes {
		e := &examination{ctx: ctx, reader: reader, now: now, pod: pod, volume: volume, report: report}
		e.readClass()
		e.readMounted()
		e.readFailure()
		if i == 0 {
			e.node()
		} else {
			e.findProvider()
		}
		first := len(report.Checks)
		e.ofVolume()
		if len(volumes) > 1 {
			for _, c := range report.Checks[first:] {
				c.Name += " (" + volume.Name + ")"
			}
		}
	}
	report.add(containers(pod))
	return report
}

// node checks what all volumes of the pod share.
func (e *examination) node() {
	e.report.add(e.scheduled())
	e.report.add(e.registered())
	e.report.add(e.served())
	e.report.add(e.tokens())
	e.report.add(e.rotation())
}

func (e *examination) ofVolume() {
	e.report.add(e.classExists())
	e.report.add(e.parameters())
	e.report.add(e.identity())
	if e.volume.Secret != "" {
		e.report.add(e.secret())
	}
	e.report.add(e.federation())
	e.report.add(e.event())
	e.report.add(e.log())
	e.report.add(e.content())
	e.report.add(e.versions())
}

// started reports whether a container of the pod runs or ran.
func (e *examination) started() bool { return cluster.Started(e.pod) }

func (e *examination) ago(t time.Time) string { return ago(e.now, t) }

func ago(now, t time.Time) string {
	return duration.HumanDuration(max(0, now.Sub(t))) + " ago"
}

// stateOf is the pod's state in a few words.
func stateOf(pod *corev1.Pod, now time.Time) string {
	state := string(pod.Status.Phase)
	for _, c := range pod.Status.ContainerStatuses {
		if c.State.Waiting != nil && c.State.Waiting.Reason != "" {
			state = c.State.Waiting.Reason
			break
		}
	}
	return fmt.Sprintf("%s, created %s", state, ago(now, pod.CreationTimestamp.Time))
}

func (e *examination) scheduled() *Check {
	if e.pod.Spec.NodeName != "" {
		return fine("pod", "scheduled to node "+e.pod.Spec.NodeName)
	}
	text := "is not scheduled to a node"
	for _, c := range e.pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Message != "" {
			text += ": " + c.Message
		}
	}
	return problem("pod", text, "make a node available to it; its volumes have no part in this")
}

// containers says why containers wait, if it is not for volumes.
func containers(pod *corev1.Pod) *Check {
	const name = "containers"
	all := append(append([]corev1.ContainerStatus{}, pod.Status.InitContainerStatuses...), pod.Status.ContainerStatuses...)
	for _, c := range all {
		w := c.State.Waiting
		if w == nil || w.Reason == "ContainerCreating" || w.Reason == "PodInitializing" || w.Reason == "" {
			continue
		}
		check := problem(name, strings.TrimSuffix("container "+c.Name+" waits: "+w.Reason+": "+w.Message, ": "),
			"see kubectl describe pod "+pod.Name+" -n "+pod.Namespace)
		if w.Reason == "CreateContainerConfigError" && strings.Contains(w.Message, "secret") {
			check.Fix = "if secretObjects of the class make that Secret: the driver must run with syncSecret.enabled=true, and the names must be equal"
		}
		return check
	}
	if !cluster.Started(pod) {
		return notReached(name, "no container has started")
	}
	return fine(name, "have started")
}
