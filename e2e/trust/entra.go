package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"time"
)

const entraHost = "login.microsoftonline.com"

// entraAttacks are odd answers of Entra to the sign-ins of hostile clients.
func entraAttacks() []attack {
	return []attack{{
		name: "odd Entra", about: "16 odd answers of Entra, each for another hostile client",
		setup: setup{front: true}, run: oddEntra,
	}}
}

func oddEntra(ctx context.Context, s *siege) error {
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
	var clients []string
	for _, answer := range answers {
		client := s.newClient()
		odd[client] = answer
		clients = append(clients, client)
	}
	s.front.oddEntra(odd)
	p, _ := s.small("kv-hostile")
	return s.mountMany(ctx, 2*len(clients), p, func(i int, p *pod) { p.client = clients[i%len(clients)] })
}

// oddEntra answers the sign-ins of those clients from now on.
func (f *front) oddEntra(clients map[string]http.HandlerFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.clients = clients
}

// serveEntra puts the front in Entra's place. What is not for [front.oddEntra] is the box's.
func (f *front) serveEntra() {
	connections := make(chan net.Conn)
	server := &http.Server{TLSConfig: f.config("h2", "http/1.1"), ReadHeaderTimeout: time.Minute, Handler: f.entra()}
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
	box := &httputil.ReverseProxy{Transport: f.box.Transport(), Rewrite: func(r *httputil.ProxyRequest) {
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
		f.mu.Lock()
		answer := f.clients[form.Get("client_id")]
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

// served tells the proxy when the server has closed a connection.
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
