package advisory

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sluiceproxy/sluice/analyzer"
)

// Match finds the advisories that apply to pkgs. The rules:
//
//   - A distribution's package is matched in its release and, for records that
//     name no release, in its distribution; by source package or origin where
//     the feed names those (bySource). A language's package is matched by its
//     normalised name.
//   - A version is affected if it is listed, or lies in a range, by OSV's
//     evaluation (ossf.github.io/osv-schema, "Evaluation"). A range that holds a
//     version that cannot be read, or whose ecosystem has no known order, is
//     undecided, unless another part of the record decides.
//   - rpm: see module.go for modules and for errata with several builds.
//   - A language's package that a distribution package of pkgs installed, and
//     packages that only bring the kernel's headers, give nothing: see owner.go.
//   - Packages without an ecosystem give one Undecided for each type; packages
//     of an ecosystem or release whose feed is not in the index one for each of
//     those. Both have no Advisory, and a Package with type and ecosystem only.
//   - Advisories of one vulnerability for one package of a language become one
//     finding: see collapse.
//
// Matches.AsOf is the EcosystemStats.AsOf of the stalest covered ecosystem
// that has a package here.
//
// Findings are sorted: the worst severity first, then known-exploited ones, then
// by advisory and package. An error means that nothing was decided.
func (x *Index) Match(ctx context.Context, pkgs []analyzer.Package) (analyzer.Matches, error) {
	if !x.acquire() {
		return analyzer.Matches{}, ErrClosed
	}
	defer x.leave()
	m := newMatching(x)
	m.owners = x.owners(pkgs)
	var g errgroup.Group
	var others []*matching
	for size := share(len(pkgs)); len(pkgs) > size; pkgs = pkgs[size:] {
		o, part := newMatching(x), pkgs[:size]
		o.owners = m.owners
		others = append(others, o)
		g.Go(func() error { return o.addAll(ctx, part) })
	}
	if err := errors.Join(m.addAll(ctx, pkgs), g.Wait()); err != nil {
		return analyzer.Matches{}, err
	}
	for _, o := range others {
		m.merge(o)
		o.done()
	}
	m.done()
	sortUndecided(m.undecided)
	return analyzer.Matches{Findings: sortFindings(m.all), Undecided: m.undecided, AsOf: m.asOf}, nil
}

// matching is the state of one Match or Lookup.
type matching struct {
	index     *Index
	owners    map[string]bool // purls of the distribution packages that can be matched
	gaps      map[string]bool
	postings  []posting // of one package
	found     []found   // of one package
	all       []*analyzer.Finding
	undecided []analyzer.Undecided
	asOf      time.Time // of the stalest ecosystem
}

func newMatching(x *Index) *matching {
	m := &matching{index: x, gaps: make(map[string]bool)}
	if list, ok := x.spare.Get().(*[]posting); ok {
		m.postings = *list
	}
	return m
}

// done gives the memory of m's postings to the next match.
func (m *matching) done() {
	list := m.postings[:cap(m.postings)]
	clear(list)
	m.index.spare.Put(&list)
}

// share is how many of n packages one goroutine compares: few packages are not
// worth another one.
func share(n int) int {
	const least = 64
	return max(least, (n+runtime.GOMAXPROCS(0)-1)/runtime.GOMAXPROCS(0))
}

func (m *matching) addAll(ctx context.Context, pkgs []analyzer.Package) error {
	for i := range pkgs {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := m.add(&pkgs[i]); err != nil {
			return fmt.Errorf("match %s: %w", pkgs[i].Name, err)
		}
	}
	return nil
}

// merge adds what o found.
func (m *matching) merge(o *matching) {
	m.all = append(m.all, o.all...)
	if m.asOf.IsZero() || !o.asOf.IsZero() && o.asOf.Before(m.asOf) {
		m.asOf = o.asOf
	}
	for _, u := range o.undecided {
		if u.Advisory == "" {
			m.gap(u.Package.Type, u.Package.Ecosystem, u.Reason)
			continue
		}
		m.undecided = append(m.undecided, u)
	}
}

func (m *matching) add(p *analyzer.Package) error {
	if !osType(p.Type) && m.owners[p.Owner] || kernelHeaders(p) {
		return nil
	}
	e := parseEcosystem(p.Ecosystem)
	if e.base == "" {
		reason := "no ecosystem is known for packages of this type"
		if osType(p.Type) {
			reason = "the release of the distribution is not known, so no advisories can be chosen"
		}
		m.gap(p.Type, "", reason)
		return nil
	}
	if e.base == "Bitnami" && p.Type != "bitnami" {
		m.gap(p.Type, p.Ecosystem, "ecosystem Bitnami is for packages of type bitnami only")
		return nil
	}
	if c := m.index.covered[e]; !c.whole {
		m.gap(p.Type, e.String(), "the index has no advisories for "+e.String())
	} else if m.asOf.IsZero() || c.asOf.Before(m.asOf) {
		m.asOf = c.asOf
	}
	name, version := subject(e.base, p)
	return m.find(e, name, version, p)
}

// gap records once that packages of a type and ecosystem were not compared.
func (m *matching) gap(typ, eco, reason string) {
	key := typ + "\x00" + eco
	if eco != "" {
		key = "\x00" + eco + reason
	}
	if m.gaps[key] {
		return
	}
	m.gaps[key] = true
	m.undecided = append(m.undecided, analyzer.Undecided{
		Package: analyzer.Package{Type: typ, Ecosystem: eco}, Reason: reason,
	})
}

// found is a finding with what collapse needs. Findings are large, so they are
// moved by reference until the result is put together.
type found struct {
	*analyzer.Finding
	same []string // ids that the record itself calls aliases
}

// find adds what is known of one version of a package.
func (m *matching) find(e ecosystem, name, version string, p *analyzer.Package) error {
	entries, err := m.entries(e, name)
	if err != nil || len(entries) == 0 {
		return err
	}
	in := newInstalled(e.base, version)
	m.found = m.found[:0]
	for len(entries) > 0 {
		n := 1
		for n < len(entries) && entries[n].advisory == entries[0].advisory {
			n++
		}
		if err := m.weigh(entries[:n], &in, p); err != nil {
			return err
		}
		entries = entries[n:]
	}
	m.keep(p)
	return nil
}

// keep moves the findings of one package to the result.
func (m *matching) keep(p *analyzer.Package) {
	all := dedupe(m.found)
	if !osType(p.Type) {
		all = collapse(all)
	}
	for i := range all {
		m.all = append(m.all, all[i].Finding)
	}
}

// weigh judges the entries of one advisory for one package.
func (m *matching) weigh(group []posting, in *installed, p *analyzer.Package) error {
	j := judge(group, in)
	if j.outcome == outcomeClean {
		return nil
	}
	modular := false
	if p.Type == "rpm" {
		modular = modularPackage(p)
		kept := sameModularity(modular, group)
		if len(kept) == 0 || builtWithFix(in.text, kept) {
			return nil
		}
		if len(kept) < len(group) {
			if j = judge(kept, in); j.outcome == outcomeClean {
				return nil
			}
		}
		group = kept
	}
	a, err := m.index.advisory(group[0].advisory)
	if err != nil {
		return err
	}
	if modular {
		switch relateStreams(p.Modularity, a.streams) {
		case streamOther:
			return nil
		case streamUnknown:
			if j.outcome == outcomeAffected {
				j.outcome, j.reason = outcomeUndecided, "it cannot be told whether the advisory is for the installed module stream"
			}
		}
	}
	if j.outcome == outcomeUndecided {
		m.undecided = append(m.undecided, analyzer.Undecided{Advisory: a.ID, Package: *p, Reason: j.reason})
		return nil
	}
	m.found = append(m.found, found{finding(&a, &j, p), a.same})
	return nil
}

// entries returns what is known of a name: in the ecosystem, and for a
// distribution's release also in records that name no release. They are good
// until the next call.
func (m *matching) entries(e ecosystem, name string) ([]posting, error) {
	var err error
	m.postings, err = m.index.postings(m.postings[:0], e, name)
	if bare := (ecosystem{base: e.base}); err == nil && e.release != "" {
		if _, ok := m.index.covered[bare]; ok {
			m.postings, err = m.index.postings(m.postings, bare, name)
		}
	}
	return m.postings, err
}

// sameModularity keeps the entries whose fixed versions are of the package's
// kind: a module's build or a plain one.
func sameModularity(modular bool, group []posting) []posting {
	kept := group[:0]
	var buf eventBuffer
	for i := range group {
		e := group[i]
		marks, plain := 0, 0
		for d := e.rangeDecoder(); d.rest != ""; {
			r := d.events(buf[:0])
			for _, ev := range r {
				if ev.kind == eventIntroduced {
					continue
				}
				if _, ok := modularVersion(ev.version); ok {
					marks++
				} else {
					plain++
				}
			}
		}
		if (modular && marks > 0) || (!modular && plain > 0) || marks+plain == 0 {
			kept = append(kept, e)
		}
	}
	return kept
}

// finding puts together what the caller gets. Fixed is cloned because it is a
// part of the key's whole block.
func finding(a *storedAdvisory, j *judgement, p *analyzer.Package) *analyzer.Finding {
	f := &analyzer.Finding{
		Advisory: a.ID, Aliases: a.Aliases, Class: a.Class,
		Severity: a.Severity, Score: a.Score, Vector: a.Vector, RatedBy: a.RatedBy, KEV: a.KEV, EPSS: a.EPSS,
		Fixed: strings.Clone(j.fixed), Summary: a.Summary, Published: a.Published,
		Source: j.source, Package: *p,
	}
	distro := a.distro
	if r := j.rating; r.severity != analyzer.SeverityUnknown {
		f.Severity, f.Score, f.Vector, f.RatedBy, distro = r.severity, r.score, strings.Clone(r.vector), a.ID, r.distro
	}
	if distro {
		f.RatedBy = parseEcosystem(p.Ecosystem).base
	}
	return f
}
