package request

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
)

// File is a file of a volume.
type File struct {
	Path  string
	Owner int // index of its object
}

// Conflict says that File has the path of Other, or lies below it.
type Conflict struct{ File, Other File }

// maxNested bounds the conflicts of files that lie below others: their number can be the
// square of the number of files.
const maxNested = 1024

// Conflicts finds the files that cannot exist beside each other. The driver writes a map by
// path, so of equal paths the last one silently wins: these are the duplicates. And it fails
// with a bare mkdir error where one path is a directory of another: these are the nested,
// the nearest of several first. A file that a later one replaces has no part in them.
//
// A pod may name thousands of files that are thousands of directories deep: the files are
// sorted, so that no directory is looked up.
func Conflicts(files []File) (duplicates, nested []Conflict) {
	last := make(map[string]int, len(files)) // index in files, by path
	for i, f := range files {
		if other, taken := last[f.Path]; taken {
			duplicates = append(duplicates, Conflict{f, files[other]})
		}
		last[f.Path] = i
	}
	// above has, for each file, the index of the nearest file that it lies below, or -1. The
	// files below a path follow it directly.
	above := make([]int, len(files))
	previous := -1
	for _, i := range slices.SortedFunc(maps.Values(last), func(a, b int) int { return comparePaths(files[a].Path, files[b].Path) }) {
		for previous >= 0 && !below(files[i].Path, files[previous].Path) {
			previous = above[previous]
		}
		above[i], previous = previous, i
	}
	for i, f := range files {
		if last[f.Path] != i {
			continue
		}
		for other := above[i]; other >= 0 && len(nested) < maxNested; other = above[other] {
			nested = append(nested, Conflict{f, files[other]})
		}
	}
	return duplicates, nested
}

// comparePaths orders paths by their parts: "a/b" stands before "a-b".
func comparePaths(a, b string) int {
	rank := func(c byte) int {
		if c == '/' {
			return -1
		}
		return int(c)
	}
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return rank(a[i]) - rank(b[i])
		}
	}
	return len(a) - len(b)
}

// below reports whether the path lies below the file of another. No file has an empty path.
func below(p, file string) bool {
	return file != "" && len(p) > len(file) && p[len(file)] == '/' && strings.HasPrefix(p, file)
}

// output is a file of the class.
type output struct {
	path  string
	alias string // the field that names it: `objects[2] "db": objectAlias`
	owner string // what it is a file of: `objects[2] "db"`
	at    place
	// The replaced provider has no such files: a loss of one is no mistake that works there.
	strict  bool
	history int // how many versions path is the newest of; 1 for none
}

// shown is the path for messages: of a folder the folder.
func (o output) shown() string {
	folder, _, _ := strings.Cut(o.path, folderMark)
	return folder
}

// checkPaths finds conflicts between the files of the objects, as far as the class shows:
// those of directories are problems, those of equal paths warnings if the replaced provider
// accepts them.
//
// How many versions a history will have is not known yet: its first version stands for all,
// and an object that names the path of another version is a duplicate of that.
func (r *objectsReader) checkPaths() {
	all := r.outputs
	files := make([]File, len(all))
	histories := make(map[string]int)
	for i, o := range all {
		files[i] = File{o.path, i}
		if o.history > 1 {
			histories[parent(o.path)] = i
		}
	}
	duplicates, nested := Conflicts(files)
	replaced := make(map[int]bool, len(duplicates))
	for _, c := range duplicates {
		replaced[c.Other.Owner] = true
	}
	for i, o := range all {
		if of, ok := histories[parent(o.path)]; ok && o.history == 1 && !replaced[i] && isIndex(path.Base(o.path), all[of].history) {
			duplicates = append(duplicates, Conflict{files[i], files[of]})
		}
	}
	for _, c := range duplicates { // however many: each is the loss of a file
		file, other := all[c.File.Owner], all[c.Other.Owner]
		cause := fmt.Sprintf("%s is also the path of %s", quote(file.path), other.owner)
		if file.strict || other.strict {
			r.problem(file.at, file.alias, cause, "use a different path for each file")
			continue
		}
		line, column := file.at.position()
		r.warnings = append(r.warnings, Warning{Kind: WarnDuplicatePath, Field: file.alias, Line: line, Column: column,
			Cause: cause + "; the last one wins"})
	}
	for _, c := range nested {
		file, other := all[c.File.Owner], all[c.Other.Owner]
		r.problem(file.at, file.alias, fmt.Sprintf("%s is below the file of %s", quote(file.shown()), other.owner), NestedFix)
	}
}

// folderMark is the name of a file of a folder, where no file is known yet: no path contains it.
const folderMark = "/\x00"

// NestedFix is what to do about a file that lies below another.
const NestedFix = "change one of them: a path cannot be both a file and a directory"

// firstPath is the path of the object's only or newest version.
func (o Object) firstPath() string {
	if o.History > 1 {
		return o.Nth(0, "").Path
	}
	return o.Path
}

// isIndex reports whether the text is an index of the second or a later of n versions.
func isIndex(text string, n int) bool {
	i, err := strconv.Atoi(text)
	return err == nil && i > 0 && i < n && strconv.Itoa(i) == text
}

// parent is the directory part of a clean relative path; "" at the top.
func parent(p string) string {
	i := strings.LastIndexByte(p, '/')
	return p[:max(i, 0)]
}
