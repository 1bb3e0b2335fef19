package azuretest

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Where a node finds its metadata service: a link-local address, so that no other machine can.
const (
	nodeAddress  = "169.254.169.254:80"
	identityPath = "/metadata/identity/oauth2/token"
)

var nodeIP = &net.TCPAddr{IP: net.IPv4(169, 254, 169, 254), Port: 80}

// IMDS is the Azure Instance Metadata Service of the one node that the fake has, as far as it issues
// the tokens of the node's managed identities.
type IMDS struct {
	box     *Box
	address string

	mu       sync.RWMutex // guards what follows
	system   *Application
	assigned []*Application
	resource map[string]*Application // of assigned, by resource ID in lower case
}

// IMDS returns the node's metadata service, the same one each time. It is started on first use, over
// plain HTTP on loopback, and closed with the fake. Until then there is none, as on a machine outside
// Azure. It panics if it cannot listen, or if the fake is closed and had none.
func (b *Box) IMDS() *IMDS {
	b.nodeMu.Lock()
	defer b.nodeMu.Unlock()
	if b.imds != nil {
		return b.imds
	}
	i := &IMDS{box: b}
	l, err := b.start(b.conns, i, nil)
	if err != nil {
		panic(fmt.Sprintf("azuretest: start IMDS: %v", err))
	}
	i.address = l.Addr().String()
	b.imds = i
	return i
}

// ServeHTTP answers as the service, whatever host a request names.
func (i *IMDS) ServeHTTP(w http.ResponseWriter, r *http.Request) { i.box.handle(w, r, place{imds: i}) }

// node returns the metadata service, or nil if it was never started.
func (b *Box) node() *IMDS {
	b.nodeMu.Lock()
	defer b.nodeMu.Unlock()
	return b.imds
}

// URL is the service's address without a path: what AZURE_POD_IDENTITY_AUTHORITY_HOST of a process
// has to say.
func (i *IMDS) URL() string { return "http://" + i.address }

// Assign assigns to the node a user-assigned identity.
func (i *IMDS) Assign(app *Application) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !slices.Contains(i.assigned, app) {
		i.assigned = append(i.assigned, app)
	}
}

// AssignResource assigns to the node a user-assigned identity that is also known by its ARM resource ID.
func (i *IMDS) AssignResource(id string, app *Application) {
	i.Assign(app)
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.resource == nil {
		i.resource = map[string]*Application{}
	}
	i.resource[strings.ToLower(id)] = app
}

// AssignSystem assigns to the node its system-assigned identity in place of any before; nil removes it.
func (i *IMDS) AssignSystem(app *Application) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.system = app
}

// choose finds the identity that a request means. Without a name it is the system-assigned one, else
// the only one there is.
func (i *IMDS) choose(query url.Values) (*Application, string) {
	i.mu.RLock()
	defer i.mu.RUnlock()
	all := i.assigned
	if i.system != nil {
		all = append(slices.Clone(all), i.system)
	}
	named := func(a *Application) bool { return true }
	switch {
	case query.Get("client_id") != "":
		named = func(a *Application) bool { return strings.EqualFold(a.clientID, query.Get("client_id")) }
	case query.Get("object_id") != "":
		named = func(a *Application) bool { return strings.EqualFold(a.objectID, query.Get("object_id")) }
	case query.Get("msi_res_id") != "":
		app := i.resource[strings.ToLower(query.Get("msi_res_id"))]
		if app == nil {
			return nil, identityNotFound
		}
		return app, ""
	case i.system != nil:
		return i.system, ""
	case len(all) > 1:
		return nil, manyIdentities
	}
	at := slices.IndexFunc(all, named)
	if at < 0 {
		return nil, identityNotFound
	}
	return all[at], ""
}

// answer serves the identity endpoint.
func (i *IMDS) answer(x *exchange) reply {
	if x.kind != Identity {
		return imdsFailure(http.StatusNotFound, "not_found", "The requested element does not exist.")
	}
	if refusal := checkIMDSRequest(x); refusal != nil {
		return *refusal
	}
	query := x.URL.Query()
	app, why := i.choose(query)
	if app == nil {
		return imdsFailure(http.StatusBadRequest, "invalid_request", why)
	}
	return i.token(x, app, query.Get("resource"))
}

// token answers with a token for the resource. All values are strings, numbers included. What Entra
// refuses is passed on.
func (i *IMDS) token(x *exchange, app *Application, resource string) reply {
	b := i.box
	cloud := b.cloudFor(resource)
	if _, _, forced := app.credentials(); forced != 0 {
		return i.entraFailure(x, app, refuse(forced))
	}
	if cloud == nil {
		return i.entraFailure(x, app, refuse(500011, "{resource}", resource))
	}
	lifetime := time.Duration(b.lifetime.Load())
	access, err := b.accessToken(app, cloud, resource, lifetime)
	if err != nil {
		return i.entraFailure(x, app, refuse(90033))
	}
	now := b.clock()
	seconds := strconv.FormatInt(int64(lifetime/time.Second), 10)
	body := map[string]string{
		"access_token": access, "client_id": app.clientID, "resource": resource, "token_type": "Bearer",
		"expires_in": seconds, "ext_expires_in": seconds,
		"expires_on": strconv.FormatInt(now.Add(lifetime).Unix(), 10),
		"not_before": strconv.FormatInt(now.Unix(), 10),
	}
	if refresh := time.Duration(b.refresh.Load()); refresh != 0 {
		body["refresh_in"] = strconv.FormatInt(int64(refresh/time.Second), 10)
	}
	return jsonReply(http.StatusOK, imdsHeader(), body)
}
