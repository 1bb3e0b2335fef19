package azuretest

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// maxForm bounds what the token endpoint reads.
const maxForm = 1 << 20

// reply is an answer ready to be sent. Handlers return it, so that one place records and writes.
type reply struct {
	status   int
	header   http.Header
	body     []byte
	clientID string // whom a verified access token names
}

// exchange is a request on its way through the fake.
type exchange struct {
	*http.Request
	place place
	kind  Kind
	form  url.Values // of the token endpoint
}

// ServeHTTP answers for every service of the fake that is identified by its host name.
func (b *Box) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.handle(w, r, b.locate(r.Host, r.URL.Path))
}

// handle answers a request for a place.
func (b *Box) handle(w http.ResponseWriter, r *http.Request, p place) {
	if !b.enter() {
		panic(http.ErrAbortHandler)
	}
	defer b.running.Done()
	x := &exchange{Request: r, place: p}
	x.kind = x.classify()
	entry := x.entry(b.clock())
	b.journal.open(entry)
	fault, err := x.hinder(r.Context(), b)
	if err != nil {
		panic(http.ErrAbortHandler) // the client has gone
	}
	if fault.Reset || p.proxy != nil && b.conns.out() {
		if c, ok := r.Context().Value(connKey{}).(*conn); ok {
			c.reset()
		}
		panic(http.ErrAbortHandler)
	}
	var answer reply
	if fault.none() {
		answer = b.answer(x)
	} else {
		answer = b.faulty(x, fault)
	}
	b.journal.settle(entry, answer.status, answer.clientID)
	header := w.Header()
	for name, values := range answer.header {
		header[name] = values
	}
	header.Set("Content-Length", strconv.Itoa(len(answer.body)))
	w.WriteHeader(answer.status)
	_, _ = w.Write(answer.body) // a client that has gone needs no answer
}

// entry is what the journal notes of the request on its arrival. It reads the form of a token request.
func (x *exchange) entry(now time.Time) *Request {
	r := &Request{
		Time: now, Kind: x.kind, Host: hostName(x.Host), Path: x.URL.Path,
		UserAgent: x.UserAgent(), Proto: x.Proto,
	}
	if x.place.proxy != nil {
		r.Host = x.place.proxy.sni
	}
	switch x.kind {
	case Token:
		x.form = readForm(x.Request)
		r.ClientID = x.form.Get("client_id")
	case Identity:
		r.ClientID = x.URL.Query().Get("client_id")
	}
	return r
}

// entraHost is the name of Entra in the client's request. At a token proxy it is not the server's.
func (x *exchange) entraHost() string {
	if x.place.name != "" {
		return x.place.name
	}
	return hostName(x.Host)
}

// readForm reads the body of a token request. A form that cannot be parsed lacks parameters, which
// is what Entra says of it too.
func readForm(r *http.Request) url.Values {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxForm))
	if err != nil {
		return url.Values{}
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return url.Values{}
	}
	return form
}

func (x *exchange) classify() Kind {
	path := x.URL.Path
	switch {
	case x.place.imds != nil:
		if path == identityPath {
			return Identity
		}
	case x.place.api != nil:
		if _, _, ok := parseAccountPath(path); ok {
			return Lookup
		}
	case x.place.authority != nil:
		switch {
		case strings.HasSuffix(path, "/.well-known/openid-configuration"):
			return Metadata
		case strings.HasSuffix(path, "/oauth2/v2.0/token"), strings.HasSuffix(path, "/oauth2/token"):
			return Token
		case x.place.proxy != nil: // it passes on no more than these
		case path == "/common/discovery/instance":
			return Instance
		case strings.HasSuffix(path, "/discovery/v2.0/keys"), strings.HasSuffix(path, "/discovery/keys"):
			return Keys
		}
	case x.place.vault != nil:
		if bearer(x.Request) == "" {
			return Challenge
		}
		return parseObjectPath(path).kind()
	case x.place.cluster != nil:
		return Issuer
	}
	return Other
}

func (b *Box) answer(x *exchange) reply {
	switch {
	case x.place.imds != nil:
		return x.place.imds.answer(x)
	case x.place.api != nil:
		return x.place.api.answer(x)
	case x.place.authority != nil:
		return b.answerEntra(x)
	case x.place.vault != nil:
		return b.answerVault(x)
	case x.place.cluster != nil:
		return x.place.cluster.answer(x.URL.Path)
	}
	return reply{status: http.StatusNotFound}
}

// faulty builds the answer of a fault that does not cut the connection.
func (b *Box) faulty(x *exchange, f Fault) reply {
	var answer reply
	switch {
	case f.HTML:
		answer = htmlReply(f.Status)
	case f.Body != "":
		answer = reply{status: f.Status, header: f.Header.Clone(), body: []byte(f.Body)}
		if answer.header == nil {
			answer.header = http.Header{}
		}
	case x.place.imds != nil:
		answer = x.place.imds.fault(x, f)
	case x.place.api != nil:
		answer = x.place.api.fault(x, f)
	case x.place.authority != nil:
		answer = b.entraFault(x, f)
	case x.place.vault != nil:
		answer = x.place.vault.fault(x, f)
	default:
		answer = reply{status: f.Status, header: http.Header{}}
	}
	if f.RetryAfter != "" {
		answer.header.Set("Retry-After", f.RetryAfter)
	}
	return answer
}

// htmlReply is what a proxy or a load balancer puts in place of JSON.
func htmlReply(status int) reply {
	if status == 0 {
		status = http.StatusOK
	}
	title := strconv.Itoa(status) + " " + http.StatusText(status)
	return reply{
		status: status,
		header: http.Header{"Content-Type": {"text/html"}},
		body: []byte("<html>\r\n<head><title>" + title + "</title></head>\r\n<body>\r\n<center><h1>" + title +
			"</h1></center>\r\n<hr><center>gateway</center>\r\n</body>\r\n</html>\r\n"),
	}
}

// jsonReply marshals v; json.RawMessage passes through.
func jsonReply(status int, header http.Header, v any) reply {
	body, ok := v.(json.RawMessage)
	if !ok {
		body = mustJSON(v)
	}
	header.Set("Content-Type", "application/json; charset=utf-8")
	return reply{status: status, header: header, body: body}
}

// bearer is the token of the Authorization header, or "".
func bearer(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}
