package server

import (
	"path/filepath"
	"slices"
	"time"

	"akv-csi-provider/provider"
	"akv-csi-provider/provider/request"

	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"
)

// response is the answer to a Mount call, checked.
type response struct {
	*v1alpha1.MountResponse
	size     int                // bytes, encoded
	versions []provider.Version // that were read: the message may have others
	warnings []string           // about values, for the log
	absent   []string           // what the vaults do not have, for the log
	expiries []time.Time        // of certificates, the next first
}

// newResponse puts a volume with these objects into the driver's message, if it fits.
func newResponse(v *provider.Volume, objects []request.Object, limit int) (response, error) {
	out := &v1alpha1.MountResponse{
		ObjectVersion: make([]*v1alpha1.ObjectVersion, 0, max(len(v.Versions), 1)),
		Files:         make([]*v1alpha1.File, 0, len(v.Files)),
	}
	if len(v.Versions) == 0 { // which the driver rejects
		for i := range objects {
			out.ObjectVersion = append(out.ObjectVersion, &v1alpha1.ObjectVersion{Id: objects[i].ID()})
		}
	}
	for _, o := range v.Versions {
		out.ObjectVersion = append(out.ObjectVersion, &v1alpha1.ObjectVersion{Id: o.ID, Version: o.Version})
	}
	// On Windows the driver requires paths in the form of filepath.Clean.
	for _, f := range v.Files {
		out.Files = append(out.Files, &v1alpha1.File{Path: filepath.FromSlash(f.Path), Mode: int32(f.Mode.Perm()), Contents: f.Content})
	}
	size := proto.Size(out)
	if size <= limit {
		return response{MountResponse: out, size: size, versions: v.Versions, warnings: v.ValueWarnings, absent: v.Absent, expiries: firstOf(v.Expiries)}, nil
	}
	sizes := make(map[string]int, len(v.Files))
	for _, f := range v.Files {
		sizes[f.String()] += len(f.Content) // which shows no key of a value
	}
	return response{}, provider.TooLarge(size, limit, sizes)
}

// maxExpiries bounds what is remembered of the certificates of one volume.
const maxExpiries = 8

// firstOf are the times that come first, in order.
func firstOf(times []time.Time) []time.Time {
	times = slices.SortedFunc(slices.Values(times), time.Time.Compare)
	return slices.Clip(times[:min(len(times), maxExpiries)])
}
