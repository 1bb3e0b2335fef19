package request

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	template "akv-csi-provider/provider/document"
)

// document reads the fields of a document.
func (r *fieldReader) document(o *Object) {
	o.Path = r.file("objectAlias")
	const fix = "write the content of the file, with {{ secret \"name\" }} for each secret"
	text, single := r.values["template"]
	switch {
	case r.meant("template") != "":
		r.lacks("template", fix)
		return
	case !single && r.has("template"): // which is reported
		return
	case strings.TrimSpace(text) == "":
		r.wrong("template", "empty", fix)
		return
	}
	if len(text) > template.MaxSize {
		r.wrong("template", fmt.Sprintf("%d bytes long", len(text)), fmt.Sprintf("use at most %d bytes", template.MaxSize))
		return
	}
	if !r.speak(len(text)) {
		return
	}
	parsed, wrong := template.Parse(text)
	for _, e := range wrong {
		r.inTemplate(text, e.Line, e.Cause, "correct the template")
	}
	if parsed == nil || !r.take(len(parsed.References())) {
		return
	}
	o.Document = parsed
	for _, ref := range parsed.References() {
		if ref.Kind != template.Find {
			if !objectName.MatchString(ref.Name) {
				r.inTemplate(text, ref.Line, fmt.Sprintf("%s %s is not valid", ref.Kind, quote(ref.Name)),
					nameFix(ref.Name, objectNameFix, func(_ Type, name, _ string) string { return fmt.Sprintf("%s %q", ref.Kind, name) }))
			}
		} else if _, cause, fix := r.pattern(ref.Name); cause != "" {
			r.inTemplate(text, ref.Line, "find "+cause, fix)
		}
	}
}

// inTemplate adds the problem of a line of the template.
func (r *fieldReader) inTemplate(text string, line int, cause, fix string) {
	at := r.place("template")
	inner := &document{text: text, outer: at.doc, node: at.node, value: text}
	column := 1 + len(inner.line(line)) - len(strings.TrimLeft(inner.line(line), " "))
	r.problem(place{inner, &yaml.Node{Line: line, Column: column}}, r.where+": template", fmt.Sprintf("line %d: %s", line, cause), fix)
}
