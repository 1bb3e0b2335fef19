package server

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"time"
)

// errServed says that another live process serves the socket's path, which is then left
// untouched.
var errServed = errors.New("another process serves this socket")

// dialTimeout bounds the check whether a process serves a socket on this node.
const dialTimeout = time.Second

// socket is a unix socket that this process listens on.
type socket struct {
	path     string
	listener net.Listener
	info     fs.FileInfo // of the socket's file, to recognize it
}

// listen creates the socket at path, replacing one that no process serves.
func listen(path string) (*socket, error) {
	unlock, err := lockPath(path)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	defer unlock()
	if err := checkFree(path); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	listener, err := bind(path)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	info, err := os.Lstat(path)
	if err != nil {
		_ = listener.Close()
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return &socket{path: path, listener: listener, info: info}, nil
}

// checkFree returns nil if there is nothing at path, or a socket that no process serves.
func checkFree(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket && !sparseFileModes:
		return errors.New("the file is not a socket; remove it")
	}
	conn, err := net.DialTimeout("unix", path, dialTimeout)
	switch {
	case err == nil:
		_ = conn.Close()
		return errServed
	case isStale(err):
		return nil
	}
	// Anything else, such as a full queue, is a sign of a busy process.
	return errServed
}

// inPlace reports whether the file at the path is still this socket.
func (s *socket) inPlace() bool {
	if s == nil {
		return false
	}
	info, err := os.Lstat(s.path)
	return err == nil && os.SameFile(info, s.info)
}

// remove removes the socket's file if it is still ours.
func (s *socket) remove() {
	if !s.inPlace() {
		return
	}
	unlock, err := lockPath(s.path)
	if err != nil {
		return // another process is about to replace it
	}
	defer unlock()
	if s.inPlace() {
		_ = os.Remove(s.path)
	}
}
