package server_test

import (
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"
)

// state is Azure and the cluster at one moment, as far as the model knows them.
type state struct {
	secrets   [modelVaults][modelNames][]secretVersion // the oldest first; not changed in place
	get, list [modelVaults][modelClients]bool
	trust     [modelClients][len(modelAccounts)]bool
	blocked   [modelClients]bool // at Entra
	annotated [len(modelAccounts)]int
	down      [4]bool       // the targets of faults
	skew      time.Duration // of Azure's and the cluster's clock to the node's
}

type secretVersion struct {
	id       string
	value    string
	disabled bool
}

// moment is a state, from when on it was.
type moment struct {
	from time.Time
	state
}

// refusal is a response of a vault after which nothing of what was read before may be used.
type refusal struct {
	incarnation int
	who         principal
	vault       int
	name        string // "" for all objects
	decided     time.Time
	delivered   time.Time
}

// principal is the identity that a token names.
type principal struct {
	foreign bool
	client  int
}

// attempt is one mount: what the driver sent, and what it got.
type attempt struct {
	op          int
	spec        spec
	account     int
	token       string
	expires     time.Time // of the token, by the cluster's clock
	pin         string
	incarnation int
	impatient   bool // its caller's time is short
	killed      bool // its plugin was

	start, end time.Time
	previous   time.Time // end of the last success of the volume in this incarnation
	files      map[string]string
	versions   map[string]string
	err        error
}

// history is all that happened in a sequence.
type history struct {
	sequence
	moments  []moment
	refusals []refusal
	attempts []*attempt
}

// slack is for how long after a fault a mount may still fail: a circuit is open for a minute
// and a quarter at most, and mounts and renewals that began before need their time.
const slack = 130 * time.Second

// during yields the states from a to b, with the part of that time for which each of them was.
func (h *history) during(a, b time.Time) iter.Seq2[[2]time.Time, *state] {
	return func(yield func([2]time.Time, *state) bool) {
		for i := range h.moments {
			from, to := h.moments[i].from, b
			if i+1 < len(h.moments) && h.moments[i+1].from.Before(b) {
				to = h.moments[i+1].from
			}
			if from.Before(a) {
				from = a
			}
			if from.After(to) {
				continue
			}
			if !yield([2]time.Time{from, to}, &h.moments[i].state) {
				return
			}
		}
	}
}

// judge returns what is wrong with the answer to a mount; "" if nothing is.
func (h *history) judge(m *attempt) string {
	if m.err != nil {
		if !m.impatient && !m.killed && h.mustSucceed(m) {
			return fmt.Sprintf("mount of operation %d fails though nothing stands against it: %v", m.op, m.err)
		}
		return ""
	}
	var why string
	for _, who := range h.identities(m, m.start.Add(-time.Minute)) {
		if why = h.allowedAs(m, who); why == "" {
			return ""
		}
	}
	return fmt.Sprintf("mount of operation %d (%v, %v to %v): %s", m.op, m.spec, m.start.Sub(h.moments[0].from), m.end.Sub(h.moments[0].from), why)
}

// identities are those that the mount can sign in as.
func (h *history) identities(m *attempt, from time.Time) (all []principal) {
	if m.spec.mode != byAnnotation {
		return []principal{{m.spec.foreign && m.spec.mode != byNode, m.spec.client}}
	}
	for _, s := range h.during(from, m.end) {
		if p := (principal{m.spec.foreign, s.annotated[m.account]}); !slices.Contains(all, p) && p.client >= 0 {
			all = append(all, p)
		}
	}
	return append(all, principal{client: -1})
}

// allowedAs reports why the mount may not have as this principal what it got; "" if it may.
func (h *history) allowedAs(m *attempt, who principal) string {
	if who.client < 0 || !h.signedIn(m, who) {
		return "without its own sign-in"
	}
	fresh := h.fresh(m)
	stale := fresh
	if m.previous.IsZero() && h.stale > 0 && (h.down(m) || m.impatient) { // to such a caller, a slow vault is unavailable
		stale = m.start.Add(-h.stale)
	}
	if h.unshared {
		stale = fresh
	}
	expected := 0
	for i, name := range m.spec.names {
		files := []string{secretName(name)}
		if n := m.spec.history; i == 0 && n > 0 {
			if files = h.historyOf(m, who, name, fresh); files == nil {
				return "got a history that never was: " + fmt.Sprint(m.files)
			}
		}
		if _, there := m.files[secretName(name)]; m.spec.optional && !there {
			if !h.missing(m, who, i, fresh) {
				return fmt.Sprintf("lacks %s, which was not missing from %v on", secretName(name), fresh.Sub(h.moments[0].from))
			}
			continue
		}
		expected += len(files)
		for _, file := range files {
			from := fresh
			if stale.Before(fresh) {
				from = h.afterRefusals(m, who, name, stale)
			}
			if why := h.readable(m, who, i, file, from); why != "" {
				return why
			}
		}
	}
	if expected != len(m.files) {
		return fmt.Sprintf("got %d files instead of %d", len(m.files), expected)
	}
	return ""
}

// fresh is from when on the reads may be that answer a mount, unless what it needs is unavailable.
func (h *history) fresh(m *attempt) time.Time {
	if m.previous.IsZero() || h.unshared {
		return m.start
	}
	if oldest := m.start.Add(-h.ttl); oldest.After(m.previous) {
		return oldest
	}
	return m.previous
}

// down reports whether something was unavailable around the mount.
func (h *history) down(m *attempt) bool {
	for _, s := range h.during(m.start.Add(-slack), m.end) {
		if s.down != [4]bool{} {
			return true
		}
	}
	return false
}

// afterRefusals is since when a cached value may be served while the vault is unavailable: not from before the
// last refusal that was known when the mount began.
func (h *history) afterRefusals(m *attempt, who principal, name int, from time.Time) time.Time {
	for _, r := range h.refusals {
		if r.incarnation == m.incarnation && r.who == who && r.vault == m.spec.vault && (r.name == "" || r.name == secretName(name)) &&
			r.delivered.Before(m.start) && r.decided.After(from) {
			from = r.decided
		}
	}
	return from
}

// readable reports why the principal could at no moment from then on read what the file has;
// "" if it could.
func (h *history) readable(m *attempt, who principal, index int, file string, from time.Time) string {
	name, vault := m.spec.names[index], m.spec.vault
	listed := strings.Contains(file, "/")
	for _, s := range h.during(from, m.end) {
		if !may(s.get, vault, who) {
			continue
		}
		all := s.secrets[vault][name]
		for at, v := range all {
			current := at == len(all)-1 || listed || index == 0 && m.pin == v.id && m.spec.history == 0
			if current && !v.disabled && m.files[file] == v.value && strings.EqualFold(m.versions["secret/"+file], v.id) &&
				(index > 0 || m.pin == "" || listed || m.pin == v.id) {
				return ""
			}
		}
	}
	return fmt.Sprintf("got %q for %s, which %v could not read from %v on", m.files[file], file, who, from.Sub(h.moments[0].from))
}

// missing reports whether the object did not exist at some moment from then on, at which the principal
// could learn that.
func (h *history) missing(m *attempt, who principal, index int, from time.Time) bool {
	for _, s := range h.during(from, m.end) {
		if may(s.get, m.spec.vault, who) && s.lacks(m, index) {
			return true
		}
	}
	return false
}

// lacks reports whether the vault does not have what the mount names.
func (s *state) lacks(m *attempt, index int) bool {
	all := s.secrets[m.spec.vault][m.spec.names[index]]
	if index > 0 || m.pin == "" {
		return len(all) == 0
	}
	return !slices.ContainsFunc(all, func(v secretVersion) bool { return v.id == m.pin })
}

func may(granted [modelVaults][modelClients]bool, vault int, who principal) bool {
	return !who.foreign && granted[vault][who.client]
}

// historyOf returns the files of a history that the mount got, if the vault listed just these versions
// at some moment; else nil.
func (h *history) historyOf(m *attempt, who principal, name int, from time.Time) []string {
	var files, ids []string
	for i := 0; ; i++ {
		file := fmt.Sprintf("%s/%d", secretName(name), i)
		if _, ok := m.files[file]; !ok {
			break
		}
		files, ids = append(files, file), append(ids, m.versions["secret/"+file])
	}
	for _, s := range h.during(from, m.end) {
		if may(s.list, m.spec.vault, who) && slices.Equal(newest(s.secrets[m.spec.vault][name], m.pin, m.spec.history), ids) {
			return append([]string{}, files...)
		}
	}
	return nil
}

// newest are the IDs of the n newest enabled versions, from the pinned one on if there is one.
func newest(all []secretVersion, pin string, n int) (ids []string) {
	found := pin == ""
	for _, v := range slices.Backward(all) {
		found = found || v.id == pin && !v.disabled
		if found && !v.disabled && len(ids) < n {
			ids = append(ids, v.id)
		}
	}
	return ids
}
