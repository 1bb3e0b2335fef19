package provider

import (
	"context"
	"fmt"

	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/request"
)

// item is one version of an object that becomes part of the volume.
type item struct {
	request.Object
	id string // of its version, towards the driver
}

// maxItems bounds the versions of one volume, as request bounds its objects.
const maxItems = 4096

// expand puts in place of each object that asks for its history the versions there
// are. An object without any is let pass, as the replaced provider does.
func (m *Mounter) expand(ctx context.Context, host string, caller keyvault.Caller, objects []request.Object, need keyvault.Need) ([]item, []request.Lax, error) {
	versions, err := m.histories(ctx, host, caller, objects, need)
	if err != nil {
		return nil, nil, err
	}
	items := make([]item, 0, len(objects))
	var lax []request.Lax
	var empty []keyvault.Object
	for i, o := range objects {
		if o.History < 2 {
			items = append(items, item{o, o.ID()})
			continue
		}
		for n, version := range versions[i] {
			items = append(items, item{o.Of(n, version), fmt.Sprintf("%s/%d", o.ID(), n)})
		}
		if len(versions[i]) == 0 {
			empty = append(empty, vaultObject(host, o))
			lax = append(lax, request.Lax{Kind: request.LaxEmptyHistory, Field: fmt.Sprintf("objects[%d] %q: objectVersionHistory", i, o.Name),
				Cause: "the vault has no enabled version of it from objectVersion on; no file is made"})
		}
	}
	switch {
	case len(items) == 0: // which the driver would refuse in words of its own
		return nil, nil, keyvault.NoVersions(empty)
	case len(items) > maxItems:
		return nil, nil, &request.Error{Problems: []request.Problem{{Field: "objects",
			Cause: fmt.Sprintf("%d versions with their histories", len(items)), Fix: fmt.Sprintf("at most %d; lower objectVersionHistory", maxItems)}}}
	}
	if m.StrictObjects {
		if err := request.Strict(lax); err != nil {
			return nil, nil, err
		}
	}
	return items, lax, nil
}

// histories lists the versions of the objects that ask for more than one, by index.
func (m *Mounter) histories(ctx context.Context, host string, caller keyvault.Caller, objects []request.Object, need keyvault.Need) ([][]string, error) {
	versions := make([][]string, len(objects))
	errs := make([]error, len(objects))
	ahead(len(objects), m.MaxConcurrency, func(i int) func() ([]string, error) {
		o := objects[i]
		if o.History < 2 {
			return func() ([]string, error) { return nil, nil }
		}
		return m.Vaults.Versions(ctx, caller, vaultObject(host, o), o.History, need)
	}, func(i int, wait func() ([]string, error)) {
		defer Recover(&errs[i])
		versions[i], errs[i] = wait()
	})
	return versions, join(errs)
}

// vaultObject is what the class's object is to a vault.
func vaultObject(host string, o request.Object) keyvault.Object {
	return keyvault.Object{Host: host, Type: o.Type, Name: o.Name, Version: o.Version}
}
