package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"
)

// hostileAttacks come from servers that answer under a vault's name.
func hostileAttacks() []attack {
	about := map[string]string{
		"slow": "one byte a second, no TLS, no answer", "endless": "bodies, headers, 1xx answers and lists without an end",
		"bombs": "1 GiB in gzip, deep JSON, a challenge of 60 KiB", "odd": "Retry-After of ten years, version IDs with line breaks",
	}
	var attacks []attack
	for _, family := range []string{"slow", "endless", "bombs", "odd"} {
		attacks = append(attacks, attack{
			name: "vault, " + family, about: about[family], setup: setup{front: true}, prepare: hostileVaults(family, 8),
		})
	}
	return append(attacks, attack{
		name: "vault, floods", about: "HTTP/2: PING, SETTINGS, 1xx answers and CONTINUATION without an end",
		setup: setup{front: true}, lasts: 8 * time.Second, prepare: hostileVaults("floods", 8), run: givenUp(1),
	}, attack{
		name: "vault, large values", about: "12 volumes of values of 1 MB, where Key Vault allows 25 KB",
		setup: setup{front: true}, prepare: hostileVaults("large", 12),
	})
}

// hostileVaults mounts so many volumes from each hostile vault of the family.
func hostileVaults(family string, volumes int) func(*siege) ([]*v1alpha1.MountRequest, error) {
	return func(s *siege) ([]*v1alpha1.MountRequest, error) {
		var names []string
		for name, h := range s.front.family(family) {
			name = "kv-" + name
			s.front.handle(name+".vault.azure.net", h)
			names = append(names, name)
		}
		p := pod{client: s.newClient(), objects: objects(20, func(i int) string {
			// A list is read only for a history.
			return fmt.Sprintf("objectName: s%d, objectVersionHistory: %d", i, i%2*2)
		})}
		if family == "large" {
			p.objects = objects(40, func(i int) string { return fmt.Sprintf("objectName: s%d", i) })
		}
		return s.hostile(volumes*len(names), p, func(i int, p *pod) { p.vault = names[i%len(names)] })
	}
}

// family are the hostile vaults of one kind, by name.
func (f *front) family(name string) map[string]host {
	text := func(s string) host { return f.raw(func(w io.Writer, _ *http.Request) { _, _ = io.WriteString(w, s) }) }
	switch name {
	case "slow":
		return map[string]host{
			"drip":   f.raw(drip),
			"silent": f.raw(func(io.Writer, *http.Request) { <-f.done }),
			"no-tls": func(c net.Conn) { _, _ = io.Copy(io.Discard, c) },
		}
	case "endless":
		return map[string]host{
			"body":    f.raw(endless(okHead+"\r\n{\"value\":\"", "vvvvvvvv")),
			"headers": f.raw(endless("HTTP/1.1 200 OK\r\n", "X-A: vvvvvvvvvvvvvvvv\r\n")),
			"early":   f.raw(endless("", "HTTP/1.1 103 Early Hints\r\n\r\n")),
			"pages":   f.raw(pages),
		}
	case "bombs":
		return map[string]host{
			"gzip":      text(bomb()),
			"deep":      text(answer(strings.Repeat(`{"value":`, 200_000))),
			"challenge": text("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nWWW-Authenticate: Bearer " + strings.Repeat(`a="b", `, 8500) + "\r\n\r\n"),
		}
	case "odd":
		item := `{"id":"https://kv-ids.vault.azure.net/secrets/s1/%s","attributes":{"enabled":true,"created":1}}`
		ids := fmt.Sprintf(item, `a\nb\u001b[31m`) + "," + fmt.Sprintf(item, "%ff") + "," + fmt.Sprintf(item, "..")
		return map[string]host{
			"years": text("HTTP/1.1 429 Too Many Requests\r\nRetry-After: 315360000\r\nContent-Length: 2\r\n\r\n{}"),
			"ids":   text(answer(`{"value":[` + ids + `]}`)),
			"null":  text(answer("null")),
			"html":  text(answer("<html>")),
		}
	case "floods":
		return map[string]host{"ping": f.flood(pings), "settings": f.flood(settings), "hints": f.flood(hints), "continuation": f.flood(continuations)}
	case "large":
		return map[string]host{"large": text(answer(`{"value":"` + strings.Repeat("v", 1_000_000) + `"}`))}
	}
	return nil
}

const okHead = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"

func answer(body string) string {
	return fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", okHead, len(body), body)
}

// raw serves HTTP/1.1 over TLS by writing whatever the function writes.
func (f *front) raw(write func(io.Writer, *http.Request)) host {
	config := f.config("http/1.1")
	return func(c net.Conn) {
		secure := tls.Server(c, config)
		for requests := bufio.NewReader(secure); ; {
			r, err := http.ReadRequest(requests)
			if err != nil {
				return
			}
			write(secure, r)
		}
	}
}

// drip writes an answer one byte a second.
func drip(w io.Writer, _ *http.Request) {
	for _, b := range []byte(answer(`{"value":"v"}`)) {
		if _, err := w.Write([]byte{b}); err != nil {
			return
		}
		time.Sleep(time.Second)
	}
}

// endless writes a head and then the same again and again.
func endless(head, again string) func(io.Writer, *http.Request) {
	block := []byte(strings.Repeat(again, 2048))
	return func(w io.Writer, _ *http.Request) {
		if _, err := io.WriteString(w, head); err != nil {
			return
		}
		for {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	}
}

// pages answers every list with a page whose next is another one.
func pages(w io.Writer, r *http.Request) {
	id := fmt.Sprintf("%032x", time.Now().UnixNano())
	_, _ = io.WriteString(w, answer(fmt.Sprintf(
		`{"value":[{"id":"https://%s/secrets/s1/%s","attributes":{"enabled":true,"created":1}}],"nextLink":"https://%s%s?api-version=7.5&$skiptoken=%s"}`,
		r.Host, id, r.Host, r.URL.Path, id)))
}

// bomb is an answer of 1 GiB.
func bomb() string {
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression) // the level exists
	_, _ = io.WriteString(z, `{"value":"`)
	block := bytes.Repeat([]byte("v"), 1<<20)
	for range 1024 {
		_, _ = z.Write(block) // to memory
	}
	_ = z.Close()
	return fmt.Sprintf("%sContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s", okHead, b.Len(), b.String())
}
