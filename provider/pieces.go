package provider

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"akv-csi-provider/provider/document"
	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/render"
	"akv-csi-provider/provider/request"
	"akv-csi-provider/provider/tree"
)

// maxDocument bounds the bytes of one document.
const maxDocument = 1 << 20

// renderings are the files that were rendered for one mount, by what they depend on: a class
// may name one object thousands of times. Their paths and modes are those of no entry.
type renderings struct {
	files    map[rendering][]render.File
	warnings []string // of what was rendered since warned was called
}

func newRenderings() *renderings { return &renderings{files: make(map[rendering][]render.File)} }

// warned returns the warnings of what was rendered since it was called last.
func (r *renderings) warned() (warnings []string) {
	warnings, r.warnings = r.warnings, nil
	return warnings
}

type rendering struct {
	object  request.Object // without what the content does not depend on
	version string
	pieces  string // what of the value: "" for the whole
}

// rendered returns what was rendered before, or else what make renders.
func (r *renderings) rendered(o *request.Object, version, pieces string, make func(request.Object) ([]render.File, error)) ([]render.File, error) {
	key := rendering{*o, version, pieces}
	key.object.Path, key.object.Mode, key.object.Optional, key.object.Failover, key.object.Pieces = "", 0, false, "", nil
	files, ok := r.files[key]
	if !ok {
		var err error
		if files, err = make(key.object); err != nil {
			return nil, err
		}
		r.files[key] = files
	}
	return files, nil
}

// secret is a password that was read.
type secret struct{ text, version string }

// files renders what an object becomes. The passwords are those of its keystores, by the names of
// their secrets.
func (s session) files(ctx context.Context, o *request.Object, value keyvault.Value, passwords map[string]secret, known *renderings) ([]render.File, error) {
	if o.Pieces == nil {
		return s.whole(ctx, o, value, known)
	}
	if o.Pieces.Expand != "" {
		files, err := known.rendered(o, value.Version, "expand "+string(o.Pieces.Expand), func(bare request.Object) ([]render.File, error) {
			return inTurn(ctx, s, func() ([]render.File, error) { return render.Expand(bare, value, o.Pieces.Expand) })
		})
		return placed(o, files, join), err
	}
	var out []render.File
	if o.Path != "" {
		files, err := s.whole(ctx, o, value, known)
		if err != nil {
			return nil, err
		}
		out = files
	}
	if o.Pieces.Parts != nil {
		files, err := s.parts(ctx, o, value, passwords, known)
		return append(out, files...), err
	}
	var queries strings.Builder
	for _, p := range o.Pieces.Paths {
		fmt.Fprintf(&queries, "%q %t ", p.Query, p.Optional)
	}
	files, err := known.rendered(o, value.Version, queries.String(), func(bare request.Object) ([]render.File, error) {
		return inTurn(ctx, s, func() ([]render.File, error) { return render.Pieces(bare, value, o.Pieces.Paths) })
	})
	for i, f := range files {
		if f.Content != nil {
			out = append(out, render.File{Path: o.Pieces.Paths[i].Path, Mode: o.Pieces.Paths[i].Mode, Content: f.Content})
		}
	}
	return out, err
}

// whole renders the whole value.
func (s session) whole(ctx context.Context, o *request.Object, value keyvault.Value, known *renderings) ([]render.File, error) {
	files, err := known.rendered(o, value.Version, "", func(bare request.Object) ([]render.File, error) {
		return convertible(ctx, s, o, value, func(value keyvault.Value) ([]render.File, error) {
			work := func() ([]render.File, error) {
				files, warnings, err := render.Files(bare, value, s.Render)
				known.warnings = append(known.warnings, warnings...)
				return files, err
			}
			if !value.Managed {
				return work()
			}
			return inTurn(ctx, s, work)
		})
	})
	return placed(o, files, func(path, suffix string) string { return path + suffix }), err
}

// convertible renders a value. Of a PFX that cannot be decoded it renders what the vault makes of
// it. If the vault cannot convert it either, that fails with the first error.
func convertible(ctx context.Context, s session, o *request.Object, value keyvault.Value, work func(keyvault.Value) ([]render.File, error)) ([]render.File, error) {
	files, reason := work(value)
	if !render.Convertible(reason) {
		return files, reason
	}
	object := keyvault.Object{Host: s.readFrom(o), Type: o.Type, Name: o.Name, Version: value.Version, AsPEM: true}
	converted, err := s.Vaults.Get(ctx, s.caller, object, s.fresh)()
	switch {
	case err == nil && converted.Text != value.Text:
		value.PEM = converted.Text
		return work(value)
	case ctx.Err() != nil, fault.Is(err, fault.Throttled, fault.ServiceUnavailable, fault.Timeout, fault.TokenRejected):
		return nil, err // the next attempt may succeed
	}
	return nil, reason
}

// placed returns the files at the place of an object, with its mode.
func placed(o *request.Object, files []render.File, at func(path, file string) string) []render.File {
	out := make([]render.File, len(files))
	for i, f := range files {
		f.Mode = o.Mode
		if f.Path == "" {
			f.Path = o.Path
		} else {
			f.Path = at(o.Path, f.Path)
		}
		out[i] = f
	}
	return out
}

// inTurn waits for a turn of the processors and does the work.
func inTurn[T any](ctx context.Context, s session, work func() (T, error)) (none T, _ error) {
	release, err := s.turn(ctx)
	if err != nil {
		return none, err
	}
	defer release()
	return work()
}

// parts renders the parts of a certificate. Keystores take a turn of the processors each, since
// deriving their keys takes long.
func (s session) parts(ctx context.Context, o *request.Object, value keyvault.Value, passwords map[string]secret, known *renderings) ([]render.File, error) {
	out := make([]render.File, len(o.Pieces.Parts))
	for i, p := range o.Pieces.Parts {
		password := passwords[p.PasswordFrom]
		key := fmt.Sprintf("%s %t %q %q", p.Name, p.Legacy, p.PasswordFrom, password.version)
		files, err := known.rendered(o, value.Version, key, func(bare request.Object) ([]render.File, error) {
			make := func(ctx context.Context) ([]render.File, error) {
				return convertible(ctx, s, o, value, func(value keyvault.Value) ([]render.File, error) {
					return inTurn(ctx, s, func() ([]render.File, error) {
						return render.Parts(bare, value, []request.Part{p}, map[string]string{p.PasswordFrom: password.text})
					})
				})
			}
			if p.PasswordFrom == "" || s.Keystores == nil {
				return make(ctx)
			}
			return s.Keystores.get(ctx, s.caller, []string{bare.String(), string(p.Name), fmt.Sprint(p.Legacy), value.Text, password.text}, make)
		})
		if err != nil {
			return nil, err
		}
		out[i] = render.File{Path: p.Path, Mode: p.Mode, Content: files[0].Content}
	}
	return out, nil
}

// compose adds a value to the composite that the item is a member of. When all are there it renders
// the composite.
func (s session) compose(ctx context.Context, it *item, value keyvault.Value, there bool, known *renderings) ([]render.File, error) {
	c := it.of
	if !it.unread {
		c.members[it.member].value, c.members[it.member].there = value, there
		c.absent = c.absent || !there && !it.found
	}
	if c.left--; c.left > 0 || c.absent {
		return nil, nil
	}
	defer func() { c.members = nil }() // their values are no longer needed
	if c.Document == nil && c.Find == nil {
		passwords := make(map[string]secret)
		for _, m := range c.members[1:] {
			passwords[m.name] = secret{m.value.Text, m.value.Version}
		}
		return s.files(ctx, &c.Object, c.members[0].value, passwords, known)
	}
	content, err := inTurn(ctx, s, func() ([]byte, error) {
		if c.Document != nil {
			return c.document(min(maxDocument, s.MaxBytes))
		}
		return c.bundle()
	})
	if err != nil {
		return nil, err
	}
	return []render.File{{Path: c.Path, Mode: c.Mode, Content: content}}, nil
}

// document executes the template.
func (c *composite) document(limit int) ([]byte, error) {
	values := document.Values{Texts: make(map[document.Source]string), Matches: make(map[document.Source][]document.Match)}
	for _, r := range c.Document.References() {
		if r.Kind == document.Find {
			values.Matches[r.Source] = nil // also if nothing matches
		}
	}
	for _, m := range c.members {
		if !m.there {
			continue
		}
		text, err := m.text(request.Object{Type: m.kind})
		if err != nil {
			return nil, err
		}
		if m.source.Kind == document.Find {
			values.Matches[m.source] = append(values.Matches[m.source], document.Match{Name: m.name, Value: text})
		} else {
			values.Texts[m.source] = text
		}
	}
	content, err := c.Document.Execute(values, limit)
	if wrong, ok := errors.AsType[*document.Error](err); ok {
		return nil, &fault.Error{Reason: fault.ContentInvalid, Cause: fmt.Sprintf("%s, %v", c, wrong), Fix: "correct the template or the values that it inserts"}
	}
	return content, err
}

// bundle writes the results of a search into one file.
func (c *composite) bundle() ([]byte, error) {
	var entries []tree.Member
	for _, m := range c.members {
		if !m.there {
			continue
		}
		text, err := m.text(c.Object)
		if err != nil {
			return nil, err
		}
		entries = append(entries, tree.Member{Key: m.source.Name, Value: text})
	}
	return render.Bundle(c.String(), c.Bundle, entries)
}

// text is the value as text: of a secret in a document as it is stored, else what its file has.
func (m member) text(o request.Object) (string, error) {
	if o.Type == request.TypeSecret && o.Encoding == "" {
		return m.value.Text, nil
	}
	o.Name = m.name
	files, _, err := render.Files(o, m.value, render.Options{})
	if err != nil {
		return "", err
	}
	return string(files[0].Content), nil
}
