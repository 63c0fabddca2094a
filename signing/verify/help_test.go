package verify_test

import (
	"context"
	"encoding/base64"
	"testing"
	"time"

	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sluiceproxy/sluice/signing"
	"github.com/sluiceproxy/sluice/signing/signtest"
	"github.com/sluiceproxy/sluice/signing/verify"
)

const name = "ghcr.io/acme/app"

// bench is a repository with one image and a key that may sign it.
type bench struct {
	repo  *signtest.Repo
	key   *signtest.Key
	image ocispec.Descriptor
}

func newBench(t testing.TB) *bench {
	r := signtest.NewRepo()
	return &bench{repo: r, key: signtest.NewKey(t, "p256"), image: r.Image(t)}
}

// ring is an authority with the keys.
func ring(name string, keys ...*signtest.Key) signing.Authority {
	r := &signing.KeyRing{}
	for _, k := range keys {
		r.Keys = append(r.Keys, signing.Key{Material: signing.Material{Data: k.PEM}})
	}
	return signing.Authority{Name: name, Key: r}
}

// anyOf trusts each of the authorities, and what indexes pass on.
func anyOf(authorities ...signing.Authority) signing.Trust {
	return signing.Trust{Require: 1, Authorities: authorities, Inherit: true}
}

func compile(t testing.TB, trust signing.Trust) *verify.Verifier {
	t.Helper()
	v, err := verify.Compile(trust)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// judge judges the image of b.
func (b *bench) judge(t testing.TB, trust signing.Trust) signing.Result {
	t.Helper()
	return b.judgeSubject(t, trust, signing.Subject{Name: name, Desc: b.image})
}

func (b *bench) judgeSubject(t testing.TB, trust signing.Trust, s signing.Subject) signing.Result {
	t.Helper()
	r, err := compile(t, trust).Verify(t.Context(), b.repo, s, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func wantOutcome(t testing.TB, r signing.Result, want signing.Outcome) {
	t.Helper()
	if r.Outcome != want {
		t.Errorf("outcome %s (%s), want %s", r.Outcome, r.Reason, want)
	}
	if want != signing.Pass && r.Reason == "" {
		t.Error("no reason")
	}
}

// bundle attaches a bundle to the image.
func (b *bench) bundle(t testing.TB, about ocispec.Descriptor, l signtest.Layer) {
	t.Helper()
	b.repo.Attach(t, about, signtest.TypeBundle, signtest.TypeEmpty, l)
}

func base64Of(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

func contextCancelled(t *testing.T) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx, cancel
}

// newBenchOf is newBench with a key that is there.
func newBenchOf(t testing.TB, k *signtest.Key) *bench {
	r := signtest.NewRepo()
	return &bench{repo: r, key: k, image: r.Image(t)}
}

// alteredSource answers one byte more for every manifest by digest.
type alteredSource struct{ *signtest.Repo }

func (s alteredSource) Manifest(ctx context.Context, reference string) (signing.Manifest, error) {
	if _, err := godigest.Parse(reference); err != nil {
		return s.Repo.Manifest(ctx, reference)
	}
	return signing.Manifest{MediaType: ocispec.MediaTypeImageManifest, Raw: []byte("{} ")}, nil
}

// notary is an authority that trusts the signer of a PKI.
func notary(p *signtest.PKI) signing.Authority {
	return signing.Authority{Name: "corp", Notation: &signing.NotationStore{
		CAs:        []signing.Material{{Data: signtest.PEM(p.Root)}},
		Identities: []string{"x509.subject: CN=release, O=Acme"}, SkipRevocation: true,
	}}
}
