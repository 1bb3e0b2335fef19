package render_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"akv-csi-provider/provider/bundle"
	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/keyvault"
	"akv-csi-provider/provider/render"
	"akv-csi-provider/provider/request"
	"akv-csi-provider/provider/tree"
)

func piece(expression, path string, optional bool) request.Piece {
	return request.Piece{Query: must(tree.ParsePath(expression)), Path: path, Mode: 0o440, Optional: optional}
}

// listed shows files as a text, or the error, which must be one of the content and quote nothing
// of it.
func listed(t *testing.T, files []render.File, err error) string {
	t.Helper()
	if err != nil {
		if e, ok := errors.AsType[*fault.Error](err); !ok || e.Reason != fault.ContentInvalid || files != nil || strings.Contains(err.Error(), "CANARY") {
			t.Errorf("got %v and %v", files, err)
		}
		return strings.TrimPrefix(err.Error(), object("").String()+" ")
	}
	var out []string
	for _, f := range files {
		if f.Content == nil {
			continue
		}
		out = append(out, fmt.Sprintf("%s %o %s", f.Path, f.Mode, f.Content))
	}
	return strings.Join(out, "|")
}

func TestPieces(t *testing.T) {
	const text = `{"user":"CANARY","port":12345678901234567890,"tags":["b","a"],"x":null}`
	for name, c := range map[string]struct {
		encoding request.Encoding
		text     string
		pieces   []request.Piece
		want     string
	}{
		"files":        {"", text, []request.Piece{piece("user", "db/user", false), piece("port", "port", false), piece("tags", "tags", false)}, `db/user 440 CANARY|port 440 12345678901234567890|tags 440 ["b","a"]`},
		"yaml":         {"", "user: CANARY\nmode: 0755\n", []request.Piece{piece("mode", "m", false), piece("user", "u", false)}, "m 440 0755|u 440 CANARY"},
		"decoded":      {request.EncodingHex, "7b2261223a317d", []request.Piece{piece("a", "a", false)}, "a 440 1"},
		"left out":     {"", text, []request.Piece{piece("y", "y", true), piece("x", "x", true), piece("user", "u", true)}, "u 440 CANARY"},
		"none is left": {"", text, []request.Piece{piece("y", "y", true)}, ""},
		"nothing":      {"", text, []request.Piece{piece("user", "u", false), piece("y.z", "y", false)}, `jmesPath "y.z" matches nothing in secret "tls"; correct the path, or set optional: true to omit the file`},
		"null":         {"", text, []request.Piece{piece("x", "x", false)}, `jmesPath "x" matches nothing in secret "tls"; correct the path, or set optional: true to omit the file`},
		"a wrong type": {"", text, []request.Piece{piece("keys(user)", "u", true)}, `jmesPath "keys(user)" of secret "tls" calls keys on a value of a type that it does not support; change the path or the secret`},
		"not hex":      {request.EncodingHex, text, nil, "is not valid hex; store it as hex, or change objectEncoding"},
		"text":         {"", "CANARY", nil, "is neither a JSON nor a YAML object or list; store JSON or YAML, or mount the whole secret"},
	} {
		t.Run(name, func(t *testing.T) {
			files, err := render.Pieces(object(c.encoding), keyvault.Value{Text: c.text}, c.pieces)
			if got := listed(t, files, err); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// The pieces of one object share the bound of their evaluation.
func TestPiecesAreBounded(t *testing.T) {
	text := "[" + strings.Repeat("1,", 5000) + "1]"
	var pieces []request.Piece
	for i := range 10 {
		pieces = append(pieces, piece("length([?@ > `0`])", fmt.Sprint(i), false))
	}
	if files, err := render.Pieces(object(""), keyvault.Value{Text: text}, pieces); err != nil {
		t.Errorf("got %v, %v", files, err)
	}
	files, err := render.Pieces(object(""), keyvault.Value{Text: text}, append(pieces, pieces...))
	if got := listed(t, files, err); !strings.Contains(got, tree.ErrSteps.Error()) {
		t.Errorf("got %s", got)
	}
}

// What one value becomes is bounded: pieces may be parts of each other, and aliases of YAML multiply.
func TestPiecesHaveABoundedSize(t *testing.T) {
	const want = "the pieces of secret \"tls\" exceed 262144 bytes; mount fewer pieces, or the whole secret"
	text := `{"a":"` + strings.Repeat("x", 30_000) + `"}`
	var pieces []request.Piece
	for i := range 9 {
		pieces = append(pieces, piece("@", fmt.Sprint(i), false))
	}
	files, err := render.Pieces(object(""), keyvault.Value{Text: text}, pieces)
	if got := listed(t, files, err); got != want {
		t.Errorf("got %.200s", got)
	}
	if _, err := render.Pieces(object(""), keyvault.Value{Text: text}, pieces[:8]); err != nil {
		t.Error(err)
	}
	yaml := "a: &a '" + strings.Repeat("x", 30_000) + "'\nb: *a\nc: *a\nd: *a\ne: *a\nf: *a\ng: *a\nh: *a\n"
	for _, o := range []request.Object{object(""), bundled(bundle.JSON)} {
		if files, err := render.Expand(o, keyvault.Value{Text: yaml}, request.ExpandYAML); err != nil {
			t.Error(err)
		} else if len(files) == 8 && files[0].String() != `a key in "."` {
			t.Errorf("shown as %s", files[0])
		}
		long := strings.Replace(yaml, "b:", "z: *a\nb:", 1)
		files, err := render.Expand(o, keyvault.Value{Text: long}, request.ExpandYAML)
		if got := listed(t, files, err); got != want && !strings.Contains(got, "aliases") {
			t.Errorf("got %.200s", got)
		}
	}
}

func TestExpand(t *testing.T) {
	const yaml = "b: 0755\na: {x: [1]}\n"
	const fix = "; rename the key, or use jmesPath"
	for name, c := range map[string]struct {
		text   string
		format request.Expand
		want   string
	}{
		"json":         {`{"b":"CANARY","a.b":{"x":1},"c":null}`, request.ExpandJSON, `a.b 440 {"x":1}|b 440 CANARY|c 440 null`},
		"yaml":         {yaml, request.ExpandYAML, `a 440 {"x":[1]}|b 440 0755`},
		"empty":        {`{}`, request.ExpandJSON, ""},
		"yaml as json": {yaml, request.ExpandJSON, "is not a JSON object or list; store JSON or YAML, or mount the whole secret"},
		"a list":       {`["CANARY"]`, request.ExpandJSON, "has no keys at its top: it is a list; store an object, or use jmesPath"},
		"a slash":      {`{"CANARY/x":1}`, request.ExpandJSON, "has a key that is not a valid file name: it contains a slash or a backslash" + fix},
		"a backslash":  {`{"CANARY\\x":1}`, request.ExpandJSON, "has a key that is not a valid file name: it contains a slash or a backslash" + fix},
		"dots":         {`{"..CANARY":1}`, request.ExpandJSON, `has a key that is not a valid file name: it must not start with ".."` + fix},
		"a dot":        {`{".":1}`, request.ExpandJSON, `has a key that is not a valid file name: it does not name a file` + fix},
		"an empty key": {`{"":1}`, request.ExpandJSON, `has a key that is not a valid file name: it does not name a file` + fix},
		"a NUL":        {`{"CANARY\u0000":1}`, request.ExpandJSON, `has a key that is not a valid file name: it must not contain a NUL byte` + fix},
		"a long key":   {`{"` + strings.Repeat("CANARY", 43) + `":1}`, request.ExpandJSON, `has a key that is not a valid file name: it has a segment longer than 255 bytes` + fix},
	} {
		t.Run(name, func(t *testing.T) {
			files, err := render.Expand(object(""), keyvault.Value{Text: c.text}, c.format)
			if got := listed(t, files, err); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// bundled is the object with a format for all of its keys.
func bundled(format bundle.Format) request.Object {
	o := object("")
	o.Bundle = format
	return o
}

func TestBundle(t *testing.T) {
	const text = `{"db-user":"it's","port":5432,"tags":["x"]}`
	for format, want := range map[bundle.Format]string{
		bundle.Dotenv:     "DB_USER=\"it's\"\nPORT=5432\nTAGS='[\"x\"]'\n",
		bundle.Properties: "db-user=it's\nport=5432\ntags=[\"x\"]\n",
		bundle.JSON:       `{"db-user":"it's","port":5432,"tags":["x"]}` + "\n",
		bundle.YAML:       "\"db-user\": \"it's\"\n\"port\": 5432\n\"tags\": [\"x\"]\n",
	} {
		files, err := render.Expand(bundled(format), keyvault.Value{Text: text}, request.ExpandJSON)
		if got := listed(t, files, err); got != " 440 "+want {
			t.Errorf("%s: got %q, want %q", format, got, want)
		}
	}
	files, err := render.Expand(bundled(bundle.Dotenv), keyvault.Value{Text: `{"CANARY-a":1,"CANARY_A":2}`}, request.ExpandJSON)
	const want = `as dotenv has two names that are one environment variable in upper case, with _ for every other character; change its keys or values, or use another format`
	if got := listed(t, files, err); got != want {
		t.Errorf("got %s", got)
	}
	if files, err := render.Expand(bundled(bundle.JSON), keyvault.Value{Text: "CANARY"}, request.ExpandYAML); err == nil {
		t.Errorf("got %v", files)
	}
}
