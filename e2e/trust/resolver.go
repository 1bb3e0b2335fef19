package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/net/dns/dnsmessage"
)

// resolver is a name server on its own loopback address, at which all names are, and
// which can fail for some of them.
type resolver struct {
	address netip.Addr
	packets net.PacketConn
	https   net.Listener

	mu     sync.Mutex // guards what follows
	faults []dnsFault
}

// dnsFault strikes the names that contain the text.
type dnsFault struct {
	name  string
	code  dnsmessage.RCode
	drops bool // no answer at all
}

// resolve starts a name server and returns the shell command that makes a process use it,
// in its own mount namespace.
func (f *front) resolve(dir string) ([]string, error) {
	pid := os.Getpid()
	r := &resolver{address: netip.AddrFrom4([4]byte{127, 77, byte(pid >> 8), byte(pid%250 + 1)})}
	var err error
	if r.packets, err = net.ListenPacket("udp", netip.AddrPortFrom(r.address, 53).String()); err != nil {
		return nil, err
	}
	if r.https, err = net.Listen("tcp", netip.AddrPortFrom(r.address, 443).String()); err != nil {
		_ = r.packets.Close()
		return nil, err
	}
	f.dns = r
	f.running.Go(r.serve)
	f.running.Go(func() {
		// The fake Azure finds the host in the request.
		f.accept(r.https, func(c net.Conn) { f.toBox(c, "login.microsoftonline.com:443", false) })
	})
	path := filepath.Join(dir, "resolv.conf")
	if err := os.WriteFile(path, fmt.Appendf(nil, "nameserver %s\n", r.address), 0o644); err != nil {
		return nil, err
	}
	return []string{fmt.Sprintf("mount --bind %s /etc/resolv.conf", path)}, nil
}

// fail makes these faults strike, in place of all before.
func (r *resolver) fail(faults ...dnsFault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = faults
}

func (r *resolver) fault(name string) dnsFault {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.faults {
		if strings.Contains(name, f.name) {
			return f
		}
	}
	return dnsFault{}
}

func (r *resolver) serve() {
	packet := make([]byte, 1500)
	for {
		n, from, err := r.packets.ReadFrom(packet)
		if err != nil {
			return
		}
		if answer := r.answer(packet[:n]); answer != nil {
			_, _ = r.packets.WriteTo(answer, from)
		}
	}
}

func (r *resolver) answer(packet []byte) []byte {
	var m dnsmessage.Message
	if m.Unpack(packet) != nil || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	fault := r.fault(q.Name.String())
	if fault.drops {
		return nil
	}
	reply := dnsmessage.Message{Questions: m.Questions, Header: dnsmessage.Header{
		ID: m.ID, Response: true, RecursionAvailable: true, RecursionDesired: true, RCode: fault.code,
	}}
	if fault.code == dnsmessage.RCodeSuccess && q.Type == dnsmessage.TypeA {
		reply.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, Type: q.Type, TTL: 1},
			Body:   &dnsmessage.AResource{A: r.address.As4()},
		}}
	}
	answer, err := reply.Pack()
	if err != nil {
		return nil
	}
	return answer
}

func (r *resolver) close() {
	_ = r.packets.Close()
	_ = r.https.Close()
}
