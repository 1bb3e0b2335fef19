package preview

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"akv-csi-provider/cmd/kubectl-akv/cli"
)

// print prints the result. An error of the provider is what the command has found.
func (c *command) print(r *Result) error {
	if *c.output != "table" {
		if err := cli.Encode(c.env.Out, *c.output, r); err != nil {
			return err
		}
	} else if err := c.printTable(r); err != nil {
		return err
	}
	if r.Error != "" {
		return cli.ErrProblems
	}
	return nil
}

func (c *command) printTable(r *Result) error {
	out, style := c.env.Out, c.env.Style
	if c.show != "" { // of which the output is the content, and nothing else
		out = c.env.ErrOut
	}
	if r.Error != "" {
		fmt.Fprintln(out, style.Red(cli.Printable(r.Error)))
	} else if err := c.printFiles(r.Files); err != nil {
		return err
	}
	line := func(kind string, mark func(string) string, text string) {
		fmt.Fprintf(c.env.ErrOut, "%s: %s\n", mark(kind), cli.Printable(text))
	}
	if r.Hint != "" {
		line("hint", style.Cyan, r.Hint)
	}
	if r.SignedInAs != "" {
		line("signed in as", style.Faint, r.SignedInAs)
	}
	for _, text := range r.LeftOut {
		line("left out", style.Faint, text+" is optional, and the vault does not have it")
	}
	for _, text := range r.Warnings {
		line("warning", style.Yellow, text)
	}
	for _, text := range r.Notes {
		line("note", style.Yellow, text)
	}
	return nil
}

func (c *command) printFiles(files []File) error {
	if len(files) == 0 {
		_, err := fmt.Fprintln(c.env.Out, "The volume would be empty.")
		return err
	}
	table := c.env.NewTable("PATH", "MODE", "SIZE", "TYPE", "OBJECT", "VERSION", "EXPIRES")
	for _, f := range files {
		var types, names, versions []string
		for _, o := range f.Objects {
			types, names, versions = append(types, o.Type), append(names, o.Name), append(versions, o.Version)
		}
		table.Row(cli.Cell{Text: f.Path}, cli.Cell{Text: f.Mode}, cli.Cell{Text: strconv.Itoa(f.Size)},
			cli.Cell{Text: few(types, "types")}, cli.Cell{Text: few(names, "objects")}, cli.Cell{Text: few(versions, "versions")},
			c.expiry(f.Expires, time.Now()))
	}
	return table.Print()
}

// few joins up to three texts, or says how many there are.
func few(texts []string, what string) string {
	texts = unique(texts)
	if len(texts) > 3 {
		return fmt.Sprintf("%d %s", len(texts), what)
	}
	return cmp.Or(strings.Join(texts, ","), "-")
}

// soon is when an expiry is marked.
const soon = 30 * 24 * time.Hour

func (c *command) expiry(at *time.Time, now time.Time) cli.Cell {
	switch {
	case at == nil:
		return cli.Cell{Text: "-"}
	case at.Before(now):
		return cli.Cell{Text: at.UTC().Format(time.DateOnly) + " (expired)", Mark: c.env.Style.Red}
	case at.Sub(now) < soon:
		return cli.Cell{Text: at.UTC().Format(time.DateOnly), Mark: c.env.Style.Yellow}
	}
	return cli.Cell{Text: at.UTC().Format(time.DateOnly)}
}

// showFile prints the content of one file.
func (c *command) showFile(m *mount, r *Result) error {
	var paths []string
	for _, f := range m.volume.Files {
		if f.Path != c.show {
			paths = append(paths, f.Path)
			continue
		}
		if c.env.Terminal && !c.force && !isText(f.Content) {
			return errors.New(cli.Printable(c.show) + " is binary, or has control characters that a terminal would obey; redirect it and add --force")
		}
		_, err := c.env.Out.Write(f.Content)
		return err
	}
	slices.Sort(paths)
	return fmt.Errorf("there is no file %q in the volume of %s; its files are %q", c.show, r.Class, paths)
}

// isText reports whether a terminal shows the text as it is.
func isText(content []byte) bool {
	if !utf8.Valid(content) {
		return false
	}
	for _, r := range string(content) {
		if r != '\n' && r != '\t' && r != '\r' && !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}
