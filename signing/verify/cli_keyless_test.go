//go:build !nokeyless

package verify_test

import (
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sluiceproxy/sluice/signing"
	"github.com/sluiceproxy/sluice/signing/signtest"
)

// TestCosignKeyless: keyless signatures of a deployment with a trusted root of
// its own, judged by cosign and here, offline.
func TestCosignKeyless(t *testing.T) {
	cosign := newTool(t, "cosign")
	s, other := signtest.NewSigstore(t), signtest.NewSigstore(t)
	cosign.write(t, "root.json", s.Root)
	r := newRemoteRepo(t)
	attach := func(s *signtest.Sigstore, about, signed ocispec.Descriptor) {
		r.attach(t, about, signtest.TypeBundle, signtest.TypeEmpty, map[string]string{
			"dev.sigstore.bundle.content": "dsse-envelope", "dev.sigstore.bundle.predicateType": signtest.PredicateSign,
		}, s.Bundle(t, workflow, issuer, signtest.Signature(t, signed.Digest)))
	}
	bundle, legacy, foreign, replayed := r.image(t), r.image(t), r.image(t), r.image(t)
	attach(s, bundle, bundle)
	r.tag(t, legacy, "sig", s.Legacy(t, workflow, issuer, signtest.SimpleSigning(t, "docker.io/acme/app", legacy.Digest)))
	attach(other, foreign, foreign)
	attach(s, replayed, bundle)
	for _, tt := range []struct {
		name    string
		image   ocispec.Descriptor
		subject string
		want    signing.Outcome
	}{
		{"bundle", bundle, workflow, signing.Pass},
		{"legacy", legacy, workflow, signing.Pass},
		{"another subject", bundle, workflow + "0", signing.Fail},
		{"another deployment", foreign, workflow, signing.Fail},
		{"replayed", replayed, workflow, signing.Fail},
	} {
		res := r.judge(t, anyOf(keyless(s, signing.CertificateIdentity{Issuer: issuer, Subject: tt.subject})), tt.image)
		wantOutcome(t, res, tt.want)
		args := []string{
			"verify", "--trusted-root", "root.json", "--insecure-ignore-sct",
			"--certificate-identity", tt.subject, "--certificate-oidc-issuer", issuer,
		}
		if tt.name == "legacy" {
			args = append(args, "--offline")
		} else {
			args = append(args, "--use-signed-timestamps") // cosign takes the time from one or the other
		}
		err := cosign.run(t, append(args, r.ref(tt.image))...)
		if (err == nil) != (tt.want == signing.Pass) {
			t.Errorf("%s: cosign says %v, Sluice %s", tt.name, err, res.Outcome)
		}
	}
}
