package request

import (
	"regexp"
	"slices"
	"strings"
)

// What a template engine or a script of a pipeline should have replaced. The first are
// placeholders wherever they stand; the second where YAML is not what it should be; the others
// only in a value that is not valid.
const (
	clearPlaceholder = `\$?\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}|<%.*?%>|%\{[^{}\n]*\}|\$\{[^{}\n]*\}|\$\([^()\n]*\)|#\{[^{}\n]*\}#?|<no value>|%![a-z]\([^()\n]*\)`
	yamlPlaceholder  = `%\w+%|@\w+@|\[\[[^][{}\n]+\]\]|\{[^{}:,\n]+\}`
	maybePlaceholder = `\(\([^()\n]+\)\)|__\w+?__|<[^<>\n]+>|\[\[.*?\]\]|\{[^{}\n]+\}|\$\[[^][\n]*\]|\$\w+|%\w+%|@\w+@`
)

var (
	placeholder       = regexp.MustCompile(clearPlaceholder)
	inYAML            = regexp.MustCompile(clearPlaceholder + `|` + yamlPlaceholder)
	likelyPlaceholder = regexp.MustCompile(clearPlaceholder + `|` + maybePlaceholder)
)

// maxSearched bounds the bytes of one value or line that are searched for placeholders and URLs,
// which takes up to two microseconds for each.
const maxSearched = 256

// findPlaceholder returns the index of the first match of placeholder or inYAML in a text, or nil.
func findPlaceholder(kind *regexp.Regexp, text string) []int {
	return kind.FindStringIndex(text[:min(len(text), maxSearched)])
}

// Placeholder finds in a line of YAML what a template engine or a script of a pipeline should have
// replaced. It returns its index, as [regexp.Regexp.FindStringIndex] does, and what it is, such as
// "an unrendered Helm template"; nil if there is none.
func Placeholder(line string) (at []int, what string) {
	if at = findPlaceholder(inYAML, line); at == nil {
		return nil, ""
	}
	return at, placeholderKind(line[at[0]:at[1]])
}

// invalid says that a value is not valid, or not what else is said, or that it is a
// placeholder.
func invalid(value, otherwise string) string {
	found := likelyPlaceholder.FindString(value[:min(len(value), maxSearched)])
	switch {
	case found == "":
		return quote(value) + " " + otherwise
	case found != value:
		return quote(value) + " contains " + placeholderKind(found)
	}
	return quote(value) + " is " + placeholderKind(found)
}

const notValid = "is not valid"

const unrendered = "an unrendered Helm template"

// fixOf is the fix of a cause: what is allowed in a field does not help who applies a template.
func fixOf(cause, fix string) string {
	if strings.HasSuffix(cause, `" is `+unrendered) || strings.HasSuffix(cause, `" contains `+unrendered) {
		return "render it with Helm first (`helm template` or `helm install`)"
	}
	return fix
}

func placeholderKind(found string) string {
	switch {
	case strings.HasPrefix(found, "{{"):
		return unrendered
	case strings.HasPrefix(found, "<no") || strings.HasPrefix(found, "%!"):
		return "what a template writes for an unset value"
	}
	return "an unreplaced placeholder"
}

// objectURL is what the URL of an object in a vault, which Key Vault calls its ID, says. It may lack
// the scheme.
var objectURL = regexp.MustCompile(`(?i)^(?:https?://)?[-0-9a-z]+(?:\.[-0-9a-z]+)+(?::[0-9]+)?/(secrets|keys|certificates)/([-0-9a-z]{1,127})(?:/([0-9a-z]{1,64}))?/?(?:\?|$)`)

// urlTypes are the types of objects by their part of a URL.
var urlTypes = map[string]Type{"secrets": TypeSecret, "keys": TypeKey, "certificates": TypeCert}

// nameFix is the fix of a name of an object that is not valid: otherwise, unless it is a URL. Then it
// is the part of the URL to use, as show writes it.
func nameFix(name, otherwise string, show func(t Type, name, version string) string) string {
	const noURL = "use the object's name, not its URL"
	if len(name) > maxSearched {
		return otherwise
	}
	if m := objectURL.FindStringSubmatch(name); m != nil {
		return noURL + ": " + show(urlTypes[strings.ToLower(m[1])], m[2], m[3])
	}
	if scheme, _, is := strings.Cut(name, "://"); is && strings.HasPrefix(strings.ToLower(scheme), "http") {
		return noURL + "; " + otherwise
	}
	return otherwise
}

// Nearest returns the known name that may be meant by another, ignoring case, or "" if none
// is near. Names are near that start and end alike: wrong, missing and additional letters are
// mostly in one place.
func Nearest(name string, known ...string) string {
	name = strings.ToLower(name)
	alike := func(k string) int {
		k = strings.ToLower(k)
		start := 0
		for start < min(len(name), len(k)) && name[start] == k[start] {
			start++
		}
		end := 0
		for end < min(len(name), len(k))-start && name[len(name)-1-end] == k[len(k)-1-end] {
			end++
		}
		return start + end
	}
	if len(known) == 0 { // such as the names that a cluster has
		return ""
	}
	best := slices.MaxFunc(known, func(a, b string) int { return alike(a) - alike(b) })
	if 3*alike(best) < 2*min(len(name), len(best)) || len(name) == 0 {
		return ""
	}
	return best
}
