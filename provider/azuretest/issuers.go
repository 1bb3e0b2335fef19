package azuretest

import (
	"context"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	maxIssuerDocument = 1 << 20
	issuerTimeout     = 10 * time.Second
)

var (
	errNoKey   = errors.New("issuer does not publish this key")
	errBadKeys = errors.New("issuer's keys cannot be read")
)

// issuers are the OIDC issuers whose keys the fake's Entra has fetched, as the real one caches them.
type issuers struct {
	client *http.Client // nil: only the fake's own clusters can be reached

	mu    sync.Mutex // guards known
	known map[string]*issuerKeys
}

// issuerKeys are the keys of one issuer.
type issuerKeys struct {
	fetching chan struct{}             // a semaphore of one: its owner may fetch and write keys
	mu       sync.RWMutex              // guards keys
	keys     map[string]*rsa.PublicKey // by key ID; nil before the first fetch
}

func newIssuers(client *http.Client) *issuers {
	return &issuers{client: client, known: map[string]*issuerKeys{}}
}

// ForgetIssuers empties Entra's cache of issuers' keys, so that the next sign-in fetches them again:
// an issuer that was reached once can then be found unreachable.
func (b *Box) ForgetIssuers() {
	b.issuers.mu.Lock()
	defer b.issuers.mu.Unlock()
	clear(b.issuers.known)
}

// publishedKey is where Entra finds keys.
func (b *Box) publishedKey(ctx context.Context, issuer, kid string) (*rsa.PublicKey, error) {
	return b.issuers.key(ctx, b, issuer, kid)
}

// key returns an issuer's key. A key ID that is not known makes it fetch once more, because issuers
// rotate; concurrent callers share a fetch that is under way.
func (s *issuers) key(ctx context.Context, b *Box, issuer, kid string) (*rsa.PublicKey, error) {
	s.mu.Lock()
	entry := s.known[issuer]
	if entry == nil {
		entry = &issuerKeys{fetching: make(chan struct{}, 1)}
		entry.fetching <- struct{}{}
		s.known[issuer] = entry
	}
	s.mu.Unlock()
	if key := entry.get(kid); key != nil {
		return key, nil
	}
	select {
	case <-entry.fetching:
		defer func() { entry.fetching <- struct{}{} }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if key := entry.get(kid); key != nil { // fetched by another request meanwhile
		return key, nil
	}
	keys, err := s.fetch(ctx, b, issuer)
	if err != nil {
		return nil, err
	}
	entry.mu.Lock()
	entry.keys = keys
	entry.mu.Unlock()
	if key := keys[kid]; key != nil {
		return key, nil
	}
	return nil, errNoKey
}

func (e *issuerKeys) get(kid string) *rsa.PublicKey {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.keys[kid]
}

// fetch reads the discovery document, then the keys it points to.
func (s *issuers) fetch(ctx context.Context, b *Box, issuer string) (map[string]*rsa.PublicKey, error) {
	ctx, cancel := context.WithTimeout(ctx, issuerTimeout)
	defer cancel()
	body, err := s.get(ctx, b, strings.TrimSuffix(issuer, "/")+"/.well-known/openid-configuration")
	if err != nil {
		return nil, err
	}
	var document struct {
		Issuer  string `json:"issuer"`
		JWKSURI string `json:"jwks_uri"`
	}
	if err := json.Unmarshal(body, &document); err != nil || document.Issuer != issuer {
		return nil, errBadKeys
	}
	if body, err = s.get(ctx, b, document.JWKSURI); err != nil {
		return nil, err
	}
	keys, err := parseJWKS(body)
	if err != nil {
		return nil, errors.Join(errBadKeys, err)
	}
	return keys, nil
}

// get fetches one document: a cluster's of this fake without the network but under the latency and
// the faults of Issuer, any other with the client the fake was given.
func (s *issuers) get(ctx context.Context, b *Box, url string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", url, err)
	}
	if c := b.locate(r.URL.Host, r.URL.Path).cluster; c != nil {
		return b.getOwn(ctx, c, r)
	}
	if s.client == nil {
		return nil, fmt.Errorf("fetch %s: no client for foreign issuers", url)
	}
	response, err := s.client.Do(r)
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", url, err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("fetch %s: status %d", url, response.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxIssuerDocument))
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", url, err)
	}
	return body, nil
}

func (b *Box) getOwn(ctx context.Context, c *Cluster, r *http.Request) ([]byte, error) {
	entry := &Request{Time: b.clock(), Kind: Issuer, Host: c.host, Path: r.URL.Path, Proto: "in-process"}
	b.journal.open(entry)
	fault, err := b.knobs.hinder(ctx, Issuer)
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", r.URL, err)
	}
	if fault.Reset {
		return nil, fmt.Errorf("fetch %s: connection reset", r.URL)
	}
	answer := c.answer(r.URL.Path)
	if !fault.none() {
		answer = b.faulty(&exchange{Request: r, place: place{cluster: c}, kind: Issuer}, fault)
	}
	b.journal.settle(entry, answer.status, "")
	if answer.status != http.StatusOK {
		return nil, fmt.Errorf("fetch %s: status %d", r.URL, answer.status)
	}
	return answer.body, nil
}

// issuerRefusal is what Entra says when it cannot get an issuer's key.
func issuerRefusal(err error) *aadsts {
	switch {
	case errors.Is(err, errNoKey):
		return refuse(50013, "{reason}", "The key was not found.")
	case errors.Is(err, errBadKeys):
		return refuse(900612)
	}
	return refuse(50166)
}
