package policy

import (
	"fmt"
	"slices"
	"strings"
)

// waiver is a Waiver ready to match.
type waiver struct {
	Waiver
	images  []Glob       // none = every image
	pattern *purlPattern // nil = every package
}

// compileWaiver says what is wrong with a waiver: it needs an advisory or a
// package, an owner, a reason and an expiry; images, where given, are globs.
func compileWaiver(w Waiver) (waiver, error) {
	c := waiver{Waiver: w}
	switch {
	case w.Advisory == "" && w.Package == "":
		return c, fmt.Errorf("at least one of advisory and package is wanted")
	case strings.TrimSpace(w.Owner) == "":
		return c, fmt.Errorf("an owner is wanted")
	case strings.TrimSpace(w.Reason) == "":
		return c, fmt.Errorf("a reason is wanted")
	case w.Expires.IsZero():
		return c, fmt.Errorf("an expiry is wanted")
	}
	for _, i := range w.Images {
		g, err := ParseGlob(i)
		if err != nil {
			return c, fmt.Errorf("image %q: %w", i, err)
		}
		c.images = append(c.images, g)
	}
	if w.Package != "" {
		p, err := parsePURL(w.Package)
		if err != nil {
			return c, fmt.Errorf("package %q: %w", w.Package, err)
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

// waive marks r if a waiver names its advisory and package; of several, the
// one that lasts longest.
func (d *decision) waive(r *Reason, advisory string, aliases []string, purl string) {
	var best *waiver
	for i := range d.waivers {
		w := &d.waivers[i]
		if w.Advisory != "" && !names(w.Advisory, advisory, aliases) || w.pattern != nil && !w.pattern.match(purl) {
			continue
		}
		if best == nil || w.Expires.After(best.Expires) {
			best = w
		}
	}
	if best == nil {
		return
	}
	r.Waived = sayWaiver(&best.Waiver)
	d.recheck(best.Expires.Add(1))
}
