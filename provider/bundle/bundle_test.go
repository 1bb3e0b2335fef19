package bundle_test

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf16"
	"unicode/utf8"

	"akv-csi-provider/provider/bundle"
	"akv-csi-provider/provider/tree"

	"go.yaml.in/yaml/v3"
)

func entries(pairs ...any) (out []tree.Member) {
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, tree.Member{Key: pairs[i].(string), Value: pairs[i+1]})
	}
	return out
}

func TestWrite(t *testing.T) {
	mixed := entries("b", "x y", "a", json.Number("12345678901234567890"), "c", map[string]any{"z": nil, "k": []any{true, "<"}}, "d", "yes")
	for name, c := range map[string]struct {
		format  bundle.Format
		entries []tree.Member
		want    string
	}{
		"json":             {bundle.JSON, mixed, `{"a":12345678901234567890,"b":"x y","c":{"k":[true,"<"],"z":null},"d":"yes"}` + "\n"},
		"yaml":             {bundle.YAML, mixed, "\"a\": 12345678901234567890\n\"b\": \"x y\"\n\"c\": {\"k\":[true,\"<\"],\"z\":null}\n\"d\": \"yes\"\n"},
		"properties":       {bundle.Properties, mixed, "a=12345678901234567890\nb=x y\nc={\"k\"\\:[true,\"<\"],\"z\"\\:null}\nd=yes\n"},
		"dotenv":           {bundle.Dotenv, mixed, "A=12345678901234567890\nB='x y'\nC='{\"k\":[true,\"<\"],\"z\":null}'\nD=yes\n"},
		"no json":          {bundle.JSON, nil, "{}\n"},
		"no yaml":          {bundle.YAML, nil, "{}\n"},
		"no properties":    {bundle.Properties, nil, ""},
		"no dotenv":        {bundle.Dotenv, nil, ""},
		"yaml characters":  {bundle.YAML, entries("k\u0085", "\u007f\ufeffé\U0001f600\u2028\x00\n"), "\"k\\u0085\": \"\\u007f\\ufeffé\U0001f600\\u2028\\u0000\\n\"\n"},
		"property names":   {bundle.Properties, entries("a b:c=d#e!f\\g", "", " x", "  y "), "\\ x=\\  y \na\\ b\\:c\\=d\\#e\\!f\\\\g=\n"},
		"property values":  {bundle.Properties, entries("a", "\t\n\r\f\x00\x7fé€\U0001f600~ :=#!\\"), "a=\\t\\n\\r\\f\\u0000\\u007F\\u00E9\\u20AC\\uD83D\\uDE00~ \\:\\=\\#\\!\\\\\n"},
		"variables":        {bundle.Dotenv, entries("db-user", "", "1st.é", "a", "_x", "b"), "_1ST__=a\n_X=b\nDB_USER=\n"},
		"bare":             {bundle.Dotenv, entries("a", "postgres://u:p@h:5432/db,x%20+y=="), "A=postgres://u:p@h:5432/db,x%20+y==\n"},
		"single quotes":    {bundle.Dotenv, entries("a", "p$w`\"\\#;\nq", "b", " ", "c", "é"), "A='p$w`\"\\#;\nq'\nB=' '\nC='é'\n"},
		"double quotes":    {bundle.Dotenv, entries("a", "it's", "b", "x\\", "c", "'$HOME`\"\\n"), "A=\"it's\"\nB=\"x\\\\\"\nC=\"'\\$HOME\\`\\\"\\\\n\"\n"},
		"not UTF-8 inside": {bundle.Dotenv, entries("a", []any{"x"}), "A='[\"x\"]'\n"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := bundle.Write(c.format, c.entries)
			if err != nil || string(got) != c.want {
				t.Errorf("got  %q, %v\nwant %q", got, err, c.want)
			}
			again, _ := bundle.Write(c.format, slices.Collect(func(yield func(tree.Member) bool) {
				for _, e := range slices.Backward(c.entries) {
					if !yield(e) {
						return
					}
				}
			}))
			if string(again) != string(got) {
				t.Errorf("in another order: %q", again)
			}
		})
	}
	if mixed[0].Key != "b" {
		t.Error("the entries of the caller are in another order")
	}
}

func TestRefused(t *testing.T) {
	for name, c := range map[string]struct {
		format  bundle.Format
		entries []tree.Member
		want    error
	}{
		"an empty name":          {bundle.JSON, entries("", "CANARY"), bundle.ErrName},
		"a long name":            {bundle.JSON, entries(strings.Repeat("CANARY", 43), ""), bundle.ErrName},
		"a name not UTF-8":       {bundle.YAML, entries("CANARY\xff", ""), bundle.ErrName},
		"one name twice":         {bundle.Properties, entries("CANARY", "1", "b", "", "CANARY", "2"), bundle.ErrTwice},
		"one variable twice":     {bundle.Dotenv, entries("CANARY-a", "1", "canary_a", "2"), bundle.ErrVariable},
		"a digit and a dash":     {bundle.Dotenv, entries("1", "CANARY", "-1", ""), bundle.ErrVariable},
		"a value not UTF-8":      {bundle.Properties, entries("a", "CANARY\xff"), bundle.ErrText},
		"dotenv of a NUL":        {bundle.Dotenv, entries("a", "CANARY\x00"), bundle.ErrNUL},
		"names with other cases": {bundle.Dotenv, entries("é", "", "_", ""), bundle.ErrVariable},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := bundle.Write(c.format, c.entries)
			if !errors.Is(err, c.want) || got != nil || strings.Contains(err.Error(), "CANARY") {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
	if _, err := bundle.Write("ini", nil); err == nil {
		t.Error("no error for a format that does not exist")
	}
}

// readDotenv reads a file as a POSIX shell and systemd do.
func readDotenv(text string) map[string]string {
	out := make(map[string]string)
	for text != "" {
		name, rest, _ := strings.Cut(text, "=")
		var value strings.Builder
		quote, i := byte(0), 0
		for ; i < len(rest) && (quote != 0 || rest[i] != '\n'); i++ {
			switch c := rest[i]; {
			case c == quote:
				quote = 0
			case quote == 0 && (c == '\'' || c == '"'):
				quote = c
			case quote == '"' && c == '\\' && strings.IndexByte("\\\"$`", rest[i+1]) >= 0:
				i++
				value.WriteByte(rest[i])
			default:
				value.WriteByte(c)
			}
		}
		out[name], text = value.String(), rest[i+1:]
	}
	return out
}

// readProperties reads a file as java.util.Properties does.
func readProperties(text string) map[string]string {
	out := make(map[string]string)
	for line := range strings.Lines(text) {
		var units []uint16
		name, inName := "", true
		for i := 0; i < len(line)-1; i++ {
			c := line[i]
			switch {
			case c == '=' && inName:
				name, units, inName = string(utf16.Decode(units)), nil, false
				continue
			case c == '\\':
				i++
				c = line[i]
				if at := strings.IndexByte("tnrf", c); at >= 0 {
					c = "\t\n\r\f"[at]
				} else if c == 'u' {
					n, _ := strconv.ParseUint(line[i+1:i+5], 16, 16)
					units, i = append(units, uint16(n)), i+4
					continue
				}
			}
			units = append(units, uint16(c))
		}
		out[name] = string(utf16.Decode(units))
	}
	return out
}

// What is written is read as it was.
func FuzzWrite(f *testing.F) {
	f.Add("db-user", "p$w`\"\\#;\nq", "b c", "it's\\")
	f.Add("é=", "\t\r\f\u0085\U0001f600\ufeff", "1:#!", " ~yes")
	f.Fuzz(func(t *testing.T, name1, value1, name2, value2 string) {
		all := entries(name1, value1, name2, value2)
		want := map[string]string{name1: value1, name2: value2}
		for _, format := range []bundle.Format{bundle.JSON, bundle.YAML, bundle.Properties, bundle.Dotenv} {
			content, err := bundle.Write(format, all)
			if err != nil {
				if content != nil {
					t.Error("content and an error")
				}
				continue
			}
			got := make(map[string]string)
			switch format {
			case bundle.JSON:
				err = json.Unmarshal(content, &got)
			case bundle.YAML:
				err = yaml.Unmarshal(content, &got)
			case bundle.Properties:
				got = readProperties(string(content))
			case bundle.Dotenv:
				got = readDotenv(string(content))
				values := slices.Sorted(maps.Values(got))
				if wanted := slices.Sorted(maps.Values(want)); !slices.Equal(values, wanted) {
					t.Errorf("dotenv: %q is read as %q", content, values)
				}
				continue
			}
			if err != nil || !maps.Equal(got, want) {
				t.Errorf("%s: %q is read as %q, %v", format, content, got, err)
			}
			if format == bundle.Properties && !isASCII(content) || !utf8.Valid(content) {
				t.Errorf("%s: %q", format, content)
			}
		}
	})
}

func isASCII(content []byte) bool {
	return !slices.ContainsFunc(content, func(b byte) bool { return b > '~' })
}

func BenchmarkWrite(b *testing.B) {
	var all []tree.Member
	for i := range 1000 {
		all = append(all, tree.Member{Key: "name-" + strconv.Itoa(i), Value: strings.Repeat("value'é ", 100)})
	}
	for _, format := range []bundle.Format{bundle.JSON, bundle.YAML, bundle.Properties, bundle.Dotenv} {
		b.Run(string(format), func(b *testing.B) {
			for b.Loop() {
				if _, err := bundle.Write(format, all); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
