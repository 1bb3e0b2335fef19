package render

import (
	"fmt"
	"strings"

	"akv-csi-provider/provider/bundle"
	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/request"
	"akv-csi-provider/provider/tree"
)

// maxPieces bounds the bytes of all pieces of one value, which may be parts of each other.
const maxPieces = 256 << 10

// within returns the files, or an error if they take more than one value may become.
func within(o request.Object, files []File) ([]File, error) {
	size := 0
	for _, f := range files {
		size += len(f.Content)
	}
	if size > maxPieces {
		return nil, invalid(fmt.Sprintf("the pieces of %s exceed %d bytes", o, maxPieces), "mount fewer pieces, or the whole secret")
	}
	return files, nil
}

// Pieces renders parts of a secret that is JSON or YAML: a file for each piece, of which the
// content is nil if it is left out. Its error is a *fault.Error.
func Pieces(o request.Object, v keyvault.Value, pieces []request.Piece) ([]File, error) {
	root, err := parsed(o, v, tree.Parse)
	if err != nil {
		return nil, err
	}
	budget := tree.NewBudget()
	files := make([]File, len(pieces))
	for i, p := range pieces {
		value, found, err := p.Query.Find(root, &budget)
		files[i] = File{Path: p.Path, Mode: p.Mode}
		switch {
		case err != nil:
			return nil, invalid(fmt.Sprintf("jmesPath %s of %s %v", p.Query.Quote(), o, err), "change the path or the secret")
		case found:
			if files[i].Content = tree.Content(value); files[i].Content == nil {
				files[i].Content = []byte{}
			}
			if _, err := within(o, files); err != nil {
				return nil, err
			}
		case !p.Optional:
			return nil, invalid(fmt.Sprintf("jmesPath %s matches nothing in %s", p.Query.Quote(), o),
				"correct the path, or set optional: true to omit the file")
		}
	}
	return files, nil
}

// parsed decodes a secret and parses its text.
func parsed(o request.Object, v keyvault.Value, parse func(string) (any, error)) (any, error) {
	text, err := decode(o, v)
	if err != nil {
		return nil, err
	}
	root, err := parse(string(text))
	if err != nil { // which contains nothing of the value
		return nil, invalid(fmt.Sprintf("%s %v", o, err), "store JSON or YAML, or mount the whole secret")
	}
	return root, nil
}

// Expand renders a secret that is an object of JSON or YAML: one file for each of its keys, with
// the key as its path, or one file with all keys in the format of the object's bundle. Its error is
// a *fault.Error. It names no key: a key is a part of the secret.
func Expand(o request.Object, v keyvault.Value, format request.Expand) ([]File, error) {
	parse := tree.ParseJSON
	if format == request.ExpandYAML {
		parse = tree.ParseYAML
	}
	root, err := parsed(o, v, parse)
	if err != nil {
		return nil, err
	}
	all, err := tree.Members(root)
	if err != nil {
		return nil, invalid(fmt.Sprintf("%s %v", o, err), "store an object, or use jmesPath")
	}
	if o.Bundle != "" {
		content, err := Bundle(o.String(), o.Bundle, all)
		if err != nil {
			return nil, err
		}
		return within(o, []File{{Mode: o.Mode, Content: content}})
	}
	files := make([]File, len(all))
	for i, m := range all {
		if problem := nameProblem(m.Key); problem != "" {
			return nil, invalid(fmt.Sprintf("%s has a key that is not a valid file name: it %s", o, problem), "rename the key, or use jmesPath")
		}
		files[i] = File{Path: m.Key, Mode: o.Mode, Content: tree.Content(m.Value), Hidden: true}
	}
	return within(o, files)
}

// nameProblem says why a key is not the name of a file, without quoting it.
func nameProblem(key string) string {
	if strings.ContainsAny(key, `/\`) { // \ separates on Windows
		return "contains a slash or a backslash"
	}
	return request.PathProblem(key)
}

// Bundle writes entries into the content of one file. of says in messages what they are from. Its
// error is a *fault.Error.
func Bundle(of string, format bundle.Format, entries []tree.Member) ([]byte, error) {
	content, err := bundle.Write(format, entries)
	if err != nil {
		return nil, invalid(fmt.Sprintf("%s as %s %v", of, format, err), "change its keys or values, or use another format")
	}
	return content, nil
}
