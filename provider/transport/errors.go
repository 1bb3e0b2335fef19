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

	"akv-csi-provider/provider/fault"
)

// Phase is the part of a mount during which something failed.
type Phase string

// The phases of a mount that touch the network.
const (
	PhaseConnect Phase = "connect"
	PhaseSignIn  Phase = "sign in"
	PhaseRead    Phase = "read"
)

// doing says in messages what timed out.
var doing = map[Phase]string{PhaseConnect: "connecting to", PhaseSignIn: "signing in to", PhaseRead: "reading from"}

// permanent marks an error that a retry would only repeat, as azcore does: with the method
// NonRetriable.
type permanent struct{ err *fault.Error }

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
	return fmt.Sprintf("proxy %s returned %s", p.proxy, Status(p.status))
}

// Status is a status code for a message, with its standard phrase, if there is one.
func Status(code int) string {
	return strings.TrimSpace(fmt.Sprintf("%d %s", code, http.StatusText(code)))
}

// explain turns an error of net/http into a *fault.Error. If the caller gave up, the error is its
// context's own: that is no failure of the network, and net/http returns the cause of a
// cancellation, which may be anything.
func (c *Client) explain(ctx context.Context, err error, host string, p *progress) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	if errors.Is(err, context.Canceled) {
		err = errors.New(err.Error()) // another request was canceled: this caller still waits
	}
	hop, connected := p.get()
	phase := c.phase
	if !connected {
		phase = PhaseConnect
	}
	e := &fault.Error{Err: err}
	var (
		refusal *proxyRefusal
		op      *net.OpError
		timeout net.Error
	)
	switch {
	case errors.As(err, &refusal):
		e.Reason = fault.ProxyRefused
		e.Cause = fmt.Sprintf("the proxy %s rejected the connection to %s: %s", refusal.proxy, host, Status(refusal.status))
		e.Fix = "check the host's name; if it is right, cluster operator: allow it in the proxy, or add it to NO_PROXY"
		if refusal.status < http.StatusInternalServerError {
			return permanent{e} // with a 5xx the proxy may only be busy
		}
	case errors.As(err, &op) && op.Op == "proxyconnect":
		e.Reason = fault.ProxyRefused
		e.Cause = fmt.Sprintf("cannot reach the proxy %s for %s: %s", hop, host, plain(err))
		e.Fix = "cluster operator: check the provider's HTTPS_PROXY and NO_PROXY"
	case IsHostNotFound(err):
		e.Reason = fault.ServiceUnavailable
		e.Cause = "DNS has no " + host
		e.Fix = "cluster operator: check the node's DNS"
		return permanent{e}
	case untrusted(err):
		e.Reason = fault.TLSUntrusted
		e.Cause = fmt.Sprintf("the TLS certificate of %s is not trusted: %s", host, plain(err))
		e.Fix = "if a proxy inspects TLS, cluster operator: set the provider's SSL_CERT_FILE to a bundle with its CA"
		return permanent{e}
	case errors.Is(err, errTooLong), errors.Is(err, errNotHTTP):
		e.Reason = fault.ServiceUnavailable
		e.Cause = fmt.Sprintf("%s returned more than %d bytes", host, c.maxBody)
		if errors.Is(err, errNotHTTP) {
			e.Cause = host + " returned an invalid HTTP status"
		}
		e.Fix = "check private DNS; a proxy may be responding instead of the service"
		return permanent{e}
	case errors.Is(ctx.Err(), context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		e = Timeout(host, phase)
		e.Err = err
	default:
		e.Reason = fault.ServiceUnavailable
		e.Cause = fmt.Sprintf("no connection to %s: %s", host, plain(err))
		e.Fix = checkRoute
	}
	return e
}

const checkRoute = "cluster operator: check the node's route to it (firewall, proxy, private endpoint)"

// Timeout is the error of a host that did not answer in the time there was.
func Timeout(host string, phase Phase) *fault.Error {
	return &fault.Error{
		Reason: fault.Timeout,
		Cause:  fmt.Sprintf("timed out %s %s", doing[phase], host),
		Fix:    checkRoute,
		Err:    context.DeadlineExceeded,
	}
}

// IsPermanent reports whether a retry would only repeat the error: nothing about the
// service follows from it.
func IsPermanent(err error) bool {
	_, ok := errors.AsType[permanent](err)
	return ok
}

// IsHostNotFound reports whether DNS says that the host does not exist, and not merely
// that it cannot be resolved now. The host is the request's: a proxy that does not exist is
// another failure.
func IsHostNotFound(err error) bool {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "proxyconnect" {
		return false
	}
	dns, ok := errors.AsType[*net.DNSError](err)
	return ok && dns.IsNotFound
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
// equal failures read equal (kubelet merges repeated events) and no text of the other side gets
// into a message.
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
		return "issued for another name"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "expired or not yet valid, or the node's clock is wrong"
	case errors.As(err, &invalid):
		return "not valid for a server"
	case isRefused(err):
		return "connection refused"
	case isReset(err):
		return "connection reset"
	case isUnreachable(err):
		return "network unreachable"
	case errors.As(err, &dns):
		return "the name cannot be resolved"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "timed out"
	case errors.As(err, &op) && (op.Op == "remote error" || op.Op == "local error"): // alerts of crypto/tls
		return "the TLS handshake failed (TLS 1.2 or newer is required)"
	case errors.As(err, &op) && op.Op == "dial":
		return "the address cannot be dialed"
	}
	return "the connection was interrupted"
}

// kinds are the types of content that a message names.
var kinds = map[string]string{"text/html": ", HTML", "text/plain": ", plain text", "application/json": ", JSON", "application/xml": ", XML", "text/xml": ", XML"}

// Describe says what a response is that is not the service's: its status and, if that is one of
// a closed set, the type of its content.
func Describe(code int, h http.Header) string {
	media, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	return Status(code) + kinds[strings.ToLower(strings.TrimSpace(media))]
}

// RequestIDs are the IDs in the header of a response of Azure, and in that of a request, which
// names the correlation ID only.
func RequestIDs(h http.Header) fault.RequestIDs {
	return fault.RequestIDs{Request: h.Get("X-Ms-Request-Id"), Correlation: h.Get("X-Ms-Client-Request-Id")}
}
