package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/yaml"
)

// limits are what the manifests give the plugin on a node. They are read from there, so
// that the two cannot diverge.
type limits struct {
	memory int64         // bytes
	env    []string      // of the container, such as GOMEMLIMIT
	args   []string      // of the container
	grace  time.Duration // from SIGTERM to SIGKILL
}

// defaultGrace is that of pods that name none.
const defaultGrace = 30 * time.Second

// readLimits reads the DaemonSet at the path.
func readLimits(path string) (limits, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return limits{}, err
	}
	l, err := parseLimits(text)
	if err != nil {
		return limits{}, fmt.Errorf("%s: %w", path, err)
	}
	return l, nil
}

func parseLimits(text []byte) (limits, error) {
	var set appsv1.DaemonSet
	if err := yaml.UnmarshalStrict(text, &set); err != nil {
		return limits{}, err
	}
	pod := set.Spec.Template.Spec
	if len(pod.Containers) != 1 {
		return limits{}, fmt.Errorf("%d containers instead of one", len(pod.Containers))
	}
	container := pod.Containers[0]
	l := limits{memory: container.Resources.Limits.Memory().Value(), args: container.Args, grace: defaultGrace}
	if l.memory == 0 {
		return limits{}, errors.New("no limit of memory")
	}
	if seconds := pod.TerminationGracePeriodSeconds; seconds != nil {
		l.grace = time.Duration(*seconds) * time.Second
	}
	for _, e := range container.Env {
		value, ok := value(e, container.Resources)
		if ok {
			l.env = append(l.env, e.Name+"="+value)
		}
	}
	return l, nil
}

// value is that of an environment variable, if it is known without a node.
func value(e corev1.EnvVar, resources corev1.ResourceRequirements) (string, bool) {
	if e.ValueFrom == nil {
		return e.Value, true
	}
	field := e.ValueFrom.ResourceFieldRef
	if field == nil {
		return "", false
	}
	var of resource.Quantity
	switch field.Resource {
	case "limits.memory":
		of = *resources.Limits.Memory()
	case "limits.cpu":
		of = *resources.Limits.Cpu()
	default:
		return "", false
	}
	divisor := max(field.Divisor.Value(), 1)
	return fmt.Sprint((of.Value() + divisor - 1) / divisor), !of.IsZero()
}
