package verify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	godigest "github.com/opencontainers/go-digest"

	"github.com/sluiceproxy/sluice/signing"
	"github.com/sluiceproxy/sluice/signing/provenance"
	"github.com/sluiceproxy/sluice/signing/sigstore"
)

// largeItem is the size beyond which items are read one at a time: a JSON tree
// takes ten times the memory of its bytes.
const largeItem = 1 << 20

// Verify collects the subject's evidence from src and judges it at now.
func (v *Verifier) Verify(ctx context.Context, src signing.Source, s signing.Subject, now time.Time) (signing.Result, error) {
	ev, err := signing.Collect(ctx, src, s)
	if err != nil {
		return signing.Result{}, err
	}
	return v.Judge(ctx, ev, now)
}

// Revision names the Trust with the contents of its files.
func (v *Verifier) Revision() string { return v.revision }

// Judge implements signing.Verifier.
func (v *Verifier) Judge(ctx context.Context, ev signing.Evidence, now time.Time) (signing.Result, error) {
	r := signing.Result{
		Subject: ev.Subject.Desc.Digest, Claims: claims(ev), Gaps: ev.Gaps,
		Revision: v.revision, Key: ev.Key(v.revision),
	}
	passed, undecided := 0, 0
	var why []string
	for _, a := range v.authorities {
		ar, err := v.judge(ctx, a, &ev, now, &r)
		if err != nil {
			return signing.Result{}, fmt.Errorf("authority %s on %s: %w", a.Name, r.Subject, err)
		}
		switch ar.Outcome {
		case signing.Pass:
			passed++
		case signing.Undecided:
			undecided++
		case signing.Fail:
		}
		if ar.Outcome != signing.Pass {
			why = append(why, a.Name+": "+ar.Reason)
		}
		r.Authorities = append(r.Authorities, ar)
	}
	for _, a := range v.issuers {
		ar, err := v.judge(ctx, a, &ev, now, &r)
		if err != nil {
			return signing.Result{}, fmt.Errorf("issuer %s on %s: %w", a.Name, r.Subject, err)
		}
		r.Issuers = append(r.Issuers, ar)
	}
	switch {
	case v.revoked[r.Subject]:
		r.Outcome, r.Reason = signing.Fail, "the image's digest is revoked"
	case passed >= v.require:
		r.Outcome = signing.Pass
	case passed+undecided >= v.require:
		r.Outcome, r.Reason = signing.Undecided, v.reason(passed, why)
	default:
		r.Outcome, r.Reason = signing.Fail, v.reason(passed, why)
	}
	return r, nil
}

func (v *Verifier) reason(passed int, why []string) string {
	if len(v.authorities) == 1 {
		return why[0]
	}
	return fmt.Sprintf("%d of %d authorities passed, %d must: %s", passed, len(v.authorities), v.require, strings.Join(why, "; "))
}

// judge lets one authority look at every item that is of its formats.
func (v *Verifier) judge(ctx context.Context, a *authority, ev *signing.Evidence, now time.Time, r *signing.Result) (signing.AuthorityResult, error) {
	if a.lock != nil {
		return a.published(ev, now, r, v.inherit), nil
	}
	ar := signing.AuthorityResult{Name: a.Name}
	met := map[string]bool{}
	for _, item := range ev.Items {
		if !a.formats[item.Format] || item.About.Digest != r.Subject && !v.inherit {
			continue
		}
		p, err := v.prove(ctx, a, item, now)
		if ctx.Err() != nil {
			return ar, ctx.Err()
		}
		if err != nil {
			ar.Refused = append(ar.Refused, refusal(item, err))
			continue
		}
		r.Until = earlier(r.Until, p.Until)
		sig := signing.Signature{
			Format: item.Format, Digest: item.Digest, Manifest: item.Manifest, About: item.About.Digest,
			Identity: p.Identity, SignedAs: p.SignedAs, Times: p.Times,
		}
		if p.Statement == nil {
			ar.Signatures = append(ar.Signatures, sig)
			continue
		}
		atts, refused := a.attestations(sig, item, p, now)
		for _, att := range atts {
			met[att.Rule] = true
			r.Until = earlier(r.Until, att.until)
			r.Attestations = append(r.Attestations, att.Attestation)
		}
		ar.Refused = append(ar.Refused, refused...)
	}
	ar.Reason = a.missing(&ar, met)
	switch {
	case ar.Reason == "":
		ar.Outcome = signing.Pass
	case len(ev.Gaps) > 0:
		ar.Outcome = signing.Undecided
		ar.Reason += "; not all could be looked at: " + ev.Gaps[0]
	default:
		ar.Outcome = signing.Fail
	}
	return ar, nil
}

// prove asks the authority's engine and applies what holds for all of them.
func (v *Verifier) prove(ctx context.Context, a *authority, item signing.Item, now time.Time) (p signing.Proof, err error) {
	if len(item.Data) > largeItem {
		select {
		case v.large <- struct{}{}:
			defer func() { <-v.large }()
		case <-ctx.Done():
			return p, ctx.Err()
		}
	}
	// The parsers of foreign bytes are other people's. One that panics must not
	// take the proxy with it.
	defer func() {
		if x := recover(); x != nil {
			p, err = signing.Proof{}, fmt.Errorf("the parser panicked: %v", x)
		}
	}()
	if p, err = a.engine.Verify(ctx, item, now); err != nil {
		return signing.Proof{}, err
	}
	used := append([]godigest.Digest{godigest.Digest(p.Identity.KeyID), item.Digest, item.Manifest, item.About.Digest}, p.Certificates...)
	for _, d := range used {
		if v.revoked[d] {
			return signing.Proof{}, fmt.Errorf("%s is revoked", d)
		}
	}
	switch {
	case len(a.signedAs) == 0 || slices.ContainsFunc(a.signedAs, func(re *regexp.Regexp) bool { return re.MatchString(p.SignedAs) }):
		return p, nil
	case p.SignedAs == "":
		return signing.Proof{}, errors.New("its signed bytes name no repository, and signedAs demands one")
	}
	return signing.Proof{}, fmt.Errorf("it is signed as %q, which signedAs does not cover", p.SignedAs)
}

// dated is an attestation with the time at which it is too old.
type dated struct {
	signing.Attestation
	until time.Time
}

// attestations returns the statement once for each rule that it meets, once
// without a rule if none asks for its type, and a refusal for each that it does
// not meet.
func (a *authority) attestations(sig signing.Signature, item signing.Item, p signing.Proof, now time.Time) (out []dated, refused []signing.Refusal) {
	att := signing.Attestation{Signature: sig, Authority: a.Name, PredicateType: p.Statement.PredicateType, Time: madeAt(p)}
	var provenanceErr error
	if provenance.Known(att.PredicateType) {
		att.Provenance, provenanceErr = provenance.Parse(p.Statement)
	}
	asked := false
	for _, r := range a.rules {
		if r.PredicateType != att.PredicateType {
			continue
		}
		asked = true
		d := dated{Attestation: att}
		err := provenanceErr
		if err == nil {
			d.until, err = r.met(&att, now)
		}
		if err == nil && r.Use != signing.UseRequire {
			d.Predicate, err = json.Marshal(p.Statement.Predicate)
		}
		if err != nil {
			refused = append(refused, refusal(item, fmt.Errorf("rule %s: %w", r.Name, err)))
			continue
		}
		d.Rule, d.Use = r.Name, r.Use
		out = append(out, d)
	}
	if !asked {
		out = append(out, dated{Attestation: att})
	}
	return out, refused
}

// met returns nil and until when, if the attestation is what the rule asks for.
func (r *rule) met(att *signing.Attestation, now time.Time) (until time.Time, err error) {
	if r.MaxAge > 0 {
		until = att.Time.Add(r.MaxAge)
		switch {
		case att.Time.IsZero():
			return until, errors.New("nothing says when it was made, and maxAge is set")
		case att.Time.After(now.Add(skew)):
			return until, fmt.Errorf("it says it was made at %s, which is to come", att.Time.UTC().Format(time.RFC3339))
		case now.After(until):
			return until, fmt.Errorf("it was made at %s, more than %s ago", att.Time.UTC().Format(time.RFC3339), r.MaxAge)
		}
	}
	if r.slsa != nil {
		return until, r.slsa.Check(att.Provenance, att.Identity)
	}
	return until, nil
}

// missing says in one sentence what the authority lacks, "" if nothing.
func (a *authority) missing(ar *signing.AuthorityResult, met map[string]bool) string {
	required := false
	for _, r := range a.rules {
		if r.Use != signing.UseRequire {
			continue
		}
		required = true
		if !met[r.Name] {
			return because(ar, "no attestation meets the rule "+r.Name, "rule "+r.Name+": ")
		}
	}
	if (a.Signature || !required && !a.issuer) && len(ar.Signatures) == 0 {
		return because(ar, "no signature", "")
	}
	return ""
}

// because adds the refusal that explains most: one of that rule, else one that
// is not a stranger's, else any.
func because(ar *signing.AuthorityResult, what, prefix string) string {
	if len(ar.Refused) == 0 {
		return what + " found"
	}
	best := ar.Refused[0]
	for _, f := range ar.Refused {
		if prefix != "" && strings.HasPrefix(f.Reason, prefix) {
			return what + ": " + strings.TrimPrefix(f.Reason, prefix)
		}
		if best.Stranger && !f.Stranger {
			best = f
		}
	}
	return fmt.Sprintf("%s counts: %s", what, best.Reason)
}

func refusal(item signing.Item, why error) signing.Refusal {
	return signing.Refusal{
		Format: item.Format, Digest: item.Digest, About: item.About.Digest,
		Reason: why.Error(), Stranger: errors.Is(why, signing.ErrStranger),
	}
}

// claims fills in what claimed provenance says, where it can be read.
func claims(ev signing.Evidence) []signing.Claim {
	out := slices.Clone(ev.Claims)
	for i, c := range out {
		if c.Data == nil || !provenance.Known(c.PredicateType) {
			continue
		}
		if st, err := sigstore.Claimed(c.Data, ev.Subject.Desc); err == nil {
			if p, err := provenance.Parse(st); err == nil {
				out[i].Provenance = p
			}
		}
	}
	return out
}

// earlier returns the earlier of two times of which zero means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
