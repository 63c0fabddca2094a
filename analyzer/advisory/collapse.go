package advisory

import (
	"cmp"
	"slices"
	"strings"

	"github.com/sluiceproxy/sluice/analyzer"
)

// dedupe keeps one finding for each advisory id: a record can be in two
// archives, or a private one can add to a public one. It uses in's memory.
func dedupe(in []found) []found {
	if len(in) < 2 {
		return in
	}
	at := make(map[string]int, len(in))
	n := 0
	for j := range in {
		if i, ok := at[in[j].Advisory]; ok {
			merge(in[i].Finding, in[j].Finding)
			continue
		}
		at[in[j].Advisory] = n
		if n != j {
			in[n] = in[j]
		}
		n++
	}
	return in[:n]
}

// collapse makes one finding of those that one vulnerability of a language's
// package has in several databases (GHSA, GO, PYSEC, RUSTSEC, NSWG): records
// whose ids and own aliases meet. It keeps the one that is malware, else is
// rated by a CVSS vector, else knows a fix, else is of the language's own
// database, and adds the others' ids to its aliases. Errata of distributions
// stay as they are: each is an advisory for several CVEs.
func collapse(in []found) []found {
	if len(in) < 2 {
		return in
	}
	out := make([]found, 0, len(in))
	group := make([]int, len(in)) // index of the group's first member
	owner := make(map[string]int)
	for i := range in {
		group[i] = i
		for _, id := range append([]string{in[i].Advisory}, in[i].same...) {
			j, ok := owner[id]
			if !ok {
				owner[id] = i
				continue
			}
			a, b := group[i], group[j]
			for k := range i + 1 {
				if group[k] == max(a, b) {
					group[k] = min(a, b)
				}
			}
		}
	}
	for i := range in {
		if group[i] != i {
			continue
		}
		best := in[i]
		for j := i + 1; j < len(in); j++ {
			if group[j] == i {
				other := in[j]
				if a, b := quality(best.Finding), quality(other.Finding); b > a || (b == a && other.Advisory < best.Advisory) {
					best, other = other, best
				}
				merge(best.Finding, other.Finding)
			}
		}
		out = append(out, best)
	}
	return out
}

func quality(f *analyzer.Finding) int {
	q := 0
	if f.Class == analyzer.ClassMalware {
		q += 8
	}
	if f.Vector != "" && f.RatedBy == f.Advisory {
		q += 4
	}
	if f.Fixed != "" {
		q += 2
	}
	for _, prefix := range []string{"GO-", "PYSEC-", "RUSTSEC-", "GHSA-"} {
		if strings.HasPrefix(f.Advisory, prefix) {
			return q + 1
		}
	}
	return q
}

// merge adds to f what other knows.
func merge(f, other *analyzer.Finding) {
	ids := append(slices.Clone(f.Aliases), other.Aliases...)
	f.Aliases = cleanIDs(append(ids, other.Advisory), f.Advisory)
	f.KEV = f.KEV || other.KEV
	if other.Class == analyzer.ClassMalware {
		f.Class = analyzer.ClassMalware
	}
	if f.Severity == analyzer.SeverityUnknown || (f.Vector == "" && other.Vector != "") {
		f.Severity, f.Score, f.Vector, f.RatedBy = other.Severity, other.Score, other.Vector, other.RatedBy
	}
	if f.EPSS == nil || other.EPSS != nil && *other.EPSS > *f.EPSS {
		f.EPSS = other.EPSS
	}
	if f.Fixed == "" {
		f.Fixed = other.Fixed
	}
	if f.Published.IsZero() {
		f.Published = other.Published
	}
}

// sortFindings returns all in the order that Match promises.
func sortFindings(all []*analyzer.Finding) []analyzer.Finding {
	if len(all) == 0 {
		return nil
	}
	kev := func(f *analyzer.Finding) int {
		if f.KEV {
			return 0
		}
		return 1
	}
	slices.SortFunc(all, func(a, b *analyzer.Finding) int {
		if n := cmp.Compare(b.Severity, a.Severity); n != 0 {
			return n
		}
		if n := cmp.Compare(kev(a), kev(b)); n != 0 {
			return n
		}
		if n := cmp.Compare(a.Advisory, b.Advisory); n != 0 {
			return n
		}
		return cmp.Or(comparePackages(&a.Package, &b.Package), cmp.Compare(a.Source, b.Source))
	})
	sorted := make([]analyzer.Finding, len(all))
	for i, f := range all {
		sorted[i] = *f
	}
	return sorted
}

func sortUndecided(all []analyzer.Undecided) {
	slices.SortFunc(all, func(a, b analyzer.Undecided) int {
		return cmp.Or(cmp.Compare(a.Advisory, b.Advisory), comparePackages(&a.Package, &b.Package), cmp.Compare(a.Reason, b.Reason))
	})
}

func comparePackages(a, b *analyzer.Package) int {
	return cmp.Or(
		cmp.Compare(a.Name, b.Name), cmp.Compare(a.Version, b.Version), cmp.Compare(a.Type, b.Type),
		cmp.Compare(a.Ecosystem, b.Ecosystem), cmp.Compare(a.Arch, b.Arch), cmp.Compare(a.Path, b.Path), cmp.Compare(a.Layer, b.Layer))
}
