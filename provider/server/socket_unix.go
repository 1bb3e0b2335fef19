//go:build !windows

package server

import (
	"errors"
	"fmt"
	"io/fs"
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

// lockPath locks out other plugins that start or stop while a socket is checked and replaced or
// removed: another process could begin to serve it in between. It returns errServed while
// another process has the lock.
//
// The lock is that of a file that others cannot open, as any process that can open a file or
// folder can lock it. The file exists only while it is locked, or after a crash.
func lockPath(socket string) (unlock func(), err error) {
	path := filepath.Join(filepath.Dir(socket), "."+filepath.Base(socket)+".lock")
	for {
		file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, err
		}
		current, err := lockFile(file, path)
		if current {
			return func() {
				_ = os.Remove(path)
				_ = file.Close() // which ends the lock
			}, nil
		}
		_ = file.Close()
		if err != nil {
			return nil, err
		}
	}
}

// lockFile locks a file that was opened at the path. It returns false without an error if the
// process that had the lock has removed the file.
func lockFile(file *os.File, path string) (current bool, err error) {
	info, err := file.Stat()
	if err != nil {
		return false, err
	}
	if owner := info.Sys().(*syscall.Stat_t).Uid; int(owner) != os.Geteuid() || info.Mode()&^0o600 != 0 {
		return false, fmt.Errorf("%s is not a file of this process's user with mode 0600; remove it", path)
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return false, errServed
	}
	if err != nil {
		return false, fmt.Errorf("lock %s: %w", path, err)
	}
	there, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(info, there), err
}

func isStale(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }
