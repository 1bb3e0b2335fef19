package main

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"time"

	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"
)

const entraHost = "login.microsoftonline.com"

// entraAttacks are odd answers of Entra to sign-ins in hostile tenants.
func entraAttacks() []attack {
	return []attack{{
		name: "odd Entra", about: "16 odd answers of Entra, each for another hostile tenant",
		setup: setup{front: true}, prepare: oddEntra,
	}}
}

func oddEntra(s *siege) ([]*v1alpha1.MountRequest, error) {
	text := func(status int, body string, header ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			for i := 0; i+1 < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	token := func(token, expires string) http.HandlerFunc {
		return text(200, fmt.Sprintf(`{"token_type":"Bearer","expires_in":%s,"access_token":"%s"}`, expires, token))
	}
	answers := []http.HandlerFunc{
		text(200, "<html>"), text(200, ""), text(200, "{}"), text(200, "[]"), text(200, strings.Repeat(`{"a":`, 100_000)),
		token("", "3600"), token("t", "-1"), token("t", "1e300"), token("t", `"soon"`), token(`a\nb`, "3600"),
		token(strings.Repeat("t", 900_000), "3600"),
		text(302, "", "Location", "https://kv-hostile.vault.azure.net/"), text(204, ""),
		text(500, "{}"), text(503, "{}", "Retry-After", "315360000"),
		func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	}
	odd := map[string]http.HandlerFunc{}
	for i, answer := range answers {
		odd[fmt.Sprintf("odd-%d.example", i)] = answer
	}
	s.front.oddEntra(odd)
	p, _ := s.small("kv-hostile")
	return s.hostile(2*len(answers), p, func(i int, p *pod) {
		p.attributes = map[string]string{"tenantID": fmt.Sprintf("odd-%d.example", i%len(answers))}
	})
}

// oddEntra answers from now on the sign-ins of those clients, or in those tenants.
func (f *front) oddEntra(odd map[string]http.HandlerFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.odd = odd
}

// serveEntra puts the front in Entra's place. What is not for [front.oddEntra] goes to the fake Azure.
func (f *front) serveEntra() {
	connections := make(chan net.Conn)
	server := &http.Server{TLSConfig: f.config("h2", "http/1.1"), ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Minute, Handler: f.entra()}
	f.handle(entraHost, func(c net.Conn) {
		ended := make(chan struct{})
		select {
		case connections <- &served{Conn: c, ended: ended}:
			<-ended
		case <-f.done:
		}
	})
	go func() { _ = server.ServeTLS(&queue{connections, f}, "", "") }() // until the front is closed
	go func() { <-f.done; _ = server.Close() }()
}

func (f *front) entra() http.HandlerFunc {
	quiet := log.New(io.Discard, "", 0) // callers that give up are what some attacks are about
	box := &httputil.ReverseProxy{Transport: f.box.Transport(), ErrorLog: quiet, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "https", Host: entraHost})
		r.Out.Host = entraHost
	}}
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		form, _ := url.ParseQuery(string(body)) // what cannot be parsed is no hostile client's
		tenant, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		f.mu.Lock()
		answer := f.odd[form.Get("client_id")]
		if answer == nil {
			answer = f.odd[tenant]
		}
		f.mu.Unlock()
		if answer != nil {
			answer(w, r)
			return
		}
		box.ServeHTTP(w, r)
	}
}

// queue is the listener of a server whose connections come out of the proxy.
type queue struct {
	connections chan net.Conn
	front       *front
}

func (q *queue) Accept() (net.Conn, error) {
	select {
	case c := <-q.connections:
		return c, nil
	case <-q.front.done:
		return nil, net.ErrClosed
	}
}

func (q *queue) Close() error   { return nil }
func (q *queue) Addr() net.Addr { return q.front.proxy.Addr() }

// served reports to the proxy when the server has closed a connection.
type served struct {
	net.Conn
	ended chan struct{}
}

func (s *served) Close() error {
	err := s.Conn.Close()
	select {
	case <-s.ended:
	default:
		close(s.ended)
	}
	return err
}
