package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluiceproxy/sluice/analyzer"
)

// Waiver sets what rules found aside: in some images or all, for an owner's
// reason, until an expiry. What it names must all be true of a reason; it names
// at least one of Advisory, Package, Rule and Secret. A blocklist entry, and
// what no rule of a policy says (an image that cannot be analysed), is never
// waived.
type Waiver struct {
	ID       string    `json:"id,omitempty" yaml:"-"`
	Advisory string    `json:"advisory,omitempty" yaml:"advisory"` // id or alias (CVE-…)
	Package  string    `json:"package,omitempty" yaml:"package"`   // purl; without a version every version
	Rule     string    `json:"rule,omitempty" yaml:"rule"`         // id of a policy's rule
	Secret   string    `json:"secret,omitempty" yaml:"secret"`     // kind of secret (private-key), or what recognised it (github-token)
	Path     string    `json:"path,omitempty" yaml:"path"`         // glob over the path of the package or secret; * stops at /, ** does not
	Images   []string  `json:"images,omitempty" yaml:"images"`     // globs over name, name:tag or name@digest; none = every image
	Owner    string    `json:"owner" yaml:"owner"`
	Reason   string    `json:"reason" yaml:"reason"`
	Created  time.Time `json:"created,omitzero" yaml:"-"` // zero for one of a file
	Expires  time.Time `json:"expires" yaml:"expires"`
}

// Forever is the expiry of an exception whose source knows none: a line of a
// .trivyignore file.
var Forever = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

// maxWaiverImages is how many globs a waiver has at most.
const maxWaiverImages = 100

// Validate says what is wrong with a waiver: it needs a well-formed target, an
// owner, a reason and an expiry. That the expiry is still to come is the
// caller's to check.
func (w *Waiver) Validate() error {
	_, err := compileWaiver(*w)
	return err
}

// waiver is a Waiver ready to match.
type waiver struct {
	Waiver
	images  []Glob // none = every image
	pattern *PURL  // nil = every package
}

func compileWaiver(w Waiver) (waiver, error) {
	c := waiver{Waiver: w}
	switch {
	case w.Advisory == "" && w.Package == "" && w.Rule == "" && w.Secret == "":
		return c, fmt.Errorf("at least one of advisory, package, rule and secret is wanted")
	case w.Secret != "" && (w.Advisory != "" || w.Package != ""):
		return c, fmt.Errorf("a secret has neither an advisory nor a package")
	case slices.Contains(builtIn, w.Rule) && !slices.Contains(waivable, w.Rule):
		return c, fmt.Errorf("rule %s is built in and cannot be waived", w.Rule)
	case w.Rule != "" && !identifier.MatchString(w.Rule):
		return c, fmt.Errorf("rule %q: not the id of a rule", clip(w.Rule))
	case strings.ContainsAny(w.Advisory+w.Secret, " \t\r\n"):
		return c, fmt.Errorf("%q: not an id", clip(w.Advisory+w.Secret))
	case len(w.Advisory) > maxText || len(w.Package) > maxText || len(w.Secret) > maxText || len(w.Path) > maxText:
		return c, fmt.Errorf("advisory, package, secret and path have at most %d bytes", maxText)
	case len(w.Images) > maxWaiverImages:
		return c, fmt.Errorf("images has at most %d patterns", maxWaiverImages)
	case strings.TrimSpace(w.Owner) == "":
		return c, fmt.Errorf("an owner is wanted")
	case strings.TrimSpace(w.Reason) == "":
		return c, fmt.Errorf("a reason is wanted")
	case len(w.Reason) > maxText || len(w.Owner) > maxText:
		return c, fmt.Errorf("reason and owner have at most %d bytes", maxText)
	case w.Expires.IsZero():
		return c, fmt.Errorf("an expiry is wanted")
	case strings.Contains(w.Path, "***"):
		return c, fmt.Errorf("path: *** has no meaning: * stops at /, ** does not")
	}
	for _, i := range w.Images {
		g, err := ParseGlob(i)
		if err != nil {
			return c, fmt.Errorf("image %q: %w", clip(i), err)
		}
		c.images = append(c.images, g)
	}
	if w.Package != "" {
		p, err := ParsePURL(w.Package)
		if err != nil {
			return c, fmt.Errorf("package %q: %w", clip(w.Package), err)
		}
		c.pattern = &p
	}
	return c, nil
}

// gatherWaivers keeps those that are in force and name the image. One that
// cannot be read sets nothing aside.
func (d *decision) gatherWaivers() {
	use := func(w waiver) {
		if d.Now.After(w.Expires) {
			return
		}
		if len(w.images) == 0 || slices.ContainsFunc(w.images, func(g Glob) bool {
			return g.Match(d.Image.Name, d.Image.Tags, d.Image.Digest)
		}) {
			d.waivers = append(d.waivers, w)
		}
	}
	for _, w := range d.policy.waivers {
		use(w)
	}
	for _, w := range d.Waivers {
		if c, err := compileWaiver(w); err == nil {
			use(c)
		}
	}
}

// waive marks r, which is about s, if a trusted VEX statement or a waiver sets
// it aside. Of several waivers it is the one that lasts longest.
func (d *decision) waive(r *Reason, s *subject) {
	var pkg *analyzer.Package
	switch {
	case s.finding != nil:
		pkg = &s.finding.Package
		r.VEX = d.statement(s.finding.VEX, s.finding.Advisory, pkg)
	case s.undecided != nil:
		pkg = &s.undecided.Package
		r.VEX = d.statement(s.undecided.VEX, s.undecided.Advisory, pkg)
	}
	if r.VEX.Suppresses() {
		r.Waived = sayVEX(r.VEX)
		return
	}
	var w *waiver
	switch cves := severalCVEs(r.Aliases); {
	case cves == nil:
		w = d.longest(r, s.secret, pkg, func(w *waiver) bool { return w.Advisory == "" || names(w.Advisory, r.Advisory, r.Aliases) })
	default:
		w = d.longest(r, s.secret, pkg, func(w *waiver) bool { return w.Advisory == "" || strings.EqualFold(w.Advisory, r.Advisory) })
		if w == nil {
			w = d.each(r, pkg, cves)
		}
	}
	if w == nil {
		return
	}
	r.Waived, r.Waiver = sayWaiver(&w.Waiver), &w.Waiver
	d.recheck(w.Expires.Add(1))
}

// statement returns the statement on an advisory in a package that counts: of
// the operator's documents, which Report has, and of those that are attached to
// the image the latest that is trusted.
func (e *Evidence) statement(found *analyzer.VEXStatement, advisory string, pkg *analyzer.Package) *analyzer.VEXStatement {
	for i := range e.VEX {
		a := &e.VEX[i]
		if a.Trusted && a.Advisory == advisory && a.PURL == pkg.PURL && (found == nil || a.Statement.Time.After(found.Time)) {
			found = &a.Statement
		}
	}
	return found
}

// severalCVEs returns the CVE ids of an advisory for several vulnerabilities,
// nil for one of a single one.
func severalCVEs(aliases []string) []string {
	var cves []string
	for _, a := range aliases {
		if strings.HasPrefix(strings.ToUpper(a), "CVE-") {
			cves = append(cves, a)
		}
	}
	if len(cves) < 2 {
		return nil
	}
	return cves
}

// each returns the waiver that ends first of those for each of the CVEs, nil if
// one of these has none: a waiver of one vulnerability says nothing of others
// that the same advisory is about.
func (d *decision) each(r *Reason, pkg *analyzer.Package, cves []string) *waiver {
	var first *waiver
	for _, id := range cves {
		w := d.longest(r, nil, pkg, func(w *waiver) bool { return strings.EqualFold(w.Advisory, id) })
		if w == nil {
			return nil
		}
		if first == nil || w.Expires.Before(first.Expires) {
			first = w
		}
	}
	return first
}

// longest returns the waiver for r that lasts longest; secret and pkg are what
// r is about. The advisory is the caller's to compare.
func (d *decision) longest(r *Reason, secret *analyzer.Secret, pkg *analyzer.Package, advisory func(*waiver) bool) *waiver {
	var best *waiver
	for i := range d.waivers {
		w := &d.waivers[i]
		switch {
		case !advisory(w):
		case w.Rule != "" && w.Rule != r.Rule:
		case w.Secret != "" && (secret == nil || w.Secret != secret.Kind && w.Secret != secret.Rule):
		case w.pattern != nil && (pkg == nil || !w.pattern.Match(pkg.PURL)):
		case w.Path != "" && !wild(w.Path, r.Path):
		case best == nil || w.Expires.After(best.Expires):
			best = w
		}
	}
	return best
}
