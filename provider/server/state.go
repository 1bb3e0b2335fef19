package server

import (
	"sync/atomic"
	"time"
)

// State is what a server does now, and what it knows of the volumes that the driver mounted in the
// last Recent: it is not called when a pod ends.
type State struct {
	Mounts int // in progress
	Places int // that are free for mounts with the whole time limit
	// OldestRotation is for how long the volume has had no successful mount that has waited
	// longest for one; 0 without a volume. Before the first one it counts from the first failure,
	// if the volume contains files of an earlier process; see failedToRotate.
	OldestRotation time.Duration
	// NextExpiry is when the first of the mounted certificates expires; zero without one.
	NextExpiry time.Time
	// Expiring counts those that expire within each of the Horizons, or have expired. Of one
	// volume, at most 8 count.
	Expiring [len(Horizons)]int
}

// Recent is the time for which volumes count in a State.
const Recent = 15 * time.Minute

// Horizons are the times within which certificates are counted.
var Horizons = [...]time.Duration{24 * time.Hour, 7 * 24 * time.Hour, 30 * 24 * time.Hour}

// State returns what the server does now.
func (s *Server) State() State {
	state := State{Mounts: int(s.running.Load()), Places: int(max(0, maxLongMounts-s.admission.long.Used()))}
	now := time.Now()
	for _, v := range s.volumes.Values() {
		if now.UnixNano()-v.attempted.Load() > int64(Recent) {
			continue
		}
		state.OldestRotation = max(state.OldestRotation, now.Sub(v.since))
		for _, expires := range v.expiries {
			if state.NextExpiry.IsZero() || expires.Before(state.NextExpiry) {
				state.NextExpiry = expires
			}
			for i, within := range Horizons {
				if expires.Before(now.Add(within)) {
					state.Expiring[i]++
				}
			}
		}
	}
	return state
}

// failedToRotate remembers that the driver still mounts the volume. It changes nothing else: a mount
// that has succeeded meanwhile counts.
//
// If this process has never mounted the volume, an earlier one may have: then its pod runs with old
// files, and the volume counts from now on. Drivers before 1.6 say so. Later ones send the same for
// a pod that starts, but they call for each volume again within minutes. So a volume counts that
// fails first in the time for which volumes are remembered; one that fails first later is new.
func (s *Server) failedToRotate(id volumeID, previous mounted) {
	now := time.Now()
	if (previous.exists || now.Sub(s.started) < Recent) && id.target != "" {
		s.volumes.ContainsOrAdd(id, mounted{since: now, attempted: new(atomic.Int64)})
	}
	if v, ok := s.volumes.Peek(id); ok {
		v.attempted.Store(now.UnixNano())
	}
}
