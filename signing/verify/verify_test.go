package verify_test

import (
	"crypto"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sluiceproxy/sluice/signing"
	"github.com/sluiceproxy/sluice/signing/signtest"
	"github.com/sluiceproxy/sluice/signing/verify"
)

func TestKeyKinds(t *testing.T) {
	for _, kind := range []string{"p256", "p384", "p521", "rsa", "ed25519"} {
		t.Run(kind, func(t *testing.T) {
			b := newBench(t)
			b.key = signtest.NewKey(t, kind)
			other := signtest.NewKey(t, kind)
			trust := anyOf(ring("release", b.key))
			wantOutcome(t, b.judge(t, trust), signing.Fail)

			b.repo.Tag(t, b.image.Digest, "sig", b.key.Legacy(t, name, b.image.Digest))
			r := b.judge(t, trust)
			wantOutcome(t, r, signing.Pass)
			if got := r.Authorities[0].Signatures; len(got) != 1 || got[0].Format != signing.FormatCosignSignature || got[0].SignedAs != name || got[0].Identity.KeyID != b.key.ID.String() {
				t.Errorf("signatures %+v", got)
			}
			wantOutcome(t, b.judge(t, anyOf(ring("other", other))), signing.Fail)

			c := newBench(t)
			c.bundle(t, c.image, b.key.Bundle(t, signtest.Signature(t, c.image.Digest)))
			wantOutcome(t, c.judge(t, trust), signing.Pass)
			wantOutcome(t, c.judge(t, anyOf(ring("other", other))), signing.Fail)
		})
	}
}

// TestStrongHash: newer versions of cosign take the hash of the curve's
// strength, older ones always SHA-256.
func TestStrongHash(t *testing.T) {
	for kind, hash := range map[string]crypto.Hash{"p384": crypto.SHA384, "p521": crypto.SHA512} {
		b := newBench(t)
		b.key = signtest.NewKey(t, kind)
		l := b.key.Legacy(t, name, b.image.Digest)
		l.Annotations[signtest.AnnSignature] = base64Of(b.key.SignHash(t, l.Data, hash))
		b.repo.Tag(t, b.image.Digest, "sig", l)
		wantOutcome(t, b.judge(t, anyOf(ring("release", b.key))), signing.Pass)
	}
}

func TestRequire(t *testing.T) {
	a, c, d := signtest.NewKey(t, "p256"), signtest.NewKey(t, "p256"), signtest.NewKey(t, "p256")
	authorities := []signing.Authority{ring("a", a), ring("c", c), ring("d", d)}
	for _, tt := range []struct {
		name    string
		require int
		signers []*signtest.Key
		want    signing.Outcome
	}{
		{"any, none", 1, nil, signing.Fail},
		{"any, one", 1, []*signtest.Key{c}, signing.Pass},
		{"two, one", 2, []*signtest.Key{c}, signing.Fail},
		{"two, one that signed twice", 2, []*signtest.Key{c, c}, signing.Fail},
		{"two, two", 2, []*signtest.Key{c, a}, signing.Pass},
		{"all, two", 3, []*signtest.Key{c, a}, signing.Fail},
		{"all, three", 3, []*signtest.Key{c, a, d}, signing.Pass},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, legacy := newBench(t), newBench(t)
			var layers []signtest.Layer // of the same bytes, which differ in their annotations
			for _, k := range tt.signers {
				b.bundle(t, b.image, k.Bundle(t, signtest.Signature(t, b.image.Digest)))
				layers = append(layers, k.Legacy(t, name, legacy.image.Digest))
			}
			if len(layers) > 0 {
				legacy.repo.Tag(t, legacy.image.Digest, "sig", layers...)
			}
			trust := signing.Trust{Require: tt.require, Authorities: authorities}
			wantOutcome(t, b.judge(t, trust), tt.want)
			wantOutcome(t, legacy.judge(t, trust), tt.want)
		})
	}
}

func TestAttestationRules(t *testing.T) {
	const vuln = "https://cosign.sigstore.dev/attestation/vuln/v1"
	scanned := func(at time.Time) map[string]any {
		return map[string]any{"metadata": map[string]any{"scanFinishedOn": at.UTC().Format(time.RFC3339)}}
	}
	now := time.Now()
	for _, tt := range []struct {
		name      string
		rule      signing.AttestationRule
		signature bool // the authority demands one too
		predicate any
		signed    bool // the image is
		want      signing.Outcome
	}{
		{"there", signing.AttestationRule{PredicateType: vuln}, false, scanned(now), false, signing.Pass},
		{"another type", signing.AttestationRule{PredicateType: "https://example.com/other"}, false, scanned(now), true, signing.Fail},
		{"a type that begins alike", signing.AttestationRule{PredicateType: "https://cosign.sigstore.dev/attestation/vuln"}, false, scanned(now), true, signing.Fail},
		{"fresh", signing.AttestationRule{PredicateType: vuln, MaxAge: time.Hour}, false, scanned(now.Add(-time.Minute)), false, signing.Pass},
		{"stale", signing.AttestationRule{PredicateType: vuln, MaxAge: time.Hour}, false, scanned(now.Add(-2 * time.Hour)), false, signing.Fail},
		{"from the future", signing.AttestationRule{PredicateType: vuln, MaxAge: time.Hour}, false, scanned(now.Add(2 * time.Hour)), false, signing.Fail},
		{"without a date", signing.AttestationRule{PredicateType: vuln, MaxAge: time.Hour}, false, map[string]any{}, false, signing.Fail},
		{"signature too, unsigned", signing.AttestationRule{PredicateType: vuln}, true, scanned(now), false, signing.Fail},
		{"signature too, signed", signing.AttestationRule{PredicateType: vuln}, true, scanned(now), true, signing.Pass},
		{"an exemption approves nothing", signing.AttestationRule{PredicateType: vuln, Use: signing.UseExemptions}, false, scanned(now), false, signing.Fail},
		{"an exemption is not needed", signing.AttestationRule{PredicateType: "https://openvex.dev/ns", Use: signing.UseExemptions}, false, scanned(now), true, signing.Pass},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, form := range []string{"bundle", "legacy"} {
				b := newBench(t)
				st := signtest.Statement(t, b.image.Digest, vuln, tt.predicate)
				if form == "bundle" {
					b.bundle(t, b.image, b.key.Bundle(t, st))
				} else {
					b.repo.Tag(t, b.image.Digest, "att", b.key.LegacyAttestation(t, st))
				}
				if tt.signed {
					b.bundle(t, b.image, b.key.Bundle(t, signtest.Signature(t, b.image.Digest)))
				}
				a := ring("ci", b.key)
				tt.rule.Name = "scan"
				a.Signature, a.Attestations = tt.signature, []signing.AttestationRule{tt.rule}
				r := b.judge(t, anyOf(a))
				wantOutcome(t, r, tt.want)
				if tt.want == signing.Pass && tt.rule.PredicateType == vuln {
					if len(r.Attestations) != 1 || r.Attestations[0].Rule != "scan" || r.Attestations[0].Authority != "ci" {
						t.Errorf("%s: attestations %+v", form, r.Attestations)
					}
				}
			}
		})
	}
}

// TestIssuers: an issuer's attestations are evidence, and approve nothing.
func TestIssuers(t *testing.T) {
	const vex = "https://openvex.dev/ns/v0.2.0"
	b := newBench(t)
	team := signtest.NewKey(t, "p256")
	b.bundle(t, b.image, team.Bundle(t, signtest.Statement(t, b.image.Digest, vex, map[string]any{"author": "team"})))
	b.bundle(t, b.image, team.Bundle(t, signtest.Signature(t, b.image.Digest)))
	issuer := ring("vex-team", team)
	issuer.Attestations = []signing.AttestationRule{{Name: "vex", PredicateType: vex, Use: signing.UseExemptions}}

	trust := anyOf(ring("release", b.key))
	trust.Issuers = []signing.Authority{issuer}
	r := b.judge(t, trust)
	wantOutcome(t, r, signing.Fail)
	if len(r.Attestations) != 1 || r.Attestations[0].Use != signing.UseExemptions || r.Attestations[0].Authority != "vex-team" || string(r.Attestations[0].Predicate) != `{"author":"team"}` {
		t.Errorf("attestations %+v", r.Attestations)
	}

	// With issuers only nothing is demanded of the image.
	r = b.judge(t, signing.Trust{Issuers: []signing.Authority{issuer}})
	wantOutcome(t, r, signing.Pass)
	if len(r.Attestations) != 1 {
		t.Errorf("attestations %+v", r.Attestations)
	}
}

func TestKeyWindow(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	b := newBench(t)
	b.bundle(t, b.image, b.key.Bundle(t, signtest.Signature(t, b.image.Digest)))
	old := signtest.NewKey(t, "p256")
	for _, tt := range []struct {
		name                string
		notBefore, notAfter time.Time
		revoked             bool
		want                signing.Outcome
		until               time.Time
	}{
		{"no window", time.Time{}, time.Time{}, false, signing.Pass, time.Time{}},
		{"inside", now.Add(-time.Hour), now.Add(time.Hour), false, signing.Pass, now.Add(time.Hour)},
		{"before", now.Add(time.Hour), now.Add(2 * time.Hour), false, signing.Fail, time.Time{}},
		{"after, and nothing proves that it is older", now.Add(-2 * time.Hour), now.Add(-time.Hour), false, signing.Fail, time.Time{}},
		{"revoked", time.Time{}, time.Time{}, true, signing.Fail, time.Time{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := ring("release", b.key, old) // rotation: any of the ring
			k := &a.Key.Keys[0]
			k.NotBefore, k.NotAfter, k.Revoked = tt.notBefore, tt.notAfter, tt.revoked
			r, err := compile(t, anyOf(a)).Verify(t.Context(), b.repo, signing.Subject{Name: name, Desc: b.image}, now)
			if err != nil {
				t.Fatal(err)
			}
			wantOutcome(t, r, tt.want)
			if !r.Until.Equal(tt.until) {
				t.Errorf("until %s, want %s", r.Until, tt.until)
			}
		})
	}
}

func TestCompileRefuses(t *testing.T) {
	k, k2 := signtest.NewKey(t, "p256"), signtest.NewKey(t, "p256")
	change := func(f func(*signing.Trust)) signing.Trust {
		trust := anyOf(ring("a", k), ring("b", k2))
		f(&trust)
		return trust
	}
	for _, tt := range []struct {
		name, want string
		trust      signing.Trust
	}{
		{"nothing", "no authority", signing.Trust{}},
		{"require none", "require is 0", change(func(x *signing.Trust) { x.Require = 0 })},
		{"require too many", "require is 3", change(func(x *signing.Trust) { x.Require = 3 })},
		{"a key of two", "count twice", change(func(x *signing.Trust) { x.Authorities[1].Key = x.Authorities[0].Key })},
		{"a name of two", "taken", change(func(x *signing.Trust) { x.Authorities[1].Name = "a" })},
		{"no means", "0 of key", change(func(x *signing.Trust) { x.Authorities[0].Key = nil })},
		{"two means", "2 of key", change(func(x *signing.Trust) { x.Authorities[0].Notation = &signing.NotationStore{} })},
		{"no keys", "it has 0 keys", change(func(x *signing.Trust) { x.Authorities[0].Key = &signing.KeyRing{} })},
		{"only revoked keys", "revoked", change(func(x *signing.Trust) { x.Authorities[0].Key.Keys[0].Revoked = true })},
		{"no PEM", "not PEM", change(func(x *signing.Trust) { x.Authorities[0].Key.Keys[0].Data = []byte("x") })},
		{"log without root", "trusted root", change(func(x *signing.Trust) { x.Authorities[0].Key.Times.Log = 1 })},
		{"format of another means", "not one of its means", change(func(x *signing.Trust) { x.Authorities[0].Formats = []signing.Format{signing.FormatNotation} })},
		{"a claim as a format", "not one of its means", change(func(x *signing.Trust) { x.Authorities[0].Formats = []signing.Format{signing.FormatBuildKit} })},
		{"any name", "every host", change(func(x *signing.Trust) { x.Authorities[0].SignedAs = []string{"**"} })},
		{"issuer without rules", "attestations only", change(func(x *signing.Trust) { x.Issuers = []signing.Authority{ring("c", k)} })},
		{"rule without type", "no predicateType", change(func(x *signing.Trust) { x.Authorities[0].Attestations = []signing.AttestationRule{{Name: "x"}} })},
		{"slsa of another type", "slsa is for", change(func(x *signing.Trust) {
			x.Authorities[0].Attestations = []signing.AttestationRule{{Name: "x", PredicateType: "y", SLSA: &signing.SLSARule{Builders: []string{"b"}}}}
		})},
		{"slsa without builder", "no builder", change(func(x *signing.Trust) {
			x.Authorities[0].Attestations = []signing.AttestationRule{{Name: "x", PredicateType: "https://slsa.dev/provenance/v1", SLSA: &signing.SLSARule{}}}
		})},
		{"short revocation", "revoked", change(func(x *signing.Trust) { x.Revoked = append(x.Revoked, "sha256:ab") })},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v, err := verify.Compile(tt.trust)
			if err == nil || !strings.Contains(err.Error(), tt.want) || v != nil {
				t.Errorf("%v, want an error with %q", err, tt.want)
			}
		})
	}
}

// TestKeyIsOfEvidence: the cache key follows evidence, gaps and trust, and
// nothing else.
func TestKeyIsOfEvidence(t *testing.T) {
	b := newBench(t)
	s := signing.Subject{Name: name, Desc: b.image}
	collect := func() signing.Evidence {
		ev, err := signing.Collect(t.Context(), b.repo, s)
		if err != nil {
			t.Fatal(err)
		}
		return ev
	}
	bare := collect()
	b.bundle(t, b.image, b.key.Bundle(t, signtest.Signature(t, b.image.Digest)))
	b.repo.Tag(t, b.image.Digest, "sig", b.key.Legacy(t, name, b.image.Digest))
	one, two := collect(), collect()
	if one.Key("r") != two.Key("r") {
		t.Error("the same evidence has two keys")
	}
	if one.Key("r") == bare.Key("r") || one.Key("r") == one.Key("s") {
		t.Error("other evidence or another trust has the same key")
	}
	two.Gaps = []string{"x"}
	if one.Key("r") == two.Key("r") {
		t.Error("a gap does not change the key")
	}
	v, w := compile(t, anyOf(ring("a", b.key))), compile(t, anyOf(ring("a", signtest.NewKey(t, "p256"))))
	if v.Revision() == w.Revision() || v.Revision() != compile(t, anyOf(ring("a", b.key))).Revision() {
		t.Error("the revision does not follow the trust")
	}
}

// TestJudgeStops: a time limit is an error, never a verdict.
func TestJudgeStops(t *testing.T) {
	b := newBench(t)
	b.bundle(t, b.image, b.key.Bundle(t, signtest.Signature(t, b.image.Digest)))
	ev, err := signing.Collect(t.Context(), b.repo, signing.Subject{Name: name, Desc: b.image})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := contextCancelled(t)
	defer cancel()
	if _, err := compile(t, anyOf(ring("a", b.key))).Judge(ctx, ev, time.Now()); !errors.Is(err, ctx.Err()) {
		t.Errorf("error %v", err)
	}
}
