package drivers_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// object is an object of the Kubernetes API, as JSON has it.
type object = map[string]any

// resource is a resource of the API that a driver uses.
type resource struct{ group, version, kind string }

func (r resource) groupVersion() string { return strings.TrimPrefix(r.group+"/"+r.version, "/") }

const driverGroup = "secrets-store.csi.x-k8s.io"

var resources = map[string]resource{
	"pods":                           {"", "v1", "Pod"},
	"secrets":                        {"", "v1", "Secret"},
	"events":                         {"", "v1", "Event"},
	"serviceaccounts/token":          {"", "v1", "TokenRequest"},
	"csidrivers":                     {"storage.k8s.io", "v1", "CSIDriver"},
	"secretproviderclasses":          {driverGroup, "v1", "SecretProviderClass"},
	"secretproviderclasspodstatuses": {driverGroup, "v1", "SecretProviderClassPodStatus"},
}

// apiServer is as much of a Kubernetes API server as the driver's own code asks for: discovery,
// objects with resource versions, lists and watches, and tokens of service accounts.
type apiServer struct {
	token func(namespace, account string, request object) (string, error)

	mu      sync.Mutex // guards what follows
	objects map[string]object
	changes []change // all, so that a watch may start at any version
	changed chan struct{}
	events  []string // their messages
}

// change is the latest state of an object, at the version that is its index in the list plus one.
type change struct {
	kind, resource string
	object         json.RawMessage
	labels         object
}

func newAPIServer() *apiServer {
	return &apiServer{objects: make(map[string]object), changed: make(chan struct{})}
}

// set creates the object or replaces the one with its name.
func (a *apiServer) set(resource string, o object) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.store(resource, o)
}

// get returns a copy of the object, or nil.
func (a *apiServer) get(resource, namespace, name string) object {
	a.mu.Lock()
	defer a.mu.Unlock()
	var o object
	_ = json.Unmarshal(encode(a.objects[resource+"/"+namespace+"/"+name]), &o)
	return o
}

// messages returns the messages of the events so far.
func (a *apiServer) messages() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.events)
}

// store needs the lock.
func (a *apiServer) store(resource string, o object) {
	kind := resources[resource]
	o["apiVersion"], o["kind"] = kind.groupVersion(), kind.kind
	meta := o["metadata"].(object)
	meta["resourceVersion"] = strconv.Itoa(len(a.changes) + 1)
	key := resource + "/" + text(meta["namespace"]) + "/" + text(meta["name"])
	what := "ADDED"
	if old := a.objects[key]; old != nil {
		what = "MODIFIED"
		meta["uid"] = old["metadata"].(object)["uid"]
	} else if meta["uid"] == nil {
		meta["uid"] = fmt.Sprintf("00000000-0000-4000-8000-%012d", len(a.changes)+1)
	}
	a.objects[key] = o
	labels, _ := meta["labels"].(object)
	a.changes = append(a.changes, change{what, resource, encode(o), labels})
	close(a.changed)
	a.changed = make(chan struct{})
}

func (a *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p, ok := parsePath(r.URL.Path)
	if !ok {
		discover(w, r.URL.Path)
		return
	}
	switch {
	case r.Method == http.MethodGet && p.name != "":
		if o := a.get(p.resource, p.namespace, p.name); o != nil {
			answer(w, http.StatusOK, o)
		} else {
			refuse(w, http.StatusNotFound, "NotFound")
		}
	case r.Method == http.MethodGet && r.URL.Query().Get("watch") != "":
		a.watch(w, r, p.resource)
	case r.Method == http.MethodGet:
		a.list(w, p.resource, r.URL.Query().Get("labelSelector"))
	default:
		var o object
		if err := json.NewDecoder(r.Body).Decode(&o); err != nil {
			refuse(w, http.StatusUnsupportedMediaType, "UnsupportedMediaType")
			return
		}
		a.write(w, r.Method, p, o)
	}
}

func (a *apiServer) write(w http.ResponseWriter, method string, p path, o object) {
	if p.resource == "serviceaccounts/token" {
		token, err := a.token(p.namespace, p.name, o)
		if err != nil {
			refuse(w, http.StatusForbidden, err.Error())
			return
		}
		o["spec"].(object)["expirationSeconds"] = 3600
		o["status"] = object{"token": token, "expirationTimestamp": time.Now().Add(time.Hour).UTC().Format(time.RFC3339)}
		answer(w, http.StatusCreated, o)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if p.resource == "events" {
		if method == http.MethodPost { // a repeated one is a patch of its count
			a.events = append(a.events, text(o["message"]))
		}
		answer(w, http.StatusOK, o)
		return
	}
	meta := o["metadata"].(object)
	old := a.objects[p.resource+"/"+p.namespace+"/"+text(meta["name"])]
	switch {
	case method == http.MethodPost && old != nil:
		refuse(w, http.StatusConflict, "AlreadyExists")
		return
	case method == http.MethodPut && (old == nil || old["metadata"].(object)["resourceVersion"] != meta["resourceVersion"]):
		refuse(w, http.StatusConflict, "Conflict")
		return
	default:
		meta["namespace"] = p.namespace
		a.store(p.resource, o)
	}
	answer(w, http.StatusOK, o)
}

func (a *apiServer) list(w http.ResponseWriter, name, selector string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	items := []object{}
	for key, o := range a.objects {
		labels, _ := o["metadata"].(object)["labels"].(object)
		if strings.HasPrefix(key, name+"/") && matches(selector, labels) {
			items = append(items, o)
		}
	}
	kind := resources[name]
	answer(w, http.StatusOK, object{"apiVersion": kind.groupVersion(), "kind": kind.kind + "List",
		"metadata": object{"resourceVersion": strconv.Itoa(len(a.changes))}, "items": items})
}

// watch sends the changes after the version that the caller has, until the caller leaves.
func (a *apiServer) watch(w http.ResponseWriter, r *http.Request, name string) {
	next, _ := strconv.Atoi(r.URL.Query().Get("resourceVersion"))
	w.Header().Set("Content-Type", "application/json")
	flush := http.NewResponseController(w).Flush
	for {
		if err := flush(); err != nil {
			return
		}
		a.mu.Lock()
		changes, changed := a.changes[min(next, len(a.changes)):], a.changed
		next = len(a.changes)
		a.mu.Unlock()
		for _, c := range changes {
			if c.resource == name && matches(r.URL.Query().Get("labelSelector"), c.labels) {
				_ = json.NewEncoder(w).Encode(object{"type": c.kind, "object": c.object})
			}
		}
		if len(changes) > 0 {
			continue
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}

// matches reports whether the labels are those of the selector; drivers select by equality.
func matches(selector string, labels object) bool {
	for pair := range strings.SplitSeq(selector, ",") {
		if key, value, ok := strings.Cut(pair, "="); ok && labels[key] != value {
			return false
		}
	}
	return true
}

type path struct{ resource, namespace, name string }

// parsePath returns what a path names, or false for one of discovery.
func parsePath(url string) (p path, ok bool) {
	parts := strings.Split(strings.Trim(url, "/"), "/")
	switch {
	case parts[0] == "api" && len(parts) > 2:
		parts = parts[2:]
	case parts[0] == "apis" && len(parts) > 3:
		parts = parts[3:]
	default:
		return p, false
	}
	if parts[0] == "namespaces" && len(parts) > 2 {
		p.namespace, parts = parts[1], parts[2:]
	}
	p.resource = parts[0]
	if len(parts) > 1 {
		p.name = parts[1]
	}
	if len(parts) > 2 {
		p.resource += "/" + parts[2]
	}
	_, ok = resources[p.resource]
	return p, ok
}

// discover says which resources there are.
func discover(w http.ResponseWriter, url string) {
	at := strings.TrimPrefix(strings.TrimPrefix(strings.Trim(url, "/"), "apis/"), "api/")
	switch at {
	case "api":
		answer(w, http.StatusOK, object{"kind": "APIVersions", "versions": []string{"v1"}})
		return
	case "apis":
		var groups []object
		for _, group := range []string{driverGroup, "storage.k8s.io"} {
			version := object{"groupVersion": group + "/v1", "version": "v1"}
			groups = append(groups, object{"name": group, "versions": []object{version}, "preferredVersion": version})
		}
		answer(w, http.StatusOK, object{"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
		return
	}
	var found []object
	for name, r := range resources {
		if r.groupVersion() == at {
			found = append(found, object{"name": name, "singularName": "", "namespaced": name != "csidrivers", "kind": r.kind,
				"verbs": []string{"create", "get", "list", "patch", "update", "watch"}})
		}
	}
	if found == nil {
		refuse(w, http.StatusNotFound, "NotFound")
		return
	}
	slices.SortFunc(found, func(a, b object) int { return cmp.Compare(text(a["name"]), text(b["name"])) })
	answer(w, http.StatusOK, object{"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": at, "resources": found})
}

func refuse(w http.ResponseWriter, status int, reason string) {
	answer(w, status, object{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": reason, "code": status})
}

func answer(w http.ResponseWriter, status int, body object) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(encode(body))
}

func encode(o object) []byte {
	body, err := json.Marshal(o)
	if err != nil {
		panic(err) // it came from JSON
	}
	return body
}

func text(value any) string {
	s, _ := value.(string)
	return s
}
