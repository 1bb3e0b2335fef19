package provider

import (
	"context"
	"fmt"

	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/request"
)

// listWindow bounds the lists of one mount that are read at a time.
const listWindow = 4

// expand replaces each object that requests its history by the existing versions. An object
// without any is accepted with a warning, as in the replaced provider.
func (s session) expand(ctx context.Context, planned []item) ([]item, []request.Warning, error) {
	versions, err := s.histories(ctx, planned)
	if err != nil || versions == nil {
		return planned, nil, err
	}
	items := make([]item, 0, len(planned))
	var warnings []request.Warning
	var empty []error
	for i := range planned {
		it := planned[i]
		if !it.hasHistory() {
			items = append(items, it)
			continue
		}
		for n, version := range versions[i] {
			one := it
			one.Object, one.id = it.Nth(n, version), fmt.Sprintf("%s/%d", it.ID(), n)
			items = append(items, one)
		}
		switch {
		case len(versions[i]) > 0:
		case it.Optional:
			it.unread = true
			items = append(items, it)
		default:
			empty = append(empty, keyvault.NoVersions(keyvault.Object{Host: s.hostOf(it.Vault), Type: it.Type, Name: it.Name, Version: it.Version}))
			from := ""
			if it.Version != "" {
				from = " from objectVersion on"
			}
			warnings = append(warnings, request.Warning{Kind: request.WarnEmptyHistory, Field: fmt.Sprintf("objects[%d] %q: objectVersionHistory", it.entry, it.Name),
				Cause: "the vault has no enabled version" + from + "; no file is written"})
		}
	}
	if len(items) == 0 { // the driver would reject this with an error that explains nothing
		return nil, nil, fault.Join(empty)
	}
	return items, warnings, s.strict(warnings)
}

func (i *item) hasHistory() bool { return i.History > 1 && !i.unread }

// histories lists the versions of the objects that request more than one, by index; nil if none
// does. It stops when the volume would have more than maxItems, and never requests many more than
// fit: the versions of thousands of objects would take more memory than the process has.
func (s session) histories(ctx context.Context, items []item) ([][]string, error) {
	left := maxItems // that still fit
	for i := range items {
		if !items[i].hasHistory() {
			left--
		}
	}
	if left == maxItems-len(items) {
		return nil, nil
	}
	window := min(s.MaxConcurrency, listWindow)
	release, err := s.reserve(ctx, window*listMemory)
	if err != nil {
		return nil, err
	}
	if release != nil {
		defer release()
	}
	versions := make([][]string, len(items))
	errs := readEach(ctx, s, len(items), window, func(i int) *request.Object { return &items[i].Object },
		func(ctx context.Context, i int, host string, caller keyvault.Caller) func() ([]string, error) {
			o := &items[i]
			if !o.hasHistory() || left < 0 {
				return func() ([]string, error) { return nil, nil }
			}
			// One more than fits shows that there are too many.
			return s.Vaults.Versions(ctx, caller, keyvault.Object{Host: host, Type: o.Type, Name: o.Name, Version: o.Version}, min(o.History, left+1), s.fresh)
		}, func(i int, list []string, _ bool, err error) error {
			if err != nil && !(items[i].Optional && fault.Is(err, fault.ObjectNotFound)) {
				return failed(ctx, &items[i].Object, err)
			}
			if left -= len(list); left >= 0 {
				versions[i] = list
			}
			return nil
		})
	if err := fault.Join(errs); err != nil {
		return nil, err
	}
	if left < 0 {
		return nil, tooMany("versions with their histories", "lower objectVersionHistory")
	}
	return versions, nil
}
