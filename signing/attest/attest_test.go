package attest_test

import (
	"bytes"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sigstore/sigstore/pkg/cryptoutils"

	"github.com/sluiceproxy/sluice/signing"
	"github.com/sluiceproxy/sluice/signing/attest"
	"github.com/sluiceproxy/sluice/signing/signtest"
	"github.com/sluiceproxy/sluice/signing/verify"
)

const (
	name = "docker.io/library/nginx"
	vsa  = "https://slsa.dev/verification_summary/v1"
	vuln = "https://cosign.sigstore.dev/attestation/vuln/v1"
	bom  = "https://cyclonedx.org/bom"
)

// newKey returns a key of a kind, as a file holds it, and its public half.
func newKey(t testing.TB, kind string) (attest.Key, *signtest.Key) {
	t.Helper()
	k := signtest.NewKey(t, kind)
	der, err := x509.MarshalPKCS8PrivateKey(k.Private)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := attest.ParseKey(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil)
	if err != nil {
		t.Fatal(err)
	}
	return parsed, k
}

func approval(d ocispec.Descriptor) signing.Approval {
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	return signing.Approval{
		Name: name, Subject: d, Time: at, Verdict: "v-1", Policy: "p-1", PolicyDigest: godigest.FromString("policy"),
		Advisories: "a-1", AdvisoriesUpdated: at.Add(-time.Hour), Evidence: []godigest.Digest{godigest.FromString("signature")},
		Scan: json.RawMessage(`{"findings":[]}`), SBOM: []byte(`{"bomFormat":"CycloneDX","specVersion":"1.6"}`),
	}
}

// store puts artifacts into the repository as the gate does.
func store(t testing.TB, r *signtest.Repo, artifacts []signing.Artifact) {
	t.Helper()
	for _, a := range artifacts {
		for _, b := range a.Blobs {
			r.PutBlob("", b)
		}
		var tags []string
		if a.Tag != "" {
			tags = append(tags, a.Tag)
		}
		if d := r.PutManifest(t, json.RawMessage(a.Raw), tags...); d.Digest != a.Digest {
			t.Fatalf("the manifest has the digest %s, not %s", d.Digest, a.Digest)
		}
	}
}

// trust demands the key's signature and every attestation, in some formats.
func trust(k *signtest.Key, formats ...signing.Format) signing.Trust {
	return signing.Trust{Require: 1, Authorities: []signing.Authority{{
		Name: "sluice", Key: &signing.KeyRing{Keys: []signing.Key{{Material: signing.Material{Data: k.PEM}}}},
		Formats: formats, Signature: true, SignedAs: []string{"docker.io/library/*"},
		Attestations: []signing.AttestationRule{
			{Name: "vsa", PredicateType: vsa, Use: signing.UseInventory}, {Name: "vuln", PredicateType: vuln}, {Name: "bom", PredicateType: bom},
		},
	}}}
}

// TestVerifies: what is attested satisfies Sluice's own verifier, in each of the
// two forms by itself, and nobody else's key.
func TestVerifies(t *testing.T) {
	for _, kind := range []string{"p256", "p384", "p521", "rsa", "ed25519"} {
		t.Run(kind, func(t *testing.T) {
			k, public := newKey(t, kind)
			a, err := attest.New(attest.Options{Key: k, Verifier: "https://sluice.example", Version: "1"})
			if err != nil {
				t.Fatal(err)
			}
			r := signtest.NewRepo()
			d := r.Image(t)
			artifacts, err := a.Attest(t.Context(), approval(d))
			if err != nil {
				t.Fatal(err)
			}
			store(t, r, artifacts)
			for form, formats := range map[string][]signing.Format{
				"bundle": {signing.FormatBundle}, "legacy": {signing.FormatCosignSignature, signing.FormatCosignAttestation},
			} {
				for who, key := range map[string]*signtest.Key{"": public, "stranger": signtest.NewKey(t, kind)} {
					v, err := verify.Compile(trust(key, formats...))
					if err != nil {
						t.Fatal(err)
					}
					res, err := v.Verify(t.Context(), r, signing.Subject{Name: name, Desc: d}, time.Now())
					if err != nil {
						t.Fatal(err)
					}
					if want := who == ""; (res.Outcome == signing.Pass) != want {
						t.Errorf("%s %s: %s %s", form, who, res.Outcome, res.Reason)
					}
					for _, at := range res.Attestations {
						if at.PredicateType == vsa {
							wantPassed(t, at.Predicate)
						}
					}
				}
			}
		})
	}
}

func wantPassed(t *testing.T, predicate json.RawMessage) {
	t.Helper()
	var p struct {
		VerificationResult string
		Policy             struct{ Digest map[string]string }
		InputAttestations  []struct{ Digest map[string]string }
		Verifier           struct{ ID string }
		ResourceURI        string
	}
	if err := json.Unmarshal(predicate, &p); err != nil {
		t.Fatal(err)
	}
	if p.VerificationResult != "PASSED" || p.Policy.Digest["sha256"] == "" || len(p.InputAttestations) != 1 ||
		p.Verifier.ID != "https://sluice.example" || !strings.HasPrefix(p.ResourceURI, "pkg:oci/nginx@sha256%3A") {
		t.Errorf("summary %s", predicate)
	}
}

// TestThreatFailedVerdict: nothing that is written by the approving key could be
// read as a refusal, and so nothing that is refused is signed.
func TestThreatFailedVerdict(t *testing.T) {
	k, _ := newKey(t, "p256")
	a, err := attest.New(attest.Options{Key: k, Verifier: "https://sluice.example"})
	if err != nil {
		t.Fatal(err)
	}
	artifacts, err := a.Attest(t.Context(), approval(signtest.NewRepo().Image(t)))
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range artifacts {
		for _, b := range x.Blobs {
			if bytes.Contains(b, []byte("FAILED")) {
				t.Errorf("%s", b)
			}
		}
	}
}

// TestUnsigned: without a key there is the CycloneDX document alone.
func TestUnsigned(t *testing.T) {
	a, err := attest.New(attest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	p := approval(signtest.NewRepo().Image(t))
	artifacts, err := a.Attest(t.Context(), p)
	if err != nil || len(artifacts) != 1 || a.Signs() || len(a.Keys()) != 0 {
		t.Fatalf("%d artifacts, %v", len(artifacts), err)
	}
	m := artifacts[0].Manifest
	if m.ArtifactType != "application/vnd.cyclonedx+json" || m.Subject.Digest != p.Subject.Digest || artifacts[0].Tag != "" ||
		m.Annotations[attest.AnnotationVerdict] != "v-1" || !bytes.Equal(artifacts[0].Blobs[1], p.SBOM) {
		t.Errorf("manifest %+v", m)
	}
}

func TestLoadKey(t *testing.T) {
	private := signtest.NewKey(t, "p256")
	der, err := x509.MarshalPKCS8PrivateKey(private.Private)
	if err != nil {
		t.Fatal(err)
	}
	plain := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	dir := t.TempDir()
	file := filepath.Join(dir, "key.pem")
	if err := os.WriteFile(file, plain, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("ATTEST_KEY", string(plain))
	password := func(bool) ([]byte, error) { return []byte("secret"), nil }
	encrypted, public, err := cryptoutils.GeneratePEMEncodedECDSAKeyPair(elliptic.P256(), password) // as cosign writes it
	if err != nil {
		t.Fatal(err)
	}
	k, err := attest.ParseKey(encrypted, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	if p, err := attest.Publish(k.Public()); err != nil || p.PEM != string(public) {
		t.Errorf("encrypted key: %+v, %v", p, err)
	}
	for _, wrong := range []string{"", "guess"} {
		if _, err := attest.ParseKey(encrypted, []byte(wrong)); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("password %q: %v", wrong, err)
		}
	}
	for _, reference := range []string{file, "env:ATTEST_KEY"} {
		k, err := attest.LoadKey(t.Context(), reference, nil)
		if err != nil {
			t.Fatal(err)
		}
		if p, err := attest.Publish(k.Public()); err != nil || p.ID != private.ID || p.PEM != string(private.PEM) {
			t.Errorf("%s: %+v, %v", reference, p, err)
		}
	}
	for reference, want := range map[string]string{
		"env:ATTEST_NONE":            "is not set",
		filepath.Join(dir, "none"):   "no such file",
		"unheardof://keys/1":         "no kms provider",
		filepath.Join(dir, "broken"): "PEM",
	} {
		if strings.HasSuffix(reference, "broken") {
			if err := os.WriteFile(reference, []byte("no key"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := attest.LoadKey(t.Context(), reference, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", reference, err, want)
		}
	}
}
