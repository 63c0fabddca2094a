package verify

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	godigest "github.com/opencontainers/go-digest"

	"github.com/sluiceproxy/sluice/signing"
	"github.com/sluiceproxy/sluice/signing/notation"
	"github.com/sluiceproxy/sluice/signing/provenance"
	"github.com/sluiceproxy/sluice/signing/sigstore"
)

// maxAuthorities bounds the work that a signature can cause: each authority
// looks at each.
const maxAuthorities = 32

// Verifier holds one Trust. It is safe for concurrent use.
type Verifier struct {
	require     int
	inherit     bool
	authorities []*authority
	issuers     []*authority
	revoked     map[godigest.Digest]bool
	revision    string
	large       chan struct{} // held while a large item is read
}

var _ signing.Verifier = (*Verifier)(nil)

// engine proves what an item says by one means.
type engine interface {
	Verify(ctx context.Context, item signing.Item, now time.Time) (signing.Proof, error)
}

type authority struct {
	signing.Authority
	issuer   bool
	engine   engine            // nil for one by Hash
	lock     signing.Locks     // of one by Hash
	keys     []godigest.Digest // of a ring
	formats  map[signing.Format]bool
	signedAs []*regexp.Regexp
	rules    []rule
}

type rule struct {
	signing.AttestationRule
	slsa *provenance.Rule // nil if it does not ask
}

// Compile reads what t names (load it first) and checks it. The error has one
// line for each problem and names the authority.
func Compile(t signing.Trust) (*Verifier, error) {
	v := &Verifier{require: t.Require, inherit: t.Inherit, revoked: map[godigest.Digest]bool{}, large: make(chan struct{}, 1)}
	var problems []error
	var err error
	if v.revision, err = t.Revision(); err != nil {
		problems = append(problems, err)
	}
	n := len(t.Authorities)
	switch {
	case n == 0 && len(t.Issuers) == 0:
		problems = append(problems, errors.New("it names no authority"))
	case n+len(t.Issuers) > maxAuthorities:
		problems = append(problems, fmt.Errorf("it has %d authorities and issuers, more than %d", n+len(t.Issuers), maxAuthorities))
	case t.Require < min(n, 1) || t.Require > n:
		problems = append(problems, fmt.Errorf("require is %d, of %d authorities", t.Require, n))
	}
	for _, d := range t.Revoked {
		if err := d.Validate(); err != nil || d.Algorithm() != godigest.SHA256 {
			problems = append(problems, fmt.Errorf("revoked %q: not sha256:<64 hex digits>", d))
		}
		v.revoked[d] = true
	}
	names := map[string]bool{}
	compile := func(list []signing.Authority, issuer bool) (out []*authority) {
		for _, a := range list {
			c, err := compileAuthority(a, issuer)
			if err == nil && names[a.Name] {
				err = errors.New("the name is taken")
			}
			names[a.Name] = true
			if err != nil {
				problems = append(problems, fmt.Errorf("authority %q: %w", a.Name, err))
				continue
			}
			out = append(out, c)
		}
		return out
	}
	v.authorities = compile(t.Authorities, false)
	if err := v.openLocks(); err != nil {
		problems = append(problems, err)
	}
	v.issuers = compile(t.Issuers, true)
	if err := shared(v.authorities); err != nil {
		problems = append(problems, err)
	}
	if len(problems) > 0 {
		return nil, fmt.Errorf("trust: %w", errors.Join(problems...))
	}
	return v, nil
}

// shared reports a key of two authorities: one signer would count twice.
func shared(list []*authority) error {
	owner := map[godigest.Digest]string{}
	for _, a := range list {
		for _, id := range a.keys {
			if o, ok := owner[id]; ok && o != a.Name {
				return fmt.Errorf("the key %s belongs to the authorities %q and %q: one signer would count twice", id, o, a.Name)
			}
			owner[id] = a.Name
		}
	}
	return nil
}

func compileAuthority(a signing.Authority, issuer bool) (*authority, error) {
	c := &authority{Authority: a, issuer: issuer, formats: map[signing.Format]bool{}}
	if a.Name == "" {
		return nil, errors.New("it has no name")
	}
	formats, err := c.means()
	if err != nil {
		return nil, err
	}
	if a.Hash != nil {
		if issuer || a.Signature || len(a.Attestations)+len(a.SignedAs)+len(a.Formats) > 0 {
			return nil, errors.New("a lock lists images and signs none: attestations, formats and signedAs are not for it")
		}
		return c, nil
	}
	for _, f := range a.Formats {
		if !slices.Contains(formats, f) {
			return nil, fmt.Errorf("the format %q is not one of its means", f)
		}
	}
	if len(a.Formats) > 0 {
		formats = a.Formats
	}
	for _, f := range formats {
		c.formats[f] = true
	}
	for _, g := range a.SignedAs {
		re, err := signing.NameGlob(g)
		if err != nil {
			return nil, fmt.Errorf("signedAs %q: %w", g, err)
		}
		c.signedAs = append(c.signedAs, re)
	}
	if issuer && (len(a.Attestations) == 0 || a.Signature) {
		return nil, errors.New("an issuer is believed in its attestations only: name some, and no signature")
	}
	if a.Notation != nil && len(a.Attestations) > 0 {
		return nil, errors.New("notation signs images, not attestations")
	}
	names := map[string]bool{}
	for _, r := range a.Attestations {
		if names[r.Name] {
			return nil, fmt.Errorf("the name of the rule %q is taken", r.Name)
		}
		names[r.Name] = true
		cr, err := compileRule(r)
		if err != nil {
			return nil, fmt.Errorf("rule %q: %w", r.Name, err)
		}
		c.rules = append(c.rules, cr)
	}
	return c, nil
}

// means sets the authority's engine and returns the formats that it knows.
func (a *authority) means() ([]signing.Format, error) {
	if n := count(a.Key != nil, a.Keyless != nil, a.Notation != nil, a.Hash != nil); n != 1 {
		return nil, fmt.Errorf("it has %d of key, keyless, notation and hash, not one", n)
	}
	cosign := []signing.Format{signing.FormatBundle, signing.FormatCosignSignature, signing.FormatCosignAttestation}
	switch {
	case a.Key != nil:
		ring, err := sigstore.NewKeyRing(*a.Key)
		if err != nil {
			return nil, fmt.Errorf("key: %w", err)
		}
		a.engine, a.keys = ring, ring.IDs()
		return cosign, nil
	case a.Keyless != nil:
		k, err := sigstore.NewKeyless(*a.Keyless)
		if err != nil {
			return nil, fmt.Errorf("keyless: %w", err)
		}
		a.engine = k
		return cosign, nil
	case a.Hash != nil:
		return nil, nil
	}
	st, err := notation.NewStore(*a.Notation)
	if err != nil {
		return nil, fmt.Errorf("notation: %w", err)
	}
	a.engine = st
	return []signing.Format{signing.FormatNotation}, nil
}

func count(set ...bool) (n int) {
	for _, s := range set {
		if s {
			n++
		}
	}
	return n
}

func compileRule(r signing.AttestationRule) (rule, error) {
	c := rule{AttestationRule: r}
	switch {
	case r.Name == "":
		return c, errors.New("it has no name")
	case r.PredicateType == "":
		return c, errors.New("it has no predicateType")
	case r.MaxAge < 0:
		return c, errors.New("maxAge is negative")
	case !slices.Contains([]signing.Use{signing.UseRequire, signing.UseExemptions, signing.UseInventory}, r.Use):
		return c, fmt.Errorf("use is %q, not %q or %q", r.Use, signing.UseExemptions, signing.UseInventory)
	case r.SLSA == nil:
		return c, nil
	case !provenance.Known(r.PredicateType):
		return c, fmt.Errorf("slsa is for %s and %s", provenance.TypeV1, provenance.TypeV02)
	}
	var err error
	c.slsa, err = provenance.NewRule(*r.SLSA)
	return c, err
}
