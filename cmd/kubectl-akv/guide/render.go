package guide

import (
	"regexp"
	"strings"

	"github.com/mitchellh/go-wordwrap"

	"akv-csi-provider/cmd/kubectl-akv/cli"
)

// maxWidth is that of a line of prose which is still easy to read.
const maxWidth = 100

// Render writes Markdown as the guide has it for a terminal of some columns: prose wrapped, code
// indented, tables as lists.
func Render(markdown string, width int, style cli.Style) string {
	r := renderer{width: max(20, min(width, maxWidth)), style: style}
	for line := range strings.Lines(markdown) {
		r.line(strings.TrimRight(line, "\r\n"))
	}
	r.end()
	return strings.TrimSpace(r.out.String()) + "\n"
}

type renderer struct {
	out     strings.Builder
	width   int
	style   cli.Style
	prose   []string // lines of the paragraph or of the item of a list
	inCode  bool
	inTable bool // behind its header
}

func (r *renderer) line(line string) {
	content := strings.TrimSpace(line)
	row := cells(line)
	switch {
	case strings.HasPrefix(content, "```"):
		r.end()
		if r.inCode = !r.inCode; !r.inCode {
			r.out.WriteByte('\n')
		}
	case r.inCode:
		r.code(line)
	case content == "":
		r.end()
		if r.inTable {
			r.out.WriteByte('\n')
		}
		r.inTable = false
	case strings.HasPrefix(content, "#"):
		r.end()
		r.out.WriteString(r.style.Bold(strings.TrimLeft(content, "# ")) + "\n\n")
	case row != nil && r.inTable:
		r.row(row)
	case row != nil: // the header
		r.end()
		r.inTable = true
	case r.inTable: // the line below the header
	case strings.HasPrefix(content, "- ") || strings.HasPrefix(content, "* "):
		if len(r.prose) > 0 {
			r.paragraph("\n")
		}
		r.prose = append(r.prose, content)
	default:
		r.prose = append(r.prose, content)
	}
}

// needs are comments of the guide's commands for the tests of the project, and for the reader.
var needs = regexp.MustCompile(`^# needs `)

func (r *renderer) code(line string) {
	if needs.MatchString(line) {
		r.out.WriteString("    " + r.style.Faint(line) + "\n")
		return
	}
	r.out.WriteString("    " + r.style.Cyan(line) + "\n")
}

// row is an item of a list: the first cell, and below it what it stands for.
func (r *renderer) row(row []string) {
	r.out.WriteString(r.inline(indent(wordwrap.WrapString(plain(row[0]), uint(r.width-2)), "- ", "  ")) + "\n")
	for _, cell := range row[1:] {
		r.out.WriteString(r.inline(indent(wordwrap.WrapString(plain(cell), uint(r.width-4)), "    ", "    ")) + "\n")
	}
}

func (r *renderer) end() { r.paragraph("\n\n") }

func (r *renderer) paragraph(after string) {
	if len(r.prose) == 0 {
		return
	}
	text := plain(strings.Join(r.prose, " "))
	rest := ""
	if strings.HasPrefix(text, "- ") {
		rest = "  "
	}
	r.out.WriteString(r.inline(indent(wordwrap.WrapString(text, uint(r.width-len(rest))), "", rest)) + after)
	r.prose = nil
}

func indent(text, first, rest string) string {
	return first + strings.ReplaceAll(text, "\n", "\n"+rest)
}

var (
	link     = regexp.MustCompile(`\[([^\]]+)\]\(([^)]+)\)`)
	emphasis = regexp.MustCompile(`\*\*?([^*]+)\*\*?`)
	code     = regexp.MustCompile("`[^`]+`")
)

// plain is the text of Markdown in a line. Links to the web keep their address; those to other
// documents of the project would lead nowhere.
func plain(text string) string {
	text = strings.TrimPrefix(text, "* ")
	text = link.ReplaceAllStringFunc(text, func(found string) string {
		m := link.FindStringSubmatch(found)
		if strings.HasPrefix(m[2], "https://") {
			return m[1] + " (" + m[2] + ")"
		}
		return m[1]
	})
	parts := strings.Split(text, "`")
	for i := 0; i < len(parts); i += 2 {
		parts[i] = emphasis.ReplaceAllString(parts[i], "$1")
	}
	return strings.Join(parts, "`")
}

// inline marks code, which may be wrapped; without a terminal its backticks stay.
func (r *renderer) inline(text string) string {
	if r.style == (cli.Style{}) {
		return text
	}
	return code.ReplaceAllStringFunc(text, func(found string) string {
		return r.style.Cyan(strings.Trim(found, "`"))
	})
}
