package integration

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	godigest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/signing/signtest"
)

const (
	workflow = "https://github.com/acme/app/.github/workflows/release.yml@refs/tags/v1"
	issuer   = "https://token.actions.githubusercontent.com"
)

// byAll is a policy for each way to sign.
const byAll = `version: 1
keys: [{name: signer, any: [{file: signer.pub}]}]
roots: [{name: fulcio, trustedRoot: root.json}]
stores: [{name: acme, ca: ca.crt, revocation: skip}]
policies:
  - {name: keyed, images: ["up/keyed"], rules: [], trust: {authorities: [{name: signer, key: {ref: signer}}]}}
  - {name: keyless, images: ["up/keyless"], rules: [], trust: {authorities: [{name: ci, keyless: {root: fulcio, sct: 0, identities: [{issuer: "` + issuer + `", subject: "` + workflow + `"}]}}]}}
  - {name: notary, images: ["up/notary"], rules: [], trust: {authorities: [{name: corp, notation: {store: acme, identities: ["x509.subject: CN=release, O=Acme"]}}]}}
`

// attach stores a layer as a referrer of the digest, listed by the tag that
// clients keep where there is no referrers API.
func (u *upstream) attach(t *testing.T, repository string, about ocispec.Descriptor, artifactType string, l signtest.Layer) {
	t.Helper()
	u.pushBlob(t, repository, l.Data)
	u.pushBlob(t, repository, []byte("{}"))
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: artifactType,
		Config:  ocispec.Descriptor{MediaType: ocispec.MediaTypeEmptyJSON, Digest: godigest.FromString("{}"), Size: 2},
		Layers:  []ocispec.Descriptor{{MediaType: l.MediaType, Digest: godigest.FromBytes(l.Data), Size: int64(len(l.Data))}},
		Subject: &about,
	}
	raw := must(json.Marshal(m))(t)
	d := ocispec.Descriptor{MediaType: m.MediaType, Digest: godigest.FromBytes(raw), Size: int64(len(raw)), ArtifactType: artifactType}
	list := must(json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{d}}))(t)
	u.put(t, http.MethodPut, "/v2/"+repository+"/manifests/"+d.Digest.String(), m.MediaType, raw)
	u.put(t, http.MethodPut, "/v2/"+repository+"/manifests/"+strings.Replace(about.Digest.String(), ":", "-", 1), ocispec.MediaTypeImageIndex, list)
}

// TestTrustOffline: keys, certificates and the Notary Project's signatures are
// verified where there is no network but loopback.
func TestTrustOffline(t *testing.T) {
	if os.Getenv(offlineEnv) != "" {
		loopback(t)
		trustOffline(t)
		return
	}
	t.Parallel()
	unshare, err := exec.LookPath("unshare")
	if err == nil {
		err = exec.CommandContext(t.Context(), unshare, "--map-root-user", "--net", "true").Run()
	}
	if err != nil {
		t.Skipf("no network namespace can be made here: %v", err)
	}
	cmd := exec.CommandContext(t.Context(), unshare, "--map-root-user", "--net", must(os.Executable())(t), "-test.run=^TestTrustOffline$", "-test.v")
	cmd.Env = append(os.Environ(), offlineEnv+"="+program)
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "PASS: TestTrustOffline") {
		t.Errorf("%v\n%s", err, out)
	}
}

func trustOffline(t *testing.T) {
	u, key := newUpstream(t), signtest.NewKey(t, "p256")
	fulcio, pki := signtest.NewSigstore(t), signtest.NewPKI(t, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	policy := policyFile(t, byAll)
	for name, data := range map[string][]byte{"signer.pub": key.PEM, "root.json": fulcio.Root, "ca.crt": signtest.PEM(pki.Root)} {
		write(t, filepath.Join(filepath.Dir(policy), name), data)
	}
	for repository, sign := range map[string]func(ocispec.Descriptor){
		"keyed": func(d ocispec.Descriptor) { u.sign(t, "keyed", d.Digest, key) },
		"keyless": func(d ocispec.Descriptor) {
			u.attach(t, "keyless", d, signtest.TypeBundle, fulcio.Bundle(t, workflow, issuer, signtest.Signature(t, d.Digest)))
		},
		"notary": func(d ocispec.Descriptor) {
			u.attach(t, "notary", d, signtest.TypeNotation, pki.Signer().Sign(t, "application/jose+json", d))
		},
	} {
		img := alpineImage(t, clean)
		d := u.push(t, repository, "signed", img)
		u.push(t, repository, "unsigned", alpineImage(t, noisy))
		sign(ocispec.Descriptor{MediaType: string(must(img.MediaType())(t)), Digest: d, Size: must(img.Size())(t)})
	}
	s := start(t, options{upstream: u.URL, advisories: smallFeed(t), config: "policy: {file: " + policy + "}\n"})
	for _, repository := range []string{"keyed", "keyless", "notary"} {
		t.Run(repository, func(t *testing.T) { s.wantSigned(t, repository) })
	}
}

// loopback brings the interface up that a new network namespace has down.
func loopback(t *testing.T) {
	t.Helper()
	s := must(unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0))(t)
	defer func() { _ = unix.Close(s) }()
	lo := must(unix.NewIfreq("lo"))(t)
	lo.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, lo); err != nil {
		t.Fatal(err)
	}
}
