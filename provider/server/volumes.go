package server

import (
	"encoding/json"
	"hash/maphash"
	"strings"
	"sync/atomic"
	"time"

	"akv-csi-provider/provider/request"

	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"
)

// volumeID identifies a volume. kubelet's target path has the pod's UID and does alone: drivers
// before 1.6 leave out the class's name when they rotate. secrets-store-sync-controller has one
// path and one pod for all its requests, and names no class: there, the parameters count too.
type volumeID struct {
	target     string
	parameters uint64 // a digest; 0 with kubelet's path
}

// volumeOf returns the ID of the volume.
func volumeOf(in *v1alpha1.MountRequest, req *request.Mount) volumeID {
	id := volumeID{target: in.GetTargetPath()}
	if req.Pod.UID == "" || !strings.Contains(id.target, req.Pod.UID) {
		id.parameters = parametersOf(in.GetAttributes())
	}
	return id
}

// parametersOf digests the attributes without the tokens, which are others every few minutes.
func parametersOf(attributes string) (sum uint64) {
	var all map[string]string
	_ = json.Unmarshal([]byte(attributes), &all) // request.Parser reports what is wrong with them
	for name, value := range all {
		if name != "csi.storage.k8s.io/serviceAccount.tokens" {
			sum += maphash.Comparable(seed, [2]string{name, value})
		}
	}
	return sum
}

// mounted is the last successful mount of a volume; the zero value is none.
type mounted struct {
	ended    time.Time // zero only without one
	since    time.Time // when it ended, or without one, when the first mount in this process failed
	exists   bool
	versions uint64 // a digest of the objects and their versions
	warnings uint64 // a digest of the warnings about values
	reader   uint64 // a digest of as whom it was read, and from which vault; 0 if that is unknown

	attempted *atomic.Int64 // when the last mount ended, successful or not, in nanoseconds
	expiries  []time.Time   // of its certificates, the next first
}

var seed = maphash.MakeSeed()

// previous returns the last successful mount of the volume. After a restart of this process,
// the versions in the request show that there was one: drivers before 1.6, which have their
// own loop for rotations, send the versions that the volume contains. When it ended is unknown, so
// that the next one accepts no answer from before it began.
func (s *Server) previous(id volumeID, in *v1alpha1.MountRequest) mounted {
	if m, ok := s.volumes.Get(id); ok && m.exists {
		return m
	}
	if current := in.GetCurrentObjectVersion(); len(current) > 0 {
		return mounted{ended: time.Now(), exists: true, versions: digest(current)}
	}
	return mounted{}
}

// remember stores a successful mount for the next one.
func (s *Server) remember(req *request.Mount, resp response, r report) mounted {
	now := time.Now()
	m := mounted{ended: now, since: now, attempted: new(atomic.Int64), expiries: resp.expiries, exists: true, versions: digest(resp.GetObjectVersion())}
	if id := r.stats.Identity.Load(); id != nil {
		m.reader = maphash.Comparable(seed, [...]string{id.Mode, id.ClientID, id.TenantID, req.Vault})
	}
	m.attempted.Store(now.UnixNano())
	for _, text := range resp.warnings {
		m.warnings += maphash.String(seed, text)
	}
	if r.id.target != "" {
		s.volumes.Add(r.id, m)
	}
	return m
}

// digest does not depend on the order of the versions: the driver stores them in a map.
func digest(versions []*v1alpha1.ObjectVersion) (sum uint64) {
	for _, v := range versions {
		sum += maphash.Comparable(seed, [2]string{v.GetId(), v.GetVersion()})
	}
	return sum
}
