package signing

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
)

// engine is part of every key: raise it when the same evidence and trust could
// give another Result.
const engine = "1"

// Evidence is what Collect found. It is read-only and may be shared.
type Evidence struct {
	Subject Subject
	Items   []Item
	Claims  []Claim
	// Gaps say what was there and could not be looked at: too many, too large,
	// listed but missing. With a gap nothing is ever "unsigned".
	Gaps []string
}

// Key names the Result of judging ev by the trust of that revision, until
// Result.Until. Equal keys mean equal subject, evidence, gaps and trust.
func (ev *Evidence) Key(revision string) string {
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%q\n%q\n%s %s %d\n", engine, revision, ev.Subject.Name, ev.Subject.Desc.MediaType, ev.Subject.Desc.Digest, ev.Subject.Desc.Size)
	for _, p := range ev.Subject.Parents {
		fmt.Fprintf(h, "parent %s\n", p.Desc.Digest)
	}
	fmt.Fprintf(h, "%q %q %q\n", ev.Subject.Tags, ev.Subject.Platform, ev.Subject.DiffIDs)
	for _, i := range ev.Items {
		fmt.Fprintf(h, "item %s %s %s %s\n", i.Format, i.About.Digest, i.Manifest, i.Digest)
	}
	for _, c := range ev.Claims {
		fmt.Fprintf(h, "claim %s %s %s\n", c.Format, c.About, c.Digest)
	}
	for _, g := range ev.Gaps {
		fmt.Fprintf(h, "gap %q\n", g)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// sort makes the order independent of who answered first.
func (ev *Evidence) sort() {
	slices.SortStableFunc(ev.Items, func(a, b Item) int {
		return cmp.Or(cmp.Compare(a.About.Digest, b.About.Digest), cmp.Compare(a.Format, b.Format),
			cmp.Compare(a.Manifest, b.Manifest), cmp.Compare(a.Digest, b.Digest))
	})
	slices.SortStableFunc(ev.Claims, func(a, b Claim) int {
		return cmp.Or(cmp.Compare(a.Format, b.Format), cmp.Compare(a.Digest, b.Digest))
	})
	slices.Sort(ev.Gaps)
}

// checkParents demands that every parent lists the subject, by its own bytes.
func (s *Subject) checkParents() error {
	for _, p := range s.Parents {
		ok, err := p.lists(s.Desc)
		if err != nil {
			return fmt.Errorf("parent %s of %s: %w", p.Desc.Digest, s.Desc.Digest, err)
		}
		if !ok {
			return fmt.Errorf("parent %s does not list %s", p.Desc.Digest, s.Desc.Digest)
		}
	}
	return nil
}
