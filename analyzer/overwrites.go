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
	t := taking{alive: map[string]int{}}
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
	alive map[string]int // path to the layer that has it; directories end in a slash
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
		if dir, ok := strings.CutSuffix(p, "/"); ok {
			t.take(dir, i)
		} else {
			t.take(p, i)
			if _, ok := t.alive[p+"/"]; ok {
				t.takeBelow(below, p, i)
			}
		}
		t.alive[p] = i
	}
}

// take notes that the file p is gone, if there is one.
func (t *taking) take(p string, by int) {
	if from, ok := t.alive[p]; ok {
		delete(t.alive, p)
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
			if p := l.Paths[at]; strings.HasSuffix(p, "/") {
				delete(t.alive, p)
			} else {
				t.take(p, by)
			}
		}
	}
}
