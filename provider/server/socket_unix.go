//go:build !windows

package server

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
)

// sparseFileModes: a socket's file says that it is one.
const sparseFileModes = false

// maxSocketPath is the size of the path in sockaddr_un on Linux, without the final NUL.
const maxSocketPath = 107

// bind listens at path with mode 0600 from the start. The socket is created in a directory
// that only we may enter, and moved into place once it has its mode; setting the umask would
// affect all threads. Moving it replaces a stale socket atomically, so that the path is never
// empty.
func bind(path string) (_ net.Listener, err error) {
	dir, err := os.MkdirTemp(filepath.Dir(path), ".akv-") // mode 0700
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	first := filepath.Join(dir, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: first, Net: "unix"})
	if errors.Is(err, syscall.EINVAL) {
		return nil, fmt.Errorf("the path is too long for a unix socket; the folder's may have at most %d bytes", maxSocketPath-len(first)+len(filepath.Dir(path)))
	}
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // by then another process's socket may be there
	if err = os.Chmod(first, 0o600); err == nil {
		err = os.Rename(first, path)
	}
	if err != nil {
		_ = l.Close()
		return nil, err
	}
	return l, nil
}

// lockFolder locks out other plugins that start or stop while a socket is checked and
// replaced or removed: another process could begin to serve it in between. It returns
// errServed while another process has the lock.
func lockFolder(socket string) (unlock func(), err error) {
	folder, err := os.Open(filepath.Dir(socket))
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(folder.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = folder.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errServed
		}
		return nil, fmt.Errorf("lock %s: %w", folder.Name(), err)
	}
	return func() { _ = folder.Close() }, nil // which ends the lock
}

func isStale(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }
