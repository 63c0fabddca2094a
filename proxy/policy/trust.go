package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	godigest "github.com/opencontainers/go-digest"
	"go.yaml.in/yaml/v3"

	"github.com/sluiceproxy/sluice/signing"
)

// Trust is what one policy of the file demands of an image's signatures. The
// package compiles and verifies nothing: Bind takes who does.
type Trust struct {
	Policy string // its name
	signing.Trust
	// Action follows from a signature that is missing or does not count: Deny
	// unless the file says otherwise.
	Action Decision
	// OnError follows if nobody could look at the signatures: Pending, so that
	// the next pull tries again, or Deny.
	OnError Decision
	// Verifier judges by Trust; nil before Bind.
	Verifier signing.Verifier

	set          *ruleset       // whose section it is
	line, column int            // of the section
	at           map[string]pos // of the authorities, by name
}

// pos is a place in the file.
type pos struct{ line, column int }

// Believes reports whether the trust has a rule that lets a VEX attestation
// suppress findings.
func (t *Trust) Believes() bool {
	return slices.ContainsFunc(slices.Concat(t.Authorities, t.Issuers), func(a signing.Authority) bool {
		return slices.ContainsFunc(a.Attestations, func(r signing.AttestationRule) bool { return r.Use == signing.UseExemptions })
	})
}

// Covers reports whether the trust's policy is for the image.
func (t *Trust) Covers(i *Image) bool { return t.set.covers(i) }

// TrustResult is what a policy's Trust makes of an image's signatures.
type TrustResult struct {
	Policy string         // its name
	Result signing.Result // by its Verifier
	// Err says why there is no Result: the registry failed, or took too long. It
	// is never read as "unsigned".
	Err string
	// Until is when to look again; zero means that time changes nothing.
	Until time.Time
}

// TrustVerdict is what a verdict tells of the signatures that it rests on.
type TrustVerdict struct {
	Policy   string            `json:"policy"`
	Outcome  signing.Outcome   `json:"outcome"`
	Passed   []string          `json:"passed,omitempty"`   // authorities
	Evidence []godigest.Digest `json:"evidence,omitempty"` // manifests of the artifacts that made them pass
	Reason   string            `json:"reason,omitempty"`   // of another outcome
	Revision string            `json:"revision,omitempty"` // of the trust
}

// Trusts returns the trusts of the policies that cover an image of that name
// and digest under some tag. Which of them count is Decide's to say.
func (p *Policy) Trusts(name string, digest godigest.Digest) []*Trust {
	var out []*Trust
	for _, s := range p.sets {
		if s.trust != nil &&
			slices.ContainsFunc(s.images, func(g Glob) bool { return g.matchName(name, digest) }) &&
			!slices.ContainsFunc(s.exclude, func(g Glob) bool { return g.tag == "" && g.matchName(name, digest) }) {
			out = append(out, s.trust)
		}
	}
	return out
}

// Coverage says whether a policy of the file is for an image.
type Coverage struct {
	Policy   string `json:"policy"`
	Covers   bool   `json:"covers"`
	Excluded bool   `json:"excluded,omitempty"` // by exclude; images would cover it
	Trust    *Trust `json:"-"`                  // nil = signatures do not matter
}

// Coverage tells of every policy of the file whether it covers the image.
func (p *Policy) Coverage(i *Image) []Coverage {
	out := make([]Coverage, len(p.sets))
	for n, s := range p.sets {
		out[n] = Coverage{Policy: s.name, Covers: s.covers(i), Trust: s.trust}
		out[n].Excluded = !out[n].Covers && slices.ContainsFunc(s.images, func(g Glob) bool { return g.Match(i.Name, i.Tags, i.Digest) })
	}
	return out
}

// Binder is what Bind needs of the world.
type Binder struct {
	Now time.Time
	// Read returns the content of a file that the policy names.
	Read func(name string) ([]byte, error)
	// Compile checks a trust whose files are read.
	Compile func(signing.Trust) (signing.Verifier, error)
	// OpenLocks checks the file's locks, whose files are read: that they are
	// signed, and no older than those that were in force. Nil is right only for a
	// policy without locks.
	OpenLocks func([]signing.Lock) (signing.Locks, error)
}

// Bind returns p with the files of its trust sections read and their verifiers
// made. What the files hold is part of the new policy's revision. The error is
// a Problems: a file that is not there, a key that is none, and an authority
// all of whose keys have expired, unless a log or time-stamp authority can prove
// that it signed before. A policy without trust sections and locks is returned as
// it is.
func (p *Policy) Bind(b Binder) (*Policy, error) {
	bound := *p
	bound.sets = slices.Clone(p.sets)
	var problems Problems
	revisions := []string{}
	for i, s := range bound.sets {
		if s.trust == nil {
			continue
		}
		t, found := s.trust.bind(b, p)
		problems = append(problems, found...)
		if len(found) > 0 {
			continue
		}
		set := *s
		set.trust, bound.sets[i] = t, &set
		revisions = append(revisions, t.Verifier.Revision())
	}
	found, revision := bound.bindLocks(b)
	problems = append(problems, found...)
	if revision != "" {
		revisions = append(revisions, revision)
	}
	if len(problems) > 0 {
		return nil, problems.sorted()
	}
	if len(revisions) > 0 {
		bound.revision = revisionOf(p.text, revisions...)
	}
	return &bound, nil
}

// bind is Bind for one section.
func (t *Trust) bind(b Binder, p *Policy) (*Trust, Problems) {
	var problems Problems
	report := func(at pos, format string, args ...any) {
		problems = append(problems, Problem{File: p.name, Line: at.line, Column: at.column, Message: fmt.Sprintf(format, args...)})
	}
	here := pos{t.line, t.column}
	loaded, err := t.Load(func(name string) ([]byte, error) {
		data, err := b.Read(name)
		if err != nil {
			err = &fileError{name, err}
		}
		return data, err
	})
	if err != nil {
		at := here
		var file *fileError
		if errors.As(err, &file) {
			if named, ok := p.files[file.name]; ok {
				at = named
			}
		}
		report(at, "trust: %s", err)
		return nil, problems
	}
	for _, a := range slices.Concat(loaded.Authorities, loaded.Issuers) {
		at, ok := t.at[a.Name]
		if !ok {
			at = here
		}
		if expired(&a, b.Now) {
			report(at, "authority %q: all of its keys have expired, and there is no root to prove that one signed before", a.Name)
			continue
		}
		if _, err := b.Compile(alone(a, slices.ContainsFunc(loaded.Issuers, func(i signing.Authority) bool { return i.Name == a.Name }))); err != nil {
			report(at, "%s", oneLine(err.Error()))
		}
	}
	if len(problems) > 0 {
		return nil, problems
	}
	out := *t
	out.Trust = loaded
	if out.Verifier, err = b.Compile(loaded); err != nil {
		report(here, "%s", oneLine(err.Error()))
	}
	return &out, problems
}

// fileError is about a file that the policy names.
type fileError struct {
	name string
	err  error
}

func (e *fileError) Error() string { return e.err.Error() }
func (e *fileError) Unwrap() error { return e.err }

// alone is a trust of one authority or issuer, to find out which one is wrong.
func alone(a signing.Authority, issuer bool) signing.Trust {
	if issuer {
		return signing.Trust{Issuers: []signing.Authority{a}}
	}
	return signing.Trust{Require: 1, Authorities: []signing.Authority{a}}
}

// expired reports whether no key of the authority can count any more.
func expired(a *signing.Authority, now time.Time) bool {
	if a.Key == nil || len(a.Key.Keys) == 0 || len(a.Key.Times.Root.Data) > 0 {
		return false
	}
	return !slices.ContainsFunc(a.Key.Keys, func(k signing.Key) bool { return k.NotAfter.IsZero() || !now.After(k.NotAfter) })
}

// trust reads the section of a policy. Two of its keys are this package's, the
// others package signing's.
func (r *reader) trust(n *yaml.Node, policy string, m *signing.Materials) *Trust {
	if n == nil {
		return nil
	}
	n = resolve(n)
	t := &Trust{Policy: policy, Action: Deny, OnError: Pending, line: n.Line, column: n.Column, at: map[string]pos{}}
	rest := *n
	if n.Kind == yaml.MappingNode {
		rest.Content = nil
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, value := n.Content[i], n.Content[i+1]
			switch key.Value {
			case "action":
				t.Action = r.decision(value, "action", Annotate, Pending, Deny)
			case "onError":
				t.OnError = r.decision(value, "onError", Pending, Deny)
			default:
				rest.Content = append(rest.Content, key, value)
			}
			if key.Value == "authorities" || key.Value == "issuers" {
				t.place(value)
			}
		}
	}
	parsed, problems := signing.ParseTrust(&rest, m)
	r.add(problems)
	t.Trust = parsed
	return t
}

// place notes where the authorities of a list stand.
func (t *Trust) place(n *yaml.Node) {
	for _, e := range resolve(n).Content {
		e = resolve(e)
		for i := 0; i+1 < len(e.Content); i += 2 {
			if e.Content[i].Value == "name" {
				t.at[resolve(e.Content[i+1]).Value] = pos{e.Line, e.Column}
			}
		}
	}
}

// decision reads one of the words for known, the last of which is the default
// after a problem.
func (r *reader) decision(n *yaml.Node, what string, known ...Decision) Decision {
	words := make([]string, len(known))
	for i, d := range known {
		words[i] = d.String()
	}
	s := r.text(n, what)
	if i := slices.Index(words, s); i >= 0 {
		return known[i]
	}
	if s != "" {
		r.problem(n, nearest(s, words), "%s is one of %s, not %q", what, strings.Join(words, ", "), clip(s))
	}
	return known[len(known)-1]
}

// add takes over what package signing found wrong.
func (r *reader) add(problems []signing.Problem) {
	for _, p := range problems {
		r.at(p.Line, p.Column, "", "%s", p.Message)
	}
}

// places notes where texts stand below n: a file that cannot be read is
// reported at its name.
func places(n *yaml.Node, into map[string]pos) {
	if n == nil {
		return
	}
	n = resolve(n)
	if n.Kind == yaml.ScalarNode {
		if _, ok := into[n.Value]; !ok {
			into[n.Value] = pos{n.Line, n.Column}
		}
	}
	for _, c := range n.Content {
		places(c, into)
	}
}

// trusts adds what the covering policies make of the image's signatures. That
// of an index says nothing yet: each image that it lists is judged by itself, by
// the index's signatures and by its own. What holds nothing but signatures and
// reports need not be signed.
func (d *decision) trusts(covering []*ruleset) {
	if d.Image.Evidential {
		return
	}
	for _, s := range covering {
		if s.trust == nil {
			continue
		}
		t := s.trust
		i := slices.IndexFunc(d.Trust, func(r TrustResult) bool { return r.Policy == s.name })
		var got TrustResult
		switch {
		case d.NoRegistry && len(t.Authorities) == 0:
			continue
		case d.NoRegistry:
			d.add(Reason{Rule: RuleUnsigned, Policy: s.name, Action: Annotate, Message: "signatures were not looked for: the image is not in a registry"})
			continue
		case i < 0:
			got.Err = "nobody looked for them"
		default:
			got = d.Trust[i]
			d.recheck(got.Until)
		}
		v, r := t.judge(&got)
		d.trusted = append(d.trusted, v)
		for _, a := range got.Result.Authorities {
			if a.Outcome == signing.Pass && a.Warning != "" {
				d.add(Reason{Rule: RuleTrustWarning, Policy: s.name, Action: Annotate, Message: a.Name + ": " + a.Warning})
			}
		}
		if r.Rule == "" {
			continue
		}
		if d.Image.Index {
			r.Action = Annotate
			r.Message += "; each image that the index lists needs a signature of its own"
		}
		if r.Rule != RuleTrustError {
			d.waive(&r, &subject{Evidence: d.Evidence})
		}
		d.add(r)
	}
}

// Decide is what follows from a result alone, with a sentence where it is no
// pass.
func (t *Trust) Decide(r *TrustResult) (Decision, string) {
	_, reason := t.judge(r)
	if reason.Rule == "" {
		return Allow, ""
	}
	return reason.Action, reason.Message
}

// judge sums a result up, with a reason unless it is a pass.
func (t *Trust) judge(got *TrustResult) (TrustVerdict, Reason) {
	res := &got.Result
	v := TrustVerdict{Policy: t.Policy, Outcome: res.Outcome, Reason: res.Reason, Revision: res.Revision}
	r := Reason{Policy: t.Policy, Action: t.Action}
	switch {
	case got.Err != "" && len(t.Authorities) == 0: // of attestations only, which can but lift a denial
		v.Outcome, v.Reason = signing.Undecided, got.Err
		return v, Reason{}
	case got.Err != "":
		v.Outcome, v.Reason = signing.Undecided, got.Err
		r.Rule, r.Action = RuleTrustError, t.OnError
		r.Message = "the signatures could not be looked at: " + got.Err
	case res.Outcome == signing.Pass:
		for i := range res.Authorities {
			if a := &res.Authorities[i]; a.Outcome == signing.Pass {
				v.Passed = append(v.Passed, a.Name)
				v.Evidence = append(v.Evidence, evidenceOf(a, res.Attestations)...)
			}
		}
		slices.Sort(v.Evidence)
		v.Evidence = slices.Compact(v.Evidence)
		return v, Reason{}
	case res.Outcome == signing.Fail && !found(res) && !t.locked():
		r.Rule = RuleUnsigned
		r.Message = "the image is not signed by " + t.who() + ", as policy " + t.Policy + " demands"
	case res.Outcome == signing.Fail:
		r.Rule = RuleTrustFailed
		r.Message = "the image's signatures do not satisfy policy " + t.Policy + ": " + res.Reason
	default: // Undecided, and whatever it may be
		r.Rule, r.Action = RuleTrustError, t.OnError
		r.Message = "the signatures could not all be looked at: " + res.Reason
	}
	return v, r
}

// locked reports whether an authority is a lock, which says more than that
// nothing is signed.
func (t *Trust) locked() bool {
	return slices.ContainsFunc(t.Authorities, func(a signing.Authority) bool { return a.Hash != nil })
}

// found reports whether there is anything signed, by whomever.
func found(res *signing.Result) bool {
	return len(res.Attestations) > 0 || slices.ContainsFunc(res.Authorities, func(a signing.AuthorityResult) bool {
		return len(a.Signatures) > 0 || len(a.Refused) > 0
	})
}

// evidenceOf returns the artifacts by which an authority passed.
func evidenceOf(a *signing.AuthorityResult, attestations []signing.Attestation) []godigest.Digest {
	var out []godigest.Digest
	for i := range a.Signatures {
		out = append(out, a.Signatures[i].Manifest)
	}
	for i := range attestations {
		if attestations[i].Authority == a.Name && attestations[i].Rule != "" {
			out = append(out, attestations[i].Manifest)
		}
	}
	return out
}

// who names the authorities that would do.
func (t *Trust) who() string {
	names := make([]string, len(t.Authorities))
	for i, a := range t.Authorities {
		names[i] = a.Name
	}
	switch n := len(names); {
	case n == 1:
		return names[0]
	case t.Require == n:
		return strings.Join(names, " and ")
	case t.Require == 1:
		return strings.Join(names, " or ")
	}
	return fmt.Sprintf("%d of %s", t.Require, strings.Join(names, ", "))
}
