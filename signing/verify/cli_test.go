package verify_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	ggcr "github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sluiceproxy/sluice/signing"
	"github.com/sluiceproxy/sluice/signing/signtest"
)

// tool is a command line of others. It runs with a home of its own.
type tool struct {
	path, home string
	env        []string
}

// newTool finds a program in PATH or where `go install` puts it.
func newTool(t *testing.T, program string, env ...string) *tool {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		home, err := os.UserHomeDir()
		if err != nil {
			t.Skip(err)
		}
		gopath := os.Getenv("GOPATH")
		if gopath == "" {
			gopath = filepath.Join(home, "go")
		}
		if path, err = exec.LookPath(filepath.Join(gopath, "bin", program)); err != nil {
			t.Skipf("%s is not installed: see docs/threats.md", program)
		}
	}
	home := t.TempDir()
	return &tool{path, home, append([]string{"HOME=" + home, "XDG_CONFIG_HOME=" + home, "PATH=" + os.Getenv("PATH")}, env...)}
}

// run returns the error of the program, with what it said. Only its exit status
// tells success: what cosign prints does not always hold.
func (x *tool) run(t *testing.T, args ...string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, x.path, args...)
	cmd.Env, cmd.Dir = x.env, x.home
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", filepath.Base(x.path), strings.Join(args, " "), err, out)
	}
	return nil
}

func (x *tool) must(t *testing.T, args ...string) {
	t.Helper()
	if err := x.run(t, args...); err != nil {
		t.Fatal(err)
	}
}

func (x *tool) read(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(x.home, file))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (x *tool) write(t *testing.T, file string, data []byte) {
	t.Helper()
	path := filepath.Join(x.home, file)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// remoteRepo is a repository of a registry on loopback, as a signing.Source.
type remoteRepo struct{ repo ggcr.Repository }

func newRemoteRepo(t *testing.T) *remoteRepo {
	t.Helper()
	srv := httptest.NewServer(registry.New(registry.WithReferrersSupport(true), registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(srv.Close)
	repo, err := ggcr.NewRepository(strings.TrimPrefix(srv.URL, "http://") + "/acme/app")
	if err != nil {
		t.Fatal(err)
	}
	return &remoteRepo{repo}
}

// image pushes an image that nobody signed.
func (r *remoteRepo) image(t *testing.T) ocispec.Descriptor {
	t.Helper()
	img, err := random.Image(64, 1)
	if err != nil {
		t.Fatal(err)
	}
	img = mutate.ConfigMediaType(mutate.MediaType(img, types.OCIManifestSchema1), types.OCIConfigJSON)
	d, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(r.repo.Digest(d.String()), img); err != nil {
		t.Fatal(err)
	}
	size, err := img.Size()
	if err != nil {
		t.Fatal(err)
	}
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: godigest.Digest(d.String()), Size: size}
}

func (r *remoteRepo) ref(d ocispec.Descriptor) string {
	return r.repo.Digest(d.Digest.String()).String()
}

// tag pushes legacy layers; attach pushes a referrer.
func (r *remoteRepo) tag(t *testing.T, about ocispec.Descriptor, suffix string, layers ...signtest.Layer) {
	t.Helper()
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	for _, l := range layers {
		var err error
		if img, err = mutate.Append(img, mutate.Addendum{Layer: static.NewLayer(l.Data, types.MediaType(l.MediaType)), Annotations: l.Annotations}); err != nil {
			t.Fatal(err)
		}
	}
	if err := remote.Write(r.repo.Tag(strings.Replace(about.Digest.String(), ":", "-", 1)+"."+suffix), img); err != nil {
		t.Fatal(err)
	}
}

type rawManifest []byte

func (m rawManifest) RawManifest() ([]byte, error)        { return m, nil }
func (m rawManifest) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }

func (r *remoteRepo) attach(t *testing.T, about ocispec.Descriptor, artifactType, configType string, annotations map[string]string, l signtest.Layer) {
	t.Helper()
	config, layer := static.NewLayer([]byte("{}"), types.MediaType(configType)), static.NewLayer(l.Data, types.MediaType(l.MediaType))
	for _, write := range []error{remote.WriteLayer(r.repo, config), remote.WriteLayer(r.repo, layer)} {
		if write != nil {
			t.Fatal(write)
		}
	}
	raw := signtest.JSON(t, ocispec.Manifest{
		MediaType: ocispec.MediaTypeImageManifest, ArtifactType: artifactType,
		Config:  ocispec.Descriptor{MediaType: configType, Digest: godigest.FromString("{}"), Size: 2},
		Layers:  []ocispec.Descriptor{{MediaType: l.MediaType, Digest: godigest.FromBytes(l.Data), Size: int64(len(l.Data))}},
		Subject: &about, Annotations: annotations,
	})
	raw = bytes.Replace(raw, []byte(`"schemaVersion":0`), []byte(`"schemaVersion":2`), 1)
	if err := remote.Put(r.repo.Digest(godigest.FromBytes(raw).String()), rawManifest(raw)); err != nil {
		t.Fatal(err)
	}
}

func notFound(err error) error {
	var te *transport.Error
	if errors.As(err, &te) && te.StatusCode == http.StatusNotFound {
		return fmt.Errorf("%w: %w", signing.ErrNotFound, err)
	}
	return err
}

// Referrers implements signing.Source.
func (r *remoteRepo) Referrers(ctx context.Context, d godigest.Digest) ([]ocispec.Descriptor, error) {
	idx, err := remote.Referrers(r.repo.Digest(d.String()), remote.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	raw, err := idx.RawManifest()
	if err != nil {
		return nil, err
	}
	var list ocispec.Index
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, err
	}
	return list.Manifests, nil
}

// Manifest implements signing.Source.
func (r *remoteRepo) Manifest(ctx context.Context, reference string) (signing.Manifest, error) {
	var ref ggcr.Reference = r.repo.Tag(reference)
	if strings.Contains(reference, ":") {
		ref = r.repo.Digest(reference)
	}
	d, err := remote.Get(ref, remote.WithContext(ctx))
	if err != nil {
		return signing.Manifest{}, notFound(err)
	}
	return signing.Manifest{MediaType: string(d.MediaType), Digest: godigest.FromBytes(d.Manifest), Raw: d.Manifest}, nil
}

// Blob implements signing.Source.
func (r *remoteRepo) Blob(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	l, err := remote.Layer(r.repo.Digest(desc.Digest.String()), remote.WithContext(ctx))
	if err != nil {
		return nil, notFound(err)
	}
	rc, err := l.Compressed()
	return rc, notFound(err)
}

func (r *remoteRepo) judge(t *testing.T, trust signing.Trust, d ocispec.Descriptor) signing.Result {
	t.Helper()
	res, err := compile(t, trust).Verify(t.Context(), r, signing.Subject{Name: "docker.io/acme/app", Desc: d}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// TestCosign: what cosign signs, Sluice verifies; what is signed here, cosign
// verifies; both refuse the same.
func TestCosign(t *testing.T) {
	cosign := newTool(t, "cosign", "COSIGN_PASSWORD=", "COSIGN_YES=true")
	r := newRemoteRepo(t)
	const vuln = "https://cosign.sigstore.dev/attestation/vuln/v1"
	offline := []string{"--use-signing-config=false", "--tlog-upload=false", "--key", "cosign.key"}
	verify := func(command, key string, d ocispec.Descriptor, more ...string) error {
		return cosign.run(t, append(append([]string{command, "--key", key, "--insecure-ignore-tlog"}, more...), r.ref(d))...)
	}

	cosign.must(t, "generate-key-pair")
	theirs := signing.Authority{Name: "cosign", Key: &signing.KeyRing{Keys: []signing.Key{{Material: signing.Material{Data: cosign.read(t, "cosign.pub")}}}}}
	ours, other := signtest.NewKey(t, "p256"), signtest.NewKey(t, "p256")
	cosign.write(t, "ours.pub", ours.PEM)
	cosign.write(t, "other.pub", other.PEM)
	cosign.write(t, "vuln.json", []byte(`{"invocation":{"parameters":[],"uri":"","event_id":"","builder.id":""},"scanner":{"uri":"","version":"","db":{"uri":"","version":""},"result":null},"metadata":{"scanStartedOn":"2026-01-01T00:00:00Z","scanFinishedOn":"2026-01-01T00:00:00Z"}}`))

	legacy, bundle, unsigned := r.image(t), r.image(t), r.image(t)
	cosign.must(t, append(append([]string{"sign", "--new-bundle-format=false"}, offline...), r.ref(legacy))...)
	cosign.must(t, append(append([]string{"sign"}, offline...), r.ref(bundle))...)
	for _, d := range []ocispec.Descriptor{legacy, bundle} {
		wantOutcome(t, r.judge(t, anyOf(theirs), d), signing.Pass)
		wantOutcome(t, r.judge(t, anyOf(ring("other", other)), d), signing.Fail)
	}
	wantOutcome(t, r.judge(t, anyOf(theirs), unsigned), signing.Fail)

	attested := r.image(t)
	cosign.must(t, append(append([]string{"attest", "--type", "vuln", "--predicate", "vuln.json"}, offline...), r.ref(attested))...)
	demanding := theirs
	demanding.Attestations = []signing.AttestationRule{{Name: "vuln", PredicateType: vuln}}
	wantOutcome(t, r.judge(t, anyOf(demanding), attested), signing.Pass)
	wantOutcome(t, r.judge(t, anyOf(theirs), attested), signing.Fail) // cosign verify would pass: any bundle is a signature

	// The other way round.
	mine, minesBundle := r.image(t), r.image(t)
	r.tag(t, mine, "sig", ours.Legacy(t, "docker.io/acme/app", mine.Digest))
	r.attach(t, minesBundle, signtest.TypeBundle, signtest.TypeEmpty, map[string]string{
		"dev.sigstore.bundle.content": "dsse-envelope", "dev.sigstore.bundle.predicateType": signtest.PredicateSign,
	}, ours.Bundle(t, signtest.Signature(t, minesBundle.Digest)))
	for _, d := range []ocispec.Descriptor{mine, minesBundle} {
		if err := verify("verify", "ours.pub", d); err != nil {
			t.Error(err)
		}
		if verify("verify", "other.pub", d) == nil {
			t.Errorf("cosign verified %s with another key", d.Digest)
		}
		wantOutcome(t, r.judge(t, anyOf(ring("ours", ours)), d), signing.Pass)
	}

	// Both refuse a signature that was copied from another image.
	replayed := r.image(t)
	r.tag(t, replayed, "sig", ours.Legacy(t, "docker.io/acme/app", mine.Digest))
	if verify("verify", "ours.pub", replayed) == nil {
		t.Error("cosign verified a replayed signature")
	}
	wantOutcome(t, r.judge(t, anyOf(ring("ours", ours)), replayed), signing.Fail)
}

// TestNotationCLI: the same with the Notary Project's command.
func TestNotationCLI(t *testing.T) {
	cli := newTool(t, "notation")
	r := newRemoteRepo(t)
	ours := signtest.NewPKI(t, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	cli.must(t, "cert", "generate-test", "--default", "acme.example")
	theirs := signing.Authority{Name: "corp", Notation: &signing.NotationStore{
		CAs:        []signing.Material{{Data: cli.read(t, "notation/localkeys/acme.example.crt")}},
		Identities: []string{"x509.subject: CN=acme.example, O=Notary"}, SkipRevocation: true,
	}}
	for _, format := range []string{"jws", "cose"} {
		d := r.image(t)
		cli.must(t, "sign", "--insecure-registry", "--signature-format", format, r.ref(d))
		res := r.judge(t, anyOf(theirs), d)
		wantOutcome(t, res, signing.Pass)
		wantOutcome(t, r.judge(t, anyOf(notary(ours)), d), signing.Fail)
	}
	wantOutcome(t, r.judge(t, anyOf(theirs), r.image(t)), signing.Fail)

	// The other way round: a signature made here, and the trust of notation.
	policy := func(identity string) {
		cli.write(t, "notation/trustpolicy.json", signtest.JSON(t, map[string]any{"version": "1.0", "trustPolicies": []any{map[string]any{
			"name": "p", "registryScopes": []string{"*"}, "signatureVerification": map[string]any{"level": "strict", "override": map[string]string{"revocation": "skip"}},
			"trustStores": []string{"ca:ours"}, "trustedIdentities": []string{identity},
		}}}))
	}
	cli.write(t, "notation/truststore/x509/ca/ours/root.pem", signtest.PEM(ours.Root))
	for _, mt := range []string{"application/jose+json", "application/cose"} {
		d := r.image(t)
		r.attach(t, d, "", signtest.TypeNotation, map[string]string{"io.cncf.notary.x509chain.thumbprint#S256": "[]"}, ours.Signer().Sign(t, mt, d))
		wantOutcome(t, r.judge(t, anyOf(notary(ours)), d), signing.Pass)
		policy("x509.subject: CN=release,O=Acme,L=Seattle,ST=WA,C=US")
		if err := cli.run(t, "verify", "--insecure-registry", r.ref(d)); err != nil {
			t.Error(err)
		}
		policy("x509.subject: CN=Other,O=Acme,L=Seattle,ST=WA,C=US")
		if cli.run(t, "verify", "--insecure-registry", r.ref(d)) == nil {
			t.Error("notation verified another identity's signature")
		}
	}
}
