package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// quickStart is what deploy/QUICKSTART.md has a reader run, as it is written there.
type quickStart struct {
	steps   []section
	cleanUp section
}

// section is a heading of the document with its commands.
type section struct {
	title, script string
	exports       []string
}

// stepLimit ends the loops of the quick start, which a reader ends with Ctrl-C.
const stepLimit = 30 * time.Minute

var (
	block   = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")
	exports = regexp.MustCompile(`(?:^export| ) *([A-Z][A-Z_]*)=`)
)

// readQuickStart reads the document. Two things differ from what a reader does: the names are the
// given ones, where the document asks to choose some; and the user is signed in already.
func readQuickStart(root string, names map[string]string) (quickStart, error) {
	text, err := os.ReadFile(filepath.Join(root, "deploy", "QUICKSTART.md"))
	if err != nil {
		return quickStart{}, err
	}
	var q quickStart
	for part := range strings.SplitSeq(string(text), "\n## ") {
		title, _, _ := strings.Cut(part, "\n")
		s := section{title: title}
		for _, m := range block.FindAllStringSubmatch(part, -1) {
			s.script += m[1]
		}
		for line := range strings.Lines(s.script) {
			if strings.HasPrefix(line, "export ") {
				for _, m := range exports.FindAllStringSubmatch(line, -1) {
					s.exports = append(s.exports, m[1])
				}
			}
		}
		switch {
		case title == "What you need":
			for _, name := range s.exports {
				if name != "REPOSITORY" && names[name] == "" {
					return q, fmt.Errorf("deploy/QUICKSTART.md asks for %s, which this program does not set", name)
				}
			}
		case strings.HasPrefix(title, "Step "):
			q.steps = append(q.steps, s)
		case title == "Clean up":
			q.cleanUp = s
		}
	}
	if len(q.steps) != 7 || q.cleanUp.script == "" {
		return q, errors.New("deploy/QUICKSTART.md does not have seven steps and a section Clean up")
	}
	const login = "az login\n"
	if strings.Count(q.steps[0].script, login) != 1 {
		return q, errors.New("step 1 of deploy/QUICKSTART.md has no az login")
	}
	q.steps[0].script = strings.Replace(q.steps[0].script, login, "", 1)
	return q, nil
}

// section runs the commands in a bash that ends with the first one that fails, and remembers the
// variables that they export.
func (t *trial) section(ctx context.Context, s section) error {
	ctx, cancel := context.WithTimeoutCause(ctx, stepLimit, fmt.Errorf("not done after %v", stepLimit))
	defer cancel()
	script := s.script
	if t.user.User.Type == "servicePrincipal" { // az ad signed-in-user knows users only
		script = strings.ReplaceAll(script, "az ad signed-in-user show", "az ad sp show --id "+t.user.User.Name)
	}
	const mark = "-- variables --"
	script = "set -euo pipefail\n" + script + "\necho; echo '" + mark + "'\n"
	for _, name := range s.exports {
		script += fmt.Sprintf("printf '%%s\\n' \"$%s\"\n", name)
	}
	sh := t.shell
	for _, name := range slices.Sorted(maps.Keys(t.values)) {
		sh.env = append(slices.Clip(sh.env), name+"="+t.values[name])
	}
	out, err := sh.run(ctx, "", "bash", "-c", script)
	if err != nil {
		return err
	}
	_, found, _ := strings.Cut(out+"\n", mark+"\n")
	for _, name := range s.exports {
		var value string
		if value, found, _ = strings.Cut(found, "\n"); value == "" {
			return fmt.Errorf("$%s is empty", name)
		}
		t.values[name] = value
	}
	return nil
}
