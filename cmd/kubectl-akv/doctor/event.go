package doctor

import (
	"fmt"
	"regexp"
	"strings"

	"akv-csi-provider/cmd/kubectl-akv/guide"
)

// readFailure reads the last event before the checks, as several need it.
func (e *examination) readFailure() {
	failures, err := e.reader.Failures(e.ctx, e.pod, e.volume.Name)
	if e.failureErr = err; len(failures) > 0 {
		e.failure = &failures[0]
	}
}

// event is the last time that kubelet could not mount the volume.
func (e *examination) event() *Check {
	const name = "event"
	if e.failure == nil {
		if e.failureErr != nil {
			return unread(name, "events", e.failureErr)
		}
		return fine(name, "kubelet has not reported that the volume could not be mounted; events are deleted after an hour")
	}
	f := *e.failure
	when := e.ago(f.Time)
	if f.Count > 1 {
		when += fmt.Sprintf(", %d times", f.Count)
	}
	if e.started() {
		return fine(name, "the volume was mounted after that; the last failure was "+when)
	}
	check := &Check{Name: name, State: Problem, Failure: &f, Reasons: f.Reasons}
	if f.Provider == "" {
		check.Text = fmt.Sprintf("kubelet or the driver, %s: %s", when, f.Before)
		check.Fix = "see kubectl akv explain, and the logs of the driver on that node"
		if entries := guide.Find(f.Before); len(entries) > 0 {
			check.Fix = plain(entries[0].Text)
		}
		return check
	}
	check.Text = fmt.Sprintf("the provider, %s: %s", when, f.Provider)
	if before, fix, ok := strings.Cut(f.Provider, "; "); ok && len(f.Reasons) == 1 && !strings.Contains(f.Provider, " | ") {
		check.Text = fmt.Sprintf("the provider, %s: %s [%s]", when, before, f.Reasons[0])
		check.Fix = strings.TrimSpace(strings.TrimSuffix(fix, "["+f.Reasons[0]+"]"))
	}
	return check
}

// cause is the first part of the provider's words.
func cause(text string) string {
	before, _, _ := strings.Cut(text, "; ")
	return before
}

var (
	mdLink = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
	spaces = regexp.MustCompile(`\s+`)
)

// plain is Markdown of one paragraph as text.
func plain(markdown string) string {
	text := mdLink.ReplaceAllString(markdown, "$1")
	return spaces.ReplaceAllString(strings.NewReplacer("`", "", "**", "").Replace(text), " ")
}
