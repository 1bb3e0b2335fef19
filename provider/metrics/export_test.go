package metrics

import "github.com/prometheus/client_golang/prometheus"

// Register adds a metric to those that are served.
func (m *Metrics) Register(c prometheus.Collector) { m.registry.MustRegister(c) }
