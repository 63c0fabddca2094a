package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sluiceproxy/sluice/analyzer"
)

// maxText is the longest reason and owner of a blocklist entry in bytes.
const maxText = 1000

// Validate says what is wrong with a blocklist entry: it needs exactly one
// well-formed target, a reason and an owner.
func (b *Block) Validate() error {
	targets := 0
	for _, t := range []string{b.Digest.String(), b.Image, b.Layer.String(), b.Package, b.Advisory} {
		if t != "" {
			targets++
		}
	}
	switch {
	case targets != 1:
		return fmt.Errorf("exactly one of digest, image, layer, package and advisory is wanted, not %d", targets)
	case strings.TrimSpace(b.Reason) == "":
		return fmt.Errorf("a reason is wanted")
	case strings.TrimSpace(b.Owner) == "":
		return fmt.Errorf("an owner is wanted")
	case len(b.Reason) > maxText || len(b.Owner) > maxText:
		return fmt.Errorf("reason and owner have at most %d bytes", maxText)
	}
	var err error
	switch {
	case b.Digest != "":
		if err = b.Digest.Validate(); err != nil {
			return fmt.Errorf("digest %q: %w", b.Digest, err)
		}
	case b.Layer != "":
		if err = b.Layer.Validate(); err != nil {
			return fmt.Errorf("layer %q: %w", b.Layer, err)
		}
	case b.Image != "":
		if _, err = ParseGlob(b.Image); err != nil {
			return fmt.Errorf("image %q: %w", b.Image, err)
		}
	case b.Package != "":
		if _, err = ParsePURL(b.Package); err != nil {
			return fmt.Errorf("package %q: %w", b.Package, err)
		}
	case strings.ContainsAny(b.Advisory, " \t\r\n"):
		return fmt.Errorf("advisory %q: not an id", b.Advisory)
	}
	return nil
}

// Blocked returns the verdict on an image of which nothing but e.Image is known
// yet, if that is enough for an entry of the blocklist: one for its digest, its
// name, or an index that lists it, or one that cannot be read.
func (p *Policy) Blocked(e *Evidence) (Verdict, bool) {
	d := decision{Evidence: e, policy: p}
	d.blocklist()
	if len(d.reasons) == 0 {
		return Verdict{}, false
	}
	return d.verdict(), true
}

// blocklist adds a reason for each entry in force that names the image or
// something in it. An entry that cannot be read denies: it may mean this image.
func (d *decision) blocklist() {
	for i := range d.Blocks {
		b := &d.Blocks[i]
		if !b.Expires.IsZero() && !d.Now.Before(b.Expires) {
			continue
		}
		r := Reason{Rule: RuleBlocklist, Action: Deny, Block: b.ID}
		if err := b.Validate(); err != nil {
			r.Message = "blocklist entry " + b.ID + " cannot be read: " + err.Error()
			d.add(r)
			continue
		}
		cause, ok := d.blocks(b, &r)
		if !ok {
			continue
		}
		r.Message = sayBlock(b, cause)
		d.recheck(b.Expires)
		d.add(r)
	}
}

// blocks reports whether b names the image or something in it, and tells what
// of it where the entry's target does not say so itself.
func (d *decision) blocks(b *Block, r *Reason) (cause string, ok bool) {
	report := d.report()
	switch {
	case b.Digest != "":
		return "", b.Digest == d.Image.Digest || b.Digest == report.Config || b.Digest == report.Manifest ||
			slices.Contains(d.Image.Parents, b.Digest)
	case b.Image != "":
		g, err := ParseGlob(b.Image)
		return "", err != nil || g.Match(d.Image.Name, d.Image.Tags, d.Image.Digest)
	case b.Layer != "":
		r.Layer = b.Layer.String()
		return "layer " + b.Layer.String(), slices.ContainsFunc(report.Layers, func(l analyzer.LayerSummary) bool {
			return l.DiffID == b.Layer
		})
	case b.Package != "":
		pattern, err := ParsePURL(b.Package)
		if err != nil {
			return "", true
		}
		i := slices.IndexFunc(report.Packages, func(p analyzer.Package) bool { return pattern.Match(p.PURL) })
		if i < 0 {
			return "", false
		}
		return d.blamed(r, &report.Packages[i]), true
	}
	for i := range report.Findings {
		if f := &report.Findings[i]; names(b.Advisory, f.Advisory, f.Aliases) {
			describe(r, &subject{finding: f})
			return sayFinding(f), true
		}
	}
	for i := range report.Undecided {
		if u := &report.Undecided[i]; names(b.Advisory, u.Advisory, nil) {
			describe(r, &subject{undecided: u})
			return sayUndecided(u), true
		}
	}
	return "", false
}

// blamed notes p in r and names it.
func (d *decision) blamed(r *Reason, p *analyzer.Package) string {
	r.Package, r.PURL, r.Version, r.Path, r.Layer = p.Name, p.PURL, p.Version, p.Path, p.Layer.String()
	return sayPackage(*p)
}

// names reports whether id is that of the advisory or one of its aliases, in
// any case.
func names(id, advisory string, aliases []string) bool {
	return strings.EqualFold(id, advisory) ||
		slices.ContainsFunc(aliases, func(a string) bool { return strings.EqualFold(id, a) })
}
