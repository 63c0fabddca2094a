//go:build !nokeyless

package verify_test

import (
	"testing"
	"time"

	"github.com/sluiceproxy/sluice/signing"
	"github.com/sluiceproxy/sluice/signing/signtest"
)

// BenchmarkVerify is the whole work on a first pull, without the network: an
// image with a signature and provenance, judged by one authority.
func BenchmarkVerify(b *testing.B) {
	const slsa = "https://slsa.dev/provenance/v1"
	provenance := map[string]any{
		"buildDefinition": map[string]any{"buildType": "t", "externalParameters": map[string]any{"workflow": map[string]any{
			"ref": "refs/tags/v1", "repository": "https://github.com/acme/app", "path": "w.yml",
		}}},
		"runDetails": map[string]any{"builder": map[string]any{"id": "b"}},
	}
	rule := signing.AttestationRule{Name: "prov", PredicateType: slsa, SLSA: &signing.SLSARule{Builders: []string{"b"}, Sources: []string{"github.com/acme/*"}}}
	run := func(b *testing.B, x *bench, a signing.Authority) {
		v := compile(b, anyOf(a))
		s := signing.Subject{Name: name, Desc: x.image}
		now := time.Now()
		for b.Loop() {
			r, err := v.Verify(b.Context(), x.repo, s, now)
			if err != nil || r.Outcome != signing.Pass {
				b.Fatal(r.Reason, err)
			}
		}
	}
	for _, kind := range []string{"p256", "rsa", "ed25519"} {
		b.Run("key-"+kind, func(b *testing.B) {
			x := newBenchOf(b, signtest.NewKey(b, kind))
			x.bundle(b, x.image, x.key.Bundle(b, signtest.Signature(b, x.image.Digest)))
			x.bundle(b, x.image, x.key.Bundle(b, signtest.Statement(b, x.image.Digest, slsa, provenance)))
			a := ring("release", x.key)
			a.Signature, a.Attestations = true, []signing.AttestationRule{rule}
			run(b, x, a)
		})
	}
	b.Run("keyless", func(b *testing.B) {
		x := newBench(b)
		s := signtest.NewSigstore(b)
		x.bundle(b, x.image, s.Bundle(b, workflow, issuer, signtest.Signature(b, x.image.Digest)))
		x.bundle(b, x.image, s.Bundle(b, workflow, issuer, signtest.Statement(b, x.image.Digest, slsa, provenance)))
		a := keyless(s, signing.CertificateIdentity{Issuer: issuer, Subject: workflow})
		a.Signature, a.Attestations = true, []signing.AttestationRule{rule}
		run(b, x, a)
	})
	for name, mt := range map[string]string{"notation-jws": "application/jose+json", "notation-cose": "application/cose"} {
		b.Run(name, func(b *testing.B) {
			x := newBench(b)
			pki := signtest.NewPKI(b, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
			x.repo.Attach(b, x.image, signtest.TypeNotation, signtest.TypeEmpty, pki.Signer().Sign(b, mt, x.image))
			run(b, x, notary(pki))
		})
	}
	// Sixty strangers' signatures before the one that counts.
	b.Run("flood-60", func(b *testing.B) {
		x := newBench(b)
		mallory := signtest.NewKey(b, "p256")
		for range 60 {
			x.bundle(b, x.image, mallory.Bundle(b, signtest.Signature(b, x.image.Digest)))
		}
		x.bundle(b, x.image, x.key.Bundle(b, signtest.Signature(b, x.image.Digest)))
		run(b, x, ring("release", x.key))
	})
}
