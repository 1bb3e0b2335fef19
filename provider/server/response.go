package server

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"akv-csi-provider/provider"

	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/secrets-store-csi-driver/provider/v1alpha1"
)

// response is a checked answer to Mount.
type response struct {
	*v1alpha1.MountResponse
	size int // bytes, encoded
}

// reasonTooLarge is the reason of a tooLargeError.
const reasonTooLarge = "TooLarge"

// tooLargeError says that a volume is more than the driver would take.
type tooLargeError struct {
	size, limit int
	largest     []string
}

func (e *tooLargeError) Error() string {
	return fmt.Sprintf("the volume takes %d bytes, more than %d; the largest files are %s; mount fewer objects,"+
		" or raise --max-response-bytes of the provider and --max-call-recv-msg-size of the CSI driver",
		e.size, e.limit, strings.Join(e.largest, ", "))
}

func (e *tooLargeError) Reason() string { return reasonTooLarge }

// newResponse puts a volume into the driver's message, if it fits.
func newResponse(v *provider.Volume, limit int) (response, error) {
	out := &v1alpha1.MountResponse{
		ObjectVersion: make([]*v1alpha1.ObjectVersion, 0, len(v.Versions)),
		Files:         make([]*v1alpha1.File, 0, len(v.Files)),
	}
	for _, o := range v.Versions {
		out.ObjectVersion = append(out.ObjectVersion, &v1alpha1.ObjectVersion{Id: o.ID, Version: o.Version})
	}
	for _, f := range v.Files {
		out.Files = append(out.Files, &v1alpha1.File{Path: f.Path, Mode: int32(f.Mode.Perm()), Contents: f.Content})
	}
	size := proto.Size(out)
	if size > limit {
		return response{}, &tooLargeError{size: size, limit: limit, largest: largest(out.Files)}
	}
	return response{MountResponse: out, size: size}, nil
}

// largest names the three largest files with their sizes.
func largest(files []*v1alpha1.File) []string {
	sorted := slices.SortedStableFunc(slices.Values(files), func(a, b *v1alpha1.File) int {
		return cmp.Compare(len(b.GetContents()), len(a.GetContents()))
	})
	var names []string
	for _, f := range sorted[:min(len(sorted), 3)] {
		names = append(names, fmt.Sprintf("%q (%d bytes)", f.GetPath(), len(f.GetContents())))
	}
	return names
}
