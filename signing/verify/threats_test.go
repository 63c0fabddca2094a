package verify_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sluiceproxy/sluice/signing"
	"github.com/sluiceproxy/sluice/signing/signtest"
)

// The attacks of docs/threats.md on signatures and attestations, one test each.

func TestThreatUnsigned(t *testing.T) {
	b := newBench(t)
	r := b.judge(t, anyOf(ring("release", b.key)))
	wantOutcome(t, r, signing.Fail)
	if r.Reason != "release: no signature found" && r.Reason != "no signature found" {
		t.Errorf("reason %q", r.Reason)
	}
}

// TestThreatOtherKey: the attacker signs with a key of his own.
func TestThreatOtherKey(t *testing.T) {
	b := newBench(t)
	mallory := signtest.NewKey(t, "p256")
	b.bundle(t, b.image, mallory.Bundle(t, signtest.Signature(t, b.image.Digest)))
	b.repo.Tag(t, b.image.Digest, "sig", mallory.Legacy(t, name, b.image.Digest))
	r := b.judge(t, anyOf(ring("release", b.key)))
	wantOutcome(t, r, signing.Fail)
	for _, f := range r.Authorities[0].Refused {
		if !f.Stranger {
			t.Errorf("%+v is not a stranger's", f)
		}
	}
}

// TestThreatReplay: a signature that is valid for one image is attached to
// another: copied to its tag, and as a referrer.
func TestThreatReplay(t *testing.T) {
	b := newBench(t)
	good := b.repo.Image(t)
	b.repo.Tag(t, b.image.Digest, "sig", b.key.Legacy(t, name, good.Digest))
	b.repo.Tag(t, b.image.Digest, "att", b.key.LegacyAttestation(t, signtest.Signature(t, good.Digest)))
	b.bundle(t, b.image, b.key.Bundle(t, signtest.Signature(t, good.Digest)))
	r := b.judge(t, anyOf(ring("release", b.key)))
	wantOutcome(t, r, signing.Fail)
	if n := len(r.Authorities[0].Refused); n != 3 {
		t.Errorf("%d refusals, want 3: %+v", n, r.Authorities[0].Refused)
	}
}

// TestThreatReplayElsewhere: an image, signed for the sandbox, is copied with
// its signature to the name of production.
func TestThreatReplayElsewhere(t *testing.T) {
	for _, tt := range []struct {
		as   string
		want signing.Outcome
	}{
		{"ghcr.io/acme/app", signing.Pass},
		{"ghcr.io/acme/app:v1", signing.Pass}, // a tag or digest of the reference does not matter
		{"ghcr.io/acme/sandbox/app", signing.Fail},
		{"ghcr.io/acme-evil/app", signing.Fail},
		{"mirror.example:5000/ghcr.io/acme/app", signing.Fail},
		{"", signing.Fail},
	} {
		b := newBench(t)
		b.repo.Tag(t, b.image.Digest, "sig", b.key.Legacy(t, tt.as, b.image.Digest))
		a := ring("release", b.key)
		a.SignedAs = []string{"ghcr.io/acme/*"}
		r := b.judge(t, anyOf(a))
		if r.Outcome != tt.want {
			t.Errorf("signed as %q: %s (%s)", tt.as, r.Outcome, r.Reason)
		}
	}
	// A bundle of cosign's names no repository: where one is demanded it fails.
	b := newBench(t)
	b.bundle(t, b.image, b.key.Bundle(t, signtest.Signature(t, b.image.Digest)))
	a := ring("release", b.key)
	a.SignedAs = []string{"ghcr.io/acme/*"}
	wantOutcome(t, b.judge(t, anyOf(a)), signing.Fail)
}

// TestThreatMirrorName: the name of a mirror in the pull, or of the index of
// Docker Hub in the signature, changes nothing for who demands no name.
func TestThreatMirrorName(t *testing.T) {
	b := newBench(t)
	b.repo.Tag(t, b.image.Digest, "sig", b.key.Legacy(t, "index.docker.io/library/app", b.image.Digest))
	wantOutcome(t, b.judge(t, anyOf(ring("release", b.key))), signing.Pass)
	a := ring("release", b.key)
	a.SignedAs = []string{"docker.io/library/*"}
	wantOutcome(t, b.judge(t, anyOf(a)), signing.Pass)
}

// TestThreatListLies: the registry lists another image's signature as a
// referrer, and hangs a foreign artifact's on the image.
func TestThreatListLies(t *testing.T) {
	b := newBench(t)
	good := b.repo.Image(t)
	b.bundle(t, good, b.key.Bundle(t, signtest.Signature(t, good.Digest)))
	list, err := b.repo.Referrers(t.Context(), good.Digest)
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	b.repo.List(b.image.Digest, list[0])
	ev, err := signing.Collect(t.Context(), b.repo, signing.Subject{Name: name, Desc: b.image})
	if err != nil {
		t.Fatal(err)
	}
	if len(ev.Items) != 0 || len(ev.Gaps) != 0 {
		t.Errorf("evidence %+v", ev)
	}
}

// TestThreatTypeInList: the registry hides a signature under another type in its
// list; the layer decides.
func TestThreatTypeInList(t *testing.T) {
	b := newBench(t)
	for _, artifactType := range []string{"", signtest.TypeEmpty, "application/vnd.example.cake"} {
		b.repo.Attach(t, b.image, artifactType, signtest.TypeEmpty, b.key.Bundle(t, signtest.Signature(t, b.image.Digest)))
	}
	r := b.judge(t, anyOf(ring("release", b.key)))
	wantOutcome(t, r, signing.Pass)
	if n := len(r.Authorities[0].Signatures); n != 3 {
		t.Errorf("%d signatures of 3", n)
	}
}

// TestThreatAttestationAsSignature: any bundle by the key counts as a signature
// for `cosign verify`; here a FAILED verdict approves nothing.
func TestThreatAttestationAsSignature(t *testing.T) {
	b := newBench(t)
	failed := signtest.Statement(t, b.image.Digest, "https://slsa.dev/verification_summary/v1", map[string]any{"verificationResult": "FAILED"})
	b.bundle(t, b.image, b.key.Bundle(t, failed))
	b.repo.Tag(t, b.image.Digest, "att", b.key.LegacyAttestation(t, failed))
	wantOutcome(t, b.judge(t, anyOf(ring("release", b.key))), signing.Fail)
}

// TestThreatUnsignedAttestation: a raw in-toto referrer, as an attacker with
// push rights, or BuildKit, leaves it, is a claim.
func TestThreatUnsignedAttestation(t *testing.T) {
	const vex = "https://openvex.dev/ns"
	b := newBench(t)
	b.repo.Attach(t, b.image, signtest.TypeInToto, signtest.TypeEmpty, signtest.Layer{
		MediaType: signtest.TypeInToto, Data: signtest.Statement(t, b.image.Digest, vex, map[string]any{}),
		Annotations: map[string]string{"in-toto.io/predicate-type": vex},
	})
	// An envelope without a signature, and one with an empty one.
	st := base64.StdEncoding.EncodeToString(signtest.Statement(t, b.image.Digest, vex, map[string]any{}))
	b.repo.Tag(t, b.image.Digest, "att",
		signtest.Layer{MediaType: signtest.TypeDSSE, Data: fmt.Appendf(nil, `{"payloadType":%q,"payload":%q,"signatures":[]}`, signtest.TypeInToto, st)},
		signtest.Layer{MediaType: signtest.TypeDSSE, Data: fmt.Appendf(nil, `{"payloadType":%q,"payload":%q,"signatures":[{"sig":""}]}`, signtest.TypeInToto, st)})
	a := ring("vex-team", b.key)
	a.Attestations = []signing.AttestationRule{{Name: "vex", PredicateType: vex}}
	r := b.judge(t, anyOf(a))
	wantOutcome(t, r, signing.Fail)
	if len(r.Attestations) != 0 || len(r.Claims) != 1 || r.Claims[0].PredicateType != vex {
		t.Errorf("attestations %+v, claims %+v", r.Attestations, r.Claims)
	}
}

// TestThreatForgedExemption: row 18: a VEX document that is unsigned, by another
// key, about another image, or of another type suppresses nothing.
func TestThreatForgedExemption(t *testing.T) {
	const vex = "https://openvex.dev/ns"
	team, mallory := signtest.NewKey(t, "p256"), signtest.NewKey(t, "p256")
	issuer := ring("vex-team", team)
	issuer.Attestations = []signing.AttestationRule{{Name: "vex", PredicateType: vex, Use: signing.UseExemptions}}
	for _, tt := range []struct {
		name      string
		key       *signtest.Key
		predicate string
		other     bool // about another image
		want      int
	}{
		{"the issuer's", team, vex, false, 1},
		{"another key's", mallory, vex, false, 0},
		{"about another image", team, vex, true, 0},
		{"another type", team, "https://openvex.dev/nsx", false, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t)
			about := b.image.Digest
			if tt.other {
				about = b.repo.Image(t).Digest
			}
			b.bundle(t, b.image, tt.key.Bundle(t, signtest.Statement(t, about, tt.predicate, map[string]any{})))
			n := 0
			for _, a := range b.judge(t, signing.Trust{Issuers: []signing.Authority{issuer}}).Attestations {
				if a.Use == signing.UseExemptions {
					n++
				}
			}
			if n != tt.want {
				t.Errorf("%d exemptions, want %d", n, tt.want)
			}
		})
	}
}

// TestThreatIndex: row 4: a signed index covers the children that its own bytes
// list, if the operator lets it, and nothing else.
func TestThreatIndex(t *testing.T) {
	b := newBench(t)
	parent := b.repo.Index(t, b.image)
	b.bundle(t, parent.Desc, b.key.Bundle(t, signtest.Signature(t, parent.Desc.Digest)))
	subject := signing.Subject{Name: name, Desc: b.image, Parents: []signing.Parent{parent}}
	trust := anyOf(ring("release", b.key))

	r := b.judgeSubject(t, trust, subject)
	wantOutcome(t, r, signing.Pass)
	if r.Authorities[0].Signatures[0].About != parent.Desc.Digest {
		t.Errorf("signature %+v", r.Authorities[0].Signatures[0])
	}
	trust.Inherit = false
	wantOutcome(t, b.judgeSubject(t, trust, subject), signing.Fail)
	trust.Inherit = true
	wantOutcome(t, b.judge(t, trust), signing.Fail) // no parent known: unsigned

	v := compile(t, trust)
	other := b.repo.Image(t)
	for name, bad := range map[string]signing.Subject{
		"a child that the index does not list": {Name: name, Desc: other, Parents: []signing.Parent{parent}},
		"bytes that are not the index's":       {Name: name, Desc: b.image, Parents: []signing.Parent{{Desc: parent.Desc, Raw: []byte(`{"manifests":[]}`)}}},
		"other bytes, which list it":           {Name: name, Desc: other, Parents: []signing.Parent{{Desc: parent.Desc, Raw: b.repo.Index(t, other).Raw}}},
		"another size":                         {Name: name, Desc: ocispec.Descriptor{MediaType: b.image.MediaType, Digest: b.image.Digest, Size: 1}, Parents: []signing.Parent{parent}},
		"another type":                         {Name: name, Desc: ocispec.Descriptor{MediaType: "text/plain", Digest: b.image.Digest, Size: b.image.Size}, Parents: []signing.Parent{parent}},
		"too many parents":                     {Name: name, Desc: b.image, Parents: []signing.Parent{parent, parent, parent, parent, parent}},
	} {
		if r, err := v.Verify(t.Context(), b.repo, bad, time.Now()); err == nil || r.Outcome == signing.Pass {
			t.Errorf("%s: %s, %v", name, r.Outcome, err)
		}
	}

	// An image's signature is none of the index.
	c := newBench(t)
	p := c.repo.Index(t, c.image)
	c.bundle(t, c.image, c.key.Bundle(t, signtest.Signature(t, c.image.Digest)))
	wantOutcome(t, c.judgeSubject(t, anyOf(ring("release", c.key)), signing.Subject{Name: name, Desc: p.Desc}), signing.Fail)
}

// TestThreatArtifactConfusion: row 5 for artifacts: bytes that are manifest and
// index at once.
func TestThreatArtifactConfusion(t *testing.T) {
	b := newBench(t)
	l := b.key.Legacy(t, name, b.image.Digest)
	d := b.repo.PutBlob(l.MediaType, l.Data)
	d.Annotations = l.Annotations
	b.repo.PutManifest(t, map[string]any{
		"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageManifest, "layers": []any{d}, "manifests": []any{b.image},
	}, strings.Replace(b.image.Digest.String(), ":", "-", 1)+".sig")
	wantOutcome(t, b.judge(t, anyOf(ring("release", b.key))), signing.Undecided)
}

// TestThreatThrottled: a registry that throttles, refuses or breaks while
// signatures are looked for is an error, for each kind of question.
func TestThreatThrottled(t *testing.T) {
	b := newBench(t)
	b.bundle(t, b.image, b.key.Bundle(t, signtest.Signature(t, b.image.Digest)))
	b.repo.Tag(t, b.image.Digest, "sig", b.key.Legacy(t, name, b.image.Digest))
	v := compile(t, anyOf(ring("release", b.key)))
	throttled := errors.New("429 Too Many Requests")
	for _, op := range []string{"referrers sha256:", "manifest sha256:", "manifest sha256-", ".sig", ".att", "blob sha256:"} {
		b.repo.Fail = func(o, reference string) error {
			if strings.Contains(o+" "+reference, op) {
				return throttled
			}
			return nil
		}
		r, err := v.Verify(t.Context(), b.repo, signing.Subject{Name: name, Desc: b.image}, time.Now())
		if !errors.Is(err, throttled) || r.Outcome != signing.Undecided {
			t.Errorf("%s: outcome %s, error %v", op, r.Outcome, err)
		}
	}
}

// TestThreatMissingSignature: a signature that is listed and cannot be had is
// no proof that there is none.
func TestThreatMissingSignature(t *testing.T) {
	for _, what := range []string{"manifest", "blob"} {
		b := newBench(t)
		l := b.key.Bundle(t, signtest.Signature(t, b.image.Digest))
		m := b.repo.Attach(t, b.image, signtest.TypeBundle, signtest.TypeEmpty, l)
		if what == "manifest" {
			b.repo.DeleteBlob(m.Digest)
		} else {
			b.repo.DeleteBlob(godigest.FromBytes(l.Data))
		}
		r := b.judge(t, anyOf(ring("release", b.key)))
		wantOutcome(t, r, signing.Undecided)
		if len(r.Gaps) != 1 {
			t.Errorf("%s: gaps %q", what, r.Gaps)
		}
	}
}

// TestThreatAlteredInTransit: the registry answers other bytes than those of the
// digest.
func TestThreatAlteredInTransit(t *testing.T) {
	b := newBench(t)
	b.repo.List(b.image.Digest, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: godigest.FromString("x"), Size: 1})
	src := alteredSource{b.repo}
	if _, err := signing.Collect(t.Context(), src, signing.Subject{Name: name, Desc: b.image}); err == nil {
		t.Error("no error")
	}
}

// TestThreatFlood: row 25: ten thousand signatures by others. The work is
// bounded; the answer is not "unsigned".
func TestThreatFlood(t *testing.T) {
	b := newBench(t)
	mallory := signtest.NewKey(t, "p256")
	l := mallory.Bundle(t, signtest.Signature(t, b.image.Digest))
	m := b.repo.Attach(t, b.image, signtest.TypeBundle, signtest.TypeEmpty, l)
	for i := range 10_000 {
		d := m
		if i%2 == 0 {
			d.Digest = godigest.FromString(fmt.Sprint(i))
		}
		b.repo.List(b.image.Digest, d)
	}
	layers := make([]signtest.Layer, 2000)
	for i := range layers {
		layers[i] = mallory.LegacyPayload(t, fmt.Appendf(nil, `{"n":%d}`, i))
	}
	b.repo.Tag(t, b.image.Digest, "sig", layers...)
	start := time.Now()
	r := b.judge(t, anyOf(ring("release", b.key)))
	wantOutcome(t, r, signing.Undecided)
	if asked := b.repo.Asked(); asked > 200 {
		t.Errorf("%d requests", asked)
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("it took %s", d)
	}

	// A signature that is seen still counts.
	c := newBench(t)
	c.bundle(t, c.image, c.key.Bundle(t, signtest.Signature(t, c.image.Digest)))
	for i := range 1000 {
		c.repo.List(c.image.Digest, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: godigest.FromString(fmt.Sprint(i)), Size: 1, ArtifactType: "application/vnd.example.cake"})
	}
	wantOutcome(t, c.judge(t, anyOf(ring("release", c.key))), signing.Pass)
}

// TestThreatClaimFlood: an index that claims a hundred things costs few requests.
func TestThreatClaimFlood(t *testing.T) {
	b := newBench(t)
	children := []ocispec.Descriptor{b.image}
	for i := range 100 {
		m := b.repo.PutManifest(t, map[string]any{"mediaType": ocispec.MediaTypeImageManifest, "n": i})
		m.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": b.image.Digest.String()}
		children = append(children, m)
	}
	parent := b.repo.Index(t, children...)
	wantOutcome(t, b.judgeSubject(t, anyOf(ring("release", b.key)), signing.Subject{Name: name, Desc: b.image, Parents: []signing.Parent{parent}}), signing.Fail)
	if asked := b.repo.Asked(); asked > 20 {
		t.Errorf("%d requests", asked)
	}
}

// TestThreatOversized: row 11: limits on the descriptor and on the bytes.
func TestThreatOversized(t *testing.T) {
	const limit = 1 << 20
	pad := func(b *bench, size int) signtest.Layer {
		payload := signtest.SimpleSigning(t, name, b.image.Digest)
		payload = append(payload, strings.Repeat(" ", size-len(payload))...)
		return b.key.LegacyPayload(t, payload)
	}
	for _, tt := range []struct {
		size int
		want signing.Outcome
	}{{limit - 1, signing.Pass}, {limit, signing.Pass}, {limit + 1, signing.Undecided}} {
		b := newBench(t)
		b.repo.Tag(t, b.image.Digest, "sig", pad(b, tt.size))
		if r := b.judge(t, anyOf(ring("release", b.key))); r.Outcome != tt.want {
			t.Errorf("%d bytes: %s (%s), want %s", tt.size, r.Outcome, r.Reason, tt.want)
		}
	}

	// Many that are within the limit, and together are not.
	b := newBench(t)
	for i := range byte(3) {
		b.bundle(t, b.image, signtest.Layer{MediaType: signtest.TypeBundle, Data: bytes.Repeat([]byte{i}, 11<<20)})
	}
	wantOutcome(t, b.judge(t, anyOf(ring("release", b.key))), signing.Undecided)

	// A descriptor that understates the size.
	b = newBench(t)
	l := pad(b, limit+1)
	d := b.repo.PutBlob(l.MediaType, l.Data)
	d.Annotations, d.Size = l.Annotations, 100
	b.repo.PutManifest(t, map[string]any{"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageManifest, "layers": []any{d}},
		strings.Replace(b.image.Digest.String(), ":", "-", 1)+".sig")
	if _, err := signing.Collect(t.Context(), b.repo, signing.Subject{Name: name, Desc: b.image}); err == nil {
		t.Error("a blob longer than its descriptor says was taken")
	}
}

// TestThreatHostileJSON: row 25: what is malformed, deep or ambiguous refuses the
// signature and nothing else.
func TestThreatHostileJSON(t *testing.T) {
	key := signtest.NewKey(t, "p256")
	const subject = `"subject":[{"digest":{"sha256":"HEX"}}]`
	const head = `"_type":"https://in-toto.io/Statement/v1",`
	var subjects strings.Builder
	for range 1100 {
		subjects.WriteString(`{"digest":{"sha256":"HEX"}},`)
	}
	for what, st := range map[string]string{
		"empty":                      ``,
		"null":                       `null`,
		"no object":                  `[]`,
		"cut":                        `{` + head,
		"deep":                       `{` + head + subject + `,"predicate":` + strings.Repeat(`{"a":`, 20000) + `1` + strings.Repeat(`}`, 20001),
		"the type twice":             `{` + head + subject + `,"predicateType":"x","predicateType":"` + signtest.PredicateSign + `"}`,
		"a second spelling":          `{` + head + subject + `,"predicateType":"` + signtest.PredicateSign + `","PREDICATETYPE":"x"}`,
		"too many subjects":          `{` + head + `"subject":[` + strings.TrimSuffix(subjects.String(), ",") + `],"predicateType":"` + signtest.PredicateSign + `"}`,
		"no statement type":          `{` + subject + `,"predicateType":"` + signtest.PredicateSign + `"}`,
		"no subject":                 `{` + head + `"predicateType":"` + signtest.PredicateSign + `"}`,
		"the digest in capitals":     `{` + head + `"subject":[{"digest":{"sha256":"CAPITALS"}}],"predicateType":"` + signtest.PredicateSign + `"}`,
		"the digest cut":             `{` + head + `"subject":[{"digest":{"sha256":"HALF"}}],"predicateType":"` + signtest.PredicateSign + `"}`,
		"sha512 of the sha256 value": `{` + head + `"subject":[{"digest":{"sha512":"HEX"}}],"predicateType":"` + signtest.PredicateSign + `"}`,
		"SHA256":                     `{` + head + `"subject":[{"digest":{"SHA256":"HEX"}}],"predicateType":"` + signtest.PredicateSign + `"}`,
		"md5":                        `{` + head + `"subject":[{"digest":{"md5":"HEX"}}],"predicateType":"` + signtest.PredicateSign + `"}`,
	} {
		t.Run(what, func(t *testing.T) {
			b := newBenchOf(t, key)
			hex := b.image.Digest.Encoded()
			signed := []byte(strings.NewReplacer("HEX", hex, "CAPITALS", strings.ToUpper(hex), "HALF", hex[:32]).Replace(st))
			b.bundle(t, b.image, b.key.Bundle(t, signed))
			b.repo.Tag(t, b.image.Digest, "att", b.key.LegacyAttestation(t, signed))
			wantOutcome(t, b.judge(t, anyOf(ring("release", b.key))), signing.Fail)
		})
	}
	for what, data := range map[string]string{
		"empty": "", "null": "null", "an array": "[]", "deep": strings.Repeat("[", 100000), "cut": `{"mediaType":`,
	} {
		t.Run("bundle "+what, func(t *testing.T) {
			b := newBenchOf(t, key)
			b.bundle(t, b.image, signtest.Layer{MediaType: signtest.TypeBundle, Data: []byte(data)})
			b.repo.Tag(t, b.image.Digest, "sig", signtest.Layer{MediaType: signtest.TypeSimpleSigning, Data: []byte(data), Annotations: map[string]string{signtest.AnnSignature: "!"}})
			wantOutcome(t, b.judge(t, anyOf(ring("release", b.key))), signing.Fail)
		})
	}
}

// TestThreatPayloadType: row 20's relatives: simple-signing payloads of another
// type, and with the digest of another algorithm.
func TestThreatPayloadType(t *testing.T) {
	b := newBench(t)
	payload := string(signtest.SimpleSigning(t, name, b.image.Digest))
	for what, p := range map[string]string{
		"another type":         strings.Replace(payload, "cosign container image signature", "atomic container signature", 1),
		"capitals":             strings.Replace(payload, b.image.Digest.Encoded(), strings.ToUpper(b.image.Digest.Encoded()), 1),
		"another algorithm":    strings.Replace(payload, "sha256:", "sha512:", 1),
		"the digest twice":     strings.Replace(payload, `"docker-manifest-digest"`, `"docker-manifest-digest":"sha256:00","docker-manifest-digest"`, 1),
		"a second spelling":    strings.Replace(payload, `"docker-manifest-digest"`, `"Docker-Manifest-Digest"`, 1),
		"two JSON values":      payload + payload,
		"nothing but a string": `"x"`,
	} {
		t.Run(what, func(t *testing.T) {
			c := &bench{repo: signtest.NewRepo(), key: b.key, image: b.image}
			c.repo.Tag(t, c.image.Digest, "sig", c.key.LegacyPayload(t, []byte(p)))
			wantOutcome(t, c.judge(t, anyOf(ring("release", c.key))), signing.Fail)
		})
	}
}

// TestThreatNewerFormat: a format to come is told as such, not as "unsigned".
func TestThreatNewerFormat(t *testing.T) {
	b := newBench(t)
	l := b.key.Bundle(t, signtest.Signature(t, b.image.Digest))
	l.Data = []byte(strings.Replace(string(l.Data), "bundle.v0.3+json", "bundle.v0.4+json", 1))
	l.MediaType = strings.Replace(l.MediaType, "v0.3", "v0.4", 1)
	b.repo.Attach(t, b.image, l.MediaType, signtest.TypeEmpty, l)
	r := b.judge(t, anyOf(ring("release", b.key)))
	wantOutcome(t, r, signing.Fail)
	if !strings.Contains(r.Reason, "newer") {
		t.Errorf("reason %q", r.Reason)
	}
}

// TestThreatEnvelope: an envelope with two signatures, another payload type, an
// altered payload.
func TestThreatEnvelope(t *testing.T) {
	b := newBench(t)
	good := b.key.Bundle(t, signtest.Signature(t, b.image.Digest))
	for what, change := range map[string]func(string) string{
		"altered payload": func(s string) string {
			at := strings.Index(s, `"payload":`) + len(`"payload":`)
			at += strings.Index(s[at:], `"`) + 20
			return s[:at] + "AAAA" + s[at+4:]
		},
		"another payload type": func(s string) string {
			return strings.Replace(s, "application/vnd.in-toto+json", "application/vnd.in-toto", 1)
		},
		"two signatures": func(s string) string {
			at := strings.Index(s, `{"sig"`)
			end := at + strings.Index(s[at:], "}") + 1
			return s[:end] + "," + s[at:end] + s[end:]
		},
		"an unknown field": func(s string) string { return strings.Replace(s, `{`, `{"x":1,`, 1) },
	} {
		t.Run(what, func(t *testing.T) {
			changed := strings.ReplaceAll(change(strings.ReplaceAll(string(good.Data), `": `, `":`)), "\n", "")
			if changed == string(good.Data) {
				t.Fatal("nothing was changed")
			}
			c := &bench{repo: signtest.NewRepo(), key: b.key, image: b.image}
			c.bundle(t, c.image, signtest.Layer{MediaType: good.MediaType, Data: []byte(changed)})
			wantOutcome(t, c.judge(t, anyOf(ring("release", c.key))), signing.Fail)
		})
	}
	b.bundle(t, b.image, b.key.BundleOf(t, "application/json", signtest.Signature(t, b.image.Digest)))
	wantOutcome(t, b.judge(t, anyOf(ring("release", b.key))), signing.Fail)
	b.bundle(t, b.image, good)
	wantOutcome(t, b.judge(t, anyOf(ring("release", b.key))), signing.Pass)
}

// TestThreatRevoked: row 23: key, signature, artifact and image by their digests.
func TestThreatRevoked(t *testing.T) {
	b := newBench(t)
	l := b.key.Bundle(t, signtest.Signature(t, b.image.Digest))
	m := b.repo.Attach(t, b.image, signtest.TypeBundle, signtest.TypeEmpty, l)
	for what, d := range map[string]godigest.Digest{
		"key": b.key.ID, "signature": godigest.FromBytes(l.Data), "artifact": m.Digest, "image": b.image.Digest,
	} {
		trust := anyOf(ring("release", b.key))
		trust.Revoked = []godigest.Digest{d}
		r := b.judge(t, trust)
		if r.Outcome != signing.Fail || !strings.Contains(r.Reason, "revoked") {
			t.Errorf("%s: %s (%s)", what, r.Outcome, r.Reason)
		}
	}
	trust := anyOf(ring("release", b.key))
	trust.Revoked = []godigest.Digest{godigest.FromString("something else")}
	wantOutcome(t, b.judge(t, trust), signing.Pass)

	// A platform's image is revoked, the signature is of the index.
	c := newBench(t)
	parent := c.repo.Index(t, c.image)
	c.bundle(t, parent.Desc, c.key.Bundle(t, signtest.Signature(t, parent.Desc.Digest)))
	trust = anyOf(ring("release", c.key))
	trust.Revoked = []godigest.Digest{c.image.Digest}
	wantOutcome(t, c.judgeSubject(t, trust, signing.Subject{Name: name, Desc: c.image, Parents: []signing.Parent{parent}}), signing.Fail)
}

// TestThreatSignedBlob: row 20's relative: a bundle of cosign sign-blob over the
// manifest's bytes says nothing of an image.
func TestThreatSignedBlob(t *testing.T) {
	b := newBench(t)
	m, err := b.repo.Manifest(t.Context(), b.image.Digest.String())
	if err != nil {
		t.Fatal(err)
	}
	raw, err := hex.DecodeString(b.image.Digest.Encoded())
	if err != nil {
		t.Fatal(err)
	}
	b.bundle(t, b.image, signtest.Layer{MediaType: signtest.TypeBundle, Data: signtest.JSON(t, map[string]any{
		"mediaType":            signtest.TypeBundle,
		"verificationMaterial": map[string]any{"publicKey": map[string]any{"hint": ""}},
		"messageSignature": map[string]any{
			"messageDigest": map[string]any{"algorithm": "SHA2_256", "digest": raw}, "signature": b.key.Sign(t, m.Raw),
		},
	})})
	r := b.judge(t, anyOf(ring("release", b.key)))
	wantOutcome(t, r, signing.Fail)
	if !strings.Contains(r.Reason, "sign-blob") {
		t.Errorf("reason %q", r.Reason)
	}
}

// TestThreatHint: the key hint of a bundle is not used to choose a key.
func TestThreatHint(t *testing.T) {
	b := newBench(t)
	l := b.key.Bundle(t, signtest.Signature(t, b.image.Digest))
	l.Data = []byte(strings.Replace(string(l.Data), "a hint that nobody should trust", "", 1))
	b.bundle(t, b.image, l)
	wantOutcome(t, b.judge(t, anyOf(ring("release", signtest.NewKey(t, "p256"), b.key))), signing.Pass)
}

// TestThreatPredicateMismatch: row 18: the annotation says one type, the signed
// bytes another.
func TestThreatPredicateMismatch(t *testing.T) {
	b := newBench(t)
	l := b.key.Bundle(t, signtest.Statement(t, b.image.Digest, "https://example.com/harmless", map[string]any{}))
	l.Annotations = map[string]string{"dev.sigstore.bundle.predicateType": signtest.PredicateSign}
	b.bundle(t, b.image, l)
	wantOutcome(t, b.judge(t, anyOf(ring("release", b.key))), signing.Fail)
}

// TestThreatBuildKitClaim: provenance inside the index is shown, never believed.
func TestThreatBuildKitClaim(t *testing.T) {
	b := newBench(t)
	st := signtest.Statement(t, b.image.Digest, "https://slsa.dev/provenance/v0.2", map[string]any{
		"builder": map[string]any{"id": "https://builder.example"}, "invocation": map[string]any{"configSource": map[string]any{
			"uri": "https://github.com/acme/app.git#refs/heads/main", "digest": map[string]any{"sha1": strings.Repeat("a", 40)},
		}},
	})
	l := b.repo.PutBlob(signtest.TypeInToto, st)
	l.Annotations = map[string]string{"in-toto.io/predicate-type": "https://slsa.dev/provenance/v0.2"}
	att := b.repo.PutManifest(t, ocispec.Manifest{
		MediaType: ocispec.MediaTypeImageManifest, Config: b.repo.PutBlob(ocispec.MediaTypeImageConfig, []byte("{}")), Layers: []ocispec.Descriptor{l},
	})
	att.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": b.image.Digest.String()}
	parent := b.repo.Index(t, b.image, att)
	a := ring("release", b.key)
	a.Attestations = []signing.AttestationRule{{Name: "prov", PredicateType: "https://slsa.dev/provenance/v0.2"}}
	r := b.judgeSubject(t, anyOf(a), signing.Subject{Name: name, Desc: b.image, Parents: []signing.Parent{parent}})
	wantOutcome(t, r, signing.Fail)
	want := &signing.Provenance{
		PredicateType: "https://slsa.dev/provenance/v0.2", Builder: "https://builder.example", Source: "github.com/acme/app",
		Ref: "refs/heads/main", Commit: strings.Repeat("a", 40),
	}
	if len(r.Claims) != 1 || r.Claims[0].Format != signing.FormatBuildKit || r.Claims[0].Provenance == nil || *r.Claims[0].Provenance != *want {
		t.Errorf("claims %+v", r.Claims)
	}
}
