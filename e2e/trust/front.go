package main

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"

	"akv-csi-provider/provider/azuretest"
)

// front is a CONNECT proxy between the plugin and the fake Azure: it knows hostile hosts
// besides the fake's, and can let connections fall silent.
type front struct {
	*issuerOfCertificates
	box     *azuretest.Box
	proxy   net.Listener
	done    chan struct{} // closed at the end
	running sync.WaitGroup
	dns     *resolver // nil without one

	mu     sync.Mutex // guards what follows
	hosts  map[string]host
	odd    map[string]http.HandlerFunc // answers of Entra by client ID or tenant
	frozen chan struct{}               // closed when the connections of today fall silent
	open   map[net.Conn]struct{}
}

// host serves a connection that the plugin opened to it, before TLS.
type host func(net.Conn)

func newFront(box *azuretest.Box) (*front, error) {
	certificates, err := newIssuerOfCertificates()
	if err != nil {
		return nil, err
	}
	f := &front{
		issuerOfCertificates: certificates, box: box, done: make(chan struct{}),
		hosts: map[string]host{}, frozen: make(chan struct{}), open: map[net.Conn]struct{}{},
	}
	if f.proxy, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	f.serveEntra()
	f.running.Go(func() { f.accept(f.proxy, f.tunnel) })
	return f, nil
}

// accept serves each connection of the listener until it is closed.
func (f *front) accept(l net.Listener, serve func(net.Conn)) {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		f.mu.Lock()
		f.open[c] = struct{}{}
		f.mu.Unlock()
		f.running.Go(func() {
			serve(c)
			f.forget(c)
		})
	}
}

func (f *front) forget(c net.Conn) {
	f.mu.Lock()
	delete(f.open, c)
	f.mu.Unlock()
	_ = c.Close()
}

// handle makes a hostile host of the name.
func (f *front) handle(name string, h host) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hosts[name] = h
}

// freeze lets all connections of this moment fall silent: nothing arrives any more, and
// no end either, as behind a firewall that forgot them. New ones work.
func (f *front) freeze() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.frozen)
	f.frozen = make(chan struct{})
}

// tunnel serves a connection to the proxy.
func (f *front) tunnel(c net.Conn) {
	r, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil || r.Method != http.MethodConnect {
		return
	}
	f.mu.Lock()
	serve := f.hosts[strings.TrimSuffix(r.Host, ":443")]
	f.mu.Unlock()
	if serve == nil {
		f.toBox(c, r.Host, true)
		return
	}
	if _, err := io.WriteString(c, "HTTP/1.1 200 Connection established\r\n\r\n"); err == nil {
		serve(c)
	}
}

// toBox copies between the client and the fake Azure, whose answer to CONNECT is for the
// client only if that sent one.
func (f *front) toBox(c net.Conn, host string, connected bool) {
	f.mu.Lock()
	frozen := f.frozen
	f.mu.Unlock()
	up, err := net.Dial("tcp", strings.TrimPrefix(f.box.ProxyURL(), "http://"))
	if err != nil {
		return
	}
	defer up.Close()
	if _, err := io.WriteString(up, "CONNECT "+host+" HTTP/1.1\r\nHost: "+host+"\r\n\r\n"); err != nil {
		return
	}
	if !connected {
		const answer = "HTTP/1.1 200 Connection established\r\n\r\n"
		if _, err := io.ReadFull(up, make([]byte, len(answer))); err != nil {
			return
		}
	}
	var both sync.WaitGroup
	both.Go(func() { f.copy(up, c, frozen) })
	both.Go(func() { f.copy(c, up, frozen) })
	both.Wait()
}

// copy passes on what comes from one connection to the other, and its end, unless they
// have fallen silent.
func (f *front) copy(to, from net.Conn, frozen <-chan struct{}) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		select {
		case <-frozen:
			<-f.done
			_, _ = to.Close(), from.Close()
			return
		default:
		}
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				_ = from.Close()
				return
			}
		}
		if err != nil {
			_ = to.Close()
			return
		}
	}
}

func (f *front) close() {
	close(f.done)
	_ = f.proxy.Close()
	if f.dns != nil {
		f.dns.close()
	}
	f.mu.Lock()
	for c := range f.open {
		_ = c.Close()
	}
	f.mu.Unlock()
	f.running.Wait()
}
