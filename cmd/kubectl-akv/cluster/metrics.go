package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	corev1 "k8s.io/api/core/v1"
)

// Metrics are what a provider counted since it started.
type Metrics struct {
	Version         string         `json:"version,omitempty"`
	Mounts          map[string]int `json:"mounts"`          // by reason; "ok" for success
	FailedRotations int            `json:"failedRotations"` // of pods that kept their files
}

// Bounds of an answer.
const (
	metricsTimeout = 10 * time.Second
	maxMetrics     = 4 << 20
	defaultPort    = 8898
)

// Why a provider's metrics cannot be read through the API server, by the provider's own flags.
var (
	errMetricsLocal = errors.New("the provider serves them on the node's loopback address only (--bind-address, linux.bindAddress of the chart)")
	errMetricsOff   = errors.New("the provider serves none (--prometheus-port=0, metricsAddr of the chart)")
)

// Metrics reads those of a provider's pod, through the API server.
func (r *Reader) Metrics(ctx context.Context, pod corev1.Pod) (*Metrics, error) {
	port := metricsPort(pod)
	if port == 0 {
		return nil, errMetricsOff
	}
	if address, _ := Flag(ProviderContainer(pod), "bind-address"); net.ParseIP(address).IsLoopback() {
		return nil, errMetricsLocal
	}
	ctx, cancel := context.WithTimeout(ctx, metricsTimeout)
	defer cancel()
	body, err := r.Kube.CoreV1().RESTClient().Get().Namespace(pod.Namespace).Resource("pods").
		Name(fmt.Sprintf("%s:%d", pod.Name, port)).SubResource("proxy").Suffix("metrics").Stream(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = body.Close() }()
	return parseMetrics(io.LimitReader(body, maxMetrics))
}

func metricsPort(pod corev1.Pod) int {
	c := ProviderContainer(pod)
	if text, ok := Flag(c, "prometheus-port"); ok {
		if port, err := strconv.Atoi(text); err == nil {
			return port
		}
	}
	for _, p := range c.Ports {
		if p.Name == "metrics" {
			return int(p.ContainerPort)
		}
	}
	return defaultPort
}

func parseMetrics(text io.Reader) (*Metrics, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(text)
	if err != nil {
		return nil, fmt.Errorf("the provider's metrics: %w", err)
	}
	m := &Metrics{Mounts: make(map[string]int)}
	for name, family := range families {
		for _, metric := range family.GetMetric() {
			labels := make(map[string]string)
			for _, l := range metric.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			switch {
			case name == "akv_csi_mount_duration_seconds":
				m.Mounts[labels["reason"]] += int(metric.GetHistogram().GetSampleCount())
			case name == "akv_csi_rotations_total" && labels["result"] == "failed":
				m.FailedRotations += int(metric.GetCounter().GetValue())
			case name == "akv_csi_build_info":
				m.Version = labels["version"]
			}
		}
	}
	return m, nil
}
