package doctor

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"akv-csi-provider/cmd/kubectl-akv/cli"
	"akv-csi-provider/cmd/kubectl-akv/cluster"
)

// Bounds of what is read of the provider's log, and of what is shown.
const (
	tailLines  = 5000
	tailBytes  = 4 << 20
	shownLines = 5
)

// log is what the provider last logged of the volume's pod.
func (e *examination) log() *Check {
	const name = "log"
	if e.provider == nil {
		return notReached(name, "no pod of the provider was found on the node")
	}
	text, err := e.providerLog()
	if err != nil {
		return unread(name, "the log of pod "+e.provider.Namespace+"/"+e.provider.Name, err)
	}
	lines := e.linesOf(text)
	if len(lines) == 0 {
		return fine(name, "the provider's log has no line of this pod")
	}
	last := lines[len(lines)-1]
	check := fine(name, fmt.Sprintf("the last line, %s: %s", e.ago(last.time), last.message))
	for _, l := range lines[max(0, len(lines)-shownLines):] {
		check.Lines = append(check.Lines, cli.Printable(l.text))
	}
	if last.message != "mount failed" {
		return check
	}
	check.State, check.Reasons = Problem, []string{last.reason}
	before, fix, _ := strings.Cut(last.err, "; ")
	check.Fix = cmp.Or(strings.TrimSpace(strings.TrimSuffix(fix, "["+last.reason+"]")), "see kubectl akv explain "+last.reason)
	check.Text = fmt.Sprintf("%s failed %s: %s [%s]", map[bool]string{true: "the last rotation", false: "the last mount"}[e.started()], e.ago(last.time),
		strings.TrimSpace(strings.TrimSuffix(before, "["+last.reason+"]")), last.reason)
	if e.started() {
		check.Text += "; the pod keeps the files that it has"
	}
	return check
}

func (e *examination) providerLog() ([]byte, error) {
	ctx, cancel := context.WithTimeout(e.ctx, 30*time.Second)
	defer cancel()
	lines, limit := int64(tailLines), int64(tailBytes)
	return e.reader.Kube.CoreV1().Pods(e.provider.Namespace).GetLogs(e.provider.Name, &corev1.PodLogOptions{
		Container: cluster.ProviderContainer(*e.provider).Name, TailLines: &lines, LimitBytes: &limit}).DoRaw(ctx)
}

// logLine is a line about a mount.
type logLine struct {
	text, message, reason, err string
	time                       time.Time
}

// linesOf returns the lines of the pod's mounts of this class. A deleted pod of the same name
// is ignored.
func (e *examination) linesOf(text []byte) []logLine {
	var found []logLine
	for line := range bytes.Lines(text) {
		line := strings.TrimSpace(string(line))
		fields := fieldsOf(line)
		if fields["pod"] != e.pod.Name || fields["namespace"] != e.pod.Namespace || fields["msg"] != "mounted" && fields["msg"] != "mount failed" {
			continue
		}
		if c := fields["class"]; c != "" && c != e.volume.Class {
			continue
		}
		t, err := time.Parse(time.RFC3339Nano, fields["time"])
		if err != nil || t.Before(e.pod.CreationTimestamp.Time) {
			continue
		}
		found = append(found, logLine{text: line, message: fields["msg"], reason: fields["reason"], err: fields["error"], time: t})
	}
	return found
}

// fieldsOf reads a line of the provider's log, text or JSON; what is neither has no fields.
func fieldsOf(line string) map[string]string {
	fields := make(map[string]string)
	if strings.HasPrefix(line, "{") {
		var values map[string]any
		if json.Unmarshal([]byte(line), &values) == nil {
			for name, value := range values {
				fields[name] = fmt.Sprint(value)
			}
		}
		return fields
	}
	for rest := line; rest != ""; {
		name, after, ok := strings.Cut(strings.TrimLeft(rest, " "), "=")
		if !ok || strings.Contains(name, " ") {
			return fields
		}
		value, next, _ := strings.Cut(after, " ")
		if quoted, err := strconv.QuotedPrefix(after); err == nil {
			next = strings.TrimPrefix(after, quoted)
			value, _ = strconv.Unquote(quoted)
		}
		fields[name], rest = value, next
	}
	return fields
}
