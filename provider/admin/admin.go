// Package admin serves the plugin's operators over HTTP: health, metrics and, on
// request, profiles. Each has its own port and mux, so that opening one of them
// opens nothing else.
package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"path"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/singleflight"
)

// Config says what is served where; a port of 0 turns a part off.
type Config struct {
	// BindAddress is the IP address of the health check and the metrics; "" for all addresses.
	BindAddress string
	// HealthPort is on all addresses of the host by default: kubelet's probes come to the
	// node's address when the pod uses the host's network.
	HealthPort    int
	HealthPath    string // such as "/healthz"; required with HealthPort
	HealthTimeout time.Duration
	Healthy       func(context.Context) error
	// Ready is served at [ReadyPath] of the same port, unless the health check is there;
	// required with HealthPort. It must not block.
	Ready func(context.Context) error

	MetricsPort int // at /metrics
	Metrics     http.Handler

	PprofPort int // on loopback only: profiles show memory
}

// ReadyPath is the path of readiness.
const ReadyPath = "/readyz"

// check refuses a part without what it needs. A mux panics at a path that no
// request can select.
func (c Config) check() error {
	switch {
	case !ValidAddress(c.BindAddress):
		return fmt.Errorf("admin: %q is not an IP address", c.BindAddress)
	case c.HealthPort != 0 && (c.HealthTimeout <= 0 || c.Healthy == nil || c.Ready == nil):
		return errors.New("admin: a health check needs a timeout and something to ask")
	case c.HealthPort != 0 && !ValidPath(c.HealthPath):
		return fmt.Errorf("admin: %q is not the path of a health check", c.HealthPath)
	case c.MetricsPort != 0 && c.Metrics == nil:
		return errors.New("admin: there are no metrics to serve")
	}
	return nil
}

// ValidPath reports whether a health check can be served at the path: absolute,
// clean, and without blanks or the wildcards of [http.ServeMux].
func ValidPath(p string) bool {
	clean := path.Clean(p)
	return path.IsAbs(p) && (p == clean || p == clean+"/") && !strings.ContainsAny(p, " \t\r\n{}?#")
}

// ValidAddress reports whether the address is an IP address, or "" for all.
func ValidAddress(address string) bool {
	_, err := netip.ParseAddr(address)
	return address == "" || err == nil
}

// Listener is what Listen has bound; Run serves it.
type Listener struct{ parts []part }

type part struct {
	listener net.Listener
	server   *http.Server
}

// Listen binds all ports, so that a port that is taken fails the start.
func Listen(cfg Config) (*Listener, error) {
	err := cfg.check()
	if err != nil {
		return nil, err
	}
	l := new(Listener)
	add := func(what, host string, port int, timeout time.Duration, handler http.Handler) {
		if err != nil {
			return
		}
		var bound net.Listener
		if bound, err = net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port))); err != nil {
			err = fmt.Errorf("port of %s: %w", what, err)
			return
		}
		server := &http.Server{
			ReadHeaderTimeout: 2 * time.Second,
			ReadTimeout:       5 * time.Second,
			WriteTimeout:      timeout, // from the end of the request's header
			MaxHeaderBytes:    4 << 10,
		}
		newConnections().guard(server, handler)
		// Without it, clients could occupy connections with one request after another.
		server.SetKeepAlivesEnabled(false)
		l.parts = append(l.parts, part{bound, server})
	}
	if cfg.HealthPort != 0 {
		add("the health check", cfg.BindAddress, cfg.HealthPort, cfg.HealthTimeout+5*time.Second, withoutBody(healthMux(cfg)))
	}
	if cfg.MetricsPort != 0 {
		mux := http.NewServeMux()
		mux.Handle("GET /metrics", cfg.Metrics)
		add("the metrics", cfg.BindAddress, cfg.MetricsPort, 10*time.Second, withoutBody(mux))
	}
	if cfg.PprofPort != 0 {
		add("the profiles", "127.0.0.1", cfg.PprofPort, 0, pprofMux()) // a profile may take any time
	}
	if err != nil {
		for _, p := range l.parts {
			_ = p.listener.Close()
		}
		return nil, err
	}
	return l, nil
}

// Run serves until ctx ends. Open requests get a second; nothing here is worth
// waiting for longer.
func (l *Listener) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, p := range l.parts {
		group.Go(func() error {
			if err := p.server.Serve(p.listener); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("admin: %w", err)
			}
			return nil
		})
		group.Go(func() error {
			<-ctx.Done()
			grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			if p.server.Shutdown(grace) != nil {
				return p.server.Close()
			}
			return nil
		})
	}
	return group.Wait()
}

func healthMux(cfg Config) *http.ServeMux {
	mux := http.NewServeMux()
	// Requests that arrive while a check is under way get its result: checks make calls to
	// the socket, and every client that reaches the port may send requests.
	var checks singleflight.Group
	mux.HandleFunc("GET "+cfg.HealthPath, func(w http.ResponseWriter, r *http.Request) {
		check := checks.DoChan("", func() (any, error) {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), cfg.HealthTimeout)
			defer cancel()
			return nil, cfg.Healthy(ctx)
		})
		select {
		case <-r.Context().Done():
		case result := <-check:
			answer(w, result.Err)
		}
	})
	if cfg.HealthPath != ReadyPath {
		mux.HandleFunc("GET "+ReadyPath, func(w http.ResponseWriter, r *http.Request) {
			answer(w, cfg.Ready(r.Context()))
		})
	}
	return mux
}

func answer(w http.ResponseWriter, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	_, _ = w.Write([]byte("ok\n"))
}

// pprofMux has the handlers that net/http/pprof puts on the default mux.
func pprofMux() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}
