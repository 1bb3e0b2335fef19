package transport_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/transport"
)

// Frames of HTTP/2 (RFC 9113, section 6).
var (
	settingsFrame = []byte{0, 0, 0, 4, 0, 0, 0, 0, 0}
	pingFrame     = []byte{0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8}
	okFrame       = []byte{0, 0, 1, 1, 5, 0, 0, 0, 1, 0x88} // HEADERS of stream 1, its end: status 200
)

// flooding is a pool whose host answers the first request, or does not, and then sends PING
// frames without an end. The channel gets the bytes that it could send.
func flooding(t *testing.T, answers bool) (*http.Transport, <-chan int) {
	t.Helper()
	ca := newAuthority(t)
	config := &tls.Config{Certificates: []tls.Certificate{ca.issue(nil)}, NextProtos: []string{"h2"}}
	sent := make(chan int, 1)
	var once sync.Once
	address := accepting(t, func(c net.Conn) {
		conn := tls.Server(c, config)
		if _, err := io.ReadFull(conn, make([]byte, len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))); err != nil {
			return
		}
		requested := make(chan struct{})
		go func() {
			for header := make([]byte, 9); ; {
				if _, err := io.ReadFull(conn, header); err != nil {
					return
				}
				if header[3] == 1 { // HEADERS
					close(requested)
				}
				if _, err := io.CopyN(io.Discard, conn, int64(header[0])<<16|int64(header[1])<<8|int64(header[2])); err != nil {
					return
				}
			}
		}()
		_, err := conn.Write(settingsFrame)
		<-requested
		if answers && err == nil {
			_, err = conn.Write(okFrame)
		}
		n, block := 0, bytes.Repeat(pingFrame, 100)
		for err == nil {
			_, err = conn.Write(block)
			n += len(block)
		}
		once.Do(func() { sent <- n })
	})
	return dialling(t, address, ca.roots()), sent
}

// A connection on which a host floods the plugin is closed, whether or not a request waits. The
// system has buffers for some megabytes more.
func TestFloods(t *testing.T) {
	for name, answers := range map[string]bool{"of an idle connection": true, "instead of an answer": false} {
		t.Run(name, func(t *testing.T) {
			pool, sent := flooding(t, answers)
			err := get(t.Context(), reader(pool), "https://"+host+"/")
			if answers != (err == nil) {
				t.Fatal(err)
			}
			if err != nil && (failure(t, err).Reason != fault.ServiceUnavailable || !isPermanent(err) || !strings.Contains(err.Error(), "a proxy may be responding instead of the service")) {
				t.Errorf("got %v", err)
			}
			select {
			case n := <-sent:
				if n > 2*transport.MaxReceived+(32<<20) {
					t.Errorf("%d bytes were sent", n)
				}
			case <-time.After(30 * time.Second):
				t.Error("the flood continues")
			}
		})
	}
}

// What a connection may receive begins again with each request: a long life is no flood.
func TestLongLivedConnection(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		body := strings.Repeat("v", 400<<10)
		pool := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }, http2)
		client := reader(pool)
		for range 12 {
			if err := get(t.Context(), client, "https://"+host+"/"); err != nil {
				t.Fatal(err)
			}
		}
		var group sync.WaitGroup
		errs := make([]error, 12)
		for i := range errs {
			group.Go(func() { errs[i] = get(t.Context(), client, "https://"+host+"/") })
		}
		group.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Errorf("HTTP/2 %v, at once: %v", http2, err)
		}
	}
}
