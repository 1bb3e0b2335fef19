package entra

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"akv-csi-provider/provider/transport"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/hashicorp/golang-lru/v2/simplelru"
)

const (
	maxDocuments     = 1024
	maxDocument      = 64 << 10 // those of Entra are two KiB
	maxAnswer        = 1 << 20  // of what is not kept
	maxDocumentURL   = 1 << 10
	keepDocument     = 24 * time.Hour // what Entra says in Cache-Control
	documentAgain    = 5 * time.Minute
	documentLocation = "/.well-known/openid-configuration"
)

// documents keeps the OIDC metadata of authorities and tenants, which MSAL would read
// anew for every caller since every caller has a client of its own. It holds nothing of
// a caller. After a day a document is read once more, behind the back of whoever gets
// the old one; while that fails, the old one stays. The zero value is ready; it is safe
// for concurrent use.
type documents struct {
	reads flight[*document]

	mu   sync.Mutex // guards what follows and the entries' times
	kept *simplelru.LRU[string, *document]
}

// document is an answer of an authority.
type document struct {
	status int
	header http.Header
	body   []byte
	until  time.Time // read anew from then on
}

// documentURL tells the request for a document, and what it is kept under.
func documentURL(req *http.Request) (string, bool) {
	u := req.URL
	if req.Method != http.MethodGet || req.Body != nil && req.Body != http.NoBody || u.User != nil ||
		req.Host != "" && req.Host != u.Host || req.Header.Get("Authorization") != "" || !strings.HasSuffix(u.Path, documentLocation) {
		return "", false
	}
	url := u.String()
	return url, len(url) <= maxDocumentURL
}

// get answers a request for the document of the URL. Its error is that of next, or the
// context's own.
func (d *documents) get(req *http.Request, url string, next policy.Transporter) (*http.Response, error) {
	doc, stale := d.lookup(url, time.Now())
	if doc != nil && !stale {
		return doc.response(req), nil
	}
	detached := req.Clone(context.Background()) // the request belongs to its caller, who may leave
	read := func(ctx context.Context) (*document, error) {
		return d.read(detached.WithContext(ctx), url, next)
	}
	if doc != nil {
		go func() {
			defer func() { _ = recover() }() // nobody waits
			_, _ = d.reads.do(context.Background(), url, read)
		}()
		return doc.response(req), nil
	}
	doc, err := d.reads.do(req.Context(), url, func(ctx context.Context) (*document, error) {
		if doc, _ := d.lookup(url, time.Now()); doc != nil { // of a read that has just ended
			return doc, nil
		}
		return read(ctx)
	})
	if err != nil {
		return nil, err
	}
	return doc.response(req), nil
}

// lookup returns the document that is kept, nil if there is none, and whether this
// caller has to read it anew.
func (d *documents) lookup(url string, now time.Time) (doc *document, stale bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.kept == nil {
		return nil, false
	}
	doc, ok := d.kept.Get(url)
	if !ok {
		return nil, false
	}
	if stale = !now.Before(doc.until); stale {
		doc.until = now.Add(documentAgain) // for the others
	}
	return doc, stale
}

// read sends the request and keeps its answer if it is a document.
func (d *documents) read(req *http.Request, url string, next policy.Transporter) (*document, error) {
	resp, err := next.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	doc := &document{status: resp.StatusCode, header: resp.Header, body: body, until: time.Now().Add(keepDocument)}
	var object map[string]json.RawMessage
	if doc.status != http.StatusOK || len(body) > maxDocument || json.Unmarshal(body, &object) != nil || object == nil {
		return doc, nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.kept == nil {
		if d.kept, err = simplelru.NewLRU[string, *document](maxDocuments, nil); err != nil {
			return nil, err
		}
	}
	d.kept.Add(url, doc)
	return doc, nil
}

// response makes an answer of one's own.
func (d *document) response(req *http.Request) *http.Response {
	return &http.Response{
		Status: status(d.status), StatusCode: d.status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: d.header.Clone(), Body: io.NopCloser(bytes.NewReader(d.body)), ContentLength: int64(len(d.body)),
		Request: req,
	}
}

// way is how one sign-in reaches an authority.
type way struct {
	next      policy.Transporter
	documents *documents
	record    *transport.Record // of the sign-in
	host      string            // that is asked, for messages
	published func(string) bool // see Exchange.Published
}

// Do implements policy.Transporter.
func (w way) Do(req *http.Request) (*http.Response, error) {
	// A credential is not sent in clear text, wherever an authority's metadata says
	// that its token endpoint is.
	if req.URL.Scheme != "https" {
		return nil, unsent("the token endpoint is not https")
	}
	url, ok := documentURL(req)
	if !ok {
		return w.next.Do(req)
	}
	if doc := published(req.URL, w.published); doc != nil {
		return doc.response(req), nil
	}
	resp, err := w.documents.get(req, url, w.next)
	err = inTime(err, w.host)
	w.record.Err = err // which was noted where it is shared, if anywhere
	return resp, err
}
