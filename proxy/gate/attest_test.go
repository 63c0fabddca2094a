package gate

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap/zaptest"

	"github.com/sluiceproxy/sluice/analyzer"
	"github.com/sluiceproxy/sluice/proxy/local"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/route"
	"github.com/sluiceproxy/sluice/proxy/store"
	"github.com/sluiceproxy/sluice/proxy/upload"
	"github.com/sluiceproxy/sluice/signing"
	"github.com/sluiceproxy/sluice/signing/attest"
	"github.com/sluiceproxy/sluice/signing/signtest"
	"github.com/sluiceproxy/sluice/signing/verify"
)

// newAttestWorld is a world that attests with a key, or without one.
func newAttestWorld(t *testing.T, key *signtest.Key) *world {
	t.Helper()
	dir := t.TempDir()
	var opts attest.Options
	if key != nil {
		der, err := x509.MarshalPKCS8PrivateKey(key.Private)
		if err != nil {
			t.Fatal(err)
		}
		if opts.Key, err = attest.ParseKey(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil); err != nil {
			t.Fatal(err)
		}
	}
	opts.Verifier = "https://sluice.example"
	a, err := attest.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	return newWorldWith(t, dir, func(o *Options) {
		st, err := store.Open(filepath.Join(dir, "registry"), store.Options{Keep: true, Name: "registry", Metrics: prometheus.NewRegistry(), Log: o.Log})
		if err != nil {
			t.Fatal(err)
		}
		ups := upload.New(upload.Options{NewSpool: func() (upload.Spool, error) { return st.NewSpool(-1) }, Log: zaptest.NewLogger(t)})
		t.Cleanup(func() { ups.Close(); st.Close() })
		o.Local = local.New(local.Options{Store: st, Records: o.Records, Uploads: ups, Log: o.Log})
		o.Attest = &Attest{Attestor: a, Documents: func(v policy.Verdict, rep *analyzer.Report) (json.RawMessage, []byte, error) {
			scan, err := json.Marshal(map[string]int{"findings": len(rep.Findings)})
			return scan, fmt.Appendf(nil, `{"bomFormat":"CycloneDX","findings":%d}`, len(rep.Findings)), err
		}}
	})
}

func (w *world) route(repo string, d godigest.Digest) route.Route {
	return route.Route{Kind: route.Manifest, Upstream: "up", Repository: repo, Name: "up/" + repo, Digest: d}
}

// attested waits until the list of referrers is as the test wants it.
func (w *world) attested(repo string, d godigest.Digest, want func([]ocispec.Descriptor) bool) []ocispec.Descriptor {
	w.t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		list, err := w.Referrers(w.t.Context(), w.route(repo, d), "")
		if err != nil {
			w.t.Fatal(err)
		}
		if want(list) {
			return list
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("referrers %+v", list)
		}
		<-tick.C
	}
}

func atLeast(n int) func([]ocispec.Descriptor) bool {
	return func(l []ocispec.Descriptor) bool { return len(l) >= n }
}

func none(l []ocispec.Descriptor) bool { return len(l) == 0 }

// TestAttest: what passed carries signed statements that verify, in the list of
// the image's referrers after the upstream's own, and in the side repository
// under cosign's tags.
func TestAttest(t *testing.T) {
	key := signtest.NewKey(t, "p256")
	w := newAttestWorld(t, key)
	m := w.image("app:1", []string{"fine"})
	d := godigest.FromBytes(w.json(m))
	about := ocispec.Descriptor{MediaType: m.MediaType, Digest: d, Size: int64(len(w.json(m)))}
	tw := &trustWorld{world: w, key: signtest.NewKey(t, "p256")}
	theirs := tw.sign("app", about)
	if _, err := w.pull("app:1"); err != nil {
		t.Fatal(err)
	}
	list := w.attested("app", d, atLeast(6)) // the upstream's, the SBOM, and four bundles
	if len(list) != 6 || list[0].Digest != theirs || list[0].Annotations[attest.AnnotationVerdict] != "" {
		t.Errorf("referrers %+v", list)
	}
	for _, r := range list[1:] {
		if r.Annotations[attest.AnnotationVerdict] == "" {
			t.Errorf("%s does not say that it is Sluice's", r.Digest)
		}
		a, err := w.pull("app@" + r.Digest.String())
		if err != nil {
			t.Fatalf("%s: %v", r.ArtifactType, err)
		}
		for _, l := range a.Manifest.Layers {
			b, err := w.Blob(t.Context(), route.Route{Kind: route.Blob, Upstream: "up", Repository: "app", Name: "up/app", Digest: l.Digest})
			if err != nil {
				t.Fatal(err)
			}
			data, err := io.ReadAll(b.File)
			if err != nil || godigest.FromBytes(data) != l.Digest {
				t.Errorf("layer %s: %v", l.Digest, err)
			}
			_ = b.Close()
		}
	}
	v, err := verify.Compile(signing.Trust{Require: 1, Authorities: []signing.Authority{{
		Name: "sluice", Key: &signing.KeyRing{Keys: []signing.Key{{Material: signing.Material{Data: key.PEM}}}}, Signature: true,
		Formats:      []signing.Format{signing.FormatCosignSignature, signing.FormatCosignAttestation},
		Attestations: []signing.AttestationRule{{Name: "vsa", PredicateType: "https://slsa.dev/verification_summary/v1"}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	side := localSource{w.opts.Local, sideName("up/app")}
	res, err := v.Verify(t.Context(), side, signing.Subject{Name: "up/app", Desc: about}, time.Now())
	if err != nil || res.Outcome != signing.Pass {
		t.Errorf("side repository: %s %s %v", res.Outcome, res.Reason, err)
	}
	rt := w.route("app", "")
	rt.Side, rt.Tag = true, strings.Replace(d.String(), ":", "-", 1)+".att"
	if a, err := w.Side(t.Context(), rt); err != nil || len(a.Manifest.Layers) != 3 {
		t.Errorf("tag .att: %v", err)
	}
	if n := w.count("PUT /v2/app/manifests/" + rt.Tag); n != 0 {
		t.Error("the upstream's tag was written")
	}
}

// TestThreatDeniedAttestation: nothing is attested of an image that is denied, and what was
// attested before is withdrawn.
func TestThreatDeniedAttestation(t *testing.T) {
	w := newAttestWorld(t, signtest.NewKey(t, "p256"))
	evil := godigest.FromBytes(w.json(w.image("evil:1", []string{"bad"})))
	if _, err := w.pull("evil:1"); !denied(err) {
		t.Fatal(err)
	}
	d := godigest.FromBytes(w.json(w.image("app:1", []string{"lib"})))
	if _, err := w.pull("app:1"); err != nil {
		t.Fatal(err)
	}
	before := w.attested("app", d, atLeast(5))
	w.attested("evil", evil, none)
	w.adv.mu.Lock()
	w.adv.rev, w.adv.finding = "adv-2", map[string]analyzer.Severity{"lib": analyzer.SeverityCritical}
	w.adv.mu.Unlock()
	if _, err := w.pull("app:1"); !denied(err) {
		t.Fatal(err)
	}
	w.attested("app", d, none)
	if _, err := w.pull("app@" + before[0].Digest.String()); err == nil {
		t.Error("a withdrawn attestation is still served")
	}
	rt := w.route("app", "")
	rt.Side, rt.Tag = true, strings.Replace(d.String(), ":", "-", 1)+".sig"
	if _, err := w.Side(t.Context(), rt); !errors.Is(err, ErrManifestUnknown) {
		t.Errorf("tag .sig: %v", err)
	}
}

// TestAttestRenewed: new advisories make new attestations, which take the place
// of the old.
func TestAttestRenewed(t *testing.T) {
	w := newAttestWorld(t, signtest.NewKey(t, "p256"))
	d := godigest.FromBytes(w.json(w.image("app:1", []string{"meh"})))
	if _, err := w.pull("app:1"); err != nil {
		t.Fatal(err)
	}
	old := w.attested("app", d, atLeast(5))
	w.adv.mu.Lock()
	w.adv.rev = "adv-2"
	w.adv.mu.Unlock()
	if _, err := w.pull("app:1"); err != nil {
		t.Fatal(err)
	}
	list := w.attested("app", d, func(l []ocispec.Descriptor) bool {
		return len(l) == 5 && l[0].Annotations[attest.AnnotationVerdict] != old[0].Annotations[attest.AnnotationVerdict]
	})
	for _, r := range list {
		if slices.ContainsFunc(old, func(o ocispec.Descriptor) bool { return o.Digest == r.Digest }) {
			t.Errorf("%s is old", r.Digest)
		}
	}
}

// TestAttestUnsigned: without a key an image that is served with findings carries
// them all the same.
func TestAttestUnsigned(t *testing.T) {
	w := newAttestWorld(t, nil)
	clean := godigest.FromBytes(w.json(w.image("clean:1", []string{"fine"})))
	d := godigest.FromBytes(w.json(w.image("app:1", []string{"meh"})))
	for _, ref := range []string{"clean:1", "app:1"} {
		if _, err := w.pull(ref); err != nil {
			t.Fatal(err)
		}
	}
	list := w.attested("app", d, atLeast(1))
	if len(list) != 1 || list[0].ArtifactType != "application/vnd.cyclonedx+json" {
		t.Fatalf("referrers %+v", list)
	}
	b, err := w.Blob(t.Context(), route.Route{Kind: route.Blob, Upstream: "up", Repository: "app", Name: "up/app", Digest: godigest.FromString(`{"bomFormat":"CycloneDX","findings":1}`)})
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(b.File)
	_ = b.Close()
	if err != nil || !bytes.Contains(data, []byte("CycloneDX")) {
		t.Errorf("%s, %v", data, err)
	}
	w.attested("clean", clean, none)
}

// TestThreatHalfJudgedIndex: an index is attested once every image that it lists
// was judged and serves, and no longer than that.
func TestThreatHalfJudgedIndex(t *testing.T) {
	w := newAttestWorld(t, signtest.NewKey(t, "p256"))
	tw := &trustWorld{world: w}
	one, two := tw.imageOf("app:one", "fine"), tw.imageOf("app:two", "lib")
	index := tw.index("app:1", one, two)
	for _, ref := range []string{"app:1", "app@" + one.Digest.String()} {
		if _, err := w.pull(ref); err != nil {
			t.Fatal(err)
		}
	}
	w.attested("app", one.Digest, atLeast(5))
	if list, err := w.Referrers(t.Context(), w.route("app", index.Digest), ""); err != nil || len(list) != 0 {
		t.Fatalf("an image of the index is not judged yet: %+v, %v", list, err)
	}
	if _, err := w.pull("app@" + two.Digest.String()); err != nil {
		t.Fatal(err)
	}
	w.attested("app", index.Digest, atLeast(2))
	w.adv.mu.Lock()
	w.adv.rev, w.adv.finding = "adv-2", map[string]analyzer.Severity{"lib": analyzer.SeverityCritical}
	w.adv.mu.Unlock()
	if _, err := w.pull("app@" + two.Digest.String()); !denied(err) {
		t.Fatal(err)
	}
	w.attested("app", index.Digest, none)
}
