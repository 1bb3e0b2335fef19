package doctor

import (
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"akv-csi-provider/cmd/kubectl-akv/cluster"
)

// State is the outcome of a check.
type State string

// The outcomes of a check.
const (
	OK         State = "ok"
	Problem    State = "problem"
	NotChecked State = "not checked" // no right, or nothing that this command can see
	NotReached State = "not reached" // an earlier problem is in the way
)

// Check is one line of a report.
type Check struct {
	Name  string `json:"check"`
	State State  `json:"state"`
	// Text is what was found: for a problem, the cause.
	Text string `json:"text"`
	// Fix says what to do about a problem, and Commands how; their upper-case words are for the
	// reader to replace.
	Fix      string   `json:"fix,omitempty"`
	Commands []string `json:"commands,omitempty"`
	Reasons  []string `json:"reasons,omitempty"` // of the provider; see kubectl akv explain
	Lines    []string `json:"lines,omitempty"`   // of the provider's log

	Failure *cluster.Failure `json:"failure,omitempty"` // of the last event
	Objects []cluster.Object `json:"objects,omitempty"` // that the volume has
}

// Report is what doctor says of a pod.
type Report struct {
	Namespace string   `json:"namespace"`
	Pod       string   `json:"pod"`
	Node      string   `json:"node,omitempty"`
	Problem   *Check   `json:"problem,omitempty"` // the first one
	Checks    []*Check `json:"checks"`

	state string // of the pod, for the headline
}

// add appends a check. The first problem is the one to fix first: checks are in the order in which
// a mount needs what they are about.
func (r *Report) add(c *Check) *Check {
	r.Checks = append(r.Checks, c)
	if c.State == Problem && r.Problem == nil {
		r.Problem = c
	}
	return c
}

func fine(name, text string) *Check { return &Check{Name: name, State: OK, Text: text} }

func problem(name, text, fix string, commands ...string) *Check {
	return &Check{Name: name, State: Problem, Text: text, Fix: fix, Commands: commands}
}

func notReached(name, text string) *Check { return &Check{Name: name, State: NotReached, Text: text} }

func notChecked(name, text string) *Check { return &Check{Name: name, State: NotChecked, Text: text} }

// unread is a check that could not read what it is about.
func unread(name, what string, err error) *Check {
	text := "reading " + what + " failed: " + err.Error()
	if apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) {
		text = "no right to read " + what
	}
	return notChecked(name, text)
}
