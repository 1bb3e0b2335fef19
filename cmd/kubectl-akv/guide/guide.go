// Package guide finds entries of the troubleshooting guide, and renders them for a terminal.
package guide

import (
	"regexp"
	"slices"
	"strings"

	"akv-csi-provider/deploy"
	"akv-csi-provider/provider/fault"
	"akv-csi-provider/provider/request"
)

// Entry is what the guide says about a reason, or about an event without one.
type Entry struct {
	Reason  string `json:"reason,omitempty"` // "" for an event of the driver or kubelet
	Meaning string `json:"meaning"`          // one line; the event's text if there is no reason
	Text    string `json:"text"`             // Markdown
}

// Reasons are all entries with a reason, in the order of the reference.
func Reasons() []Entry {
	entries := make([]Entry, 0, len(fault.Reasons))
	for _, r := range fault.Reasons {
		entries = append(entries, Entry{string(r.Reason), r.Meaning, section("### " + string(r.Reason))})
	}
	return entries
}

// section returns what stands below a heading, up to the next one of its level or above.
func section(heading string) string {
	_, text, _ := strings.Cut("\n"+deploy.Troubleshooting, "\n"+heading+"\n")
	level := strings.Count(strings.Fields(heading)[0], "#")
	var lines []string
	inCode := false
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "```") {
			inCode = !inCode
		}
		marks := len(line) - len(strings.TrimLeft(line, "#"))
		if !inCode && marks > 0 && marks <= level {
			break
		}
		lines = append(lines, line)
	}
	return strings.TrimSpace(strings.Join(lines, ""))
}

var bracketed = regexp.MustCompile(`\[([A-Za-z]+)\]`)

// Find returns the entries of a reason, in any case and with or without brackets, or of all
// reasons in a line of a log or an event. Without any, it finds what the guide says about an event
// of the driver or kubelet.
func Find(text string) []Entry {
	names := []string{strings.Trim(strings.TrimSpace(text), "[]")}
	for _, m := range bracketed.FindAllStringSubmatch(text, -1) {
		names = append(names, m[1])
	}
	if fields := strings.FieldsFunc(text, func(r rune) bool { return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z') }); len(names) == 1 {
		for _, word := range fields { // such as reason=VaultFirewall
			if slices.ContainsFunc(fault.Reasons, func(r reasonMeaning) bool { return string(r.Reason) == word }) && word != string(fault.Timeout) && word != string(fault.Internal) {
				names = append(names, word)
			}
		}
	}
	var found []Entry
	for _, entry := range Reasons() {
		if slices.ContainsFunc(names, func(name string) bool { return strings.EqualFold(name, entry.Reason) }) {
			found = append(found, entry)
		}
	}
	if len(found) == 0 {
		found = events(text)
	}
	return found
}

type reasonMeaning = struct {
	Reason  fault.Reason
	Meaning string
}

// Near returns the reason that may be meant by another word; "" if none is near.
func Near(word string) string {
	names := make([]string, len(fault.Reasons))
	for i, r := range fault.Reasons {
		names[i] = string(r.Reason)
	}
	return request.Nearest(strings.Trim(word, "[]"), names...)
}

// events finds the rows of the guide's table of events whose quoted words are all in the line.
func events(line string) (found []Entry) {
	for row := range strings.Lines(section("## Without a reason")) {
		cells := cells(row)
		if len(cells) != 2 || !strings.Contains(cells[0], "`") {
			continue
		}
		words := 0
		all := true
		for i, code := range strings.Split(cells[0], "`") {
			for _, part := range strings.Split(code, "…") {
				if part = strings.TrimSpace(part); i%2 == 1 && part != "" {
					words++
					all = all && strings.Contains(strings.ToLower(line), strings.ToLower(part))
				}
			}
		}
		if all && words > 0 {
			found = append(found, Entry{Meaning: cells[0], Text: cells[1]})
		}
	}
	return found
}

// cells splits a row of a Markdown table; nil if the line is none, or the line below the header.
func cells(line string) []string {
	line = strings.TrimSpace(line)
	if !strings.HasPrefix(line, "|") || strings.Trim(line, "|-: ") == "" {
		return nil
	}
	var row []string
	for _, cell := range strings.Split(strings.ReplaceAll(strings.Trim(line, "|"), `\|`, "\x00"), "|") {
		row = append(row, strings.TrimSpace(strings.ReplaceAll(cell, "\x00", "|")))
	}
	return row
}
