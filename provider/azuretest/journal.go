package azuretest

import (
	"sync"
	"time"
)

// Kind says what a request is for. The set is closed.
type Kind string

// The kinds of requests.
const (
	Instance       Kind = "instance"        // Entra's instance discovery
	Metadata       Kind = "metadata"        // openid-configuration of an Entra tenant
	Keys           Kind = "keys"            // JWKS of Entra
	Token          Kind = "token"           // Entra's token endpoint
	Challenge      Kind = "challenge"       // any request to a vault without a bearer token
	GetSecret      Kind = "get-secret"      // one secret, with or without version
	GetKey         Kind = "get-key"         // one key
	GetCertificate Kind = "get-certificate" // one certificate
	List           Kind = "list"            // a page of names or versions
	Issuer         Kind = "issuer"          // a cluster's discovery document or keys, fetched by whomever
	Identity       Kind = "imds"            // a token of the node's managed identity
	Lookup         Kind = "service-account" // a service account, read from a cluster's API server
	Other          Kind = "other"           // anything else
)

// journalSize is how many requests are remembered one by one.
const journalSize = 10000

// Request is one request that reached the fake. Status is 0 while no answer has been given: also for
// one that was reset, or given up by its client.
type Request struct {
	Time      time.Time
	Kind      Kind
	Host      string
	Path      string // without the query
	ClientID  string // of the token endpoint's form, of the query to IMDS, or of a verified access token
	UserAgent string
	Proto     string
	Status    int
}

// journal counts all requests and remembers the last of them. It never sees a token.
type journal struct {
	mu      sync.Mutex // guards what follows and the entries' fields
	entries []*Request // a ring once it is full
	next    int
	counts  map[Kind]int
}

func newJournal() *journal { return &journal{counts: map[Kind]int{}} }

// open notes a request on arrival, so that it is counted before its client can see an answer.
func (j *journal) open(r *Request) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.counts[r.Kind]++
	if len(j.entries) < journalSize {
		j.entries = append(j.entries, r)
		return
	}
	j.entries[j.next] = r
	j.next = (j.next + 1) % journalSize
}

// settle completes a request just before its answer goes out.
func (j *journal) settle(r *Request, status int, clientID string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	r.Status = status
	if clientID != "" {
		r.ClientID = clientID
	}
}

// Requests returns the last 10,000 requests in the order of their arrival.
func (b *Box) Requests() []Request {
	b.journal.mu.Lock()
	defer b.journal.mu.Unlock()
	n := len(b.journal.entries)
	list := make([]Request, n)
	for i := range n {
		list[i] = *b.journal.entries[(b.journal.next+i)%n]
	}
	return list
}

// Count is the number of requests of a kind, those still unanswered included.
func (b *Box) Count(k Kind) int {
	b.journal.mu.Lock()
	defer b.journal.mu.Unlock()
	return b.journal.counts[k]
}

// Counts returns the numbers of all kinds that occurred.
func (b *Box) Counts() map[Kind]int {
	b.journal.mu.Lock()
	defer b.journal.mu.Unlock()
	counts := make(map[Kind]int, len(b.journal.counts))
	for k, n := range b.journal.counts {
		counts[k] = n
	}
	return counts
}

// ResetCounts forgets all requests and handshakes so far.
func (b *Box) ResetCounts() {
	b.journal.mu.Lock()
	defer b.journal.mu.Unlock()
	b.journal.entries, b.journal.next = nil, 0
	clear(b.journal.counts)
	b.handshakes.Store(0)
}
