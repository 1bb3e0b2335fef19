package server_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"time"

	"akv-csi-provider/provider/azuretest"
	"akv-csi-provider/provider/entra"
	"akv-csi-provider/provider/kube"
)

const apiHost = "kubernetes.default.svc"

// modelWire takes requests of one plugin to the fake Azure without a network. A request and its
// response each take a while, so that responses overtake each other.
type modelWire struct {
	w           *simulation
	incarnation int
}

var errReset = &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}

// RoundTrip implements http.RoundTripper.
func (wire *modelWire) RoundTrip(req *http.Request) (*http.Response, error) {
	w, ctx := wire.w, req.Context()
	there, back := w.delays(req)
	if err := pause(ctx, there); err != nil {
		return nil, err
	}
	var handler http.Handler
	switch host := req.URL.Hostname(); {
	case host == apiHost:
		handler = w.api
	case w.out.Load():
		return nil, errReset
	case host == "169.254.169.254":
		handler = w.imds
	default:
		handler = w.box
	}
	resp, err := serve(handler, req)
	decided := time.Now()
	if err == nil {
		err = pause(ctx, back)
	}
	switch {
	case err != nil:
		return nil, err
	case w.out.Load() && handler != w.api:
		return nil, errReset
	}
	wire.observe(req, resp, decided)
	return resp, nil
}

// serve calls a handler as a server does.
func serve(handler http.Handler, req *http.Request) (resp *http.Response, err error) {
	defer func() {
		if v := recover(); v != nil {
			if v != http.ErrAbortHandler {
				panic(v)
			}
			if err = req.Context().Err(); err == nil {
				err = errReset
			}
		}
	}()
	in := req.Clone(req.Context())
	if in.Host == "" {
		in.Host = in.URL.Host
	}
	if in.Body == nil {
		in.Body = http.NoBody
	}
	in.RemoteAddr = "192.0.2.1:1234"
	rec := httptest.NewRecorder()
	handler.ServeHTTP(rec, in)
	resp = rec.Result()
	resp.Request = req
	return resp, nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// delays are those of a request and its response: the same in each run of a sequence.
func (w *simulation) delays(req *http.Request) (there, back time.Duration) {
	h := fnv.New64a()
	fmt.Fprint(h, w.history.seed, time.Now().UnixNano(), req.URL.Host, req.URL.Path)
	sum := h.Sum64()
	delay := func(bits uint64) time.Duration {
		most := 200 * time.Millisecond
		switch bits >> 13 & 7 {
		case 0:
			most = 4 * time.Second
		case 1, 2:
			most = time.Second
		}
		return 1 + most*time.Duration(bits&0x1fff)/0x2000
	}
	return delay(sum), delay(sum >> 32)
}

// observe notes refusals of a vault, which end what the plugin may have cached.
func (wire *modelWire) observe(req *http.Request, resp *http.Response, decided time.Time) {
	host, ok := strings.CutSuffix(req.URL.Hostname(), ".vault.azure.net")
	if !ok || resp.StatusCode < 400 || resp.StatusCode >= 429 || !strings.HasPrefix(req.URL.Path, "/secrets/") {
		return
	}
	r := refusal{incarnation: wire.incarnation, decided: decided, delivered: time.Now()}
	var claims struct{ AppID, TID string }
	parts := strings.Split(req.Header.Get("Authorization"), ".")
	body, _ := base64.RawURLEncoding.DecodeString(parts[min(1, len(parts)-1)])
	_ = json.Unmarshal(body, &claims)
	r.who = principal{foreign: claims.TID == tenantName(true), client: int(claims.AppID[len(claims.AppID)-1] - '0')}
	r.vault = int(host[len(host)-1] - '0')
	text, _ := io.ReadAll(resp.Body) // of memory
	resp.Body = io.NopCloser(bytes.NewReader(text))
	if resp.StatusCode == http.StatusNotFound || bytes.Contains(text, []byte("SecretDisabled")) { // of this secret alone
		r.name = strings.Split(req.URL.Path, "/")[2]
	}
	wire.w.mu.Lock()
	defer wire.w.mu.Unlock()
	wire.w.history.refusals = append(wire.w.history.refusals, r)
}

// noListener is a listener that cannot be reached.
type noListener struct {
	done chan struct{}
	once sync.Once
}

func newNoListener() *noListener { return &noListener{done: make(chan struct{})} }

func (l *noListener) Accept() (net.Conn, error) { <-l.done; return nil, net.ErrClosed }
func (l *noListener) Close() error              { l.once.Do(func() { close(l.done) }); return nil }
func (l *noListener) Addr() net.Addr            { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

// apply does what an operation says.
func (w *simulation) apply(index int, o operation) {
	switch o.kind {
	case "mount":
		w.mount(index, o.a, o.b, o.span)
	case "class":
		class := modelClass{spec: o.spec}
		if all := w.state.secrets[o.spec.vault][o.spec.names[0]]; o.spec.pinned && len(all) > 0 {
			class.pin = all[len(all)-1].id
		}
		w.classes[o.a][o.b] = class
	case "set", "disable":
		w.set(o.a, o.b, o.kind == "disable")
	case "delete":
		w.vaults[o.a].Delete("secret", secretName(o.b))
		w.state.secrets[o.a][o.b] = nil
	case "grant", "grant list":
		w.grant(o.a, o.b, o.kind == "grant list")
	case "revoke":
		w.vaults[o.a].Revoke(modelClient(o.b))
		w.state.get[o.a][o.b], w.state.list[o.a][o.b] = false, false
	case "trust":
		w.trust(o.a, o.b)
	case "distrust":
		w.app(o.a).Unfederate()
		w.state.trust[o.a] = [len(modelAccounts)]bool{}
	case "block", "unblock":
		w.state.blocked[o.a] = o.kind == "block"
		w.app(o.a).FailWith(map[bool]int{true: 7000112}[w.state.blocked[o.a]])
	case "annotate":
		w.annotate(o.b, o.a)
	case "fault":
		w.fault(o.a, o.text)
	case "heal":
		w.heal()
	case "recreate pod":
		w.recreate(o.a)
	case "renew token":
		w.renew(o.a)
	case "restart":
		w.start()
	case "kill":
		w.kill()
		w.start()
	case "clock":
		w.state.skew += o.span
		w.skew.Store(int64(w.state.skew))
	}
}

// heal restores the rights that the innocent had in the beginning.
func (w *simulation) heal() {
	w.fault(0, "")
	for _, pair := range [][2]int{{0, 0}, {0, 2}, {1, 1}} {
		w.trust(pair[0], pair[1])
	}
	for _, pair := range [][2]int{{0, 0}, {1, 1}, {0, password}, {0, onNode}, {1, onNode}} {
		w.grant(pair[0], pair[1], true)
	}
	for c := range modelClients {
		w.app(c).FailWith(0)
		w.state.blocked[c] = false
	}
	w.annotate(2, 0)
	for v := range w.vaults {
		for n := range modelNames {
			if all := w.state.secrets[v][n]; len(all) == 0 || all[len(all)-1].disabled {
				w.set(v, n, false)
			}
		}
	}
}

func (w *simulation) grant(v, c int, list bool) {
	w.vaults[v].Grant(modelClient(c), azuretest.SecretsGet)
	w.state.get[v][c] = true
	if list {
		w.vaults[v].Grant(modelClient(c), azuretest.SecretsList)
		w.state.list[v][c] = true
	}
}

func (w *simulation) trust(c, a int) {
	w.app(c).Federate(issuer, subject(a), entra.Audience)
	w.state.trust[c][a] = true
}

// annotate sets the client ID of a ServiceAccount, or none.
func (w *simulation) annotate(a, c int) {
	var annotations map[string]string
	if c >= 0 {
		annotations = map[string]string{kube.ClientIDAnnotation: modelClient(c)}
	}
	w.api.SetServiceAccount(modelAccounts[a].namespace, modelAccounts[a].name, annotations)
	w.state.annotated[a] = c
}

// fault starts a fault, or ends all.
func (w *simulation) fault(target int, kind string) {
	f := map[string]azuretest.Fault{"503": {Status: 503}, "429": {Status: 429, RetryAfter: "7"}, "reset": {Reset: true}, "stall": {Stall: true}}[kind]
	if kind == "" {
		for v := range w.vaults {
			w.vaults[v].SetFault(f)
		}
		w.tenants[0].SetFault(f)
		w.out.Store(false)
		w.state.down = [4]bool{}
		return
	}
	w.state.down[target] = true
	switch target {
	case 0, 1:
		w.vaults[target].SetFault(f)
	case 2:
		w.tenants[0].SetFault(f)
	default:
		w.out.Store(true)
	}
}

// recreate replaces a pod by one of the same name with another UID and token.
func (w *simulation) recreate(p int) {
	w.pods[p].recreated++
	w.pods[p].UID = fmt.Sprintf("00000000-0000-0000-%04d-%012d", p, w.pods[p].recreated)
	w.renew(p)
}

// renew replaces a pod's token, as kubelet does.
func (w *simulation) renew(p int) {
	pod := &w.pods[p]
	pod.tokens[previous], pod.tokens[genuine] = pod.tokens[genuine], w.token(pod.Pod, genuine)
}

// presented returns a token that comes with a mount. kubelet renews those that end soon.
func (w *simulation) presented(p int, kind presented) modelToken {
	pod := &w.pods[p]
	if kind == genuine && time.Now().Add(w.state.skew+12*time.Minute).After(pod.tokens[genuine].expires) {
		w.renew(p)
	}
	if kind > previous && pod.tokens[kind].sign == nil {
		pod.tokens[kind] = w.token(pod.Pod, kind)
	}
	return pod.tokens[kind]
}

// signed are the tokens of all sequences, by their claims: many are equal, and RSA takes its time.
var signed sync.Map

// token makes a token, which is signed when it is first used.
func (w *simulation) token(pod azuretest.Pod, kind presented) modelToken {
	now, ttl := time.Now().Add(w.state.skew).Truncate(time.Second), time.Hour
	switch kind {
	case expired:
		ttl = -time.Minute
	case forged:
		pod = w.pods[0].Pod
	}
	sign := func() string {
		key := fmt.Sprint(kind, pod.UID, now.Unix())
		if text, ok := signed.Load(key); ok {
			return text.(string)
		}
		claims, err := w.cluster.Claims(pod, entra.Audience, ttl)
		w.must(err)
		claims["iat"], claims["nbf"], claims["exp"] = now.Unix(), now.Unix(), now.Add(ttl).Unix()
		text, err := w.cluster.Sign(claims)
		if kind == forged {
			text, err = w.cluster.ForgedToken(claims, false)
		}
		w.must(err)
		signed.Store(key, text)
		return text
	}
	return modelToken{sign, now.Add(ttl)}
}
