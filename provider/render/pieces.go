package render

import (
	"fmt"
	"io/fs"
	"strings"

	"akv-csi-provider/provider/bundle"
	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/request"
	"akv-csi-provider/provider/tree"
)

// Piece is a file with what a JMESPath expression selects of a value.
type Piece struct {
	Query    *tree.Path
	Path     string
	Mode     fs.FileMode
	Optional bool // there is no file if it selects nothing
}

// Pieces renders parts of a secret that is JSON or YAML. Its error is a *fault.Error.
func Pieces(o request.Object, v keyvault.Value, pieces []Piece) ([]File, error) {
	root, err := parsed(o, v, tree.Parse)
	if err != nil {
		return nil, err
	}
	budget := tree.NewBudget()
	var files []File
	for _, p := range pieces {
		value, found, err := p.Query.Find(root, &budget)
		switch {
		case err != nil:
			return nil, invalid(fmt.Sprintf("jmesPath %s of %s %v", p.Query.Quote(), o, err), "change the path or the secret")
		case found:
			files = append(files, File{Path: p.Path, Mode: p.Mode, Content: tree.Content(value)})
		case !p.Optional:
			return nil, invalid(fmt.Sprintf("jmesPath %s matches nothing in %s", p.Query.Quote(), o),
				"correct the path, or set optional: true to leave the file out")
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
		return nil, invalid(fmt.Sprintf("%s %v", o, err), "store JSON or YAML, or mount the secret as a whole")
	}
	return root, nil
}

// members returns what is at the top of a secret that parse reads.
func members(o request.Object, v keyvault.Value, parse func(string) (any, error)) ([]tree.Member, error) {
	root, err := parsed(o, v, parse)
	if err != nil {
		return nil, err
	}
	all, err := tree.Members(root)
	if err != nil {
		return nil, invalid(fmt.Sprintf("%s %v", o, err), "store an object, or use jmesPath")
	}
	return all, nil
}

// Expand renders a secret that parse reads (tree.ParseJSON or tree.ParseYAML) as one file for each
// of its keys, below the object's path. Its error is a *fault.Error. It names no key: a key is a
// part of the secret.
func Expand(o request.Object, v keyvault.Value, parse func(string) (any, error)) ([]File, error) {
	all, err := members(o, v, parse)
	if err != nil {
		return nil, err
	}
	files := make([]File, len(all))
	for i, m := range all {
		if problem := nameProblem(m.Key); problem != "" {
			return nil, invalid(fmt.Sprintf("%s has a key that is no file name: it %s", o, problem), "rename the key, or use jmesPath")
		}
		files[i] = File{Path: o.Path + "/" + m.Key, Mode: o.Mode, Content: tree.Content(m.Value)}
	}
	return files, nil
}

// nameProblem says why a key is not the name of a file, without quoting it.
func nameProblem(key string) string {
	if strings.ContainsAny(key, `/\`) { // \ separates on Windows
		return "contains a slash or a backslash"
	}
	return request.PathProblem(key)
}

// ExpandBundle renders a secret that parse reads as one file with all of its keys. Its error is a
// *fault.Error.
func ExpandBundle(o request.Object, v keyvault.Value, parse func(string) (any, error), format bundle.Format) ([]File, error) {
	all, err := members(o, v, parse)
	if err != nil {
		return nil, err
	}
	return Bundle(o, format, all)
}

// Bundle renders entries as one file at the object's path. Its error is a *fault.Error.
func Bundle(o request.Object, format bundle.Format, entries []tree.Member) ([]File, error) {
	content, err := bundle.Write(format, entries)
	if err != nil {
		return nil, invalid(fmt.Sprintf("%s as %s %v", o, format, err), "rename or change what is in it, or use another format")
	}
	return []File{{Path: o.Path, Mode: o.Mode, Content: content}}, nil
}
