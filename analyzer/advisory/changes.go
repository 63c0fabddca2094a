package advisory

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/sluiceproxy/sluice/analyzer"
)

// Key names the advisories of one package: an ecosystem, as in
// EcosystemStats.Name, and a name as feeds write it. An empty Name stands for
// all packages of the ecosystem.
type Key struct{ Ecosystem, Name string }

// Changes returns the keys about which two indexes say something else, sorted:
// a record came, went or reads otherwise, its rating, or its place in KEV or
// EPSS. For an ecosystem that only one of them covers it is the key of the whole
// ecosystem. It costs a pass over both tables of keys. Keys gives the keys of a
// package.
func Changes(old, new *Index) ([]Key, error) {
	for _, x := range []*Index{old, new} {
		if !x.acquire() {
			return nil, ErrClosed
		}
		defer x.leave()
	}
	var out []Key
	a, b := keyTable{x: old}, keyTable{x: new}
	for a.read() && b.read() {
		switch n := bytes.Compare(a.text, b.text); {
		case n == 0:
			if a.sum != b.sum {
				out = append(out, keyOf(a.text))
			}
			a.row++
			b.row++
		case n < 0:
			out = append(out, keyOf(a.text))
			a.row++
		default:
			out = append(out, keyOf(b.text))
			b.row++
		}
	}
	for _, t := range []*keyTable{&a, &b} {
		for ; t.read(); t.row++ {
			out = append(out, keyOf(t.text))
		}
		if t.bad {
			return nil, fmt.Errorf("compare the advisories: %w", corrupt("key table"))
		}
	}
	out = append(append(out, uncovered(old, new)...), uncovered(new, old)...)
	slices.SortFunc(out, func(x, y Key) int {
		return cmp.Or(cmp.Compare(x.Ecosystem, y.Ecosystem), cmp.Compare(x.Name, y.Name))
	})
	return slices.Compact(out), nil
}

// uncovered returns the ecosystems that x covers and y does not.
func uncovered(x, y *Index) []Key {
	var out []Key
	for e, c := range x.covered {
		if c.whole && !y.covered[e].whole {
			out = append(out, Key{Ecosystem: e.String()})
		}
	}
	return out
}

// keyTable reads the sorted keys of an index. read stands still until row moves.
type keyTable struct {
	x    *Index
	row  int
	text []byte
	sum  uint64
	bad  bool
}

func (t *keyTable) read() bool {
	if t.row >= t.x.keys || t.bad {
		return false
	}
	row := t.x.section(sectionKeys)[t.row*keyRowSize:]
	text, ok := slice(t.x.section(sectionKeyText), binary.LittleEndian.Uint32(row), binary.LittleEndian.Uint32(row[4:]))
	t.text, t.sum, t.bad = text, binary.LittleEndian.Uint64(row[16:]), !ok
	return ok
}

func keyOf(text []byte) Key {
	e, name, _ := bytes.Cut(text, []byte{0})
	return Key{string(e), string(name)}
}

// Keys returns every key under which Match looks for a package: if none of them
// is among the Changes from one index to another, the package has the same
// matches in both. It has none for a package without an ecosystem.
func Keys(p *analyzer.Package) []Key {
	e := parseEcosystem(p.Ecosystem)
	if e.base == "" {
		return nil
	}
	name, _ := subject(e.base, p)
	name = normalName(e.base, name)
	out := []Key{{e.String(), name}, {Ecosystem: e.String()}}
	if e.release != "" { // records that name no release
		out = append(out, Key{e.base, name}, Key{Ecosystem: e.base})
	}
	return out
}
