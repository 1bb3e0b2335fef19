package transport

import (
	"net"
	"net/http"
	"time"
)

// NewPoolOf is NewPool over other connections.
func NewPoolOf(fresh func() http.RoundTripper, silence time.Duration) http.RoundTripper {
	p := newPool(fresh)
	p.silence = silence
	return p
}

// What tests check.
const (
	MaxSilence    = maxSilence
	MaxHosts      = maxHosts
	MaxHandshakes = maxHandshakes
	MaxAzureBody  = maxAzureBody
	MaxReceived   = maxReceived
	Attempt       = attemptTimeout
)

// NoFiles reports whether an error says that there is no file descriptor left.
func NoFiles(err error) bool { return noFiles(err) }

// Dialled returns what a pool has dialled, without what the pool wraps around it.
func Dialled(conn net.Conn) net.Conn { return conn.(*meter).Conn }
