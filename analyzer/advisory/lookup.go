package advisory

import (
	"errors"
	"fmt"
	"strings"

	"github.com/package-url/packageurl-go"

	"github.com/sluiceproxy/sluice/analyzer"
)

// ErrUndecided is wrapped by Lookup when some advisories name the package but
// cannot be compared with its version.
var ErrUndecided = errors.New("some advisories cannot be compared with the version")

// Lookup returns the advisories for a package URL: with a version those that
// apply to it, without one all that name the package. A distribution's package
// is looked up in the release of the qualifier "distro" (debian-12, bookworm,
// alpine-3.18), without it in every release of the index; its source package in
// the qualifier "upstream" (name, or name@version) takes the place of its name.
// Undecided comparisons are an error beside the findings; a type, distribution
// or release that the index does not have is an error.
func (x *Index) Lookup(purl string) ([]analyzer.Finding, error) {
	u, err := packageurl.FromString(purl)
	if err != nil {
		return nil, fmt.Errorf("lookup %q: %w", purl, err)
	}
	if !x.acquire() {
		return nil, ErrClosed
	}
	defer x.leave()
	p, ecosystems, err := x.target(&u)
	if err != nil {
		return nil, fmt.Errorf("lookup %s: %w", purl, err)
	}
	p.PURL = purl
	m := &matching{index: x}
	for _, e := range ecosystems {
		p.Ecosystem = e.String()
		if name, version := subject(e.base, &p); p.Version == "" {
			err = m.list(e, name, &p)
		} else {
			err = m.find(e, name, version, &p)
		}
		if err != nil {
			return nil, fmt.Errorf("lookup %s: %w", purl, err)
		}
	}
	if len(m.undecided) > 0 {
		var gaps []string
		for _, g := range m.undecided {
			gaps = append(gaps, g.Advisory+" ("+g.Reason+")")
		}
		err = fmt.Errorf("lookup %s: %w: %s", purl, ErrUndecided, strings.Join(gaps, ", "))
	}
	return sortFindings(m.all), err
}

// target reads a package URL as a package and the ecosystems to look in.
func (x *Index) target(u *packageurl.PackageURL) (analyzer.Package, []ecosystem, error) {
	q := u.Qualifiers.Map()
	p := analyzer.Package{Type: u.Type, Name: u.Name, Version: u.Version, Arch: q["arch"]}
	switch {
	case u.Type == "maven" && u.Namespace != "":
		p.Name = u.Namespace + ":" + u.Name
	case !osType(u.Type) && u.Namespace != "":
		p.Name = u.Namespace + "/" + u.Name
	}
	if epoch := q["epoch"]; u.Type == "rpm" && epoch != "" && p.Version != "" {
		p.Version = epoch + ":" + p.Version
	}
	if label := q["rpmmod"]; u.Type == "rpm" {
		p.Modularity = label
	}
	if up := q["upstream"]; up != "" {
		p.Source, p.SourceVersion, _ = strings.Cut(up, "@")
	}
	bases := basesOf(u.Type, u.Namespace)
	if len(bases) == 0 {
		return p, nil, fmt.Errorf("no feed is known for type %q, namespace %q", u.Type, u.Namespace)
	}
	_, release, ok := strings.Cut(q["distro"], "-")
	if !ok {
		release = q["distro"]
	}
	var out []ecosystem
	for _, base := range bases {
		all := x.releases[base]
		if release != "" && osType(u.Type) {
			if base == "Debian" {
				release = debianCodename(release)
			}
			e := parseEcosystem(base + ":" + release)
			all = nil
			if _, ok := x.covered[e]; ok {
				all = []ecosystem{e}
			}
		}
		out = append(out, all...)
	}
	if len(out) == 0 {
		return p, nil, fmt.Errorf("the index has no advisories for %s %s", strings.Join(bases, ", "), release)
	}
	return p, out, nil
}

// list adds every advisory of a name, as findings whose Source tells all ranges
// and whose Fixed is the last fix.
func (m *matching) list(e ecosystem, name string, p *analyzer.Package) error {
	entries, err := m.entries(e, name)
	if err != nil {
		return err
	}
	m.found = m.found[:0]
	for i := range entries {
		a, err := m.index.advisory(entries[i].advisory)
		if err != nil {
			return err
		}
		j := judgement{rating: entries[i].rating}
		j.source, j.fixed = describe(&entries[i])
		if n := len(m.found) - 1; n >= 0 && m.found[n].Advisory == a.ID {
			m.found[n].Source += "; " + strings.TrimPrefix(j.source, entries[i].ecosystem+" ")
			m.found[n].Fixed = strings.Clone(j.fixed)
			continue
		}
		m.found = append(m.found, found{finding(&a, &j, p), a.same})
	}
	m.keep(p)
	return nil
}

// describe tells an entry's ranges in words, and its last fix.
func describe(e *posting) (text, fixed string) {
	words := [...]string{"introduced", "fixed", "last affected", "limit", "unknown"}
	var (
		parts []string
		buf   eventBuffer
	)
	for d := e.rangeDecoder(); d.rest != ""; {
		r := d.events(buf[:0])
		for _, ev := range r {
			parts = append(parts, strings.TrimSpace(words[min(ev.kind, eventUnknown)]+" "+ev.version))
			if ev.kind == eventFixed {
				fixed = ev.version
			}
		}
	}
	if e.versions != "" && e.ranges == "" {
		parts = append(parts, fmt.Sprintf("%d versions listed", strings.Count(e.versions, "\x00")-1))
	}
	if len(parts) == 0 {
		parts = append(parts, "no versions named")
	}
	return e.ecosystem + " " + strings.Join(parts, ", "), fixed
}
