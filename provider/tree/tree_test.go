package tree_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"akv-csi-provider/provider/tree"
)

func TestParse(t *testing.T) {
	for name, c := range map[string]struct {
		text, want string
		err        error
	}{
		"json":                   {text: ` {"b": 1, "a": [true, null, "x"]} `, want: `{"a":[true,null,"x"],"b":1}`},
		"a list":                 {text: `[1]`, want: `[1]`},
		"numbers as written":     {text: `[12345678901234567890123, 1.0, 1e3, -0, 0.10]`, want: `[12345678901234567890123,1.0,1e3,-0,0.10]`},
		"no HTML escapes":        {text: `{"a":"<&>"}`, want: `{"a":"<&>"}`},
		"the last of equal keys": {text: `{"a":1,"a":2}`, want: `{"a":2}`},
		"yaml":                   {text: "user: db\nport: 5432\nlist:\n- a\n- {b: c}\n", want: `{"list":["a",{"b":"c"}],"port":5432,"user":"db"}`},
		"yaml scalars": {text: "[0755, 0x1F, 1_000, +1, .inf, 1., 1.50, 2020-01-02, yes, on, True, false, ~, null, '1', \"true\", 12345678901234567890123]",
			want: `["0755","0x1F","1_000","+1",".inf","1.",1.50,"2020-01-02","yes","on",true,false,null,null,"1","true",12345678901234567890123]`},
		"yaml keys":              {text: "1: a\ntrue: b\nnull: c\n", want: `{"1":"a","null":"c","true":"b"}`},
		"aliases":                {text: "a: &x {n: 1}\nb: *x\n", want: `{"a":{"n":1},"b":{"n":1}}`},
		"a merge":                {text: "a: &x {n: 1, m: 1}\nb: {<<: *x, m: 2}\n", want: `{"a":{"m":1,"n":1},"b":{"m":2,"n":1}}`},
		"merges, earlier wins":   {text: "a: &x {n: 1}\nb: &y {n: 2, o: 3}\nc: {<<: [*x, *y]}\n", want: `{"a":{"n":1},"b":{"n":2,"o":3},"c":{"n":1,"o":3}}`},
		"a quoted <<":            {text: "a: {\"<<\": x}\n", want: `{"a":{"<<":"x"}}`},
		"a block text":           {text: "a: |\n  x\n  y\n", want: `{"a":"x\ny\n"}`},
		"text":                   {text: "CANARY", err: tree.ErrNeither},
		"a JSON string":          {text: `"CANARY"`, err: tree.ErrNeither},
		"empty":                  {text: "", err: tree.ErrNeither},
		"two values":             {text: `{} {}`, err: tree.ErrNeither},
		"two documents":          {text: "a: 1\n---\nb: 1\n", err: tree.ErrNeither},
		"broken":                 {text: `{"CANARY": `, err: tree.ErrNeither},
		"not UTF-8":              {text: "{\"a\":\"\xff\"}", err: tree.ErrEncoding},
		"too long":               {text: "[" + strings.Repeat(" ", tree.MaxSize) + "]", err: tree.ErrTooLarge},
		"too deep":               {text: strings.Repeat("[", 201) + strings.Repeat("]", 201), err: tree.ErrTooDeep},
		"too deep for a decoder": {text: strings.Repeat("[", 20000) + strings.Repeat("]", 20000), err: tree.ErrNeither},
		"YAML too deep":          {text: strings.Repeat("- ", 300) + "a", err: tree.ErrTooDeep},
		"one YAML key twice":     {text: "CANARY: 1\nCANARY: 2\n", err: tree.ErrTwice},
		"a key that is a list":   {text: "? [CANARY]\n: 1\n", err: tree.ErrKey},
		"a merge of text":        {text: "a: {<<: CANARY}\n", err: tree.ErrNeither},
		"a directive":            {text: "%TAG ! tag:x,2000:\n---\na: 1\n", err: tree.ErrNeither},
		"contains itself":        {text: "a: &x\n  b: *x\n", err: tree.ErrTooDeep},
		"a billion laughs":       {text: laughs(), err: tree.ErrAliases},
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			root, err := tree.Parse(c.text)
			if took := time.Since(start); took > time.Second {
				t.Errorf("took %v", took)
			}
			if !errors.Is(err, c.err) {
				t.Fatalf("got %v, want %v", err, c.err)
			}
			if err != nil {
				if strings.Contains(err.Error(), "CANARY") || root != nil {
					t.Errorf("got %v, %v", root, err)
				}
				return
			}
			if got := string(tree.Content(root)); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// laughs is a YAML text whose aliases multiply by ten with each line.
func laughs() string {
	text := "a0: &a0 [x]\n"
	for i := range 12 {
		text += fmt.Sprintf("a%d: &a%d [%s*a%d]\n", i+1, i+1, strings.Repeat(fmt.Sprintf("*a%d, ", i), 9), i)
	}
	return text
}

// Each format alone.
func TestFormats(t *testing.T) {
	if _, err := tree.ParseJSON("a: 1"); err != tree.ErrNotJSON {
		t.Errorf("got %v", err)
	}
	if _, err := tree.ParseYAML("a"); err != tree.ErrNotYAML {
		t.Errorf("got %v", err)
	}
	if root, err := tree.ParseYAML(`{"a": "\u00e9\n"}`); err != nil || string(tree.Content(root)) != `{"a":"é\n"}` {
		t.Errorf("got %v, %v", root, err)
	}
}

func TestContent(t *testing.T) {
	root, err := tree.Parse(`{"text":" \"raw\"\n<é>","empty":"","n":1.50,"big":123456789012345678901234567890,"b":true,"nil":null,"o":{"z":1,"a":"\u003c"},"l":[1,"x"]}`)
	if err != nil {
		t.Fatal(err)
	}
	members, err := tree.Members(root)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range members {
		got = append(got, m.Key+"="+string(tree.Content(m.Value)))
	}
	const want = "b=true|big=123456789012345678901234567890|empty=|l=[1,\"x\"]|n=1.50|nil=null|o={\"a\":\"<\",\"z\":1}|text= \"raw\"\n<é>"
	if text := strings.Join(got, "|"); text != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
	if _, err := tree.Members([]any{}); err != tree.ErrNoObject {
		t.Errorf("got %v", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{`{"a":[1,1.0,null,true,"x"]}`, "a: &x {n: 0755}\nb: *x\nc: {<<: *x}\n", laughs(), "- a\n- |\n  x\n", "a: &x [*x]"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		root, err := tree.Parse(text)
		if err != nil {
			if root != nil {
				t.Error("a value and an error")
			}
			return
		}
		// JSON of a tree is read as that tree.
		content := tree.Content(root)
		again, err := tree.ParseJSON(string(content))
		if len(content) > tree.MaxSize {
			return
		}
		if err != nil || string(tree.Content(again)) != string(content) {
			t.Errorf("%q became %q: %v", content, tree.Content(again), err)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	object, lines := strings.Builder{}, strings.Builder{}
	for i := range 500 {
		fmt.Fprintf(&object, `%s"key%d":{"a":"value","n":%d}`, map[bool]string{true: "{", false: ","}[i == 0], i, i)
		fmt.Fprintf(&lines, "key%d: {a: value, n: %d}\n", i, i)
	}
	for name, text := range map[string]string{"json": object.String() + "}", "yaml": lines.String(), "laughs": laughs(),
		"anchors": strings.Repeat("- &a b\n", 3500), "flow": strings.Repeat("[", 12000)} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				tree.Parse(text)
			}
		})
	}
}
