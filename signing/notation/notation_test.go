package notation

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/notaryproject/notation-core-go/signature"
	"github.com/notaryproject/notation-core-go/signature/cose"
	"github.com/notaryproject/notation-core-go/signature/jws"
	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sluiceproxy/sluice/signing"
	"github.com/sluiceproxy/sluice/signing/signtest"
)

var image = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: godigest.FromString("image"), Size: 5}

const leafName = "x509.subject: CN=release, O=Acme, C=US"

// pki is an authority with a signer, and the store that trusts it.
type pki struct{ *signtest.PKI }

func newPKI(t testing.TB, from, to time.Time) *pki {
	t.Helper()
	return &pki{signtest.NewPKI(t, from, to)}
}

func (p *pki) store() signing.NotationStore {
	return signing.NotationStore{
		CAs: []signing.Material{{Data: signtest.PEM(p.Root)}}, Identities: []string{leafName}, SkipRevocation: true,
	}
}

func (p *pki) crl(t testing.TB, issued, next time.Time, ext []pkix.Extension, revoked ...*big.Int) signing.Material {
	t.Helper()
	l := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: issued, NextUpdate: next, ExtraExtensions: ext}
	for _, s := range revoked {
		l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: s, RevocationTime: issued})
	}
	der, err := x509.CreateRevocationList(rand.Reader, l, p.Root, p.RootKey)
	if err != nil {
		t.Fatal(err)
	}
	return signing.Material{File: "crl", Data: pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})}
}

func item(l signtest.Layer) signing.Item {
	return signing.Item{Format: signing.FormatNotation, About: image, Digest: godigest.FromBytes(l.Data), MediaType: l.MediaType, Data: l.Data}
}

func TestVerify(t *testing.T) {
	now := time.Now()
	p := newPKI(t, now.Add(-time.Hour), now.Add(time.Hour))
	other := newPKI(t, now.Add(-time.Hour), now.Add(time.Hour))
	critical := func(r *signature.SignRequest) {
		r.ExtendedSignedAttributes = append(r.ExtendedSignedAttributes, signature.Attribute{Key: "io.cncf.notary.verificationPlugin", Value: "x", Critical: true})
	}
	for _, tt := range []struct {
		name   string
		change func(*signature.SignRequest)
		store  func(*signing.NotationStore)
		about  func(*ocispec.Descriptor)
		at     time.Time
		want   string // part of the error, "" if it verifies
		only   string // the envelope that can be made so
	}{
		{name: "good"},
		{name: "all of the store", store: func(s *signing.NotationStore) { s.Identities = []string{"*"} }},
		{name: "part of the name", store: func(s *signing.NotationStore) { s.Identities = []string{"x509.subject: O=Acme"} }},
		{name: "another name", store: func(s *signing.NotationStore) { s.Identities = []string{"x509.subject: CN=other, O=Acme"} }, want: "none of the identities"},
		{name: "a name that begins alike", store: func(s *signing.NotationStore) { s.Identities = []string{"x509.subject: CN=rel, O=Acme"} }, want: "none of the identities"},
		{name: "another root", store: func(s *signing.NotationStore) { s.CAs[0].Data = signtest.PEM(other.Root) }, want: "does not lead"},
		{name: "the root in the other part", store: func(s *signing.NotationStore) { s.CAs, s.SigningAuthorities = nil, s.CAs }, want: "for which the store has no certificate"},
		{
			name: "a signing authority", change: func(r *signature.SignRequest) { r.SigningScheme = signature.SigningSchemeX509SigningAuthority },
			store: func(s *signing.NotationStore) { s.SigningAuthorities = s.CAs },
		},
		{
			name: "a signing authority that is a CA only", change: func(r *signature.SignRequest) { r.SigningScheme = signature.SigningSchemeX509SigningAuthority },
			want: "for which the store has no certificate",
		},
		{name: "another digest", about: func(d *ocispec.Descriptor) { d.Digest = godigest.FromString("other") }, want: "it signs"},
		{name: "another media type", about: func(d *ocispec.Descriptor) { d.MediaType = ocispec.MediaTypeImageManifest }, want: "it signs"},
		{name: "another size", about: func(d *ocispec.Descriptor) { d.Size = 6 }, want: "it signs"},
		{name: "not expired", change: func(r *signature.SignRequest) { r.Expiry = now.Add(time.Minute) }},
		{name: "expired", change: func(r *signature.SignRequest) { r.Expiry = now.Add(time.Minute) }, at: now.Add(2 * time.Minute), want: "expired"},
		{name: "the certificate's time is over", at: now.Add(2 * time.Hour), want: "not valid now"},
		{name: "the certificate's time is to come", at: now.Add(-2 * time.Hour), want: "not valid now"},
		{name: "a plugin ought to verify it", change: critical, want: "critical attribute"},
		{name: "another payload type", change: func(r *signature.SignRequest) { r.Payload.ContentType = "application/json" }, want: "payload"},
		{
			name: "the target twice", change: func(r *signature.SignRequest) {
				r.Payload.Content = []byte(`{"targetArtifact":{},` + string(r.Payload.Content[1:]))
			}, want: "payload", only: cose.MediaTypeEnvelope, // who signs JWS writes the payload anew
		},
	} {
		for _, mt := range []string{jws.MediaTypeEnvelope, cose.MediaTypeEnvelope} {
			if tt.only != "" && tt.only != mt {
				continue
			}
			t.Run(tt.name+" "+mt, func(t *testing.T) {
				s := p.Signer()
				s.Change = tt.change
				i := item(s.Sign(t, mt, image))
				config := p.store()
				if tt.store != nil {
					tt.store(&config)
				}
				if tt.about != nil {
					tt.about(&i.About)
				}
				st, err := NewStore(config)
				if err != nil {
					t.Fatal(err)
				}
				at := now
				if !tt.at.IsZero() {
					at = tt.at
				}
				proof, err := st.Verify(t.Context(), i, at)
				switch {
				case tt.want == "" && err != nil:
					t.Fatal(err)
				case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
					t.Fatalf("error %v, want one with %q", err, tt.want)
				case err == nil && (!strings.Contains(proof.Identity.Subject, "CN=release") || len(proof.Certificates) != 2):
					t.Errorf("proof %+v", proof)
				}
			})
		}
	}
}

// TestThreatNotationEnvelope: an altered envelope, one under the other's media
// type, and an unknown one.
func TestThreatNotationEnvelope(t *testing.T) {
	now := time.Now()
	p := newPKI(t, now.Add(-time.Hour), now.Add(time.Hour))
	st, err := NewStore(p.store())
	if err != nil {
		t.Fatal(err)
	}
	for _, mt := range []string{jws.MediaTypeEnvelope, cose.MediaTypeEnvelope} {
		l := p.Signer().Sign(t, mt, image)
		good := item(l)
		want, err := st.Verify(t.Context(), good, now)
		if err != nil {
			t.Fatal(err)
		}
		for i := 1; i < len(l.Data); i += len(l.Data) / 40 {
			bad := good
			bad.Data = append([]byte(nil), l.Data...)
			bad.Data[i] ^= 1
			// A byte of what is not signed, such as the agent's name, changes nothing.
			if proof, err := st.Verify(t.Context(), bad, now); err == nil && !cmp.Equal(proof, want) {
				t.Errorf("%s: byte %d altered, and verified: %+v", mt, i, proof)
			}
		}
		cut := good
		cut.Data = cut.Data[:len(cut.Data)-5]
		swapped, unknown := good, good
		swapped.MediaType = map[string]string{jws.MediaTypeEnvelope: cose.MediaTypeEnvelope, cose.MediaTypeEnvelope: jws.MediaTypeEnvelope}[mt]
		unknown.MediaType = "application/octet-stream"
		for name, bad := range map[string]signing.Item{"cut": cut, "swapped": swapped, "unknown": unknown} {
			if _, err := st.Verify(t.Context(), bad, now); err == nil {
				t.Errorf("%s %s verified", mt, name)
			}
		}
	}
}

// TestThreatNotationRevoked: revocation from files: revoked, not revoked, and
// nobody knows.
func TestThreatNotationRevoked(t *testing.T) {
	now := time.Now()
	p := newPKI(t, now.Add(-time.Hour), now.Add(time.Hour))
	other := newPKI(t, now.Add(-time.Hour), now.Add(time.Hour))
	i := item(p.Signer().Sign(t, jws.MediaTypeEnvelope, image))
	issued, next := now.Add(-time.Minute), now.Add(time.Minute)
	delta := []pkix.Extension{{Id: []int{2, 5, 29, 27}, Critical: true, Value: []byte{2, 1, 1}}}
	for _, tt := range []struct {
		name string
		crls []signing.Material
		want string
	}{
		{"not revoked", []signing.Material{p.crl(t, issued, next, nil, big.NewInt(99))}, ""},
		{"revoked", []signing.Material{p.crl(t, issued, next, nil, p.Leaf.SerialNumber)}, "was revoked"},
		{"the newest list counts", []signing.Material{p.crl(t, issued.Add(-time.Hour), next, nil), p.crl(t, issued, next, nil, p.Leaf.SerialNumber)}, "was revoked"},
		{"of another issuer", []signing.Material{other.crl(t, issued, next, nil)}, "no current list"},
		{"out of date", []signing.Material{p.crl(t, issued.Add(-time.Hour), issued, nil)}, "no current list"},
		{"to come", []signing.Material{p.crl(t, next, next.Add(time.Hour), nil)}, "no current list"},
		{"a delta only", []signing.Material{p.crl(t, issued, next, delta)}, "no current list"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			config := p.store()
			config.SkipRevocation, config.CRLs = false, tt.crls
			st, err := NewStore(config)
			if err != nil {
				t.Fatal(err)
			}
			proof, err := st.Verify(t.Context(), i, now)
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error %v, want %q", err, tt.want)
			}
			if err == nil && proof.Until.After(next.Add(time.Second)) {
				t.Errorf("until %s, after the list's next update", proof.Until)
			}
		})
	}
}

func TestStranger(t *testing.T) {
	p := newPKI(t, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	st, err := NewStore(p.store())
	if err != nil {
		t.Fatal(err)
	}
	s := newPKI(t, time.Now().Add(-time.Hour), time.Now().Add(time.Hour)).Signer()
	if _, err := st.Verify(t.Context(), item(s.Sign(t, cose.MediaTypeEnvelope, image)), time.Now()); !errors.Is(err, signing.ErrStranger) {
		t.Errorf("error %v", err)
	}
}

func TestNewStoreRefuses(t *testing.T) {
	now := time.Now()
	p := newPKI(t, now.Add(-time.Hour), now.Add(time.Hour))
	for _, tt := range []struct {
		name, want string
		change     func(*signing.NotationStore)
	}{
		{"no certificate", "no certificate", func(s *signing.NotationStore) { s.CAs = nil }},
		{"no PEM", "no certificate in PEM", func(s *signing.NotationStore) { s.CAs[0].Data = []byte("x") }},
		{"a leaf", "not a CA", func(s *signing.NotationStore) { s.CAs[0].Data = signtest.PEM(p.Leaf) }},
		{"no identity", "no identities", func(s *signing.NotationStore) { s.Identities = nil }},
		{"revocation left open", "revocation needs", func(s *signing.NotationStore) { s.SkipRevocation = false }},
		{"revocation both ways", "revocation is skipped", func(s *signing.NotationStore) { s.CRLs = []signing.Material{{}} }},
		{"no prefix", "starts with", func(s *signing.NotationStore) { s.Identities = []string{"CN=x"} }},
		{"no attribute", "no attribute", func(s *signing.NotationStore) { s.Identities = []string{"x509.subject:"} }},
		{"unknown attribute", "not known", func(s *signing.NotationStore) { s.Identities = []string{"x509.subject: X=y"} }},
		{"empty value", "is empty", func(s *signing.NotationStore) { s.Identities = []string{"x509.subject: CN="} }},
		{"twice", "stands twice", func(s *signing.NotationStore) { s.Identities = []string{"x509.subject: CN=a, CN=b"} }},
		{"joined", "not supported", func(s *signing.NotationStore) { s.Identities = []string{"x509.subject: CN=a+O=b"} }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			config := p.store()
			tt.change(&config)
			if _, err := NewStore(config); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestIdentity(t *testing.T) {
	name := func(cn ...string) pkix.Name {
		var n pkix.Name
		for _, c := range cn {
			n.Names = append(n.Names, pkix.AttributeTypeAndValue{Type: []int{2, 5, 4, 3}, Value: c})
		}
		return n
	}
	for _, tt := range []struct {
		identity string
		subject  pkix.Name
		want     bool
	}{
		{`x509.subject: CN=a`, name("a"), true},
		{`x509.subject:cn=a`, name("a"), true},
		{`x509.subject: CN=a\, O=b`, name("a, O=b"), true}, // one value with a comma in it
		{`x509.subject: CN=a`, name("a, O=b"), false},
		{`x509.subject: CN=a`, name("A"), false},
		{`x509.subject: CN=a`, name("a", "b"), false}, // which of both is meant?
		{`x509.subject: CN=a`, name(), false},
	} {
		id, err := parseIdentity(tt.identity)
		if err != nil {
			t.Fatal(err)
		}
		if got := id.matches(tt.subject); got != tt.want {
			t.Errorf("%s of %v: %v", tt.identity, tt.subject.Names, got)
		}
	}
}

func FuzzVerify(f *testing.F) {
	now := time.Now()
	p := newPKI(f, now.Add(-time.Hour), now.Add(time.Hour))
	st, err := NewStore(p.store())
	if err != nil {
		f.Fatal(err)
	}
	for _, mt := range []string{jws.MediaTypeEnvelope, cose.MediaTypeEnvelope} {
		l := p.Signer().Sign(f, mt, image)
		f.Add(mt == jws.MediaTypeEnvelope, l.Data)
	}
	f.Add(true, []byte(`{"payload":"","protected":"","header":{"x5c":[]},"signature":""}`))
	f.Fuzz(func(t *testing.T, isJWS bool, data []byte) {
		mt := cose.MediaTypeEnvelope
		if isJWS {
			mt = jws.MediaTypeEnvelope
		}
		i := item(signtest.Layer{MediaType: mt, Data: data})
		if proof, err := st.Verify(context.Background(), i, now); err == nil && proof.Identity.KeyID == "" {
			t.Error("verified without an identity")
		}
		i.About.Digest = godigest.FromString("another")
		if _, err := st.Verify(context.Background(), i, now); err == nil {
			t.Error("verified for an image that nobody signed")
		}
	})
}

func FuzzIdentity(f *testing.F) {
	for _, s := range []string{"*", leafName, `x509.subject: CN=a\,b`, "x509.subject: CN=a,", `x509.subject: CN=\`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, err := parseIdentity(s)
		if err == nil && len(id) == 0 && s != "*" {
			t.Errorf("%q matches everybody", s)
		}
	})
}
