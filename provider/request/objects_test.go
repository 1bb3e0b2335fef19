package request_test

import (
	"io/fs"
	"reflect"
	"strings"
	"testing"

	"akv-csi-provider/provider/request"
)

// TestObjectForms has every odd form that the replaced provider (v1.8.2) reads,
// and the new ones. They stay accepted with the same meaning.
func TestObjectForms(t *testing.T) {
	base := newAttributes(t)
	one := func(change func(*request.Object)) []request.Object {
		return []request.Object{with(secret("a"), change)}
	}
	same := one(func(*request.Object) {})
	version := func(v string) []request.Object { return one(func(o *request.Object) { o.Version = v }) }
	history := func(n int) []request.Object { return one(func(o *request.Object) { o.History = n }) }
	mode := func(m fs.FileMode) []request.Object { return one(func(o *request.Object) { o.Mode = m }) }
	alias := func(p string) []request.Object { return one(func(o *request.Object) { o.Path = p }) }
	named := func(n string) []request.Object { return []request.Object{secret(n)} }
	const text = "array:\n  - |\n    objectName: a\n    objectType: secret\n" // a field may follow
	for _, c := range []struct {
		name, objects string
		want          []request.Object
	}{
		{"array of texts", text, same},
		{"array of mappings", "array:\n  - objectName: a\n    objectType: secret\n", same},
		{"bare list of mappings", "- objectName: a\n  objectType: secret\n", same},
		{"bare list of texts", "- |\n  objectName: a\n  objectType: secret\n", same},
		{"both kinds of entries", text + "  - {objectName: b, objectType: secret}\n", append(named("a"), secret("b"))},
		{"JSON", `{"array":["{\"objectName\":\"a\",\"objectType\":\"secret\"}"]}`, same},
		{"JSON, no texts", `[{"objectName":"a","objectType":"secret"}]`, same},
		{"byte order mark", "\ufeff" + text, same},
		{"DOS line ends", strings.ReplaceAll(text, "\n", "\r\n"), same},
		{"comments", "# c\narray: # c\n  - |\n    objectName: a # c\n    # c\n    objectType: secret\n", same},
		{"strip and keep", "array:\n  - |-\n    objectName: a\n    objectType: secret\n  - |+\n    objectName: b\n    objectType: secret\n\n", append(named("a"), secret("b"))},
		{"empty documents", text + "---\n# c\n---\n...\n", same},
		{"start of a document", "---\n" + text, same},
		{"alias of a text", "x: &x |\n  objectName: a\n  objectType: secret\narray: [*x]", same},
		{"alias of the list", "x: &x [{objectName: a, objectType: secret}]\narray: *x", same},
		{"alias of a value", "x: &x secret\narray: [{objectName: a, objectType: *x}]", same},
		{"merge", "x: &x {objectType: secret, objectName: b}\narray: [{<<: *x, objectName: a}]", same},
		{"merge inside a text", text + "    <<: {objectName: b, filePermission: 0600}\n", mode(0o600)},
		{"merged list", "x: &x\n  array: [{objectName: a, objectType: secret}]\n<<: *x", same},
		{"empty entries are dropped", "array:\n  -\n  - ~\n  - null\n  - |\n    objectName: a\n    objectType: secret\n", same},
		{"binary value", "- {objectName: !!binary YQ==, objectType: secret}", same},
		{"binary entry", "array: [!!binary b2JqZWN0TmFtZTogYQpvYmplY3RUeXBlOiBzZWNyZXQ=]", same},
		{"custom tag", "- !mine {objectName: !name a, objectType: secret}", same},
		{"no-break spaces", "- {objectName: \"\u00a0a\u00a0\", objectType: \" secret\\n\"}", same},
		{"null fields", text + "    objectAlias: ~\n    objectVersion: null\n    objectFormat:\n    objectEncoding: ~\n    filePermission:\n    objectVersionHistory: ~\n", same},
		{"empty fields", text + "    objectAlias: ''\n    objectVersion: \"\"\n    objectFormat: ''\n    objectEncoding: ''\n    filePermission: ''\n", same},

		{"name on", "- {objectName: on, objectType: secret}", named("on")},
		{"name true", "- {objectName: true, objectType: secret}", named("true")},
		{"name of digits", "- {objectName: 0123, objectType: secret}", named("0123")},
		{"name 1e5", "- {objectName: 1e5, objectType: secret}", named("1e5")},
		{"name like a date", "- {objectName: 2020-01-01, objectType: secret}", named("2020-01-01")},
		{"name 0x10", "- {objectName: 0x10, objectType: secret}", named("0x10")},
		{"longest name", "- {objectName: " + strings.Repeat("n", 127) + ", objectType: secret}", named(strings.Repeat("n", 127))},

		{"version", text + "    objectVersion: 0123456789abcdef0123456789abcdef\n", version("0123456789abcdef0123456789abcdef")},
		{"version of digits", text + "    objectVersion: 00000000000000000000000000000017\n", version("00000000000000000000000000000017")},
		{"version like a float", text + "    objectVersion: 1234567890123456789012345678901e\n", version("1234567890123456789012345678901e")},
		{"version latest", text + "    objectVersion: latest\n", version("")},

		{"history", text + "    objectVersionHistory: 3\n", history(3)},
		{"history 3.0", text + "    objectVersionHistory: 3.0\n", history(3)},
		{"history 3.7", text + "    objectVersionHistory: 3.7\n", history(3)},
		{"history 1e1", text + "    objectVersionHistory: 1e1\n", history(10)},
		{"history 010", text + "    objectVersionHistory: 010\n", history(8)},
		{"history 0x10", text + "    objectVersionHistory: 0x10\n", history(16)},
		{"history 1_0", text + "    objectVersionHistory: 1_0\n", history(10)},
		{"history 0", text + "    objectVersionHistory: 0\n", history(1)},
		{"history 1", text + "    objectVersionHistory: 1\n", history(1)},
		{"negative history", text + "    objectVersionHistory: -5\n", history(1)},
		{"quoted history", text + "    objectVersionHistory: \"3\"\n", history(3)},

		{"mode", text + "    filePermission: 0755\n", mode(0o755)},
		{"quoted mode", text + "    filePermission: '0755'\n", mode(0o755)},
		{"mode without zero", text + "    filePermission: 600\n", mode(0o600)},
		{"no bits", text + "    filePermission: 0000\n", mode(0)},
		{"all bits", text + "    filePermission: 0777\n", mode(0o777)},

		{"format", text + "    objectFormat: PEM\n", one(func(o *request.Object) { o.FormatSet = true })},
		{"pfx", text + "    objectFormat: Pfx\n", one(func(o *request.Object) { o.Format, o.FormatSet = request.FormatPFX, true })},
		{"utf-8", text + "    objectEncoding: UTF-8\n", same},
		{"base64", text + "    objectEncoding: Base64\n", one(func(o *request.Object) { o.Encoding = request.EncodingBase64 })},
		{"hex", text + "    objectEncoding: HEX\n", one(func(o *request.Object) { o.Encoding = request.EncodingHex })},

		{"alias", text + "    objectAlias: A_b.c\n", alias("A_b.c")},
		{"alias below a directory", text + "    objectAlias: d/e/f\n", alias("d/e/f")},
		{"dots in an alias", text + "    objectAlias: a..b/c..\n", alias("a..b/c..")},
		{"hidden file", text + "    objectAlias: .env\n", alias(".env")},
		{"spaces in an alias", text + "    objectAlias: ' my file '\n", alias("my file")},
		{"alias of digits", text + "    objectAlias: 0755\n", alias("0755")},
		{"longest part", text + "    objectAlias: " + strings.Repeat("p", 255) + "\n", alias(strings.Repeat("p", 255))},
		{"longest alias", text + "    objectAlias: " + strings.Repeat("pppppppp/", 455) + "p\n", alias(strings.Repeat("pppppppp/", 455) + "p")},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := base.with(map[string]string{"objects": c.objects}).parse(t)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(m.Objects, c.want) {
				t.Errorf("got  %+v\nwant %+v", m.Objects, c.want)
			}
			if len(m.Warnings) > 0 {
				t.Errorf("warns: %v", m.Warnings)
			}
		})
	}
}

func TestObjectFieldsRefused(t *testing.T) {
	base := newAttributes(t)
	const (
		name    = "1 to 127 letters, digits and hyphens"
		kinds   = "one of secret, key, cert"
		version = "32 hexadecimal digits, or latest"
		path    = "normalized relative path"
		mode    = "octal mode from 0000 to 0777"
	)
	for _, c := range []struct {
		name  string
		entry string // fields of objects[0], in flow style
		field string // after `objects[0] "a": `
		says  []string
	}{
		{"name missing", `objectType: secret`, "objectName", []string{"missing", name}},
		{"name with an underscore", `objectName: a_b, objectType: secret`, "objectName", []string{`"a_b"`, name}},
		{"name that is a path", `objectName: ../b, objectType: secret, objectAlias: b`, "objectName", []string{name}},
		{"name with a line end", `objectName: "a\nb", objectType: secret`, "objectName", []string{`"a\nb"`, name}},
		{"name too long", `objectName: ` + strings.Repeat("n", 128) + `, objectType: secret`, "objectName", []string{name}},
		{"name invisible", `objectName: "a` + "\u200b" + `", objectType: secret`, "objectName", []string{`"a\u200b"`, name}},
		{"type missing", `objectName: a`, "objectType", []string{"missing", kinds}},
		{"type in upper case", `objectName: a, objectType: Secret`, "objectType", []string{`"Secret"`, "did you mean secret?", kinds}},
		{"type in the plural", `objectName: a, objectType: secrets`, "objectType", []string{"did you mean secret?", kinds}},
		{"type written out", `objectName: a, objectType: Certificate`, "objectType", []string{"did you mean cert?", kinds}},
		{"type with a typing error", `objectName: a, objectType: sercet`, "objectType", []string{"did you mean secret?", kinds}},
		{"type of keys", `objectName: a, objectType: KEYS`, "objectType", []string{"did you mean key?", kinds}},
		{"type empty", `objectName: a, objectType: ""`, "objectType", []string{"empty", kinds}},
		{"name null", `objectName: ~, objectType: secret`, "objectName", []string{"empty", name}},
		{"name that is a list", `objectName: [b], objectType: secret`, "objectName", []string{"single value"}},
		{"type of Kubernetes", `objectName: a, objectType: kubernetes.io/tls`, "objectType", []string{`"kubernetes.io/tls"`, kinds}},
		{"version", `objectName: a, objectType: secret, objectVersion: v-1`, "objectVersion", []string{`"v-1"`, version}},
		{"version that is a path", `objectName: a, objectType: secret, objectVersion: ../x`, "objectVersion", []string{version}},
		{"version too long", `objectName: a, objectType: secret, objectVersion: ` + strings.Repeat("0", 65), "objectVersion", []string{version}},
		{"history word", `objectName: a, objectType: secret, objectVersionHistory: abc`, "objectVersionHistory", []string{`"abc"`, "number"}},
		{"history boolean", `objectName: a, objectType: secret, objectVersionHistory: true`, "objectVersionHistory", []string{`"true"`, "number"}},
		{"history too large", `objectName: a, objectType: secret, objectVersionHistory: 2147483648`, "objectVersionHistory", []string{"number"}},
		{"format", `objectName: a, objectType: secret, objectFormat: der`, "objectFormat", []string{`"der"`, "pem or pfx"}},
		{"pfx with a cert", `objectName: a, objectType: cert, objectFormat: pfx`, "objectFormat", []string{"pfx", `"cert"`, "secret"}},
		{"pfx with a key", `objectName: a, objectType: key, objectFormat: pfx`, "objectFormat", []string{"pfx", `"key"`, "secret"}},
		{"encoding", `objectName: a, objectType: secret, objectEncoding: base32`, "objectEncoding", []string{`"base32"`, "utf-8, base64, hex"}},
		{"encoding of a cert", `objectName: a, objectType: cert, objectEncoding: utf-8`, "objectEncoding", []string{`"utf-8"`, `"cert"`, "secret"}},
		{"encoding of a key", `objectName: a, objectType: key, objectEncoding: hex`, "objectEncoding", []string{`"hex"`, `"key"`, "secret"}},
		{"mode of eight bits", `objectName: a, objectType: secret, filePermission: "0o644"`, "filePermission", []string{`"0o644"`, mode}},
		{"mode of decimal digits", `objectName: a, objectType: secret, filePermission: 0899`, "filePermission", []string{`"0899"`, mode}},
		{"mode in letters", `objectName: a, objectType: secret, filePermission: rw-r--r--`, "filePermission", []string{`"rw-r--r--"`, mode}},
		{"mode with set-user-ID", `objectName: a, objectType: secret, filePermission: 4755`, "filePermission", []string{`"4755"`, mode}},
		{"negative mode", `objectName: a, objectType: secret, filePermission: -1`, "filePermission", []string{`"-1"`, mode}},
		{"path absolute", `objectName: a, objectType: secret, objectAlias: /b`, "objectAlias", []string{`"/b"`, "absolute", path}},
		{"path up", `objectName: a, objectType: secret, objectAlias: ../b`, "objectAlias", []string{`"../b"`, path}},
		{"path up from below", `objectName: a, objectType: secret, objectAlias: b/../../c`, "objectAlias", []string{"..", path}},
		{"path up and back", `objectName: a, objectType: secret, objectAlias: b/../c`, "objectAlias", []string{"..", path}},
		{"path of the driver", `objectName: a, objectType: secret, objectAlias: ..data`, "objectAlias", []string{`"..data"`, path}},
		{"path dot", `objectName: a, objectType: secret, objectAlias: .`, "objectAlias", []string{`"."`, path}},
		{"path with dot", `objectName: a, objectType: secret, objectAlias: ./b`, "objectAlias", []string{`"./b"`, `"b"`, path}},
		{"path with two slashes", `objectName: a, objectType: secret, objectAlias: b//c`, "objectAlias", []string{`"b//c"`, `"b/c"`, path}},
		{"path of a directory", `objectName: a, objectType: secret, objectAlias: b/`, "objectAlias", []string{`"b/"`, path}},
		{"path with NUL", `objectName: a, objectType: secret, objectAlias: "b\0c"`, "objectAlias", []string{"NUL", path}},
		{"path not UTF-8", `objectName: a, objectType: secret, objectAlias: !!binary "Yf9i"`, "objectAlias", []string{"UTF-8", path}},
		{"part too long", `objectName: a, objectType: secret, objectAlias: b/` + strings.Repeat("p", 256), "objectAlias", []string{"255", "; shorten it"}},
		{"path too long", `objectName: a, objectType: secret, objectAlias: ` + strings.Repeat("pppppppp/", 456), "objectAlias", []string{"4096", "; shorten it"}},
		{"list as value", `objectName: a, objectType: secret, objectAlias: [b]`, "objectAlias", []string{"single value"}},
		{"mapping as value", `objectName: a, objectType: secret, objectVersion: {b: c}`, "objectVersion", []string{"single value"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			// The second object shows that a wrong one does not hide the next.
			objects := "- {" + c.entry + "}\n- {objectName: z, objectType: zone}"
			m, err := base.with(map[string]string{"objects": objects}).parse(t)
			problems := refused(t, m, err)
			if len(problems) != 2 {
				t.Errorf("%d problems: %v", len(problems), err)
			}
			names(t, problems, err, `objects[1] "z": objectType`, kinds)
			names(t, problems, err, problems[0].Field, c.says...)
			if f := problems[0].Field; !strings.HasPrefix(f, "objects[0]") || !strings.HasSuffix(f, ": "+c.field) {
				t.Errorf("field %q, want %s of objects[0]", f, c.field)
			}
		})
	}
}

func TestObjectListsRefused(t *testing.T) {
	base := newAttributes(t)
	const one = "{objectName: a, objectType: secret}"
	for _, c := range []struct {
		name, objects, field string
		says                 []string
	}{
		{"only a comment", "# nothing", "objects", []string{"not a list", "YAML list"}},
		{"empty array", "array: []", "objects", []string{"empty", "at least one"}},
		{"array without entries", "array:", "objects", []string{"not a list"}},
		{"only empty entries", "array: [~, null]", "objects", []string{"at least one"}},
		{"no array", "Array: [" + one + "]", "objects", []string{"not a list", `array instead of "Array"`}},
		{"another list", "x: y\nobjects: [" + one + "]", "objects", []string{"not a list", `array instead of "objects"`}},
		{"a text", "db-password", "objects", []string{"not a list"}},
		{"array is a text", "array: |\n  - " + one, "objects", []string{"not a list"}},
		{"one object, no list", one, "objects", []string{"one object, not a list", `"- "`}},
		{"not YAML", "array: [", "objects", []string{"not valid YAML"}},
		{"tab", "array:\n\t- a", "objects", []string{"not valid YAML", "line 2"}},
		{"unknown anchor", "array: [*x]", "objects", []string{"not valid YAML", "unknown anchor"}},
		{"two arrays", "array: []\narray: [" + one + "]", "objects", []string{"not valid YAML", "already defined"}},
		{"wrong indentation", "array:\n  - |\n    objectName: a\n      objectType: secret\n", "objects[0]", []string{"not valid YAML", "mapping values are not allowed", "line"}},
		{"folded text", "array:\n  - >\n    objectName: a\n    objectType: secret\n", "objects[0]", []string{"not valid YAML", "mapping values are not allowed"}},
		{"field named twice", "- {objectName: a, objectType: secret, objectName: b}", "objects[0]", []string{"objectName", "already defined"}},
		{"unknown field named twice", "- {objectName: a, objectType: secret, x: b, x: c}", "objects[0]", []string{"already defined"}},
		{"number as entry", "array: [17]", "objects[0]", []string{"not a mapping"}},
		{"empty text as entry", "array: ['']", "objects[0]", []string{"not a mapping"}},
		{"list as entry", "array: [[]]", "objects[0]", []string{"not a mapping"}},
		{"list that contains itself", "array: &a [*a]", "objects", []string{"aliases"}},
		{"mapping that merges itself", "array: [&a {<<: *a, objectName: a}]", "objects", []string{"aliases"}},
		{"bad binary", "array: [!!binary '?']", "objects[0]", []string{"not valid YAML", "base64"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := base.with(map[string]string{"objects": c.objects}).parse(t)
			problems := refused(t, m, err)
			if len(problems) != 1 {
				t.Errorf("%d problems: %v", len(problems), err)
			}
			names(t, problems, err, c.field, c.says...)
		})
	}
}
