package request_test

import (
	"strings"
	"testing"

	"akv-csi-provider/provider/request"
)

const (
	helm     = "an unrendered Helm template"
	unset    = "what a template writes for an unset value"
	replaced = "an unreplaced placeholder"
)

// The URL of an object is not its name: the message has the fields that it stands for.
func TestObjectURLs(t *testing.T) {
	base := newAttributes(t)
	const v, other = "0123456789abcdef0123456789abcdef", "use 1 to 127 letters, digits and hyphens"
	const no = "use the object's name, not its URL"
	for entry, fix := range map[string]string{
		"objectName: https://contoso.vault.azure.net/secrets/db, objectType: secret":                                                 no + ": objectName: db",
		"objectName: https://contoso.vault.azure.net/secrets/db/" + v + ", objectType: secret":                                       no + ": objectName: db, objectVersion: " + v,
		"objectName: https://contoso.vault.azure.net/secrets/db/" + v + ", objectType: secret, objectVersion: " + v:                  no + ": objectName: db",
		"objectName: https://contoso.vault.azure.net/secrets/db/" + v + ", objectType: secret, objectVersion: latest":                no + ": objectName: db, objectVersion: " + v,
		"objectName: https://contoso.vault.azure.net/keys/db, objectType: secret":                                                    no + ": objectName: db, objectType: key",
		"objectName: https://contoso.vault.azure.net/certificates/web/" + v + ", objectType: key":                                    no + ": objectName: web, objectVersion: " + v + ", objectType: cert",
		"objectName: https://contoso.vault.azure.net/certificates/web, objectType: secret":                                           no + ": objectName: web",
		"objectName: https://contoso.vault.azure.net/certificates/web, objectType: cert":                                             no + ": objectName: web",
		"objectName: 'HTTPS://Contoso.vault.azure.cn:443/Secrets/Db/?api-version=7.4', objectType: secret":                           no + ": objectName: Db",
		"objectName: contoso.vault.azure.net/secrets/db/, objectType: secret":                                                        no + ": objectName: db",
		"objectName: https://contoso.vault.azure.net/secrets/" + strings.Repeat("n", 127) + "/" + v + ", objectType: secret":         no + ": objectName: " + strings.Repeat("n", 127) + ", objectVersion: " + v,
		"objectName: https://contoso.vault.azure.net/secrets/" + strings.Repeat("n", 128) + ", objectType: secret":                   no + "; " + other,
		"objectName: https://contoso.vault.azure.net/secrets/db_x, objectType: secret":                                               no + "; " + other,
		"objectName: https://contoso.vault.azure.net/, objectType: secret":                                                           no + "; " + other,
		"objectName: " + strings.Repeat("a.", 300) + "a/secrets/db, objectType: secret":                                              other,
		"objectName: https://contoso.vault.azure.net/secrets/" + strings.Repeat("n", 300) + ", objectType: secret":                   other,
		"objectName: secrets/db, objectType: secret":                                                                                 other,
		`objectAlias: f, template: '{{ certificate "https://contoso.vault.azure.net/certificates/web" }}'`:                           no + `: certificate "web"`,
		"objectName: a, objectType: secret, files: [{part: jks, objectAlias: f, passwordFrom: https://c.vault.azure.net/secrets/p}]": no + ": passwordFrom: p",
	} {
		m, err := base.with(map[string]string{"objects": "- {" + entry + "}"}).parse(t)
		if all := refused(t, m, err); len(all) != 1 || all[0].Fix != fix {
			t.Errorf("%s:\ngot  %+v\nwant %s", entry, all, fix)
		}
	}
	m, err := base.with(map[string]string{"objects": "- {objectName: https://contoso.vault.azure.net/keys/k}"}).parse(t)
	if all := refused(t, m, err); len(all) != 2 || all[0].Fix != no+": objectName: k, objectType: key" {
		t.Errorf("without a type: %+v", all)
	}
}

// A value that a template or a pipeline should have filled in is named as such, in every
// parameter and field where it is not valid.
func TestPlaceholders(t *testing.T) {
	base := newAttributes(t)
	for value, kind := range map[string]string{
		"{{ .Values.x }}": helm, "{{.x}}": helm, `{{ printf "%s" .x | quote }}`: helm,
		"<no value>": unset, "%!s(<nil>)": unset, "%!d(string=x)": unset,
		"${X}": replaced, "${{ parameters.x }}": replaced, "$(x.y)": replaced, "#{x}#": replaced, "#{x}": replaced, "__x__": replaced,
		"__X_Y__": replaced, "<client-id>": replaced, "[[x]]": replaced, "{x}": replaced, "$[variables.x]": replaced, "$X": replaced, "%X%": replaced, "@x@": replaced,
		"{% x %}": replaced, "{# x #}": replaced, "<%= x %>": replaced, "%{x}": replaced, "((x))": replaced,
	} {
		for _, field := range []string{"keyvaultName", "tenantID", "tenantId", "clientID", "useVMManagedIdentity", "useAzureTokenProxy", "usePodIdentity"} {
			set := map[string]string{"tenantID": "", field: value}
			m, err := base.with(set).parse(t)
			problems := refused(t, m, err)
			names(t, problems, err, field, "is "+kind)
			if rendered := strings.Contains(problems[0].Fix, "render it with Helm"); rendered != (kind == helm) {
				t.Errorf("%s %s: %v", field, value, err)
			}
		}
		m, err := base.with(map[string]string{"useVMManagedIdentity": "true", "userAssignedIdentityID": "kv/" + value}).parse(t)
		names(t, refused(t, m, err), err, "userAssignedIdentityID", "contains "+kind)

		for _, field := range []string{"objectName", "objectType", "objectVersion", "objectVersionHistory", "objectFormat", "objectEncoding", "filePermission"} {
			fields := map[string]string{"objectName": "a", "objectType": "secret", field: value}
			m, err := base.with(map[string]string{"objects": toJSON(t, []any{fields})}).parse(t)
			problems := refused(t, m, err)
			if len(problems) != 1 || !strings.HasSuffix(problems[0].Field, ": "+field) || !strings.Contains(problems[0].Cause, "is "+kind) {
				t.Errorf("%s %s: %v", field, value, err)
			}
		}
	}
	// Without quotes, in place of a field, an entry or the list.
	for value, kind := range map[string]string{"{{ .Values.x }}": helm, "${X}": replaced} {
		for name, objects := range map[string]string{
			"list": value, "array": "array: " + value, "entry": "array:\n- " + value,
			"field": "- objectName: b\n  objectType: secret\n- objectName: a\n  objectType: " + value, "field in braces": "- {objectName: " + value + ", objectType: secret}",
			"field of a text": "array:\n- |\n  objectName: " + value + "\n  objectType: secret",
		} {
			m, err := base.with(map[string]string{"objects": objects}).parse(t)
			problems := refused(t, m, err)
			if len(problems) != 1 && value[0] == '{' || !strings.Contains(problems[0].Cause, "is "+kind) {
				t.Errorf("%s %s: %v", name, value, err)
			}
		}
	}
	// Those of other engines are no values in YAML.
	for _, value := range []string{"{% x %}", "{% if x %}a{% endif %}", "{# x #}", "%{x}", "%X%", "@x@", "[[ .x ]]", "[[x]]", "{x}"} {
		for _, objects := range []string{"- objectName: %s\n  objectType: secret", "array:\n- |\n  objectName: %s\n  objectType: secret"} {
			m, err := base.with(map[string]string{"objects": strings.ReplaceAll(objects, "%s", value)}).parse(t)
			if problems := refused(t, m, err); !strings.Contains(problems[0].Cause, replaced) {
				t.Errorf("%s: %v", value, err)
			}
		}
	}
	for value, kind := range map[string]string{"{{ .Values.x }}": helm, "${X}": replaced, "{% x %}": replaced, "<%= x %>": replaced, "$(x)": replaced, "#{x}#": replaced, "<no value>": unset} {
		// Where any text is allowed, it is accepted with a warning.
		m, err := base.with(map[string]string{"objects": toJSON(t, []any{map[string]string{"objectName": "a", "objectType": "secret", "objectAlias": "x" + value}})}).parse(t)
		if err != nil || len(m.Warnings) != 1 || m.Warnings[0].Kind != request.WarnPlaceholder || !strings.Contains(m.Warnings[0].Cause, "contains "+kind) {
			t.Errorf("%s: %v, %v", value, err, m.Warnings)
		}
	}
	// Without quotes, this one is a comment.
	m, err := base.with(map[string]string{"objects": "- objectName: #{x}#\n  objectType: secret"}).parse(t)
	names(t, refused(t, m, err), err, "objects[0]: objectName", `"#{x}#" is `+replaced)
	m, err = base.with(map[string]string{"objects": "- objectName: a\n  objectType: secret\n  objectVersion: #{x}#\n  objectAlias: # {x}"}).parse(t)
	if err != nil || len(m.Warnings) != 1 || m.Warnings[0].Field != `objects[0] "a": objectVersion` || !strings.Contains(m.Warnings[0].Cause, "comment") {
		t.Errorf("%v, %v", err, m.Warnings)
	}
	// A template around the list is the cause of what YAML says.
	for _, objects := range []string{
		"{{- if .Values.x }}\n- {objectName: a, objectType: secret}\n{{- end }}",
		"array:\n{{- range .Values.x }}\n  - |\n    objectName: a\n{{- end }}",
		"# {{ this is a comment }}\n- objectName: a\n{{ toYaml .Values.x | indent 2 }}\n",
	} {
		m, err := base.with(map[string]string{"objects": objects}).parse(t)
		problems := refused(t, m, err)
		names(t, problems, err, "objects", helm+"; render it with Helm first")
		if line := strings.Split(objects, "\n")[problems[0].Line-1]; strings.Index(line, "{{")+1 != problems[0].Column || line[0] == '#' {
			t.Errorf("line %d, column %d: %v", problems[0].Line, problems[0].Column, err)
		}
	}
}

// What looks like a placeholder and is valid stays as it is.
func TestNoPlaceholders(t *testing.T) {
	m, err := newAttributes(t).with(map[string]string{
		"objects": `[{objectName: a, objectType: secret, objectAlias: __init__.py}, {objectName: a, objectType: secret, objectAlias: "<a>{b}$c%d%[[e]]"}]`,
	}).parse(t)
	if err != nil || len(m.Warnings) > 0 {
		t.Errorf("%v, %v", err, m.Warnings)
	}
	for _, objects := range []string{"{objectName: a, objectType: secret}", "array: {objectName: a}", "- [[{objectName: a}]]", "- {objectName: a, b", "[[]]"} {
		m, err := newAttributes(t).with(map[string]string{"objects": objects}).parse(t)
		if problems := refused(t, m, err); strings.Contains(problems[0].Cause, "placeholder") {
			t.Errorf("%s: %v", objects, err)
		}
	}
}

// A field is suggested that may be meant, and none for a word that is like no field.
func TestSuggestions(t *testing.T) {
	base := newAttributes(t)
	for field, want := range map[string]string{
		"objectNmae": "objectName", "name": "objectName", "alias": "objectAlias", "ObjectAlias": "objectAlias", "objectAliass": "objectAlias",
		"objectversion": "objectVersion", "object_version": "objectVersion", "objectHistory": "objectVersionHistory", "objectVersionsHistory": "objectVersionHistory",
		"format": "objectFormat", "encoding": "objectEncoding", "objectEncodin": "objectEncoding", "filePermissions": "filePermission", "filepermision": "filePermission",
		"tags": "", "x": "", "secretProviderClass": "",
	} {
		m, err := base.with(map[string]string{"objects": "- {objectName: a, objectType: secret, " + field + ": b}"}).parse(t)
		if err != nil || len(m.Warnings) != 1 {
			t.Errorf("%s: %v, %v", field, err, m.Warnings)
			continue
		}
		_, got, _ := strings.Cut(m.Warnings[0].Cause, "did you mean ")
		if strings.TrimSuffix(got, "?)") != want {
			t.Errorf("%s: suggests %q, want %q", field, got, want)
		}
	}
}

func TestPlaceholder(t *testing.T) {
	for line, want := range map[string][2]string{
		"é: {{ .Values.x }} # y": {"{{ .Values.x }}", helm}, "${X}": {"${X}", replaced}, "${{ x }}": {"${{ x }}", replaced},
		"a: <no value>": {"<no value>", unset}, "a: b": {}, "{a: b}": {}, "": {},
	} {
		at, what := request.Placeholder(line)
		found := ""
		if at != nil {
			found = line[at[0]:at[1]]
		}
		if found != want[0] || what != want[1] {
			t.Errorf("%q: %q, %q", line, found, what)
		}
	}
}

func TestNearest(t *testing.T) {
	for name, want := range map[string]string{"keyVaultName": "keyvaultName", "object": "objects", "x": "", "": ""} {
		if got := request.Nearest(name, "keyvaultName", "objects"); got != want {
			t.Errorf("%q: %q", name, got)
		}
	}
	if got := request.Nearest("web"); got != "" {
		t.Errorf("of no names: %q", got)
	}
}
