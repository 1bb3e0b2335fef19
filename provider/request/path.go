package request

import (
	"path"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// Limits of Linux file systems (NAME_MAX, PATH_MAX).
const (
	maxPathPart = 255
	maxPath     = 4096
)

// PathProblem says why the driver or the file system would reject the path, or "" if
// neither would. The rules are those of the driver's writer (v1.6.0, pkg/util/fileutil:
// atomic_writer.go, writer.go) and the limits of the file system. On Windows a backslash is
// a separator too, and a colon names a drive or a stream.
func PathProblem(p string) string {
	switch {
	case p == "" || p == ".":
		return "does not name a file"
	case path.IsAbs(p):
		return "is absolute"
	case strings.ContainsAny(p, `\:`) && filepath.Separator == '\\':
		return "must not contain a backslash or a colon"
	case strings.HasPrefix(p, ".."):
		return `must not start with ".."`
	case strings.ContainsRune(p, 0):
		return "must not contain a NUL byte"
	case !utf8.ValidString(p): // !!binary can express it, gRPC cannot
		return "is not UTF-8 text"
	case len(p) > maxPath:
		return "is longer than 4096 bytes"
	}
	for part := range strings.SplitSeq(p, "/") {
		if part == ".." {
			return `must not contain ".."`
		}
		if len(part) > maxPathPart {
			return "has a segment longer than 255 bytes"
		}
	}
	if path.Clean(p) != p {
		return "is not normalized (" + quote(path.Clean(p)) + " is)"
	}
	return ""
}
