//go:build unix

package transport_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"akv-csi-provider/provider/transport"
)

const filesEnv = "TEST_FEW_FILES"

// The bounds fit what the process may open.
func TestBoundsFitFiles(t *testing.T) {
	if os.Getenv(filesEnv) != "" {
		if got, idle := transport.MaxRequests(80), transport.Base(80).MaxIdleConns; got != 20 || idle != 10 {
			t.Errorf("%d requests, %d idle connections", got, idle)
		}
		return
	}
	if got := transport.MaxRequests(80); got != 320 {
		t.Errorf("%d requests", got)
	}
	if got := transport.MaxRequests(100); got != 400 {
		t.Errorf("%d requests", got)
	}
	inChild(t, "")
}

// inChild runs the test again in a process that may open 40 files.
func inChild(t *testing.T, value string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), filesEnv+"=few "+value)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestMain(m *testing.M) {
	if os.Getenv(filesEnv) != "" {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 40, Max: 40}); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// A dial without a file descriptor left takes that of an idle connection.
func TestIdleConnectionsGiveWay(t *testing.T) {
	if value := os.Getenv(filesEnv); value != "" {
		var address string
		if _, err := fmt.Sscanf(value, "few %s", &address); err != nil {
			t.Fatal(err)
		}
		exhaust(t, address)
		return
	}
	inChild(t, accepting(t, func(c net.Conn) {
		for {
			buf := make([]byte, 4096)
			if _, err := c.Read(buf); err != nil {
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	}))
}

func exhaust(t *testing.T, address string) {
	pool := dialling(t, address, nil)
	pool.MaxIdleConns = 0
	for i := range 10 {
		if err := get(t.Context(), reader(pool), fmt.Sprintf("http://vault-%d.example/", i)); err != nil {
			t.Fatal(err)
		}
	}
	var files []*os.File
	for {
		f, err := os.Open(os.DevNull)
		if err != nil {
			break
		}
		files = append(files, f)
	}
	defer func() {
		for _, f := range files {
			_ = f.Close()
		}
	}()
	if len(files) > 30 {
		t.Errorf("%d files", len(files))
	}
	if err := get(t.Context(), reader(pool), "http://another.example/"); err != nil {
		t.Error(err)
	}
}

// The resolver says it in words.
func TestNoFiles(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{syscall.ECONNREFUSED, false},
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("socket", syscall.EMFILE)}, true},
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("socket", syscall.ENFILE)}, true},
		{&net.OpError{Op: "dial", Err: &net.DNSError{Err: "dial udp 127.0.0.1:53: socket: " + syscall.EMFILE.Error()}}, true},
		{&net.DNSError{Err: "no such host", IsNotFound: true}, false},
		{errors.New("too many open files"), false},
	} {
		if got := transport.NoFiles(c.err); got != c.want {
			t.Errorf("%v: got %t", c.err, got)
		}
	}
}
