package request

// Placeholder finds in a line of YAML what a template engine or a script of a pipeline should have
// replaced. It returns its index, as [regexp.Regexp.FindStringIndex] does, and what it is, such as
// "an unrendered Helm template"; nil if there is none.
func Placeholder(line string) (at []int, what string) {
	if at = findPlaceholder(inYAML, line); at == nil {
		return nil, ""
	}
	return at, placeholderKind(line[at[0]:at[1]])
}

// Nearest returns the known name that may be meant by another, ignoring case, or "" if none is near.
func Nearest(name string, known ...string) string { return nearest(name, known...) }
