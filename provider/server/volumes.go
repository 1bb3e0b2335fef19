package server

import (
	"hash/maphash"
	"time"

	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"
)

// mounted is the last successful mount of a volume.
type mounted struct {
	ended    time.Time // zero if this process does not know of one
	again    bool      // there was one
	versions uint64    // a digest of the objects and their versions
}

var seed = maphash.MakeSeed()

// last returns what is known of the volume's mounts before this one. The versions that
// the volume holds could also come with the request, and tell of mounts before this
// process. But driver 1.6 sends none; older ones, with their own loop for rotations, do.
func (s *Server) last(in *v1alpha1.MountRequest) mounted {
	if m, ok := s.volumes.Get(in.GetTargetPath()); ok {
		return m
	}
	if current := in.GetCurrentObjectVersion(); len(current) > 0 {
		return mounted{again: true, versions: digest(current)}
	}
	return mounted{}
}

// remember keeps what a successful mount brought for the next one.
func (s *Server) remember(in *v1alpha1.MountRequest, resp response) mounted {
	m := mounted{ended: time.Now(), again: true, versions: digest(resp.GetObjectVersion())}
	if in.GetTargetPath() != "" {
		s.volumes.Add(in.GetTargetPath(), m)
	}
	return m
}

// differs reports whether two mounts brought different versions.
func (m mounted) differs(other mounted) bool { return m.versions != other.versions }

// digest is the same for equal versions in whatever order: the driver keeps them in a
// map.
func digest(versions []*v1alpha1.ObjectVersion) (sum uint64) {
	var h maphash.Hash
	for _, v := range versions {
		h.SetSeed(seed)
		_, _ = h.WriteString(v.GetId())
		_ = h.WriteByte(0)
		_, _ = h.WriteString(v.GetVersion())
		sum += h.Sum64()
	}
	return sum
}
