package analyzer

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	godigest "github.com/opencontainers/go-digest"
)

// merge fills inv with what an image of these layers holds, bottom first:
// packages and setuid files of the final file system, packages that only lower
// layers have, secrets of every layer.
func merge(inv *Inventory, layers []*Layer) {
	m := newMerger(resolveLinks(layers))
	m.index()
	inv.OS = release(layers)
	inv.OS.EndOfLife = endOfLife(inv.OS)
	inv.Packages, inv.Secrets, inv.Removed = []Package{}, []Secret{}, nil
	var hidden []layered
	for i, l := range m.layers {
		for _, p := range l.Packages {
			if m.hidden(i, p.Path) {
				hidden = append(hidden, layered{i, p})
			} else {
				inv.Packages = append(inv.Packages, m.describe(i, p, inv.OS))
			}
		}
		for _, s := range l.Secrets {
			s.Layer = identity(l)
			s.Deleted = s.Deleted || m.hidden(i, s.Path)
			inv.Secrets = append(inv.Secrets, s)
		}
		for _, p := range l.Setuid {
			if !m.hidden(i, p) {
				inv.Setuid = append(inv.Setuid, p)
			}
		}
		inv.Incomplete = append(inv.Incomplete, l.Incomplete...)
	}
	inv.Packages = unique(inv.Packages)
	inv.Removed = m.removed(hidden, inv)
	nameOwners(inv)
	slices.SortStableFunc(inv.Secrets, CompareSecrets)
	slices.Sort(inv.Setuid)
	m.fileFacts(inv)
	inv.Overwrites = overwrites(m.layers)
	inv.Incomplete = append(inv.Incomplete, unmatchable(inv)...)
}

// place is what makes a package the same one in two layers.
type place struct{ purlType, name, version, arch, path, inner string }

func placeOf(p Package) place { return place{p.Type, p.Name, p.Version, p.Arch, p.Path, p.Inner} }

// unique sorts packages and keeps one for each place.
func unique(pkgs []Package) []Package {
	slices.SortStableFunc(pkgs, ComparePackages)
	return slices.CompactFunc(pkgs, func(a, b Package) bool { return placeOf(a) == placeOf(b) })
}

// layered is a package of one layer.
type layered struct {
	layer int
	pkg   Package
}

// describe adds to a package what only the image tells: the layer that brought
// it, its ecosystem and purl where it is a distribution's, and the owner that
// the layer named which brought it, if a later one only touched the file.
func (m *merger) describe(i int, p Package, rel OSRelease) Package {
	first := m.introduced(i, p)
	p.Layer = identity(m.layers[first])
	if p.Owner == "" {
		p.Owner = m.layers[first].Packages[m.packages[first][placeOf(p)]].Owner
	}
	if IsDistribution(p.Type) {
		p.Ecosystem = EcosystemOf(p.Type, rel)
		p.PURL = distributionPURL(p, rel)
	}
	return p
}

// removed returns the hidden packages that the final file system does not have
// at the same place: a database that was rewritten still names most of them.
func (m *merger) removed(hidden []layered, inv *Inventory) []Package {
	seen := make(map[place]struct{}, len(inv.Packages))
	for _, p := range inv.Packages {
		seen[placeOf(p)] = struct{}{}
	}
	var out []Package
	for _, h := range hidden {
		k := placeOf(h.pkg)
		if _, ok := seen[k]; ok {
			continue
		}
		seen[k] = struct{}{}
		p := m.describe(h.layer, h.pkg, inv.OS)
		p.Owner = "" // by a database that is no longer in force
		out = append(out, p)
	}
	slices.SortFunc(out, ComparePackages)
	return out
}

// nameOwners replaces each owner that a layer named by the purl of the
// distribution package that is installed under that name. The database in force
// decides: what it does not have any more owns nothing.
func nameOwners(inv *Inventory) {
	installed := map[string]string{}
	for _, p := range slices.Backward(inv.Packages) {
		if IsDistribution(p.Type) {
			installed[p.Type+"/"+p.Name] = p.PURL
		}
	}
	for i := range inv.Packages {
		p := &inv.Packages[i]
		p.Owner = installed[p.Owner]
	}
	for i := range inv.Secrets {
		inv.Secrets[i].Owner = installed[inv.Secrets[i].Owner]
	}
}

// unmatchable says which distribution packages have no ecosystem: nothing that
// an advisory says can be held against them.
func unmatchable(inv *Inventory) []Incomplete {
	count := map[string]int{}
	for _, p := range inv.Packages {
		if IsDistribution(p.Type) && p.Ecosystem == "" {
			count[p.Type]++
		}
	}
	var out []Incomplete
	for _, t := range distributionTypes {
		if count[t] == 0 {
			continue
		}
		why := "the distribution's release is unknown"
		if inv.OS.ID != "" {
			why = strings.TrimSpace(fmt.Sprintf("no advisories are known for %s %s", inv.OS.ID, inv.OS.VersionID))
		}
		out = append(out, Incomplete{Reason: fmt.Sprintf("%d %s packages cannot be matched: %s", count[t], t, why)})
	}
	return out
}

// release returns the topmost os-release, or the topmost of the version files
// that stand in for one. A layer that deletes it does not make an image another
// distribution's: its packages stay what they are.
func release(layers []*Layer) OSRelease {
	var fallback *OSRelease
	for _, l := range slices.Backward(layers) {
		switch rel := l.OSRelease; {
		case rel == nil:
		case strings.HasSuffix(rel.Path, "-release") && !strings.HasSuffix(rel.Path, "os-release"), strings.HasSuffix(rel.Path, "debian_version"):
			if fallback == nil {
				fallback = rel
			}
		default:
			return *rel
		}
	}
	if fallback != nil {
		return *fallback
	}
	return OSRelease{}
}

// merger answers which paths of a layer are seen through those above it.
type merger struct {
	layers   []*Layer
	gone     []map[string]struct{} // per layer: whiteouts
	opaque   []map[string]struct{}
	packages []map[place]int // indexes of the layer's Packages
	memo     []map[string]bool
}

func newMerger(layers []*Layer) *merger {
	m := &merger{layers: layers}
	for _, l := range layers {
		m.gone = append(m.gone, set(l.Whiteouts))
		m.opaque = append(m.opaque, set(l.Opaque))
		m.memo = append(m.memo, map[string]bool{})
	}
	return m
}

// index makes the packages of each layer known to introduced.
func (m *merger) index() {
	for _, l := range m.layers {
		pkgs := make(map[place]int, len(l.Packages))
		for i, p := range l.Packages {
			pkgs[placeOf(p)] = i
		}
		m.packages = append(m.packages, pkgs)
	}
}

func set(s []string) map[string]struct{} {
	out := make(map[string]struct{}, len(s))
	for _, v := range s {
		out[v] = struct{}{}
	}
	return out
}

// hidden reports whether the file p of layer i is not in the final file system.
func (m *merger) hidden(i int, p string) bool {
	if h, ok := m.memo[i][p]; ok {
		return h
	}
	h := false
	for j := i + 1; j < len(m.layers) && !h; j++ {
		h = m.covers(j, p)
	}
	m.memo[i][p] = h
	return h
}

// covers reports whether layer j takes the file p of a lower layer away, by
// another entry at its path or in its way, or by a whiteout.
func (m *merger) covers(j int, p string) bool {
	return m.has(j, p) || m.has(j, p+"/") || m.removes(j, p)
}

// removes reports whether layer j removes p of lower layers, whatever it may
// put there itself (OCI image-spec, layer.md, "Whiteouts").
func (m *merger) removes(j int, p string) bool {
	if _, ok := m.gone[j][p]; ok {
		return true
	}
	for dir := p; dir != ""; {
		dir = parent(dir)
		if _, ok := m.opaque[j][dir]; ok {
			return true
		}
		if dir == "" {
			break
		}
		if _, ok := m.gone[j][dir]; ok || m.has(j, dir) {
			return true
		}
	}
	return false
}

func (m *merger) has(j int, p string) bool {
	_, ok := slices.BinarySearch(m.layers[j].Paths, p)
	return ok
}

func parent(p string) string {
	if dir := path.Dir(p); dir != "." {
		return dir
	}
	return ""
}

// introduced returns the layer that first had this version of the package in
// this file, without a layer in between that lacked it.
func (m *merger) introduced(i int, p Package) int {
	first := i
	for j := i; j > 0; j-- {
		if m.removes(j, p.Path) {
			break
		}
		k := j - 1
		if !m.has(k, p.Path) {
			if m.has(k, p.Path+"/") {
				break // it was a directory before
			}
			continue
		}
		if _, ok := m.packages[k][placeOf(p)]; !ok {
			break
		}
		first = k
	}
	return first
}

// identity is what a layer is called: its diffID, or the blob's digest where
// that is unknown.
func identity(l *Layer) godigest.Digest {
	if l.DiffID != "" {
		return l.DiffID
	}
	return l.Digest
}

// ComparePackages orders packages by type, name, version and place.
func ComparePackages(a, b Package) int {
	return cmp.Or(
		strings.Compare(a.Type, b.Type), strings.Compare(a.Name, b.Name), strings.Compare(a.Version, b.Version),
		strings.Compare(a.Arch, b.Arch), strings.Compare(a.Path, b.Path), strings.Compare(a.Inner, b.Inner),
	)
}

// CompareSecrets orders secrets by path, line and rule.
func CompareSecrets(a, b Secret) int {
	return cmp.Or(strings.Compare(a.Path, b.Path), cmp.Compare(a.Line, b.Line), strings.Compare(a.Rule, b.Rule))
}
