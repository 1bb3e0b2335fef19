//go:build linux

package transport_test

import (
	"net"
	"testing"

	"akv-csi-provider/provider/transport"

	"golang.org/x/sys/unix"
)

// The kernel gives a connection up whose other end is gone.
func TestUserTimeout(t *testing.T) {
	address := accepting(t, func(c net.Conn) { _, _ = c.Read(make([]byte, 1)) })
	for name, dial := range map[string]func() (net.Conn, error){
		"base":   func() (net.Conn, error) { return transport.Base(1).DialContext(t.Context(), "tcp", address) },
		"direct": func() (net.Conn, error) { return transport.Direct().DialContext(t.Context(), "tcp", address) },
	} {
		conn, err := dial()
		if err != nil {
			t.Fatal(err)
		}
		raw, err := transport.Dialled(conn).(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		if e := raw.Control(func(fd uintptr) {
			for option, want := range map[int]int{unix.TCP_USER_TIMEOUT: 10_000, unix.TCP_KEEPIDLE: 15, unix.TCP_KEEPINTVL: 5, unix.TCP_KEEPCNT: 2} {
				if got, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, option); err != nil || got != want {
					t.Errorf("%s: option %d is %d, %v", name, option, got, err)
				}
			}
		}); e != nil {
			t.Error(e)
		}
		_ = conn.Close()
	}
}
