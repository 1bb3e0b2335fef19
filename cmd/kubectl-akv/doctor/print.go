package doctor

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/mitchellh/go-wordwrap"

	"akv-csi-provider/cmd/kubectl-akv/cli"
)

// errorField is in a line of the provider's log what the check has as its text.
var errorField = regexp.MustCompile(` error="(?:[^"\\]|\\.)*"`)

// show prints a report: a line for each check, then the first problem and what to do.
func show(env *cli.Env, r *Report) error {
	var out strings.Builder
	headline := fmt.Sprintf("Pod %s/%s: %s", r.Namespace, r.Pod, r.state)
	fmt.Fprintf(&out, "%s\n\n", env.Style.Bold(cli.Printable(headline)))
	names := 0
	for _, c := range r.Checks {
		names = max(names, len(c.Name))
	}
	for _, c := range r.Checks {
		indent := len(NotChecked) + 2 + names + 2
		text := fold(env, cli.Printable(c.Text), indent)
		fmt.Fprintf(&out, "%s  %-*s  %s\n", mark(env, c.State, fmt.Sprintf("%-*s", len(NotChecked), c.State)), names, c.Name, text)
		if n := len(c.Lines); n > 0 {
			pad := strings.Repeat(" ", indent)
			fmt.Fprintf(&out, "%s%s\n", pad, env.Style.Faint(fold(env, errorField.ReplaceAllString(c.Lines[n-1], ""), indent)))
		}
	}
	out.WriteByte('\n')
	verdict(env, &out, r)
	_, err := fmt.Fprint(env.Out, out.String())
	return err
}

func verdict(env *cli.Env, out *strings.Builder, r *Report) {
	p := r.Problem
	if p == nil {
		text := "No problem found."
		if n := r.count(NotChecked); n > 0 {
			text += fmt.Sprintf(" Not checked: %d of %d.", n, len(r.Checks))
		}
		fmt.Fprintln(out, env.Style.Green(text))
		return
	}
	fmt.Fprintf(out, "%s %s\n", env.Style.Red("Problem:"), fold(env, cli.Printable(p.Text), len("Problem: ")))
	if p.Fix != "" {
		fmt.Fprintf(out, "%s %s\n", env.Style.Bold("What to do:"), fold(env, cli.Printable(p.Fix), len("What to do: ")))
	}
	for _, c := range p.Commands { // to copy, so they are not folded
		fmt.Fprintf(out, "  %s\n", env.Style.Cyan(cli.Printable(c)))
	}
	for _, reason := range p.Reasons {
		fmt.Fprintf(out, "More: kubectl akv explain %s\n", cli.Printable(reason))
	}
}

func (r *Report) count(s State) (n int) {
	for _, c := range r.Checks {
		if c.State == s {
			n++
		}
	}
	return n
}

func mark(env *cli.Env, s State, text string) string {
	switch s {
	case OK:
		return env.Style.Green(text)
	case Problem:
		return env.Style.Red(text)
	case NotChecked:
		return env.Style.Yellow(text)
	}
	return env.Style.Faint(text)
}

// fold wraps text for a terminal; further lines are indented.
func fold(env *cli.Env, text string, indent int) string {
	if width := env.Width - indent; env.Terminal && width >= 30 {
		text = strings.ReplaceAll(wordwrap.WrapString(text, uint(width)), "\n", "\n"+strings.Repeat(" ", indent))
	}
	return text
}

// showAll prints a line for each pod.
func showAll(env *cli.Env, reports []*Report, checked int) error {
	if len(reports) == 0 {
		_, err := fmt.Fprintf(env.Out, "No pod waits for a volume. Pods with volumes of the driver: %d.\n", checked)
		return err
	}
	table := env.NewTable("NAMESPACE", "POD", "CHECK", "REASON", "PROBLEM")
	for _, r := range reports {
		if r.Problem == nil {
			table.Texts(r.Namespace, r.Pod, "", "", "none found")
			continue
		}
		table.Row(cli.Cell{Text: r.Namespace}, cli.Cell{Text: r.Pod}, cli.Cell{Text: r.Problem.Name, Mark: env.Style.Red},
			cli.Cell{Text: strings.Join(r.Problem.Reasons, ",")}, cli.Cell{Text: r.Problem.Text})
	}
	return table.Print()
}
