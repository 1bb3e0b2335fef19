package server_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// The small world of the model. Client 0 to 3 stand for applications of the tenant; those of the
// same client IDs in a foreign tenant trust an attacker's account.
const (
	modelVaults  = 2
	modelNames   = 3
	modelClients = 4
	modelPods    = 7
	modelVolumes = 2 // of each pod
	password     = 2 // the client with a client secret
	onNode       = 3 // the client that is assigned to the node
)

// modelAccounts are the ServiceAccounts; pod i has the one with index i modulo their number.
var modelAccounts = [...]struct{ namespace, name string }{{"shop", "reader"}, {"evil", "reader"}, {"shop", "writer"}, {"infra", "reader"}}

// attacker is the account that the applications of the foreign tenant trust.
const attacker = 1

// mode is where a class gets its identity from.
type mode int

const (
	byClient     mode = iota // clientID in the class
	byAnnotation             // of the pod's ServiceAccount
	byPassword               // in the nodePublishSecretRef
	byNode                   // the node's managed identity
)

// presented is the ServiceAccount token that comes with a mount.
type presented int

const (
	genuine  presented = iota
	previous           // the one that the pod had before
	forged             // the claims of pod 0 under a foreign key
	expired
)

// spec is what a class requests, with what the pod overrides.
type spec struct {
	mode          mode
	client        int
	foreign       bool // tenantID is the foreign tenant
	wrongPassword bool
	vault         int
	names         []int
	history       int  // objectVersionHistory of the first name; 0 for none
	pinned        bool // objectVersion of the first name, the one that was current when the class was written
	optional      bool // all names
	token         presented
}

func (s spec) String() string {
	text := fmt.Sprintf("%s client %d of vault %d: secrets %v", [...]string{"by ID", "by annotation", "by password", "on node,"}[s.mode], s.client, s.vault, s.names)
	for _, more := range []struct {
		word string
		on   bool
	}{
		{"foreign tenant", s.foreign}, {"wrong password", s.wrongPassword}, {"pinned", s.pinned}, {"optional", s.optional},
		{fmt.Sprint("history ", s.history), s.history > 0}, {fmt.Sprint("token ", s.token), s.token != genuine},
	} {
		if more.on {
			text += ", " + more.word
		}
	}
	return text
}

// operation is one thing that happens at some moment. What a, b and c mean depends on the kind.
type operation struct {
	at      time.Duration
	kind    string
	a, b, c int
	spec    spec
	text    string        // of a fault
	span    time.Duration // the patience of a mount, 0 for the usual, or the step of a clock
}

func (o operation) String() string {
	switch o.kind {
	case "class":
		return fmt.Sprintf("%12v class of pod %d volume %d: %v", o.at, o.a, o.b, o.spec)
	case "clock", "mount":
		return fmt.Sprintf("%12v %s %d %d %v", o.at, o.kind, o.a, o.b, o.span)
	case "fault":
		return fmt.Sprintf("%12v fault %s %s", o.at, [...]string{"vault 0", "vault 1", "Entra", "all"}[o.a], o.text)
	}
	return fmt.Sprintf("%12v %s %d %d %d", o.at, o.kind, o.a, o.b, o.c)
}

// sequence is one run of the model: settings of the plugin, and what happens.
type sequence struct {
	seed     uint64
	stale    time.Duration // --stale-if-error
	ttl      time.Duration // --rotation-cache-ttl
	unshared bool
	lifetime time.Duration // of access tokens
	ops      []operation
}

func (s sequence) String() string {
	lines := []string{fmt.Sprintf("seed %d, stale-if-error %v, rotation-cache-ttl %v, unshared %t, tokens for %v", s.seed, s.stale, s.ttl, s.unshared, s.lifetime)}
	for _, o := range s.ops {
		lines = append(lines, o.String())
	}
	return strings.Join(lines, "\n")
}

// newSequence is the sequence of a seed, always the same.
func newSequence(seed uint64) sequence {
	r := rand.New(rand.NewPCG(seed, 14))
	s := sequence{seed: seed, stale: 10 * time.Minute, ttl: 30 * time.Second, lifetime: time.Hour, unshared: r.IntN(10) == 0}
	if r.IntN(3) == 0 {
		s.stale = 0
	}
	if r.IntN(6) == 0 {
		s.ttl = 0
	}
	if r.IntN(3) == 0 {
		s.lifetime = 10 * time.Minute
	}
	clocks := r.IntN(4) == 0
	for pod := range modelPods {
		for volume := range modelVolumes {
			s.ops = append(s.ops, operation{kind: "class", a: pod, b: volume, spec: randomSpec(r, pod, true)})
		}
	}
	at := time.Second
	for range 30 + r.IntN(50) {
		at += gap(r)
		if r.IntN(15) == 0 {
			s.ops = append(s.ops, refusedThenDown(r, &at)...)
		}
		if r.IntN(30) == 0 {
			s.ops = append(s.ops, missingThenDown(r, &at)...)
		}
		o := randomOperation(r, clocks)
		o.at = at
		s.ops = append(s.ops, o)
		if o.kind == "mount" && r.IntN(4) == 0 { // replicas
			for range 1 + r.IntN(4) {
				at += time.Duration(r.IntN(int(50 * time.Millisecond)))
				s.ops = append(s.ops, operation{at: at, kind: "mount", a: o.a, b: o.b})
				if r.IntN(2) == 0 {
					s.ops[len(s.ops)-1].a = (o.a + len(modelAccounts)) % modelPods
				}
			}
		}
	}
	return s
}

// refusedThenDown is what chance rarely makes: an identity loses its rights, is refused, and then the vault
// is unavailable while another pod of it starts.
func refusedThenDown(r *rand.Rand, at *time.Duration) (ops []operation) {
	account := r.IntN(2)
	for _, o := range []operation{
		{kind: "mount", a: account, b: 0}, {kind: "revoke", a: account, b: account}, {kind: "mount", a: account, b: 0},
		{kind: "fault", a: account, text: "503"}, {kind: "recreate pod", a: account + len(modelAccounts)}, {kind: "mount", a: account + len(modelAccounts), b: r.IntN(2)},
	} {
		*at += 1 + time.Duration(r.Int64N(int64(8*time.Second)))
		o.at = *at
		ops = append(ops, o)
	}
	return ops
}

// missingThenDown makes an optional object missing for one pod, and then the vault unavailable while another
// pod of the identity starts, for which the object exists again.
func missingThenDown(r *rand.Rand, at *time.Duration) (ops []operation) {
	account := r.IntN(2)
	other := account + len(modelAccounts)
	class := spec{client: account, vault: account, names: []int{0}, optional: true}
	for _, o := range []operation{
		{kind: "class", a: account, spec: class}, {kind: "class", a: other, spec: class},
		{kind: "delete", a: account}, {kind: "recreate pod", a: account}, {kind: "mount", a: account}, {kind: "set", a: account},
		{kind: "fault", a: account, text: "503"}, {kind: "recreate pod", a: other}, {kind: "mount", a: other},
	} {
		*at += 1 + time.Duration(r.Int64N(int64(8*time.Second)))
		o.at = *at
		ops = append(ops, o)
	}
	return ops
}

// gap is the time between two operations: mostly within the time of a mount, so that they meet.
func gap(r *rand.Rand) time.Duration {
	most := 2 * time.Second
	switch n := r.IntN(40); {
	case n < 12:
		most = 300 * time.Millisecond
	case n >= 39:
		most = 70 * time.Minute
	case n >= 37:
		most = 12 * time.Minute
	case n >= 31:
		most = 45 * time.Second
	}
	return 1 + time.Duration(r.Int64N(int64(most)))
}

// randomSpec requests what the pod's account may have, or anything where it may have nothing.
func randomSpec(r *rand.Rand, pod int, innocent bool) spec {
	account := pod % len(modelAccounts)
	s := spec{mode: byClient, client: min(account, 1), vault: min(account, 1), names: []int{r.IntN(modelNames)}}
	for n := range modelNames {
		if r.IntN(3) == 0 && !slices.Contains(s.names, n) {
			s.names = append(s.names, n)
		}
	}
	switch n := r.IntN(8); {
	case n == 0:
		s.history = 2 + r.IntN(2)
	case n == 1:
		s.pinned = true
	}
	s.optional = s.history == 0 && r.IntN(3) == 0
	switch {
	case account == 2:
		s.mode, s.client, s.vault = []mode{byClient, byAnnotation, byPassword}[r.IntN(3)], 0, 0
		if s.mode == byPassword {
			s.client = password
		}
	case account == 3:
		s.mode, s.client, s.vault = byNode, onNode, r.IntN(2)
	}
	if innocent || r.IntN(3) > 0 {
		return s
	}
	s.mode, s.client, s.vault = mode(r.IntN(4)), r.IntN(modelClients), r.IntN(modelVaults)
	s.foreign, s.wrongPassword, s.token = r.IntN(4) == 0, r.IntN(3) == 0, presented(r.IntN(4))
	return s
}

// randomOperation is more often a mount than anything else.
func randomOperation(r *rand.Rand, clocks bool) operation {
	o := operation{kind: "mount", a: r.IntN(modelPods), b: r.IntN(modelVolumes)}
	n := r.IntN(100)
	switch {
	case n < 55:
		if r.IntN(15) == 0 {
			o.span = time.Duration(1+r.IntN(3000)) * time.Millisecond
		}
	case n < 68:
		o = operation{kind: []string{"set", "set", "set", "delete", "disable"}[r.IntN(5)], a: r.IntN(modelVaults), b: r.IntN(modelNames)}
	case n < 77:
		o = operation{kind: []string{"grant", "revoke", "grant list"}[r.IntN(3)], a: r.IntN(modelVaults), b: r.IntN(modelClients)}
	case n < 81:
		o = operation{kind: []string{"trust", "distrust", "block", "unblock", "annotate"}[r.IntN(5)], a: r.IntN(modelClients), b: r.IntN(len(modelAccounts))}
	case n < 87:
		o = operation{kind: "fault", a: r.IntN(4), text: []string{"", "", "503", "429", "reset", "stall"}[r.IntN(6)]}
	case n < 91:
		o = operation{kind: "heal"}
	case n < 95:
		o.kind, o.spec = "class", randomSpec(r, o.a, false)
	case n < 97:
		o.kind = []string{"recreate pod", "renew token"}[r.IntN(2)]
	case n < 99:
		o = operation{kind: []string{"restart", "kill"}[r.IntN(2)]}
	case clocks:
		o = operation{kind: "clock", span: time.Duration(r.IntN(240)-120) * time.Minute}
	}
	return o
}
