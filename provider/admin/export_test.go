package admin

import "net"

// Addrs are the bound addresses in the order health, metrics, pprof, without what is turned
// off.
func (l *Listener) Addrs() []net.Addr {
	var addrs []net.Addr
	for _, p := range l.parts {
		addrs = append(addrs, p.listener.Addr())
	}
	return addrs
}
