package analyzer

import (
	"maps"
	"path"
	"slices"
	"sort"
	"strings"
)

// maxHops is how many links one path may lead through, as in Linux (MAXSYMLINKS).
const maxHops = 40

// linkTable are the symbolic links that are in force below a layer's entries.
type linkTable map[string]string

// resolveLinks returns the layers with each path that leads through a symbolic
// link replaced by the one it leads to, as a runtime does that unpacks one layer
// onto the other: an entry lib/x of an upper layer is usr/lib/x where a lower
// one has lib -> usr/lib. An entry for the directory itself replaces the link.
// A layer without such paths is returned as it is; none is changed.
func resolveLinks(layers []*Layer) []*Layer {
	table := linkTable{}
	out := make([]*Layer, len(layers))
	for i, l := range layers {
		if len(table) > 0 {
			m := newMerger([]*Layer{l})
			maps.DeleteFunc(table, func(at, _ string) bool { return m.covers(0, at) })
		}
		for _, k := range l.Links {
			table[table.resolve(k.Path)] = k.Target
		}
		out[i] = table.through(l)
	}
	return out
}

// through returns l with its paths resolved.
func (t linkTable) through(l *Layer) *Layer {
	opaque := make([]string, len(l.Opaque)) // the marks themselves lie within
	for i, dir := range l.Opaque {
		opaque[i] = path.Join(dir, "x")
	}
	if !t.touches(l.Paths) && !t.touches(l.Whiteouts) && !t.touches(opaque) {
		return l
	}
	c := *l
	c.Paths, c.Whiteouts, c.Setuid = t.resolveAll(l.Paths), t.resolveAll(l.Whiteouts), t.resolveAll(l.Setuid)
	c.Opaque = t.resolveAll(opaque)
	for i, mark := range c.Opaque {
		c.Opaque[i] = parent(mark)
	}
	h := &c.Hardening
	h.WorldWritable, h.Shells = t.resolveAll(h.WorldWritable), t.resolveAll(h.Shells)
	h.PackageManagers, h.SSH = t.resolveAll(h.PackageManagers), t.resolveAll(h.SSH)
	if len(h.Sizes) > 0 {
		h.Sizes = make(map[string]int64, len(l.Hardening.Sizes))
		for p, n := range l.Hardening.Sizes {
			h.Sizes[t.resolve(p)] = n
		}
	}
	c.Packages = slices.Clone(l.Packages)
	for i := range c.Packages {
		c.Packages[i].Path = t.resolve(c.Packages[i].Path)
	}
	c.Secrets = slices.Clone(l.Secrets)
	for i := range c.Secrets {
		c.Secrets[i].Path = t.resolve(c.Secrets[i].Path)
	}
	return &c
}

// touches reports whether a sorted list has a path below a link.
func (t linkTable) touches(paths []string) bool {
	if len(t) > len(paths) {
		return slices.ContainsFunc(paths, func(p string) bool { return t.resolve(p) != p })
	}
	for at := range t {
		below := at + "/"
		i := sort.SearchStrings(paths, below)
		if i < len(paths) && paths[i] == below { // the directory's own entry
			i++
		}
		if i < len(paths) && strings.HasPrefix(paths[i], below) {
			return true
		}
	}
	return false
}

func (t linkTable) resolveAll(paths []string) []string {
	out := make([]string, len(paths))
	for i, p := range paths {
		out[i] = t.resolve(p)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// resolve replaces the links on the way to p, not p itself. What leads in a
// circle stays where it was seen last.
func (t linkTable) resolve(p string) string {
	name, slash := strings.CutSuffix(p, "/")
	for range maxHops {
		next := t.hop(name)
		if next == name {
			break
		}
		name = next
	}
	if slash {
		return name + "/"
	}
	return name
}

func (t linkTable) hop(p string) string {
	for i := range len(p) {
		if p[i] != '/' {
			continue
		}
		if to, ok := t[p[:i]]; ok {
			return path.Join(to, p[i+1:])
		}
	}
	return p
}
