package server

import (
	"hash/maphash"
	"sync/atomic"
	"time"

	"akv-csi-provider/provider/request"

	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"
)

// volumeID identifies a volume. The target path alone would do for the driver, but
// secrets-store-sync-controller has one path for all its requests.
type volumeID struct{ target, namespace, podUID, serviceAccount, class string }

// volumeOf returns the ID of the volume, of which req is nil if parsing panicked.
func volumeOf(in *v1alpha1.MountRequest, req *request.Mount) volumeID {
	id := volumeID{target: in.GetTargetPath()}
	if req != nil {
		id.namespace, id.podUID, id.serviceAccount, id.class = req.Pod.Namespace, req.Pod.UID, req.Pod.ServiceAccount, req.Class
	}
	return id
}

// mounted is a successful mount of a volume; the zero value is none.
type mounted struct {
	ended    time.Time // zero if this process did not see it
	exists   bool
	versions uint64 // a digest of the objects and their versions
	warnings uint64 // a digest of the warnings about values

	attempted *atomic.Int64 // when the last mount ended, successful or not, in nanoseconds
	expiries  []time.Time   // of its certificates, the next first
}

var seed = maphash.MakeSeed()

// previous returns the last successful mount of the volume. After a restart of this process,
// the versions in the request show that there was one: drivers before 1.6, which have their
// own loop for rotations, send the versions that the volume contains.
func (s *Server) previous(id volumeID, in *v1alpha1.MountRequest) mounted {
	if m, ok := s.volumes.Get(id); ok {
		return m
	}
	if current := in.GetCurrentObjectVersion(); len(current) > 0 {
		return mounted{exists: true, versions: digest(current)}
	}
	return mounted{}
}

// remember stores a successful mount for the next one.
func (s *Server) remember(id volumeID, resp response) mounted {
	now := time.Now()
	m := mounted{ended: now, attempted: new(atomic.Int64), expiries: resp.expiries, exists: true, versions: digest(resp.GetObjectVersion())}
	m.attempted.Store(now.UnixNano())
	for _, text := range resp.warnings {
		m.warnings += maphash.String(seed, text)
	}
	if id.target != "" {
		s.volumes.Add(id, m)
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
