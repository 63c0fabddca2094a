package sigstore

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sluiceproxy/sluice/signing"
	"github.com/sluiceproxy/sluice/signing/signtest"
)

var image = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: godigest.FromString("image"), Size: 5}

func TestParseKey(t *testing.T) {
	block := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	weakDER, err := x509.MarshalPKIXPublicKey(weak.Public())
	if err != nil {
		t.Fatal(err)
	}
	small, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	smallDER, err := x509.MarshalPKIXPublicKey(small.Public())
	if err != nil {
		t.Fatal(err)
	}
	good := signtest.NewKey(t, "p256")
	private, err := x509.MarshalPKCS8PrivateKey(good.Private)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		data []byte
		want string
	}{
		{"P-256", good.PEM, ""},
		{"RSA, PKCS #1", block("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(signtest.NewKey(t, "rsa").Private.Public().(*rsa.PublicKey))), ""}, //nolint:errcheck // made so above
		{"two keys", append(append([]byte{}, good.PEM...), good.PEM...), "several"},
		{"private", block("PRIVATE KEY", private), "not a public key"},
		{"weak RSA", block("PUBLIC KEY", weakDER), "too weak"},
		{"P-224", block("PUBLIC KEY", smallDER), "not supported"},
		{"broken", block("PUBLIC KEY", []byte("x")), "asn1"},
		{"no PEM", []byte("ssh-ed25519 AAAA"), "not PEM"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, id, err := parseKey(tt.data)
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error %v, want %q", err, tt.want)
			}
			if tt.name == "P-256" && id != good.ID {
				t.Errorf("id %s, want %s", id, good.ID)
			}
		})
	}
}

func TestRepository(t *testing.T) {
	for in, want := range map[string]string{
		"ghcr.io/acme/app":                     "ghcr.io/acme/app",
		"ghcr.io/acme/app:v1":                  "ghcr.io/acme/app",
		"ghcr.io/acme/app:v1@sha256:00":        "ghcr.io/acme/app",
		"index.docker.io/library/nginx":        "docker.io/library/nginx",
		"registry-1.docker.io/library/nginx:1": "docker.io/library/nginx",
		"localhost:5000/app":                   "localhost:5000/app",
		"":                                     "",
	} {
		if got := repository(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// FuzzVerify feeds each format to each engine: nothing that the seed key did not
// sign verifies, and nothing panics.
func FuzzVerify(f *testing.F) {
	k := signtest.NewKeyOf(f, ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))) // the same in every worker
	ring, err := NewKeyRing(signing.KeyRing{Keys: []signing.Key{{Material: signing.Material{Data: k.PEM}}}})
	if err != nil {
		f.Fatal(err)
	}
	add := func(l signtest.Layer, format uint8) {
		f.Add(format, l.Data, l.Annotations[signtest.AnnSignature], l.Annotations[signtest.AnnCertificate], l.Annotations[signtest.AnnBundle])
	}
	add(k.Bundle(f, signtest.Signature(f, image.Digest)), 0)
	add(k.Legacy(f, "ghcr.io/acme/app", image.Digest), 1)
	add(k.LegacyAttestation(f, signtest.Statement(f, image.Digest, "x", map[string]any{"a": 1})), 2)
	f.Add(uint8(1), []byte(`{"critical":{}}`), "AAAA", "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----", `{"SignedEntryTimestamp":"AAAA","Payload":{"body":"e30=","integratedTime":1,"logIndex":1,"logID":"00"}}`)
	formats := []signing.Format{signing.FormatBundle, signing.FormatCosignSignature, signing.FormatCosignAttestation}
	other := ocispec.Descriptor{MediaType: image.MediaType, Digest: godigest.FromString("other"), Size: 5}
	f.Fuzz(func(t *testing.T, format uint8, data []byte, sig, cert, entry string) {
		item := signing.Item{
			Format: formats[int(format)%len(formats)], About: image, Data: data,
			Annotations: map[string]string{signtest.AnnSignature: sig, signtest.AnnCertificate: cert, signtest.AnnBundle: entry},
		}
		p, err := ring.Verify(context.Background(), item, time.Now())
		if err == nil && p.Identity.KeyID != k.ID.String() {
			t.Errorf("verified by %q", p.Identity.KeyID)
		}
		item.About = other
		if _, err := ring.Verify(context.Background(), item, time.Now()); err == nil {
			t.Error("verified for an image that nobody signed")
		}
		s, err := read(item)
		if err != nil {
			return
		}
		// What a verified payload could hold.
		if proof, err := s.finish(image, signing.Proof{}); err == nil && proof.Statement != nil && proof.Statement.PredicateType == predicateSignature {
			t.Error("a signature is told as an attestation")
		}
	})
}
