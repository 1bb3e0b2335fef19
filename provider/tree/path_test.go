package tree_test

import (
	"strings"
	"testing"
	"time"

	"akv-csi-provider/provider/tree"
)

const document = `{
  "user": "app", "empty": "", "nothing": null, "port": 5432, "id": 12345678901234567891, "rate": 1.50, "on": true,
  "a-b": {"c.d": [1]}, "hosts": [{"name": "b", "port": 2, "tags": ["x", "y"]}, {"name": "a", "port": 10, "tags": ["z"]}, {"name": "c"}],
  "ids": [12345678901234567891, 12345678901234567890, 9], "m": {"z": "1", "y": "2", "x": "3"}
}`

func find(path *tree.Path, root any) (any, bool, error) {
	budget := tree.NewBudget()
	return path.Find(root, &budget)
}

// The examples follow the specification; values are as Content writes them.
func TestFind(t *testing.T) {
	root, err := tree.Parse(document)
	if err != nil {
		t.Fatal(err)
	}
	const nothing = "<nothing>"
	for expression, want := range map[string]string{
		"user": "app", "empty": "", "nothing": nothing, "missing": nothing, "user.x": nothing, "missing[0].x": nothing,
		"port": "5432", "id": "12345678901234567891", "rate": "1.50", "on": "true", "@.on": "true",
		`"a-b"."c.d"[0]`: "1", `"a-b"`: `{"c.d":[1]}`,
		"hosts[0].name": "b", "hosts[-1].name": "c", "hosts[3]": nothing, "hosts[-4]": nothing, "user[0]": nothing,
		"hosts[*].name": `["b","a","c"]`, "hosts[*].port": "[2,10]", "hosts[].tags[]": `["x","y","z"]`, "hosts[*].tags[0]": `["x","z"]`,
		"hosts[*].missing": "[]", "user[*]": nothing, "m.*": `["3","2","1"]`, "hosts.*": nothing,
		"hosts[1:].name": `["a","c"]`, "hosts[::-1].name": `["c","a","b"]`, "hosts[:-5]": "[]", "ids[9:0:-2]": "[9]",
		"ids[::9223372036854775807]": "[12345678901234567891]", "ids[::-9223372036854775808]": "[9]", "ids[1::9223372036854775807]": "[12345678901234567890]", "user[0:2]": nothing,
		"hosts[?port > `2`].name | [0]": "a", "hosts[?name == 'c'].port": "[]", "hosts[?!port].name": `["c"]`,
		"hosts[?port >= `2` && name != 'a'].name": `["b"]`, "hosts[?port < `10.5`].name": `["b","a"]`, "hosts[?port <= `1e1`].name": `["b","a"]`,
		"hosts[?name == 'a' || name == 'b'].name": `["b","a"]`, "user < `1`": nothing, "user == `1`": "false", "on != `true`": "false",
		"rate == `1.5`": "true", "hosts[0].tags == `[\"x\",\"y\"]`": "true", "m == `{\"z\":\"1\"}`": "false", "hosts == `[]`": "false", "hosts[0] == hosts": "false",
		"missing || user": "app", "empty || 'x'": "x", "user && port": "5432", "empty && port": "", "!empty": "true", "!port": "false",
		"{u: user, p: port}": `{"p":5432,"u":"app"}`, "[user, missing]": `["app",null]`, "missing.[a]": nothing, "nothing | {a: b}": nothing, "nothing | [a]": nothing,
		"`{\"a\": [1.0, 2]}`": `{"a":[1,2]}`, "'raw'": "raw", "(user)": "app",
		"abs(`-1.5`)": "1.5", "avg(hosts[*].port)": "6", "avg(`[]`)": nothing, "ceil(rate)": "2", "floor(rate)": "1", "floor(id)": "12345678901234567891",
		"contains(user, 'pp')": "true", "contains(user, `1`)": "false", "contains(hosts[0].tags, 'y')": "true", "ends_with(user, 'p')": "true", "starts_with(user, 'p')": "false",
		"join(',', hosts[*].name)": "b,a,c", "keys(m)": `["x","y","z"]`, "values(m)": `["3","2","1"]`, "length('é')": "1", "length(hosts)": "3", "length(m)": "3",
		"map(&name, hosts)": `["b","a","c"]`, "map(&port, hosts)": "[2,10,null]", "max(ids)": "12345678901234567891", "min(ids)": "9", "max(`[]`)": nothing,
		"max_by(hosts[:2], &port).name": "a", "min_by(hosts, &name).name": "a", "merge(m, `{\"x\": 1}`)": `{"x":1,"y":"2","z":"1"}`,
		"not_null(missing, port)": "5432", "not_null(missing)": nothing, "reverse(user)": "ppa", "reverse(ids)": "[9,12345678901234567890,12345678901234567891]",
		"sort(ids)": "[9,12345678901234567890,12345678901234567891]", "sort(hosts[*].name)": `["a","b","c"]`, "sort_by(hosts, &name)[0].name": "a",
		"sum(hosts[*].port)": "12", "to_array(user)": `["app"]`, "to_array(ids) == ids": "true", "to_number('12345678901234567891')": "12345678901234567891",
		"to_number('0755')": nothing, "to_number(m)": nothing, "to_string(hosts[1].tags)": `["z"]`, "to_string(user)": "app", "type(nothing)": "null", "type(id)": "number", "type(m)": "object",
	} {
		path, err := tree.ParsePath(expression)
		if err != nil {
			t.Errorf("%s: %v", expression, err)
			continue
		}
		value, found, err := find(path, root)
		got := string(tree.Content(value))
		if !found {
			got = nothing
		}
		if err != nil || got != want {
			t.Errorf("%s: got %s, %v, want %s", expression, got, err, want)
		}
	}
}

// An expression that is wrong fails when it is parsed. Its error quotes at most a name in it.
func TestParsePath(t *testing.T) {
	for expression, want := range map[string]string{
		"":                            "is not a JMESPath expression: it ends too early",
		"a.":                          "is not a JMESPath expression: it ends too early",
		"a b":                         "is not a JMESPath expression: unexpected 'b' at character 3 (a name with other characters",
		"a[":                          "is not a JMESPath expression: it ends too early",
		"`{`":                         "is not a JMESPath expression",
		"a[99999999999999999999]":     "is not a JMESPath expression",
		"a[::0]":                      "has a slice with step 0",
		"$.a":                         "uses an extension of JMESPath: variables and arithmetic are not supported",
		"a + b":                       "uses an extension of JMESPath: variables and arithmetic are not supported (a name with other characters",
		"client-id":                   "uses an extension of JMESPath: variables and arithmetic are not supported (a name with other characters than letters, digits and _ needs double quotes",
		"Logging:Level":               "is not a JMESPath expression: unexpected ':' at character 8 (a name with other characters than letters, digits and _ needs double quotes",
		"let $a = b in $a":            "uses an extension of JMESPath: variables and arithmetic are not supported",
		"&a":                          "uses & outside of a function's arguments",
		"[&a]":                        "uses & outside of a function's arguments",
		"pad_left('a', `9999999`)":    `calls "pad_left", which is not a JMESPath function`,
		"length()":                    "calls length with 0 arguments",
		"length(a, b)":                "calls length with 2 arguments",
		"merge()":                     "calls merge with 0 arguments",
		"sort_by(a, b)":               "calls sort_by with an argument of the wrong type",
		"length(&a)":                  "calls length with an argument of the wrong type",
		strings.Repeat("a", 1025):     "is longer than 1024 bytes",
		"a]b":                         "is not a JMESPath expression: unexpected ']' at character 2",
		"ü b":                         "is not a JMESPath expression: unexpected 'ü' at character 1",
		strings.Repeat("(", 1024):     "is not a JMESPath expression",
		strings.Repeat("@|", 500):     "is not a JMESPath expression",
		"a[?x" + string(rune(0)) + "": "is not a JMESPath expression",
	} {
		path, err := tree.ParsePath(expression)
		if err == nil || path != nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%.40q: got %v, want %s", expression, err, want)
			continue
		}
		// Quotes around a name do not help where a bracket is wrong.
		if strings.Contains(err.Error(), "double quotes") && expression == "a]b" {
			t.Errorf("%.40q: %v", expression, err)
		}
	}
}

// An evaluation has bounds, and its errors contain nothing of the value.
func TestHostile(t *testing.T) {
	elements := `["CANARY"` + strings.Repeat(`,"CANARY"`, 5000) + `]`
	double := strings.Repeat("[@,@][]|", 100) + "@"
	// One number of 60,000 digits, thousands of times.
	digits, many := "[1."+strings.Repeat("1", 60_000)+"]", "[@[0]]"+strings.Repeat("|[@,@,@,@][]", 7)
	for name, c := range map[string]struct{ expression, text, want string }{
		"doubling a list":       {double, `["CANARY"]`, tree.ErrSteps.Error()},
		"many digits, sorted":   {many + "|sort(@)", digits, tree.ErrSteps.Error()},
		"many digits, equal":    {many + "|[?@==@]", digits, tree.ErrSteps.Error()},
		"many digits, less":     {many + "|[?@<@]", digits, tree.ErrSteps.Error()},
		"many digits, added":    {many + "|sum(@)", digits, tree.ErrSteps.Error()},
		"many digits, rounded":  {many + "|map(&ceil(@), @)", digits, tree.ErrSteps.Error()},
		"many digits, in text":  {many + "|map(&to_number(@), @)", strings.NewReplacer("[", `["`, "]", `"]`).Replace(digits), tree.ErrSteps.Error()},
		"doubling, projected":   {strings.Repeat("[@,@]|", 100) + "@", `["CANARY"]`, tree.ErrSteps.Error()},
		"doubling a text":       {strings.Repeat("join('',[@,@])|", 60) + "@", `["CANARY"]`, "calls join"},
		"joining often":         {"to_string(@)|" + strings.Repeat("join('',[@,@])|", 60) + "@", `["CANARY"]`, tree.ErrSteps.Error()},
		"a long glue":           {"join(to_string(@), @)", elements, tree.ErrSteps.Error()},
		"escapes":               {strings.Repeat("to_string([@])|", 50) + "@", `["\\\"CANARY"]`, tree.ErrResult.Error()},
		"projecting everything": {strings.Repeat("[*].", 1) + "[" + strings.Repeat("@,", 300) + "@]", elements, tree.ErrSteps.Error()},
		"too much":              {"[@,@,@,@,@,@,@,@,@,@,@,@,@,@,@,@,@,@,@,@,@,@,@,@,@,@,@,@,@,@]", elements, tree.ErrResult.Error()},
		"a type":                {"length(`1`)", elements, "calls length on a value of a type that it does not support"},
		"mixed keys":            {"sort(@)", `["CANARY",1]`, "calls a function that sorts or compares on a value of a type that it does not support"},
		"a sum of texts":        {"sum(@)", `["CANARY"]`, "calls sum or avg on a value of a type that it does not support"},
		"a huge exponent":       {"max(@)", `[1e999999999,1e999999998,-1e999999999]`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			root, err := tree.Parse(c.text)
			if err != nil {
				t.Fatal(err)
			}
			path, err := tree.ParsePath(c.expression)
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			value, found, err := find(path, root)
			if took := time.Since(start); took > 2*time.Second {
				t.Errorf("took %v", took)
			}
			if c.want == "" {
				if err != nil || !found {
					t.Errorf("got %v, %v", value, err)
				}
				return
			}
			if err == nil || found || value != nil || !strings.HasPrefix(err.Error(), c.want) || strings.Contains(err.Error(), "CANARY") {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

func FuzzFind(f *testing.F) {
	for _, expression := range []string{"a.b[0]", "hosts[?port > `1`].name | [0]", "{a: b, c: *}", "sort_by(hosts, &name)", "[::-1]", "join(',', keys(@))", strings.Repeat("[@,@][]|", 30) + "@"} {
		f.Add(expression, document)
	}
	f.Fuzz(func(t *testing.T, expression, text string) {
		path, err := tree.ParsePath(expression)
		if err != nil {
			if path != nil {
				t.Error("a path and an error")
			}
			return
		}
		root, err := tree.Parse(text)
		if err != nil {
			return
		}
		before := string(tree.Content(root))
		start := time.Now()
		value, found, err := find(path, root)
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("took %v", took)
		}
		if err != nil && found || found != (value != nil) {
			t.Errorf("got %v, %t, %v", value, found, err)
		}
		content := string(tree.Content(value))
		if len(content) > 8<<20 { // an escape takes up to six bytes
			t.Errorf("%d bytes", len(content))
		}
		if again, _, _ := find(path, root); string(tree.Content(again)) != content || string(tree.Content(root)) != before {
			t.Error("another result, or another value, the second time")
		}
	})
}

func BenchmarkFind(b *testing.B) {
	root, err := tree.Parse(document)
	if err != nil {
		b.Fatal(err)
	}
	for name, expression := range map[string]string{"key": "user", "filter": "hosts[?port > `2`].name | [0]", "doubling": strings.Repeat("[@,@][]|", 100) + "@"} {
		b.Run(name, func(b *testing.B) {
			path, err := tree.ParsePath(expression)
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				_, _, _ = find(path, root)
			}
		})
	}
}
