package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

// ports are those of the plugin's health check, metrics and profiles.
type ports struct{ health, metrics, pprof int }

// freePorts finds ports on which no process listens.
func freePorts() (p ports, err error) {
	for _, port := range []*int{&p.health, &p.metrics, &p.pprof} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return ports{}, err
		}
		defer l.Close() // after all are chosen
		*port = l.Addr().(*net.TCPAddr).Port
	}
	return p, nil
}

func (p ports) flags() []string {
	return []string{fmt.Sprintf("--healthz-port=%d", p.health), fmt.Sprintf("--prometheus-port=%d", p.metrics), fmt.Sprintf("--pprof-port=%d", p.pprof)}
}

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// health counts what kubelet's liveness probe would have seen.
type health struct{ probes, failed atomic.Int64 }

const (
	probeEvery   = time.Second
	probeTimeout = 10 * time.Second // that of the manifests
)

// probe requests the health repeatedly until ctx ends, on a new connection each time.
func (s *siege) probe(ctx context.Context) {
	for {
		begin := time.Now()
		ok := s.healthy(ctx)
		if ctx.Err() != nil && time.Since(begin) < probeTimeout {
			return // given up, not failed
		}
		s.health.probes.Add(1)
		if !ok {
			s.health.failed.Add(1)
		}
		if !wait(ctx, probeEvery) {
			return
		}
	}
}

func (s *siege) healthy(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address(s.ports.health)+"/healthz", nil)
	if err != nil {
		return false
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	return response.StatusCode == http.StatusOK
}
