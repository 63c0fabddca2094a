package analyzer

import (
	"slices"
	"strings"
)

// maxOverwritten is how many paths an Overwrites holds.
const maxOverwritten = 20

// overwritten is a file of the layers from on that layer by takes away.
type overwritten struct {
	path     string
	from, by int
}

// overwrites returns what layers take away from those below them, for each
// number of layers that a base could have.
func overwrites(layers []*Layer) []Overwrites {
	paths := 0
	for _, l := range layers {
		paths += len(l.Paths)
	}
	t := taking{files: make(map[string]int, paths), dirs: map[string]bool{}, last: len(layers) - 1}
	for i, l := range layers {
		t.add(layers[:i], l, i)
	}
	slices.SortFunc(t.taken, func(a, b overwritten) int { return strings.Compare(a.path, b.path) })
	byBase := make([]Overwrites, len(layers)+1)
	for _, o := range t.taken {
		for n := o.from + 1; n <= o.by; n++ { // a base of n layers has the file, and layer by is above it
			b := &byBase[n]
			b.Layers = n
			b.Count++
			if len(b.Paths) < maxOverwritten {
				b.Paths = append(b.Paths, o.path)
			}
		}
	}
	return slices.DeleteFunc(byBase, func(o Overwrites) bool { return o.Count == 0 })
}

// taking follows the file system from the lowest layer up.
type taking struct {
	files map[string]int  // by path the layer that has it
	dirs  map[string]bool // without the slash at the end
	last  int             // the topmost layer, whose own paths nobody takes
	taken []overwritten
}

func (t *taking) add(below []*Layer, l *Layer, i int) {
	for _, dir := range l.Opaque {
		t.takeBelow(below, dir, i)
	}
	for _, p := range l.Whiteouts {
		t.take(p, i)
		t.takeBelow(below, p, i)
	}
	for _, p := range l.Paths {
		dir, isDir := strings.CutSuffix(p, "/")
		if i > 0 {
			t.take(dir, i)
		}
		switch {
		case isDir:
			t.dirs[dir] = true
			continue
		case t.dirs[p]:
			t.takeBelow(below, p, i)
			delete(t.dirs, p)
		}
		if i < t.last {
			t.files[p] = i
		}
	}
}

// take notes that the file p is gone, if there is one.
func (t *taking) take(p string, by int) {
	if from, ok := t.files[p]; ok {
		delete(t.files, p)
		t.taken = append(t.taken, overwritten{p, from, by})
	}
}

// takeBelow takes all that the layers below have in the directory.
func (t *taking) takeBelow(below []*Layer, dir string, by int) {
	prefix := dir + "/"
	if dir == "" {
		prefix = ""
	}
	for _, l := range below {
		at, _ := slices.BinarySearch(l.Paths, prefix)
		for ; at < len(l.Paths) && strings.HasPrefix(l.Paths[at], prefix); at++ {
			if dir, ok := strings.CutSuffix(l.Paths[at], "/"); ok {
				delete(t.dirs, dir)
			} else {
				t.take(l.Paths[at], by)
			}
		}
	}
}
