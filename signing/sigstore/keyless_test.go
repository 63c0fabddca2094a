//go:build !nokeyless

package sigstore

import (
	"context"
	"errors"
	"testing"
	"time"

	godigest "github.com/opencontainers/go-digest"

	"github.com/sluiceproxy/sluice/signing"
	"github.com/sluiceproxy/sluice/signing/signtest"
)

func newKeyless(t testing.TB, s *signtest.Sigstore) *Keyless {
	t.Helper()
	k, err := NewKeyless(signing.Keyless{
		Times:      signing.Times{Root: signing.Material{Data: s.Root}, Log: 1, Timestamps: 1},
		Identities: []signing.CertificateIdentity{{Issuer: "https://i", Subject: "dev@acme.example"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestKeylessStranger(t *testing.T) {
	s := signtest.NewSigstore(t)
	k := newKeyless(t, s)
	for name, l := range map[string]signtest.Layer{
		"another subject": s.Bundle(t, "x@evil.example", "https://i", signtest.Signature(t, image.Digest)),
		"another issuer":  s.Bundle(t, "dev@acme.example", "https://evil", signtest.Signature(t, image.Digest)),
		"a key":           signtest.NewKey(t, "p256").Bundle(t, signtest.Signature(t, image.Digest)),
	} {
		if _, err := k.Verify(t.Context(), signing.Item{Format: signing.FormatBundle, About: image, Data: l.Data}, time.Now()); !errors.Is(err, signing.ErrStranger) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func FuzzKeyless(f *testing.F) {
	s := signtest.NewSigstore(f)
	k := newKeyless(f, s)
	f.Add(s.Bundle(f, "dev@acme.example", "https://i", signtest.Signature(f, image.Digest)).Data)
	f.Add(s.BundleV2(f, "dev@acme.example", "https://i", signtest.Signature(f, image.Digest)).Data)
	f.Add(s.Bundle(f, "x@evil.example", "https://i", signtest.Signature(f, image.Digest)).Data)
	f.Fuzz(func(t *testing.T, data []byte) {
		item := signing.Item{Format: signing.FormatBundle, About: image, Data: data}
		if p, err := k.Verify(context.Background(), item, time.Now()); err == nil && p.Identity.Subject != "dev@acme.example" {
			t.Errorf("verified for %q", p.Identity.Subject)
		}
		item.About.Digest = godigest.FromString("other")
		if _, err := k.Verify(context.Background(), item, time.Now()); err == nil {
			t.Error("verified for an image that nobody signed")
		}
	})
}
