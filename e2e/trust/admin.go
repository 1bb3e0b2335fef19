package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// adminAttacks come from anybody who reaches the node's address: they need no credential.
func adminAttacks() []attack {
	return []attack{{
		name: "connections to health", about: "9,000 connections to the health port, each with 15 KB of a header that does not end",
		bounds: bounds{health: true}, lasts: 12 * time.Second, run: headers(9000, false),
	}, {
		name: "connections to metrics", about: "the same to the metrics port", long: true,
		bounds: bounds{health: true}, lasts: 12 * time.Second, run: headers(9000, true),
	}, {
		name: "metrics at once", about: "3,000 requests of /metrics at once",
		bounds: bounds{health: true}, lasts: 12 * time.Second, run: scrapes(3000),
	}}
}

// headers opens so many connections and leaves each in the middle of its header.
func headers(n int, metrics bool) func(context.Context, *siege) error {
	return func(ctx context.Context, s *siege) error {
		port := s.ports.health
		if metrics {
			port = s.ports.metrics
		}
		text := "GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("v", 15<<10)
		var mu sync.Mutex // guards open
		var open []net.Conn
		s.parallel(ctx, n, 200, func() {
			c, err := (&net.Dialer{Timeout: 200 * time.Millisecond}).DialContext(ctx, "tcp", address(port))
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			_ = c.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
			_, _ = io.WriteString(c, text) // the plugin may refuse it
		})
		s.note("%d connections open", len(open))
		wait(ctx, shortest)
		for _, c := range open {
			_ = c.Close()
		}
		s.recovers()
		return nil
	}
}

func scrapes(n int) func(context.Context, *siege) error {
	return func(ctx context.Context, s *siege) error {
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
		s.parallel(ctx, n, n, func() {
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address(s.ports.metrics)+"/metrics", nil)
			if err != nil {
				return
			}
			if response, err := client.Do(request); err == nil {
				_, _ = io.Copy(io.Discard, response.Body)
				_ = response.Body.Close()
			}
		})
		s.recovers()
		return nil
	}
}

// parallel does something n times, so many at a time.
func (s *siege) parallel(ctx context.Context, n, parallel int, do func()) {
	places := make(chan struct{}, parallel)
	var group sync.WaitGroup
	for range n {
		if ctx.Err() != nil {
			break
		}
		places <- struct{}{}
		group.Go(func() {
			s.attempts.Add(1)
			do()
			<-places
		})
	}
	group.Wait()
}

// recovers checks that the health check works once the attack is over.
func (s *siege) recovers() {
	if !s.died() {
		s.expect(s.healthy(context.Background()), "no health check within %s after the attack", probeTimeout)
	}
}
