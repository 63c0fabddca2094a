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
// packages and setuid files of the final file system, secrets of every layer.
func merge(inv *Inventory, layers []*Layer) {
	m := newMerger(layers)
	inv.OS = release(layers)
	inv.Packages, inv.Secrets = []Package{}, []Secret{}
	for i, l := range layers {
		for _, p := range l.Packages {
			if m.hidden(i, p.Path) {
				continue
			}
			p.Layer = m.introduced(i, p)
			if isDistribution(p.Type) {
				p.Ecosystem = ecosystemOf(p.Type, inv.OS)
				p.PURL = distributionPURL(p, inv.OS)
			}
			inv.Packages = append(inv.Packages, p)
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
	slices.SortFunc(inv.Packages, ComparePackages)
	inv.Packages = slices.CompactFunc(inv.Packages, func(a, b Package) bool { return samePackage(a, b) })
	slices.SortStableFunc(inv.Secrets, CompareSecrets)
	slices.Sort(inv.Setuid)
	inv.Incomplete = append(inv.Incomplete, unmatchable(inv)...)
}

// unmatchable says which distribution packages have no ecosystem: nothing that
// an advisory says can be held against them.
func unmatchable(inv *Inventory) []Incomplete {
	count := map[string]int{}
	for _, p := range inv.Packages {
		if isDistribution(p.Type) && p.Ecosystem == "" {
			count[p.Type]++
		}
	}
	var out []Incomplete
	for _, t := range []string{"apk", "deb", "opkg", "pacman", "rpm"} {
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
	layers []*Layer
	gone   []map[string]struct{} // per layer: whiteouts
	opaque []map[string]struct{}
	memo   []map[string]bool
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
func (m *merger) introduced(i int, p Package) godigest.Digest {
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
		if !slices.ContainsFunc(m.layers[k].Packages, func(q Package) bool { return samePackage(p, q) }) {
			break
		}
		first = k
	}
	return identity(m.layers[first])
}

// identity is what a layer is called: its diffID, or the blob's digest where
// that is unknown.
func identity(l *Layer) godigest.Digest {
	if l.DiffID != "" {
		return l.DiffID
	}
	return l.Digest
}

// samePackage reports whether two extractors or two layers name the same thing
// at the same place.
func samePackage(a, b Package) bool {
	return a.Type == b.Type && a.Name == b.Name && a.Version == b.Version && a.Arch == b.Arch && a.Path == b.Path && a.Inner == b.Inner
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
