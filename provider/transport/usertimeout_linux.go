package transport

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// userTimeout is after how long without acknowledgment the kernel gives up a connection (tcp(7),
// TCP_USER_TIMEOUT). By default it sends again for a quarter of an hour.
const userTimeout = 10 * time.Second

// setUserTimeout sets it where that is possible; nothing depends on it.
func setUserTimeout(c syscall.RawConn) {
	_ = c.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout.Milliseconds()))
	})
}
