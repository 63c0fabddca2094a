package gate

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	godigest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sluiceproxy/sluice/analyzer"
	"github.com/sluiceproxy/sluice/analyzer/vex"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/signing"
	"github.com/sluiceproxy/sluice/signing/signtest"
	"github.com/sluiceproxy/sluice/signing/verify"
)

// trustWorld is a world whose policy demands signatures by a key, with a clock
// that the test moves.
type trustWorld struct {
	*world
	key    *signtest.Key
	offset atomic.Int64
}

const trustRules = `version: 1
keys:
  - {name: release, any: [{file: release.pub}]}
policies:
  - name: test
    images: ["**"]
    rules:
      - {id: critical, for: finding, when: 'finding.severity >= CRITICAL', action: deny}
    trust:
%s
`

const byRelease = `      authorities: [{name: release, key: {ref: release}}]
`

func newTrustWorld(t testing.TB, trust string) *trustWorld {
	t.Helper()
	w := &trustWorld{world: newWorld(t, t.TempDir()), key: signtest.NewKey(t, "p256")}
	w.begin(trust)
	return w
}

// begin makes the gate follow the clock and the trust.
func (w *trustWorld) begin(trust string) {
	w.t.Helper()
	w.now = func() time.Time { return time.Now().Add(time.Duration(w.offset.Load())) }
	w.opts.ParseVEX = func(name string, data []byte) (analyzer.VEX, error) {
		d, err := vex.Parse(name, data)
		return vex.NewSet(d), err
	}
	w.SetPolicy(w.bind(trust))
}

func (w *trustWorld) bind(trust string) *policy.Policy {
	w.t.Helper()
	p, err := policy.Parse("test.yaml", fmt.Appendf(nil, trustRules, trust))
	if err != nil {
		w.t.Fatal(err)
	}
	p, err = p.Bind(policy.Binder{
		Now:     time.Now(),
		Read:    func(string) ([]byte, error) { return w.key.PEM, nil },
		Compile: func(t signing.Trust) (signing.Verifier, error) { return verify.Compile(t) },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// pass lets time go by.
func (w *trustWorld) pass(d time.Duration) { w.offset.Add(int64(d)) }

// attach stores a layer as a referrer in the upstream's repository.
func (w *trustWorld) attach(repo string, about ocispec.Descriptor, l signtest.Layer) godigest.Digest {
	w.t.Helper()
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: l.MediaType,
		Config: w.blob(repo, ocispec.MediaTypeEmptyJSON, []byte("{}")), Layers: []ocispec.Descriptor{w.blob(repo, l.MediaType, l.Data)},
		Subject: &about,
	}
	b := w.json(m)
	return w.put(repo, godigest.FromBytes(b).String(), m.MediaType, b)
}

// sign has the key sign the image.
func (w *trustWorld) sign(repo string, about ocispec.Descriptor) godigest.Digest {
	return w.attach(repo, about, w.key.Bundle(w.t, signtest.Signature(w.t, about.Digest)))
}

// descriptor is that of a manifest that the test made.
func (w *trustWorld) descriptor(m any, mediaType string) ocispec.Descriptor {
	b := w.json(m)
	return ocispec.Descriptor{MediaType: mediaType, Digest: godigest.FromBytes(b), Size: int64(len(b))}
}

func (w *trustWorld) imageOf(ref string, files ...string) ocispec.Descriptor {
	return w.descriptor(w.image(ref, files), ocispec.MediaTypeImageManifest)
}

// index stores an index of children and returns its descriptor.
func (w *trustWorld) index(ref string, children ...ocispec.Descriptor) ocispec.Descriptor {
	repo, tag, _ := strings.Cut(ref, ":")
	i := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: children}
	w.put(repo, tag, i.MediaType, w.json(i))
	return w.descriptor(i, i.MediaType)
}

// wantRule demands that the error is of a verdict by the rule.
func wantRule(t *testing.T, err error, rule string) {
	t.Helper()
	var d *policy.DeniedError
	if !errors.As(err, &d) || d.Verdict.Reasons[0].Rule != rule {
		t.Fatalf("error %v, want a denial by %s", err, rule)
	}
}

// TestTrustUnsigned: an image that needs a signature is refused without one, for
// all who ask with one search, and passes within a minute of being signed.
func TestTrustUnsigned(t *testing.T) {
	w := newTrustWorld(t, byRelease)
	d := w.imageOf("app:1", "fine")
	var crowd sync.WaitGroup
	for range 20 {
		crowd.Go(func() {
			if _, err := w.pull("app:1"); !denied(err) || !strings.Contains(err.Error(), "not signed by release") {
				t.Errorf("unsigned: %v", err)
			}
		})
	}
	crowd.Wait()
	if n := w.count("GET /v2/app/referrers/"); n != 1 {
		t.Errorf("%d searches for a crowd", n)
	}
	if err := w.blobError("app", w.image("app:1", []string{"fine"}).Config.Digest); !denied(err) {
		t.Errorf("blob of an unsigned image: %v", err)
	}
	evidence := w.sign("app", d)
	w.pass(unsignedTTL)
	a, err := w.pull("app:1")
	if err != nil {
		t.Fatal(err)
	}
	got := a.Verdict.Trust
	if len(got) != 1 || got[0].Outcome != signing.Pass || len(got[0].Passed) != 1 || got[0].Passed[0] != "release" || len(got[0].Evidence) != 1 || got[0].Evidence[0] != evidence {
		t.Errorf("trust of the verdict: %+v", got)
	}
}

// TestTrustWarm: a pass is never asked for again, also after a restart without
// the upstream, until the trust changes.
func TestTrustWarm(t *testing.T) {
	w := newTrustWorld(t, byRelease)
	d := w.imageOf("app:1", "fine")
	w.sign("app", d)
	ref := "app@" + d.Digest.String()
	if _, err := w.pull(ref); err != nil {
		t.Fatal(err)
	}
	before := w.count("GET ")
	w.pass(48 * time.Hour)
	if _, err := w.pull(ref); err != nil {
		t.Fatal(err)
	}
	w.stop()
	w.start(rules)
	w.begin(byRelease)
	down := http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusServiceUnavailable) })
	w.answer.Store(&down)
	if _, err := w.pull(ref); err != nil {
		t.Fatalf("after a restart, without the upstream: %v", err)
	}
	if n := w.count("GET ") - before; n != 0 {
		t.Errorf("%d requests to the upstream for what is known", n)
	}
	w.SetPolicy(w.bind(byRelease + "      revoked: [" + w.key.ID.String() + "]\n"))
	if _, err := w.pull(ref); err == nil {
		t.Error("the key was revoked, and the image still served")
	}
}

// TestTrustError: what cannot be looked at is never "unsigned".
func TestTrustError(t *testing.T) {
	for _, tt := range []struct {
		trust string
		is    func(error) bool
	}{
		{byRelease, pending},
		{byRelease + "      onError: deny\n", denied},
	} {
		for _, status := range []int{http.StatusTooManyRequests, http.StatusUnauthorized, http.StatusInternalServerError} {
			w := newTrustWorld(t, tt.trust)
			d := w.imageOf("app:1", "fine")
			w.sign("app", d)
			ref := "app@" + d.Digest.String()
			broken := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				if strings.Contains(r.URL.Path, "/referrers/") {
					rw.WriteHeader(status)
					return
				}
				w.registry.ServeHTTP(rw, r)
			})
			w.answer.Store(&broken)
			_, err := w.pull(ref)
			if !tt.is(err) || strings.Contains(err.Error(), "not signed") {
				t.Errorf("%d: %v", status, err)
			}
			w.answer.Store(nil)
			w.pass(failedTTL)
			if _, err := w.pull(ref); err != nil {
				t.Errorf("%d: once the upstream answers: %v", status, err)
			}
			w.stop()
		}
	}
}

// TestTrustIndex: the signature of an index covers what it lists, and nothing
// else.
func TestTrustIndex(t *testing.T) {
	w := newTrustWorld(t, byRelease)
	child, stray := w.imageOf("app:child", "fine"), w.imageOf("app:stray", "other")
	w.sign("app", w.index("app:1", child))
	if _, err := w.pull("app@" + child.Digest.String()); !denied(err) {
		t.Errorf("child, its index not known yet: %v", err)
	}
	if _, err := w.pull("app:1"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.pull("app@" + child.Digest.String()); err != nil {
		t.Errorf("child of a signed index: %v", err)
	}
	_, err := w.pull("app@" + stray.Digest.String())
	wantRule(t, err, policy.RuleUnsigned)

	w.index("app:2", stray)
	if a, err := w.pull("app:2"); err != nil || a.Verdict.Decision != policy.Annotate {
		t.Errorf("unsigned index: %v, %v", a.Verdict.Decision, err)
	}
	_, err = w.pull("app@" + stray.Digest.String())
	wantRule(t, err, policy.RuleUnsigned)
}

// TestTrustPushedIndex: an image in quarantine is served as soon as the index that
// lists it is signed, although it was looked at before.
func TestTrustPushedIndex(t *testing.T) {
	w := &trustWorld{world: newPushWorld(t), key: signtest.NewKey(t, "p256")}
	w.begin(byRelease)
	p, err := w.push("quarantine", "1", "fine")
	if err != nil {
		t.Fatal(err)
	}
	rt := localRoute("quarantine", "1")
	_, err = w.Manifest(t.Context(), rt)
	wantRule(t, err, "unsigned")
	a, err := w.Inspect(t.Context(), rt)
	if err != nil {
		t.Fatal(err)
	}
	put := func(mediaType string, m any) ocispec.Descriptor {
		t.Helper()
		b := w.json(m)
		req := PushRequest{Bytes: b, MediaType: mediaType, Pusher: "user:alice"}
		desc := ocispec.Descriptor{MediaType: mediaType, Digest: godigest.FromBytes(b), Size: int64(len(b))}
		if _, err := w.Push(t.Context(), byDigest(rt, desc.Digest), req); err != nil {
			t.Fatal(err)
		}
		return desc
	}
	image := ocispec.Descriptor{MediaType: a.Manifest.Descriptor.MediaType, Digest: p.Digest, Size: int64(len(a.Bytes))}
	both := put(ocispec.MediaTypeImageIndex, ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{image}})
	_, err = w.Manifest(t.Context(), rt)
	wantRule(t, err, "unsigned")
	signature := w.key.Bundle(t, signtest.Signature(t, both.Digest))
	for _, b := range [][]byte{[]byte("{}"), signature.Data} {
		if err := w.opts.Local.PutBlob(t.Context(), rt.Name, b); err != nil {
			t.Fatal(err)
		}
	}
	put(ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: signature.MediaType, Subject: &both,
		Config: ocispec.Descriptor{MediaType: ocispec.MediaTypeEmptyJSON, Digest: godigest.FromString("{}"), Size: 2},
		Layers: []ocispec.Descriptor{{MediaType: signature.MediaType, Digest: godigest.FromBytes(signature.Data), Size: int64(len(signature.Data))}},
	})
	if _, err := w.Manifest(t.Context(), rt); err != nil {
		t.Errorf("after the index was signed: %v", err)
	}
}

// TestThreatStrangerSigned: another key, another image's signature and a
// statement that nobody signed are no signature.
func TestThreatStrangerSigned(t *testing.T) {
	w := newTrustWorld(t, byRelease)
	d, other := w.imageOf("app:1", "fine"), w.imageOf("app:2", "more")
	mallory := signtest.NewKey(t, "p256")
	w.attach("app", d, mallory.Bundle(t, signtest.Signature(t, d.Digest)))
	w.attach("app", d, w.key.Bundle(t, signtest.Signature(t, other.Digest)))
	w.attach("app", d, signtest.Layer{MediaType: signtest.TypeInToto, Data: signtest.Signature(t, d.Digest)})
	_, err := w.pull("app:1")
	wantRule(t, err, policy.RuleTrustFailed)
}

// TestThreatDisguisedImage: signatures can be pulled without a signature of
// their own; an image that says that it is one cannot.
func TestThreatDisguisedImage(t *testing.T) {
	w := newTrustWorld(t, byRelease)
	d := w.imageOf("app:1", "fine")
	sig := w.sign("app", d)
	if _, err := w.pull("app@" + sig.String()); err != nil {
		t.Errorf("a signature: %v", err)
	}
	m := w.image("app:2", []string{"fine"})
	m.ArtifactType = signtest.TypeBundle
	w.put("app", "3", m.MediaType, w.json(m))
	_, err := w.pull("app:3")
	wantRule(t, err, policy.RuleUnsigned)
	chart := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: signtest.TypeBundle,
		Config: w.blob("app", "application/vnd.cncf.helm.config.v1+json", []byte("{}")),
		Layers: []ocispec.Descriptor{w.blob("app", "application/vnd.cncf.helm.chart.content.v1.tar+gzip", []byte("chart"))},
	}
	w.put("app", "4", chart.MediaType, w.json(chart))
	_, err = w.pull("app:4")
	wantRule(t, err, policy.RuleUnsigned)
}

// TestThreatForgedExemption: a VEX document lifts a denial only if an issuer
// signed it whom the policy names for that.
func TestThreatForgedExemption(t *testing.T) {
	w := newTrustWorld(t, `      issuers: [{name: security, key: {ref: release}, attestations: [{name: vex, predicateType: "https://openvex.dev/ns", use: exemptions}]}]
`)
	d := w.imageOf("app:1", "bad")
	mallory := signtest.NewKey(t, "p256")
	document := map[string]any{
		"@context": "https://openvex.dev/ns/v0.2.0", "@id": "https://acme.example/vex/1", "author": "Acme", "timestamp": "2026-01-01T00:00:00Z", "version": 1,
		"statements": []any{map[string]any{
			"vulnerability": map[string]any{"name": "CVE-2026-0001"}, "products": []any{map[string]any{"@id": "pkg:npm/bad@1"}},
			"status": "not_affected", "justification": "vulnerable_code_not_in_execute_path",
		}},
	}
	st := signtest.Statement(t, d.Digest, "https://openvex.dev/ns", document)
	w.attach("app", d, mallory.Bundle(t, st))
	_, err := w.pull("app:1")
	wantRule(t, err, "critical")
	w.attach("app", d, w.key.Bundle(t, st))
	w.pass(exemptionsTTL)
	a, err := w.pull("app:1")
	if err != nil {
		t.Fatal(err)
	}
	if r := a.Verdict.Reasons; len(r) != 1 || r[0].VEX == nil || r[0].VEX.Author != "Acme" || r[0].Waived == "" {
		t.Errorf("reasons %+v", r)
	}
}

// TestTrustWaived: an operator's waiver sets a missing signature aside, until it
// expires.
func TestTrustWaived(t *testing.T) {
	w := newTrustWorld(t, byRelease)
	w.imageOf("app:1", "fine")
	_, err := w.pull("app:1")
	wantRule(t, err, policy.RuleUnsigned)
	if _, err := w.records.AddWaiver(t.Context(), policy.Waiver{
		Rule: policy.RuleUnsigned, Images: []string{"up/app"}, Owner: "web", Reason: "the key is in the safe", Expires: time.Now().Add(time.Hour),
	}, "test"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.pull("app:1"); err != nil {
		t.Fatal(err)
	}
	w.pass(2 * time.Hour)
	_, err = w.pull("app:1")
	wantRule(t, err, policy.RuleUnsigned)
}

// TestTrustPending: a search that takes longer than a client waits goes on.
func TestTrustPending(t *testing.T) {
	w := newTrustWorld(t, byRelease)
	w.opts.Hold = 10 * time.Millisecond
	d := w.imageOf("app:1", "fine")
	w.sign("app", d)
	answer := make(chan struct{})
	slow := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/referrers/") {
			<-answer
		}
		w.registry.ServeHTTP(rw, r)
	})
	w.answer.Store(&slow)
	ref := "app@" + d.Digest.String()
	if _, err := w.pull(ref); !pending(err) {
		t.Fatalf("while the search goes on: %v", err)
	}
	close(answer)
	w.opts.Hold = 10 * time.Second
	if a, err := w.pull(ref); err != nil || !bytes.Contains(a.Bytes, []byte("schemaVersion")) {
		t.Fatal(err)
	}
}
