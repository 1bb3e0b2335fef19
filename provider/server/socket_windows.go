package server

import (
	"errors"
	"io/fs"
	"net"
	"os"

	"golang.org/x/sys/windows"
)

// sparseFileModes: Windows marks a socket's file as a reparse point only.
const sparseFileModes = true

// bind listens at path. Access on Windows comes from the directory's ACL.
func bind(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // by then another process's socket may be there
	return l, nil
}

// lockPath does nothing: here a DaemonSet runs one plugin on a node at a time.
func lockPath(string) (unlock func(), err error) { return func() {}, nil }

func isStale(err error) bool { return errors.Is(err, windows.WSAECONNREFUSED) }
