package transport

import "net/http"

// NewPoolOf is NewPool over other connections.
func NewPoolOf(fresh func() http.RoundTripper) http.RoundTripper { return newPool(fresh) }

// What tests check.
const (
	MaxHosts     = maxHosts
	MaxAzureBody = maxAzureBody
	Attempt      = attemptTimeout
)

// NoFiles reports whether an error says that there is no file descriptor left.
func NoFiles(err error) bool { return noFiles(err) }
