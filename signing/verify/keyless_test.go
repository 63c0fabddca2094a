//go:build !nokeyless

package verify_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sigstore/sigstore-go/pkg/testing/data"

	"github.com/sluiceproxy/sluice/signing"
	"github.com/sluiceproxy/sluice/signing/signtest"
	"github.com/sluiceproxy/sluice/signing/verify"
)

const (
	issuer   = "https://token.actions.githubusercontent.com"
	workflow = "https://github.com/acme/app/.github/workflows/release.yml@refs/tags/v1"
)

// keyless is an authority by certificate of the deployment. Its certificates
// have no SCT.
func keyless(s *signtest.Sigstore, id signing.CertificateIdentity) signing.Authority {
	return signing.Authority{Name: "ci", Keyless: &signing.Keyless{
		Times:      signing.Times{Root: signing.Material{Data: s.Root}, Log: 1, Timestamps: 1},
		Identities: []signing.CertificateIdentity{id},
	}}
}

func TestKeyless(t *testing.T) {
	s := signtest.NewSigstore(t)
	b := newBench(t)
	trust := anyOf(keyless(s, signing.CertificateIdentity{Issuer: issuer, SubjectRegExp: `https://github\.com/acme/.+/\.github/workflows/release\.yml@refs/tags/v.*`}))
	for name, attach := range map[string]func(b *bench){
		"bundle, Rekor v1": func(b *bench) {
			b.bundle(t, b.image, s.Bundle(t, workflow, issuer, signtest.Signature(t, b.image.Digest)))
		},
		"bundle, Rekor v2": func(b *bench) {
			b.bundle(t, b.image, s.BundleV2(t, workflow, issuer, signtest.Signature(t, b.image.Digest)))
		},
		"legacy": func(b *bench) {
			b.repo.Tag(t, b.image.Digest, "sig", s.Legacy(t, workflow, issuer, signtest.SimpleSigning(t, "x/y", b.image.Digest)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBenchOf(t, b.key)
			attach(b)
			r := b.judge(t, trust)
			wantOutcome(t, r, signing.Pass)
			sig := r.Authorities[0].Signatures[0]
			if sig.Identity.Subject != workflow || sig.Identity.Issuer != issuer || len(sig.Times) == 0 || !r.Until.IsZero() {
				t.Errorf("%+v, until %s", sig, r.Until)
			}
			// A keyless signature is none by key.
			wantOutcome(t, b.judge(t, anyOf(ring("release", b.key))), signing.Fail)
		})
	}
}

// TestKeylessLegacyAttestation: the tag .att by certificate.
func TestKeylessLegacyAttestation(t *testing.T) {
	const vuln = "https://cosign.sigstore.dev/attestation/vuln/v1"
	s := signtest.NewSigstore(t)
	b := newBench(t)
	b.repo.Tag(t, b.image.Digest, "att", s.LegacyAttestation(t, workflow, issuer, signtest.Statement(t, b.image.Digest, vuln, map[string]any{})))
	a := keyless(s, signing.CertificateIdentity{Issuer: issuer, Subject: workflow})
	a.Attestations = []signing.AttestationRule{{Name: "vuln", PredicateType: vuln}}
	wantOutcome(t, b.judge(t, anyOf(a)), signing.Pass)
	a.Keyless.Identities[0].Subject = workflow + "0"
	wantOutcome(t, b.judge(t, anyOf(a)), signing.Fail)
}

// TestThreatLookalike: row 24: issuers and subjects that begin, end or contain
// what is trusted.
func TestThreatLookalike(t *testing.T) {
	s := signtest.NewSigstore(t)
	for _, tt := range []struct {
		name, subject, issuer string
		id                    signing.CertificateIdentity
		want                  signing.Outcome
	}{
		{"exact", workflow, issuer, signing.CertificateIdentity{Issuer: issuer, Subject: workflow}, signing.Pass},
		{"mail", "dev@acme.example", "https://accounts.example", signing.CertificateIdentity{Issuer: "https://accounts.example", Subject: "dev@acme.example"}, signing.Pass},
		{"part of the subject", workflow, issuer, signing.CertificateIdentity{Issuer: issuer, SubjectRegExp: `acme/app`}, signing.Fail},
		{"begin of the subject", workflow, issuer, signing.CertificateIdentity{Issuer: issuer, SubjectRegExp: `https://github\.com/acme`}, signing.Fail},
		{"an alternative is anchored too", "https://evil.example/x", issuer, signing.CertificateIdentity{Issuer: issuer, SubjectRegExp: `a|https://evil`}, signing.Fail},
		{"owner that begins alike", strings.Replace(workflow, "acme/", "acme-evil/", 1), issuer, signing.CertificateIdentity{Issuer: issuer, SubjectRegExp: `https://github\.com/acme/.*`}, signing.Fail},
		{"another issuer", workflow, "https://evil.example", signing.CertificateIdentity{Issuer: issuer, Subject: workflow}, signing.Fail},
		{"issuer that begins alike", workflow, issuer + ".evil.example", signing.CertificateIdentity{Issuer: issuer, Subject: workflow}, signing.Fail},
		{"issuer that begins alike, expression", workflow, issuer + ".evil.example", signing.CertificateIdentity{IssuerRegExp: `https://token\.actions\.githubusercontent\.com`, Subject: workflow}, signing.Fail},
		{"capitals", strings.ToUpper(workflow), issuer, signing.CertificateIdentity{Issuer: issuer, Subject: workflow}, signing.Fail},
		{"an extension that the certificate lacks", workflow, issuer, signing.CertificateIdentity{Issuer: issuer, Subject: workflow, SourceOwnerID: "42"}, signing.Fail},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t)
			b.bundle(t, b.image, s.Bundle(t, tt.subject, tt.issuer, signtest.Signature(t, b.image.Digest)))
			wantOutcome(t, b.judge(t, anyOf(keyless(s, tt.id))), tt.want)
		})
	}
}

func TestKeylessCompileRefuses(t *testing.T) {
	s := signtest.NewSigstore(t)
	good := signing.CertificateIdentity{Issuer: issuer, Subject: workflow}
	change := func(f func(*signing.Keyless)) *signing.Keyless {
		k := keyless(s, good).Keyless
		f(k)
		return k
	}
	for _, tt := range []struct {
		name, want string
		keyless    *signing.Keyless
	}{
		{"any subject", "matches everything", change(func(k *signing.Keyless) {
			k.Identities = []signing.CertificateIdentity{{Issuer: issuer, SubjectRegExp: ".*"}}
		})},
		{"any subject, disguised", "matches everything", change(func(k *signing.Keyless) {
			k.Identities = []signing.CertificateIdentity{{Issuer: issuer, SubjectRegExp: "x|.+"}}
		})},
		{"any issuer", "matches everything", change(func(k *signing.Keyless) {
			k.Identities = []signing.CertificateIdentity{{IssuerRegExp: ".*", Subject: workflow}}
		})},
		{"no issuer", "no issuer", change(func(k *signing.Keyless) { k.Identities[0].Issuer = "" })},
		{"no subject", "no subject", change(func(k *signing.Keyless) { k.Identities[0].Subject = "" })},
		{"both subjects", "not both", change(func(k *signing.Keyless) { k.Identities[0].SubjectRegExp = "x" })},
		{"bad expression", "missing closing", change(func(k *signing.Keyless) {
			k.Identities = []signing.CertificateIdentity{{Issuer: issuer, SubjectRegExp: "("}}
		})},
		{"no identity", "0 identities", change(func(k *signing.Keyless) { k.Identities = nil })},
		{"no proof of time", "at least 1", change(func(k *signing.Keyless) { k.Times.Timestamps = 0 })},
		{"no root", "no trusted root", change(func(k *signing.Keyless) { k.Times.Root = signing.Material{} })},
		{"broken root", "trusted root", change(func(k *signing.Keyless) { k.Times.Root.Data = []byte("{}x") })},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := verify.Compile(anyOf(signing.Authority{Name: "ci", Keyless: tt.keyless}))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want an error with %q", err, tt.want)
			}
		})
	}
}

// TestThreatKeylessEvidence: certificates of others, proofs of time and of
// logging that are missing, late or of other signatures.
func TestThreatKeylessEvidence(t *testing.T) {
	s, other := signtest.NewSigstore(t), signtest.NewSigstore(t)
	id := signing.CertificateIdentity{Issuer: issuer, Subject: workflow}
	b := newBench(t)
	stmt := signtest.Signature(t, b.image.Digest)
	good := s.Bundle(t, workflow, issuer, stmt)
	foreign := s.Bundle(t, workflow, issuer, signtest.Signature(t, godigest.FromString("other")))
	edit := func(f func(bundle, material, from map[string]any)) signtest.Layer {
		parse := func(b []byte) (m map[string]any) {
			if err := json.Unmarshal(b, &m); err != nil {
				t.Fatal(err)
			}
			return m
		}
		m, from := parse(good.Data), parse(foreign.Data)
		f(m, m["verificationMaterial"].(map[string]any), from["verificationMaterial"].(map[string]any)) //nolint:errcheck // the test's own JSON
		return signtest.Layer{MediaType: good.MediaType, Data: signtest.JSON(t, m)}
	}
	for _, tt := range []struct {
		name  string
		layer signtest.Layer
		times func(*signing.Times)
		want  signing.Outcome
	}{
		{"good", good, nil, signing.Pass},
		{"another deployment", other.Bundle(t, workflow, issuer, stmt), nil, signing.Fail},
		{"an SCT is demanded and there is none", good, func(x *signing.Times) { x.SCT = 1 }, signing.Fail},
		{"two logs are demanded", good, func(x *signing.Times) { x.Log = 2 }, signing.Fail},
		{"logged after the certificate ended", s.BundleAt(t, workflow, issuer, stmt, time.Now().Add(30*time.Minute)), nil, signing.Fail},
		{"no log entry", edit(func(_, vm, _ map[string]any) { delete(vm, "tlogEntries") }), nil, signing.Fail},
		{"no log entry demanded", edit(func(_, vm, _ map[string]any) { delete(vm, "tlogEntries") }), func(x *signing.Times) { x.Log = 0 }, signing.Pass},
		{"no proof of time at all", edit(func(_, vm, _ map[string]any) { delete(vm, "tlogEntries"); delete(vm, "timestampVerificationData") }), func(x *signing.Times) { x.Log = 0 }, signing.Fail},
		{"the log entry of another signature", edit(func(_, vm, from map[string]any) { vm["tlogEntries"] = from["tlogEntries"] }), nil, signing.Fail},
		{"the time stamp of another signature", edit(func(_, vm, from map[string]any) {
			vm["timestampVerificationData"] = from["timestampVerificationData"]
		}), func(x *signing.Times) { x.Timestamps = 2 }, signing.Fail},
		{"the certificate of another signature", edit(func(_, vm, from map[string]any) { vm["certificate"] = from["certificate"] }), nil, signing.Fail},
		{"by key", b.key.Bundle(t, stmt), nil, signing.Fail},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := &bench{repo: signtest.NewRepo(), key: b.key, image: b.image}
			c.bundle(t, c.image, tt.layer)
			a := keyless(s, id)
			if tt.times != nil {
				tt.times(&a.Keyless.Times)
			}
			wantOutcome(t, c.judge(t, anyOf(a)), tt.want)
		})
	}
}

// TestThreatForeignLogEntry: a legacy signature with somebody else's log entry
// (the shape of CVE-2026-22703, cosign before 3.0.4), certificate or payload.
func TestThreatForeignLogEntry(t *testing.T) {
	s := signtest.NewSigstore(t)
	b := newBench(t)
	payload := signtest.SimpleSigning(t, "x/y", b.image.Digest)
	good := s.Legacy(t, workflow, issuer, payload)
	foreign := s.Legacy(t, workflow, issuer, []byte(`{"other":"payload"}`))
	for _, ann := range []string{"", signtest.AnnBundle, signtest.AnnCertificate, signtest.AnnSignature} {
		c := &bench{repo: signtest.NewRepo(), key: b.key, image: b.image}
		l := signtest.Layer{MediaType: good.MediaType, Data: good.Data, Annotations: map[string]string{}}
		for k, v := range good.Annotations {
			l.Annotations[k] = v
		}
		want := signing.Pass
		if ann != "" {
			l.Annotations[ann], want = foreign.Annotations[ann], signing.Fail
		}
		c.repo.Tag(t, c.image.Digest, "sig", l)
		r := c.judge(t, anyOf(keyless(s, signing.CertificateIdentity{Issuer: issuer, Subject: workflow})))
		if r.Outcome != want {
			t.Errorf("foreign %q: %s (%s)", ann, r.Outcome, r.Reason)
		}
	}
	for _, bad := range []string{"{}", "null", `{"Payload":3}`, `{"SignedEntryTimestamp":"AAAA","Payload":{"body":"!!"}}`, `{"SignedEntryTimestamp":"AAAA","Payload":{"body":"e30=","logID":"zz"}}`} {
		c := &bench{repo: signtest.NewRepo(), key: b.key, image: b.image}
		c.repo.Tag(t, c.image.Digest, "sig", signtest.Layer{MediaType: good.MediaType, Data: good.Data, Annotations: map[string]string{
			signtest.AnnSignature: good.Annotations[signtest.AnnSignature], signtest.AnnCertificate: good.Annotations[signtest.AnnCertificate], signtest.AnnBundle: bad,
		}})
		if r := c.judge(t, anyOf(keyless(s, signing.CertificateIdentity{Issuer: issuer, Subject: workflow}))); r.Outcome != signing.Fail {
			t.Errorf("%s: %s", bad, r.Outcome)
		}
	}
}

// TestThreatBackdated: row 23: a signature by a key whose time is over counts
// only with a proof that it was made before.
func TestThreatBackdated(t *testing.T) {
	s := signtest.NewSigstore(t)
	b := newBench(t)
	stmt := signtest.Signature(t, b.image.Digest)
	stamped, logged := s.Stamped(t, b.key, stmt), s.Logged(t, b.key, name, b.image.Digest)
	plain := b.key.Bundle(t, stmt)
	now := time.Now()
	inside, over := [2]time.Time{now.Add(-time.Hour), now.Add(time.Minute)}, [2]time.Time{now.Add(-2 * time.Hour), now.Add(-time.Hour)}
	for _, tt := range []struct {
		name   string
		layer  signtest.Layer
		root   *signtest.Sigstore
		window [2]time.Time
		times  signing.Times
		want   signing.Outcome
	}{
		{"stamped inside", stamped, s, inside, signing.Times{}, signing.Pass},
		{"logged inside", logged, s, inside, signing.Times{}, signing.Pass},
		{"stamped after it", stamped, s, over, signing.Times{}, signing.Fail},
		{"logged after it", logged, s, over, signing.Times{}, signing.Fail},
		{"stamped before it", stamped, s, [2]time.Time{now.Add(time.Hour), {}}, signing.Times{}, signing.Fail},
		{"stamped by another deployment", stamped, signtest.NewSigstore(t), inside, signing.Times{}, signing.Fail},
		{"logged by another deployment", logged, signtest.NewSigstore(t), inside, signing.Times{}, signing.Fail},
		{"no root to prove it", stamped, nil, inside, signing.Times{}, signing.Fail},
		{"nothing proves it", plain, s, inside, signing.Times{}, signing.Fail},
		{"no window, nothing demanded", plain, s, [2]time.Time{}, signing.Times{}, signing.Pass},
		{"a log is demanded", logged, s, [2]time.Time{}, signing.Times{Log: 1}, signing.Pass},
		{"a log is demanded and there is none", plain, s, [2]time.Time{}, signing.Times{Log: 1}, signing.Fail},
		{"a log is demanded and there is a stamp", stamped, s, [2]time.Time{}, signing.Times{Log: 1}, signing.Fail},
		{"a stamp is demanded", stamped, s, [2]time.Time{}, signing.Times{Timestamps: 1}, signing.Pass},
		{"a stamp is demanded and there is none", plain, s, [2]time.Time{}, signing.Times{Timestamps: 1}, signing.Fail},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := &bench{repo: signtest.NewRepo(), key: b.key, image: b.image}
			if tt.layer.MediaType == signtest.TypeBundle {
				c.bundle(t, c.image, tt.layer)
			} else {
				c.repo.Tag(t, c.image.Digest, "sig", tt.layer)
			}
			a := ring("release", b.key)
			a.Key.Keys[0].NotBefore, a.Key.Keys[0].NotAfter = tt.window[0], tt.window[1]
			if a.Key.Times = tt.times; tt.root != nil {
				a.Key.Times.Root = signing.Material{Data: tt.root.Root}
			}
			// Judged a day later, when the window is over.
			r, err := compile(t, anyOf(a)).Verify(t.Context(), c.repo, signing.Subject{Name: name, Desc: c.image}, now.Add(24*time.Hour))
			if err != nil {
				t.Fatal(err)
			}
			wantOutcome(t, r, tt.want)
		})
	}
}

// TestRealBundle: a bundle of the public-good deployment (npm's provenance of
// sigstore.js 2.0.0): chain, SCT, promise and proof of inclusion, and SLSA
// provenance that agrees with its certificate.
func TestRealBundle(t *testing.T) {
	b := data.Bundle(t, "sigstore.js@2.0.0-provenance.sigstore.json")
	raw, err := b.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	root, err := data.TrustedRoot(t, "public-good.json").MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	sc, err := b.SignatureContent()
	if err != nil {
		t.Fatal(err)
	}
	st, err := sc.EnvelopeContent().Statement()
	if err != nil {
		t.Fatal(err)
	}
	subject := ocispec.Descriptor{Digest: godigest.NewDigestFromEncoded(godigest.SHA512, st.GetSubject()[0].GetDigest()["sha512"])}
	ev := signing.Evidence{
		Subject: signing.Subject{Name: name, Desc: subject},
		Items:   []signing.Item{{Format: signing.FormatBundle, About: subject, Digest: godigest.FromBytes(raw), Data: raw}},
	}
	rule := signing.SLSARule{
		Builders: []string{"https://github.com/actions/runner/github-hosted"}, Sources: []string{"github.com/sigstore/*"},
		RefRegExp: "refs/heads/main", MatchCertificate: true,
	}
	authority := func(rule signing.SLSARule) signing.Authority {
		return signing.Authority{
			Name: "ci", Keyless: &signing.Keyless{
				Times: signing.Times{Root: signing.Material{Data: root}, SCT: 1, Log: 1, Timestamps: 1},
				Identities: []signing.CertificateIdentity{{
					Issuer: issuer, SubjectRegExp: `https://github\.com/sigstore/sigstore-js/\.github/workflows/release\.yml@.*`,
					SourceOwner: "https://github.com/sigstore",
				}},
			},
			Attestations: []signing.AttestationRule{{Name: "prov", PredicateType: "https://slsa.dev/provenance/v1", SLSA: &rule}},
		}
	}
	r, err := compile(t, anyOf(authority(rule))).Judge(t.Context(), ev, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	wantOutcome(t, r, signing.Pass)
	p := r.Attestations[0].Provenance
	if p.Source != "github.com/sigstore/sigstore-js" || p.Ref != "refs/heads/main" || len(p.Commit) != 40 || p.EntryPoint != ".github/workflows/release.yml" {
		t.Errorf("provenance %+v", p)
	}
	for name, change := range map[string]func(*signing.SLSARule){
		"builder": func(r *signing.SLSARule) { r.Builders = []string{"https://github.com/actions/runner/self-hosted"} },
		"source":  func(r *signing.SLSARule) { r.Sources = []string{"github.com/acme/*"} },
		"ref":     func(r *signing.SLSARule) { r.RefRegExp = "refs/tags/.*" },
		"commit":  func(r *signing.SLSARule) { r.Commit = strings.Repeat("0", 40) },
		"type":    func(r *signing.SLSARule) { r.BuildTypes = []string{"x"} },
	} {
		bad := rule
		change(&bad)
		r, err := compile(t, anyOf(authority(bad))).Judge(t.Context(), ev, time.Now())
		if err != nil || r.Outcome != signing.Fail {
			t.Errorf("another %s: %s, %v", name, r.Outcome, err)
		}
	}
	// One byte of the bundle: whatever it is, it does not pass as something else.
	step := len(raw) / 60
	for i := step; i < len(raw); i += step {
		bad := bytes.Clone(raw)
		bad[i] ^= 0x01
		ev.Items[0].Data = bad
		r, err := compile(t, anyOf(authority(rule))).Judge(t.Context(), ev, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if r.Outcome == signing.Pass && *r.Attestations[0].Provenance != *p {
			t.Errorf("byte %d: %+v", i, r.Attestations[0].Provenance)
		}
	}
}
