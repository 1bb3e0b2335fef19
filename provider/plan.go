package provider

import (
	"context"
	"fmt"

	"akv-csi-provider/provider/document"
	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/request"
)

// item is what one read adds to the volume: a version of an object.
type item struct {
	request.Object
	id    string // of its version, as reported to the driver; "" if there is nothing to read
	entry int    // index of its entry in the class
	// of is set if its value is one of several that files are made of: that with the index member.
	of     *composite
	member int
	found  bool // by a search: it may be gone when it is read
	unread bool // there is nothing to read: it stands for an entry that found nothing
}

// String names the item in messages: what its files are made of.
func (i *item) String() string {
	if i.of != nil {
		return i.of.String()
	}
	return i.Object.String()
}

// entryObject is what the item's files are made of: an object, or a composite's entry.
func (i *item) entryObject() *request.Object {
	if i.of != nil {
		return &i.of.Object
	}
	return &i.Object
}

// composite is an entry of the class whose files are made of several values.
type composite struct {
	request.Object
	members []member
	origins []Origin // of those that were read; only for Mounter.OnFiles
	left    int      // how many of these have not been read
	absent  bool     // one does not exist, and the entry is optional
}

// member is a value of a composite.
type member struct {
	kind   request.Type
	name   string          // of a search: the result's
	source document.Source // of a document
	value  keyvault.Value
	there  bool
}

// String names the composite in messages.
func (c *composite) String() string {
	switch {
	case c.Document != nil:
		return fmt.Sprintf("document %q", c.Path)
	case c.Find != nil:
		return fmt.Sprintf("%s bundle %q", c.Bundle, c.Path)
	}
	return c.Object.String()
}

// maxItems bounds the versions of one volume, as request bounds its objects.
const maxItems = 4096

// plan says what to read for the class, in the order of its entries, with mistakes that only the
// vaults show. Searches are replaced by what they find, and histories by their versions.
func (s session) plan(ctx context.Context, objects []request.Object) ([]item, []request.Warning, error) {
	found, err := s.findAll(ctx, objects)
	if err != nil {
		return nil, nil, err
	}
	p := planner{items: make([]item, 0, len(objects)), found: found}
	for i := range objects {
		p.add(i, &objects[i])
		if len(p.items) > maxItems {
			return nil, nil, tooMany("objects, with those that searches and documents read", "narrow the searches")
		}
	}
	return s.expand(ctx, p.items)
}

func tooMany(what, fix string) error {
	return fault.Invalid(fault.Problem{Field: "objects", Cause: fmt.Sprintf("more than %d %s", maxItems, what), Fix: fix})
}

// planner makes the items of entries.
type planner struct {
	items []item
	found map[finding][]match
}

// add adds the items of an entry.
func (p *planner) add(entry int, o *request.Object) {
	switch {
	case o.Document != nil:
		p.addDocument(entry, o)
	case o.Find != nil:
		p.addMatches(entry, o)
	case len(o.Refers()) > 0:
		c, own := &composite{Object: *o}, beside(o, o.Type, o.Name)
		own.Version = o.Version
		p.addMember(entry, c, own, document.Source{}, false)
		for _, password := range o.Refers() {
			p.addMember(entry, c, password, document.Source{}, false)
		}
	default:
		p.items = append(p.items, item{Object: *o, id: o.ID(), entry: entry})
	}
}

func (p *planner) addDocument(entry int, o *request.Object) {
	c := &composite{Object: *o}
	references := o.Document.References()
	for i, object := range o.Refers() {
		source := references[i].Source
		if source.Kind != document.Find {
			p.addMember(entry, c, object, source, false)
			continue
		}
		for _, m := range p.found[finding{entry, source}] {
			p.addMember(entry, c, beside(o, request.TypeSecret, m.name), source, true)
		}
	}
	if len(c.members) == 0 {
		c.left++
		p.items = append(p.items, item{Object: request.Object{Path: o.Path}, entry: entry, of: c, unread: true})
	}
}

func (p *planner) addMatches(entry int, o *request.Object) {
	matches := p.found[finding{entry: entry}]
	if len(matches) == 0 { // it is optional
		p.items = append(p.items, item{Object: *o, entry: entry, unread: true})
		return
	}
	c := &composite{Object: *o}
	for _, m := range matches {
		if o.Bundle != "" {
			p.addMember(entry, c, beside(o, o.Type, m.name), document.Source{Name: m.path}, true)
			continue
		}
		single := *o
		single.Find, single.Name, single.Path, single.Optional = nil, m.name, join(o.Path, m.path), true
		p.items = append(p.items, item{Object: single, id: single.ID(), entry: entry, found: true})
	}
}

// addMember adds an object of which the value goes into the composite.
func (p *planner) addMember(entry int, c *composite, o request.Object, source document.Source, found bool) {
	o.History, o.Optional = 1, c.Optional || found
	p.items = append(p.items, item{Object: o, id: o.ID(), entry: entry, of: c, member: len(c.members), found: found})
	c.members = append(c.members, member{kind: o.Type, name: o.Name, source: source})
	c.left++
}

// beside is an object of the vault that the entry is about.
func beside(o *request.Object, t request.Type, name string) request.Object {
	return request.Object{Vault: o.Vault, Failover: o.Failover, Type: t, Name: name}
}

// join is the path of a file in a folder; "" is the mount point.
func join(folder, name string) string {
	if folder == "" {
		return name
	}
	return folder + "/" + name
}

// memory is what the item counts with in the reservation of the volume.
func (i *item) memory() int {
	switch {
	case i.of != nil && i.member == 0 && i.of.Document != nil:
		return itemMemory + documentMemory
	case i.of != nil && i.member == 0 && i.of.Pieces != nil:
		return itemMemory * (1 + len(i.of.Pieces.Parts))
	case i.Pieces != nil:
		return itemMemory*(1+len(i.Pieces.Parts)) + piecesMemory*min(1, len(i.Pieces.Paths)+len(i.Pieces.Expand))
	}
	return itemMemory
}
