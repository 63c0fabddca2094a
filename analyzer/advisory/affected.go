package advisory

import (
	"cmp"
	"context"
	"encoding/binary"
	"slices"
	"sort"
	"strings"

	"github.com/sluiceproxy/sluice/analyzer"
)

// Affected is a package that an advisory is about.
type Affected struct {
	Advisory  string // id of the feed's record
	Ecosystem string // with its release: "Debian:12"
	Package   string // as the feed's packages are compared: the source package of a Debian one, a normalised name of a Python one
	Range     string // the affected versions, in words
	Fixed     string // the last fix; "" = none is known
}

// Names reports whether a is about p: by name in some release of p's
// distribution, or in the very release.
func (a *Affected) Names(p *analyzer.Package) (name, release bool) {
	of, in := parseEcosystem(a.Ecosystem), parseEcosystem(p.Ecosystem)
	n, _ := subject(in.base, p)
	if in.base == "" || of.base != in.base || a.Package != normalName(in.base, n) {
		return false, false
	}
	return true, of.release == "" || of == in
}

// Affected returns the packages that the advisories with the given id or alias
// are about, sorted by advisory, ecosystem and name. It reads the whole index,
// which is for a person who asks and not for a pull.
func (x *Index) Affected(ctx context.Context, id string) ([]Affected, error) {
	advisories, err := x.Advisory(id)
	if err != nil || len(advisories) == 0 {
		return nil, err
	}
	if !x.acquire() {
		return nil, ErrClosed
	}
	defer x.leave()
	numbers := map[uint32]string{}
	for _, a := range advisories {
		if err := x.number(a.ID, numbers); err != nil {
			return nil, err
		}
	}
	var out []Affected
	var postings []posting
	rows, texts := x.section(sectionKeys), x.section(sectionKeyText)
	for i := range x.keys {
		if i%1024 == 0 && ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		key, ok := slice(texts, binary.LittleEndian.Uint32(rows[i*keyRowSize:]), binary.LittleEndian.Uint32(rows[i*keyRowSize+4:]))
		if !ok {
			return nil, corrupt("key table")
		}
		block, err := x.block(key)
		if err != nil {
			return nil, err
		}
		postings = postings[:0]
		for d := (decoder{rest: block}); d.rest != ""; {
			if postings = append(postings, d.posting()); d.bad {
				return nil, corrupt("postings")
			}
		}
		eco, name, _ := strings.Cut(string(key), "\x00")
		for j := range postings {
			if id, ok := numbers[postings[j].advisory]; ok {
				a := Affected{Advisory: id, Ecosystem: eco, Package: name}
				text, fixed := describe(&postings[j])
				a.Range, a.Fixed = strings.TrimPrefix(text, postings[j].ecosystem+" "), strings.Clone(fixed)
				out = append(out, a)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Affected) int {
		return cmp.Or(strings.Compare(a.Advisory, b.Advisory), strings.Compare(a.Ecosystem, b.Ecosystem), strings.Compare(a.Package, b.Package))
	})
	return out, nil
}

// number adds the numbers of the advisories whose own id is id.
func (x *Index) number(id string, numbers map[uint32]string) error {
	rows, hash := x.section(sectionIDs), hashID(id)
	at := func(i int) uint64 { return binary.LittleEndian.Uint64(rows[i*idRowSize:]) }
	for i := sort.Search(x.ids, func(i int) bool { return at(i) >= hash }); i < x.ids && at(i) == hash; i++ {
		n := binary.LittleEndian.Uint32(rows[i*idRowSize+8:])
		a, err := x.advisory(n)
		if err != nil {
			return err
		}
		if a.ID == id {
			numbers[n] = id
		}
	}
	return nil
}
