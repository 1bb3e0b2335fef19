package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
)

// Phase is the part of a mount during which something failed.
type Phase string

// The phases of a mount that touch the network.
const (
	PhaseConnect Phase = "connect"
	PhaseSignIn  Phase = "sign in"
	PhaseRead    Phase = "read"
)

// The reasons of this package's errors.
const (
	ReasonHostNotFound       = "HostNotFound"
	ReasonTLSUntrusted       = "TLSUntrusted"
	ReasonProxyRefused       = "ProxyRefused"
	ReasonTimeout            = "Timeout"
	ReasonServiceUnavailable = "ServiceUnavailable"
)

// Error says why no answer came from a host. Its text is one line.
type Error struct {
	reason string
	Host   string
	Phase  Phase
	Cause  string // what stands in the way
	Fix    string // what to do about it
	err    error
}

// Error implements error.
func (e *Error) Error() string { return e.Cause + "; " + e.Fix }

// Reason is the stable word users search for.
func (e *Error) Reason() string { return e.reason }

// Unwrap returns what the network said.
func (e *Error) Unwrap() error { return e.err }

// permanent marks an Error that another try would only repeat, for the retry
// policy of azcore, which looks for the method NonRetriable.
type permanent struct{ err *Error }

func (p permanent) Error() string { return p.err.Error() }
func (p permanent) Unwrap() error { return p.err }

// NonRetriable is the mark.
func (permanent) NonRetriable() {}

var (
	errTooLong = errors.New("response too long")
	errNotHTTP = errors.New("status that HTTP does not have")
)

type proxyRefusal struct {
	proxy  string
	status int
}

func (p *proxyRefusal) Error() string {
	return fmt.Sprintf("proxy %s answers %s", p.proxy, p.answer())
}

// answer is the status with its standard phrase, if there is one.
func (p *proxyRefusal) answer() string {
	return strings.TrimSpace(fmt.Sprintf("%d %s", p.status, http.StatusText(p.status)))
}

// classify turns an error of net/http into an *Error. A caller that gave up is
// no failure of the network and stays what it is; that is looked up in its
// context, since net/http returns the cause of a cancellation, which may be
// anything.
func (c *Client) classify(ctx context.Context, err error, host string, p *progress) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	hop, connected := p.get()
	e := &Error{Host: host, Phase: c.phase, err: err}
	if !connected {
		e.Phase = PhaseConnect
	}
	var (
		dns     *net.DNSError
		refusal *proxyRefusal
		op      *net.OpError
		timeout net.Error
	)
	switch {
	case errors.As(err, &refusal):
		e.reason = ReasonProxyRefused
		e.Cause = fmt.Sprintf("the proxy %s refuses to connect to %s: %s", refusal.proxy, host, refusal.answer())
		e.Fix = "check the host's name, and let the proxy pass it or name it in NO_PROXY of the provider"
		if refusal.status < http.StatusInternalServerError {
			return permanent{e} // with a 5xx the proxy may only be busy
		}
	case errors.As(err, &op) && op.Op == "proxyconnect":
		e.reason = ReasonProxyRefused
		e.Cause = fmt.Sprintf("the proxy %s on the way to %s cannot be reached: %s", hop, host, plain(err))
		e.Fix = "check HTTPS_PROXY and NO_PROXY of the provider"
	case errors.As(err, &dns) && dns.IsNotFound:
		e.reason = ReasonHostNotFound
		e.Cause = fmt.Sprintf("the host %s does not exist", host)
		e.Fix = "check the DNS of the node"
		return permanent{e}
	case untrusted(err):
		e.reason = ReasonTLSUntrusted
		e.Cause = fmt.Sprintf("the TLS certificate of %s is not trusted: %s", host, plain(err))
		e.Fix = "if a proxy inspects TLS, add its CA to the file that SSL_CERT_FILE of the provider names"
		return permanent{e}
	case errors.Is(err, errTooLong), errors.Is(err, errNotHTTP):
		e.reason = ReasonServiceUnavailable
		e.Cause = fmt.Sprintf("%s sends more than %d bytes", host, maxResponseBody)
		if errors.Is(err, errNotHTTP) {
			e.Cause = host + " sends a status that HTTP does not have"
		}
		e.Fix = "what answers there is not the service; check proxies and private DNS"
		return permanent{e}
	case errors.Is(ctx.Err(), context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		timedOut := Timeout(host, e.Phase)
		timedOut.err = err
		return timedOut
	default:
		e.reason = ReasonServiceUnavailable
		e.Cause = fmt.Sprintf("no connection to %s: %s", host, plain(err))
		e.Fix = "check the node's route to it: firewall, proxy, private endpoint"
	}
	return e
}

// Timeout is the error of a host that did not answer in the time there was.
func Timeout(host string, phase Phase) *Error {
	return &Error{reason: ReasonTimeout, Host: host, Phase: phase,
		Cause: fmt.Sprintf("no answer from %s in time (%s)", host, phase),
		Fix:   "check the node's route to it: firewall, proxy, private endpoint",
		err:   context.DeadlineExceeded,
	}
}

func untrusted(err error) bool {
	var (
		verification *tls.CertificateVerificationError
		authority    x509.UnknownAuthorityError
		hostname     x509.HostnameError
		invalid      x509.CertificateInvalidError
	)
	return errors.As(err, &verification) || errors.As(err, &authority) ||
		errors.As(err, &hostname) || errors.As(err, &invalid)
}

// plain reduces an error of the network to the words of a closed set, so that
// equal failures read equal (kubelet folds repeated events) and nothing of the
// other side's text gets into a message.
func plain(err error) string {
	var (
		authority x509.UnknownAuthorityError
		hostname  x509.HostnameError
		invalid   x509.CertificateInvalidError
		dns       *net.DNSError
		timeout   net.Error
		op        *net.OpError
	)
	switch {
	case errors.As(err, &authority):
		return "signed by an unknown authority"
	case errors.As(err, &hostname):
		return "made out to another name"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "expired or not yet valid; check the node's clock"
	case errors.As(err, &invalid):
		return "not valid for a server"
	case isRefused(err):
		return "connection refused"
	case isReset(err):
		return "connection closed by the other side"
	case isUnreachable(err):
		return "network unreachable"
	case errors.As(err, &dns):
		return "the name cannot be resolved"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "no answer in time"
	case errors.As(err, &op) && (op.Op == "remote error" || op.Op == "local error"): // alerts of crypto/tls
		return "the TLS handshake failed, which takes TLS 1.2 or newer"
	case errors.As(err, &op) && op.Op == "dial":
		return "the address cannot be dialled"
	}
	return "the exchange broke off"
}

type recordKey struct{}

// Record remembers how the last request made under one context failed; nil if it
// was answered. MSAL flattens errors to text; with a Record their types are still
// at hand. It is for one goroutine at a time.
type Record struct{ Err error }

// WithRecord returns a context under which failures are noted in the Record.
func WithRecord(ctx context.Context) (context.Context, *Record) {
	r := new(Record)
	return context.WithValue(ctx, recordKey{}, r), r
}

func note(ctx context.Context, err error) {
	if r, ok := ctx.Value(recordKey{}).(*Record); ok {
		r.Err = err
	}
}
