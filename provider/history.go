package provider

import (
	"context"
	"fmt"

	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/request"
)

// item is one version of an object that becomes part of the volume.
type item struct {
	request.Object
	id string // of its version, as reported to the driver
}

// maxItems bounds the versions of one volume, as request bounds its objects.
const maxItems = 4096

// listWindow bounds the lists of versions of one mount that are read at a time.
const listWindow = 4

// expand replaces each object that asks for its history by the existing versions. An object
// without any is accepted with a warning, as in the replaced provider.
func (s session) expand(ctx context.Context, objects []request.Object) ([]item, []request.Warning, error) {
	versions, err := s.histories(ctx, objects)
	if err != nil {
		return nil, nil, err
	}
	items := make([]item, 0, len(objects))
	var warnings []request.Warning
	var empty []keyvault.Object
	for i, o := range objects {
		if o.History < 2 {
			items = append(items, item{o, o.ID()})
			continue
		}
		for n, version := range versions[i] {
			items = append(items, item{o.Nth(n, version), fmt.Sprintf("%s/%d", o.ID(), n)})
		}
		if len(versions[i]) == 0 {
			empty = append(empty, s.object(o))
			warnings = append(warnings, request.Warning{Kind: request.WarnEmptyHistory, Field: fmt.Sprintf("objects[%d] %q: objectVersionHistory", i, o.Name),
				Cause: "the vault has no enabled version of it from objectVersion on; no file is made"})
		}
	}
	if len(items) == 0 { // the driver would reject this with an error that explains nothing
		return nil, nil, keyvault.NoVersions(empty)
	}
	return items, warnings, s.strict(warnings)
}

// histories lists the versions of the objects that ask for more than one, by index. It stops
// when the volume would have more than maxItems, and never requests many more than fit: the
// versions of thousands of objects would take more memory than the process has.
func (s session) histories(ctx context.Context, objects []request.Object) ([][]string, error) {
	versions := make([][]string, len(objects))
	left := maxItems // that still fit
	for _, o := range objects {
		if o.History < 2 {
			left--
		}
	}
	if left == maxItems-len(objects) { // without a history
		return versions, nil
	}
	window := min(s.MaxConcurrency, listWindow)
	release, err := s.reserve(ctx, window*listMemory)
	if err != nil {
		return nil, err
	}
	if release != nil {
		defer release()
	}
	err = each(ctx, len(objects), window, func(i int) func() ([]string, error) {
		o := objects[i]
		if o.History < 2 || left < 0 {
			return func() ([]string, error) { return nil, nil }
		}
		// One more than fits shows that there are too many.
		return s.Vaults.Versions(ctx, s.caller, s.object(o), min(o.History, left+1), s.fresh)
	}, func(i int, list []string) error {
		if left -= len(list); left >= 0 {
			versions[i] = list
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if left < 0 {
		return nil, fault.Invalid(fault.Problem{Field: "objects", Cause: fmt.Sprintf("more than %d versions with their histories", maxItems),
			Fix: fmt.Sprintf("at most %d; lower objectVersionHistory", maxItems)})
	}
	return versions, nil
}
