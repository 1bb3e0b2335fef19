package request

import (
	"fmt"
	"hash/maphash"
	"path"
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
// Its cost is linear in the total length of the paths. A pod may name thousands of files
// that are thousands of directories deep.
func Conflicts(files []File) (duplicates, nested []Conflict) {
	last := make(map[string]int, len(files)) // index in files, by path
	for i, f := range files {
		if other, taken := last[f.Path]; taken {
			duplicates = append(duplicates, Conflict{f, files[other]})
		}
		last[f.Path] = i
	}
	dirs := newDirectories(files, last)
	for i, f := range files {
		if last[f.Path] != i {
			continue
		}
		for other := dirs.nearest(parent(f.Path)); other >= 0 && len(nested) < maxNested; other = dirs.nearest(parent(files[other].Path)) {
			nested = append(nested, Conflict{f, files[other]})
		}
	}
	return duplicates, nested
}

// directories finds the files whose paths are directories of other files.
type directories struct {
	files  []File
	seed   maphash.Seed
	byHash map[uint64]int // index in files, by the hash of the path
	known  map[string]int // what nearest returned, by directory
}

func newDirectories(files []File, last map[string]int) *directories {
	d := &directories{files: files, seed: maphash.MakeSeed(), byHash: make(map[uint64]int, len(last)), known: make(map[string]int)}
	for p, i := range last {
		d.byHash[maphash.String(d.seed, p)] = i
	}
	return d
}

// nearest returns the index of the file whose path is the directory, or else the nearest
// directory above; -1 if there is none. It hashes the directory once, piece by piece, since
// looking up each part in a map by text would take the square of its length.
func (d *directories) nearest(dir string) int {
	if i, ok := d.known[dir]; ok {
		return i
	}
	var h maphash.Hash
	h.SetSeed(d.seed)
	nearest := -1
	for end := 0; end < len(dir); {
		start := end
		if next := strings.IndexByte(dir[start+1:], '/'); next >= 0 {
			end = start + 1 + next
		} else {
			end = len(dir)
		}
		_, _ = h.WriteString(dir[start:end])
		if i, ok := d.byHash[h.Sum64()]; ok && len(d.files[i].Path) == end {
			nearest = i
		}
	}
	if nearest >= 0 && !strings.HasPrefix(dir, d.files[nearest].Path) {
		nearest = -1 // two paths with one hash
	}
	d.known[dir] = nearest
	return nearest
}

// checkPaths finds conflicts between the files of the objects, as far as the class shows. It
// adds those of directories to the problems, and returns those of equal paths.
//
// How many versions a history will have is not known yet: its first version stands for all,
// and an object that names the path of another version is a duplicate of that.
func checkPaths(objects []Object, p *problems) []Warning {
	files := make([]File, len(objects))
	histories := make(map[string]int)
	for i, o := range objects {
		files[i] = File{o.firstPath(), i}
		if o.History > 1 {
			histories[o.Path] = i
		}
	}
	duplicates, nested := Conflicts(files)
	replaced := make(map[int]bool, len(duplicates))
	for _, c := range duplicates {
		replaced[c.Other.Owner] = true
	}
	for i, o := range objects {
		if of, ok := histories[parent(o.Path)]; ok && o.History == 1 && !replaced[i] && isIndex(path.Base(o.Path), objects[of].History) {
			duplicates = append(duplicates, Conflict{files[i], files[of]})
		}
	}
	name := func(f File) string { return fmt.Sprintf("objects[%d] %s", f.Owner, quote(objects[f.Owner].Name)) }
	var warnings []Warning
	for _, c := range duplicates {
		warnings = append(warnings, Warning{Kind: WarnDuplicatePath, Field: name(c.File) + ": objectAlias",
			Cause: fmt.Sprintf("%s is also the path of %s; the last one is kept", quote(c.File.Path), name(c.Other))})
	}
	for _, c := range nested {
		p.add(name(c.File)+": objectAlias", fmt.Sprintf("%s lies below the file of %s", quote(c.File.Path), name(c.Other)), NestedFix)
	}
	return warnings
}

// NestedFix is what to do about a file that lies below another.
const NestedFix = "a path cannot be a file and a directory"

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
