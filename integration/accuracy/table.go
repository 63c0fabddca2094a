package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// row is what is known of one image.
type row struct {
	image    image
	missing  string // why nothing was measured
	packages packageDiff
	findings findingDiff
	secrets  int

	incomplete []struct {
		Path   string `json:"path"`
		Reason string `json:"reason"`
	}
}

// packageDiff compares by type, name and version.
type packageDiff struct {
	listed        int
	lost, extra   []string
	owned, judged int      // dpkg has an owner for; of those the program has one for
	owner         []string // where the two differ
}

type findingDiff struct {
	implied, found int // pairs of package and advisory; findings
	lost, extra    []string
}

func key(typ, name, version string) string {
	if typ == "pypi" {
		name = plainName("PyPI", name)
	}
	return typ + " " + name + " " + version
}

func comparePackages(installed []pkg, r *result) packageDiff {
	var d packageDiff
	types, listed, found := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, p := range installed {
		types[p.typ], listed[key(p.typ, p.name, p.version)] = true, true
	}
	for _, p := range r.Packages {
		if types[p.Type] {
			found[key(p.Type, p.Name, p.Version)] = true
		}
	}
	d.listed = len(listed)
	d.lost, d.extra = difference(listed, found), difference(found, listed)
	d.compareOwners(installed, r)
	return d
}

// compareOwners compares what dpkg says of a language's packages with what the
// program does: installed by some package, or by nobody.
func (d *packageDiff) compareOwners(installed []pkg, r *result) {
	owned := map[string]bool{} // a version can be there twice: by a package counts
	for _, p := range r.Packages {
		k := key(p.Type, p.Name, p.Version)
		owned[k] = owned[k] || p.Owner != ""
	}
	for _, p := range installed {
		k := key(p.typ, p.name, p.version)
		if p.owned {
			d.owned++
		}
		if p.owned && owned[k] {
			d.judged++
		}
		if p.path != "" && p.owned != owned[k] {
			d.owner = append(d.owner, k)
		}
	}
}

// difference returns what of a is not in b, sorted.
func difference(a, b map[string]bool) []string {
	var out []string
	for k := range a {
		if !b[k] {
			out = append(out, k)
		}
	}
	slices.Sort(out)
	return out
}

// compareFindings looks for each implied pair among the findings, and the other
// way round. Databases have several records for one vulnerability, of which the
// program shows one, with the others as aliases.
func compareFindings(implied []pair, r *result) findingDiff {
	d := findingDiff{implied: len(implied), found: len(r.Findings)}
	covered := make([]bool, len(r.Findings))
	for _, p := range implied {
		ids := append([]string{p.record.ID}, p.record.Aliases...)
		hit := false
		for i, f := range r.Findings {
			if plainName("PyPI", f.Package) != plainName("PyPI", p.pkg.name) || f.Version != p.pkg.version {
				continue
			}
			if slices.ContainsFunc(ids, func(id string) bool { return id == f.Advisory || slices.Contains(f.Aliases, id) }) {
				covered[i], hit = true, true
			}
		}
		if !hit {
			d.lost = append(d.lost, fmt.Sprintf("%s %s %s", p.record.ID, p.pkg.name, p.pkg.version))
		}
	}
	for i, f := range r.Findings {
		if !covered[i] {
			d.extra = append(d.extra, fmt.Sprintf("%s %s %s", f.Advisory, f.Package, f.Version))
		}
	}
	slices.Sort(d.lost)
	slices.Sort(d.extra)
	d.lost, d.extra = slices.Compact(d.lost), slices.Compact(d.extra)
	return d
}

// table renders the rows, and below them all differences.
func table(rows []row) string {
	var b, notes strings.Builder
	b.WriteString("| image | listed by | packages listed | found | recall | not listed | owned (dpkg -S) | found | implied pairs | findings | pairs missed | findings not implied | secrets |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, r := range rows {
		if r.missing != "" {
			fmt.Fprintf(&b, "| %s | %s | not measured: %s ||||||||||||\n", r.image.name, r.image.tool, oneLine(r.missing))
			continue
		}
		p, f := r.packages, r.findings
		fmt.Fprintf(&b, "| %s | %s | %d | %d | %.1f %% | %d | %d | %d | %d | %d | %d | %d | %d |\n", r.image.name, r.image.tool,
			p.listed, p.listed-len(p.lost), 100*float64(p.listed-len(p.lost))/float64(max(1, p.listed)), len(p.extra), p.owned, p.judged, f.implied, f.found, len(f.lost), len(f.extra), r.secrets)
		for _, d := range r.differences() {
			notes.WriteString("- " + d + "\n")
		}
		for _, in := range r.incomplete {
			fmt.Fprintf(&notes, "- %s: incomplete: %s\n", r.image.name, strings.TrimSpace(in.Path+" "+in.Reason))
		}
	}
	if notes.Len() == 0 {
		notes.WriteString("- none\n")
	}
	return b.String() + "\nDifferences, and what was not analysed:\n\n" + notes.String()
}

func oneLine(s string) string {
	s = strings.ReplaceAll(strings.Join(strings.Fields(s), " "), "|", "/")
	return s[:min(len(s), 160)]
}

// differences are what the two sides of a row do not agree upon.
func (r row) differences() []string {
	var out []string
	for _, part := range []struct {
		kind  string
		items []string
	}{
		{"listed, not found", r.packages.lost},
		{"found, not listed", r.packages.extra},
		{"owner differs from dpkg's", r.packages.owner},
		{"implied, not reported", r.findings.lost},
		{"reported, not implied", r.findings.extra},
	} {
		if n := len(part.items); n > 0 {
			shown := part.items[:min(n, 8)]
			more := ""
			if n > len(shown) {
				more = fmt.Sprintf(" and %d more", n-len(shown))
			}
			out = append(out, fmt.Sprintf("%s: %s: %s%s", r.image.name, part.kind, strings.Join(shown, ", "), more))
		}
	}
	return out
}

// verdict is an error if there is a difference. One that turns out to be right
// belongs into the second implementation, with its reason.
func verdict(rows []row) error {
	var errs []error
	for _, r := range rows {
		for _, d := range r.differences() {
			errs = append(errs, errors.New(d))
		}
	}
	return errors.Join(errs...)
}

const (
	begin = "<!-- accuracy: begin -->\n"
	end   = "<!-- accuracy: end -->\n"
)

// replaceTable puts the table between the page's markers.
func replaceTable(file, text string) error {
	page, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	head, rest, ok := strings.Cut(string(page), begin)
	_, tail, closed := strings.Cut(rest, end)
	if !ok || !closed {
		return fmt.Errorf("%s has no markers", file)
	}
	return os.WriteFile(file, []byte(head+begin+text+end+tail), 0o644)
}
