package server_test

import (
	"slices"
	"time"
)

// signedIn reports whether the very credential of the mount can have got a token of the
// principal: in this mount, or in one that presented the same before, if that token still was valid.
func (h *history) signedIn(m *attempt, who principal) bool {
	for _, earlier := range h.attempts {
		if earlier.start.After(m.end) || !sameCredential(earlier, m) {
			continue
		}
		until := m.end
		if earlier != m {
			if late := earlier.end.Add(time.Minute); late.Before(until) { // a renewal goes on without it
				until = late
			}
		}
		for part, s := range h.during(earlier.start, until) {
			if h.trusted(m, who, s, part[0]) && h.stillValid(m, part[1]) {
				return true
			}
		}
	}
	return false
}

// sameCredential reports whether two mounts may share a sign-in.
func sameCredential(a, b *attempt) bool {
	return a.incarnation == b.incarnation && a.spec.mode == b.spec.mode && a.spec.foreign == b.spec.foreign &&
		a.token == b.token && a.spec.wrongPassword == b.spec.wrongPassword &&
		(b.spec.mode == byAnnotation || a.spec.client == b.spec.client)
}

// oldestSignIn is when the sign-in can have begun whose error a mount gets: one that is under way is
// shared, and so is its error. Mounts follow each other in the order of their starts.
func (h *history) oldestSignIn(m *attempt) time.Time {
	from := m.start
	for _, earlier := range slices.Backward(h.attempts) {
		if earlier.start.Before(from) && earlier.end.After(from) && sameCredential(earlier, m) {
			from = earlier.start
		}
	}
	return from
}

// trusted reports whether Entra issues a token of the principal for the mount's credential.
func (h *history) trusted(m *attempt, who principal, s *state, at time.Time) bool {
	if s.blocked[who.client] && !who.foreign {
		return false
	}
	switch m.spec.mode {
	case byPassword:
		return who.client == password && !who.foreign && !m.spec.wrongPassword
	case byNode:
		return who.client == onNode && modelAccounts[m.account].namespace == "infra"
	}
	if m.spec.token == forged || !at.Add(s.skew).Before(m.expires) {
		return false
	}
	if who.foreign {
		return m.account == attacker
	}
	return s.trust[who.client][m.account]
}

// stillValid reports whether a token of that moment serves the mount, by the node's clock.
func (h *history) stillValid(m *attempt, issued time.Time) bool {
	if !issued.Before(m.start) {
		return true
	}
	federated := m.spec.mode == byClient || m.spec.mode == byAnnotation
	return issued.Add(h.lifetime).After(m.start) && (!federated || m.expires.After(m.start))
}

// mustSucceed reports whether a mount may not fail: all that it needs existed all the time,
// nothing was unavailable, and no clock was wrong.
func (h *history) mustSucceed(m *attempt) bool {
	from := h.fresh(m) // the error of a read is shared like its value
	if m.spec.mode == byAnnotation {
		from = m.start.Add(-time.Minute - time.Second) // which the plugin caches
	}
	who := h.identities(m, from)
	if m.spec.mode == byAnnotation && len(who) != 2 || m.spec.token != genuine || h.down(m) {
		return false
	}
	for _, s := range h.during(h.moments[0].from, m.end) {
		if s.skew != 0 {
			return false
		}
	}
	for part, s := range h.during(h.oldestSignIn(m), m.end) {
		if !h.trusted(m, who[0], s, part[1].Add(time.Minute)) {
			return false
		}
	}
	var before *state
	for part, s := range h.during(from, m.end) {
		if m.spec.mode == byAnnotation && s.annotated[m.account] != who[0].client {
			return false
		}
		if !h.trusted(m, who[0], s, part[1].Add(time.Minute)) || !h.servable(m, who[0], s) {
			return false
		}
		if before != nil && m.spec.history > 0 && !slices.Equal(before.secrets[m.spec.vault][m.spec.names[0]], s.secrets[m.spec.vault][m.spec.names[0]]) {
			return false
		}
		before = s
	}
	return true
}

// servable reports whether the principal can read all objects of the mount.
func (h *history) servable(m *attempt, who principal, s *state) bool {
	if !may(s.get, m.spec.vault, who) || m.spec.history > 0 && !may(s.list, m.spec.vault, who) {
		return false
	}
	for i, name := range m.spec.names {
		all := s.secrets[m.spec.vault][name]
		switch {
		case m.spec.optional && s.lacks(m, i):
		case i == 0 && m.spec.history > 0:
			if len(newest(all, m.pin, m.spec.history)) == 0 {
				return false
			}
		case i == 0 && m.pin != "":
			if !slices.ContainsFunc(all, func(v secretVersion) bool { return v.id == m.pin && !v.disabled }) {
				return false
			}
		case len(all) == 0 || all[len(all)-1].disabled:
			return false
		}
	}
	return true
}
