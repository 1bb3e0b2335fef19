package provider

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"akv-csi-provider/provider/document"
	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/request"
)

// documentMax is how many objects one find of a document may match.
const documentMax = 100

// finding identifies a search: an entry of the class, and in a document which of its searches.
type finding struct {
	entry  int
	source document.Source
}

// match is an object that a search found. Its path is relative to the folder of the search.
type match struct{ name, path string }

// search is what an entry looks for in a list.
type search struct {
	finding
	*request.Object // the entry
	find            request.Find
	path            bool // matches become files with paths
}

// listing identifies a list of objects.
type listing struct {
	vault, failover string
	kind            request.Type
}

// findAll lists the objects of the vaults that the class searches, each list once, and returns what
// each search has found.
func (s session) findAll(ctx context.Context, objects []request.Object) (map[finding][]match, error) {
	order, searches, err := searchesOf(objects)
	if err != nil || len(order) == 0 {
		return nil, err
	}
	window := min(s.MaxConcurrency, listWindow, len(order))
	release, err := s.reserve(ctx, window*objectListMemory)
	if err != nil {
		return nil, err
	}
	if release != nil {
		defer release()
	}
	found := make(map[finding][]match)
	left := maxItems
	errs := readEach(ctx, s, len(order), window, func(i int) *request.Object { return searches[order[i]][0].Object },
		func(ctx context.Context, i int, host string, caller keyvault.Caller) func() ([]keyvault.Item, error) {
			return s.Vaults.List(ctx, caller, host, order[i].kind, s.fresh)
		}, func(i int, list []keyvault.Item, failover bool, err error) error {
			if err != nil {
				for _, one := range searches[order[i]] {
					_ = failed(ctx, one.Object, err)
				}
				return err
			}
			host := s.hostOf(order[i].vault)
			if failover {
				host = s.hostOf(order[i].failover)
			}
			var errs []error
			for _, one := range searches[order[i]] {
				matches, err := s.matches(ctx, one, host, list)
				if left -= len(matches); left < 0 {
					return tooMany("objects that the searches find", "narrow them")
				}
				if found[one.finding] = matches; err != nil {
					errs = append(errs, failed(ctx, one.Object, err))
				}
			}
			return fault.Join(errs)
		})
	if err := fault.Join(errs); err != nil {
		return nil, err
	}
	return found, samePaths(objects, found)
}

// searchesOf returns the lists that the class needs, in the order of its entries, and its searches by
// list.
func searchesOf(objects []request.Object) (order []listing, searches map[listing][]search, err error) {
	add := func(l listing, one search) {
		if searches == nil {
			searches = make(map[listing][]search)
		}
		if len(searches[l]) == 0 {
			order = append(order, l)
		}
		searches[l] = append(searches[l], one)
	}
	for i := range objects {
		o := &objects[i]
		if o.Find != nil {
			add(listing{o.Vault, o.Failover, o.Type}, search{finding{entry: i}, o, *o.Find, true})
		}
		if o.Document == nil {
			continue
		}
		for _, r := range o.Document.References() {
			if r.Kind != document.Find {
				continue
			}
			name, err := regexp.Compile(r.Name)
			if err != nil {
				return nil, nil, fault.Invalid(fault.Problem{Field: fmt.Sprintf("objects[%d] %q: template", i, o.Path),
					Cause: fmt.Sprintf("line %d: find %.64q is not a valid RE2 regular expression", r.Line, r.Name), Fix: "correct the pattern"})
			}
			add(listing{o.Vault, o.Failover, request.TypeSecret}, search{finding{i, r.Source}, o, request.Find{Name: name, Max: documentMax}, false})
		}
	}
	return order, searches, nil
}

// matches finds the objects of a list that a search is about. Patterns may take long, so it takes its
// turn of the processors, and ends with the mount.
func (s session) matches(ctx context.Context, one search, host string, list []keyvault.Item) ([]match, error) {
	release, err := s.turn(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	var matches []match
	n, managed, disabled := 0, 0, 0
	for k, i := range list {
		if k%64 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		path, ok := matching(one.find, i)
		switch {
		case !ok:
		case !i.Enabled:
			disabled++
		case i.Managed && one.kind() == request.TypeSecret && !one.find.Managed:
			managed++
		default:
			if n++; n <= one.find.Max {
				matches = append(matches, match{i.Name, path})
			}
		}
	}
	switch {
	case n > one.find.Max:
		return nil, one.tooMany(host, n)
	case n == 0 && one.path && !one.Optional:
		return nil, one.nothing(host, managed, disabled)
	case !one.path:
		return matches, nil
	}
	return matches, one.checkPaths(matches)
}

// kind is the type of what is looked for.
func (s search) kind() request.Type {
	if s.Document != nil {
		return request.TypeSecret
	}
	return s.Type
}

// matching reports whether a search is about an object, and under which path its file is: the name,
// or what the pattern's one group matches.
func matching(find request.Find, i keyvault.Item) (path string, ok bool) {
	for name, value := range find.Tags {
		if got, tagged := i.Tags[name]; !tagged || got != value {
			return "", false
		}
	}
	if find.Name == nil {
		return i.Name, true
	}
	if find.Name.NumSubexp() != 1 {
		return i.Name, find.Name.MatchString(i.Name)
	}
	groups := find.Name.FindStringSubmatch(i.Name)
	if groups == nil {
		return "", false
	}
	return groups[1], true
}

// String names the search in messages.
func (s search) String() string {
	if !s.path {
		return fmt.Sprintf("find %.64q", s.find.Name)
	}
	var parts []string
	if s.find.Name != nil {
		parts = append(parts, fmt.Sprintf("name %.64q", s.find.Name))
	}
	for _, name := range slices.Sorted(maps.Keys(s.find.Tags)) {
		parts = append(parts, fmt.Sprintf("tag %.64q", name))
	}
	return "find with " + strings.Join(parts, ", ")
}

func (s search) field() string {
	if s.path {
		return fmt.Sprintf("objects[%d]: find", s.entry)
	}
	return fmt.Sprintf("objects[%d] %.64q: template", s.entry, s.Path)
}

func (s search) tooMany(host string, n int) error {
	most, fix := fmt.Sprint("maxObjects ", s.find.Max), "narrow it, or raise maxObjects (at most 1000)"
	if !s.path {
		most, fix = fmt.Sprint(s.find.Max), "narrow it"
	}
	return fault.Invalid(fault.Problem{Field: s.field(), Cause: fmt.Sprintf("%s matches %d %ss in %s, over the limit of %s", s, n, s.kind().Word(), host, most), Fix: fix})
}

func (s search) nothing(host string, managed, disabled int) error {
	cause, fix := fmt.Sprintf("%s has no %s that matches {objects}", host, s.Type.Word()), "check find and keyvaultName, or set optional: true"
	switch {
	case managed > 0:
		cause, fix = fmt.Sprintf("%s (%d behind certificates)", cause, managed), "set includeCertificates: true, or "+fix
	case disabled > 0:
		cause, fix = fmt.Sprintf("%s (%d disabled)", cause, disabled), "enable them, or "+fix
	}
	return &fault.Error{Reason: fault.ObjectNotFound, Cause: cause, Fix: fix, Objects: []string{s.String()}}
}

// checkPaths refuses matches whose files would have no name, or one name. The groups of patterns
// decide on that.
func (s search) checkPaths(matches []match) error {
	names := make(map[string]string, len(matches))
	for _, m := range matches {
		cause := ""
		switch other, twice := names[m.path]; {
		case m.path == "":
			cause = fmt.Sprintf("its group matches no text in %s %q", s.Type, m.name)
		case twice:
			cause = fmt.Sprintf("%q and %q have the same path %q", other, m.name, m.path)
		}
		if cause != "" {
			return fault.Invalid(fault.Problem{Field: s.field(), Cause: s.String() + ": " + cause, Fix: "change the group of the pattern"})
		}
		names[m.path] = m.name
	}
	return nil
}

// samePaths refuses matches of different searches that have one path.
func samePaths(objects []request.Object, found map[finding][]match) error {
	type owner struct {
		entry int
		name  string
	}
	paths := make(map[string]owner)
	var problems []fault.Problem
	for i, o := range objects {
		if o.Find == nil || o.Bundle != "" {
			continue
		}
		for _, m := range found[finding{entry: i}] {
			path := join(o.Path, m.path)
			if other, twice := paths[path]; twice && len(problems) < maxFailed {
				problems = append(problems, fault.Problem{Field: fmt.Sprintf("objects[%d]: find", i),
					Cause: fmt.Sprintf("%s %q has the same path %.64q as %q of objects[%d]", o.Type, m.name, path, other.name, other.entry),
					Fix:   "use another objectAlias"})
			}
			paths[path] = owner{i, m.name}
		}
	}
	if len(problems) > 0 {
		return fault.Invalid(slices.Clip(problems)...)
	}
	return nil
}
