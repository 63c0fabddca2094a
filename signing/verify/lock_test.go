package verify_test

import (
	"strings"
	"testing"
	"time"

	godigest "github.com/opencontainers/go-digest"

	"github.com/sluiceproxy/sluice/signing"
	"github.com/sluiceproxy/sluice/signing/lock"
	"github.com/sluiceproxy/sluice/signing/signtest"
	"github.com/sluiceproxy/sluice/signing/verify"
)

// locked is an authority by an unsigned lock of one image.
func locked(t testing.TB, im lock.Image, expires time.Time) signing.Authority {
	t.Helper()
	f := lock.File{Version: 1, Serial: 1, Expires: expires.UTC().Truncate(time.Second), Images: []lock.Image{im}}
	text, err := f.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return signing.Authority{Name: "published", Hash: &signing.Lock{Name: "l", Material: signing.Material{Data: text}, Unsigned: true}}
}

func TestLock(t *testing.T) {
	b := newBench(t)
	expires := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	listed := locked(t, lock.Image{Name: name, Digests: []godigest.Digest{b.image.Digest}}, expires)
	other := locked(t, lock.Image{Name: name, Digests: []godigest.Digest{godigest.FromString("other")}}, expires)
	old := locked(t, lock.Image{Name: name, Superseded: []godigest.Digest{b.image.Digest}}, expires)
	stale := locked(t, lock.Image{Name: name, Digests: []godigest.Digest{b.image.Digest}}, time.Now().Add(-time.Hour))
	layers := locked(t, lock.Image{Name: name, Digests: []godigest.Digest{b.image.Digest}, DiffIDs: []godigest.Digest{godigest.FromString("layer")}}, expires)

	r := b.judge(t, anyOf(listed))
	wantOutcome(t, r, signing.Pass)
	if !r.Until.Equal(expires.Add(1)) {
		t.Errorf("until %s, want %s", r.Until, expires)
	}
	for what, a := range map[string]signing.Authority{"other": other, "old": old, "expired": stale} {
		r := b.judge(t, anyOf(a))
		wantOutcome(t, r, signing.Fail)
		if !strings.Contains(r.Reason, "the lock l") {
			t.Errorf("%s: reason %q", what, r.Reason)
		}
	}
	wantOutcome(t, b.judge(t, anyOf(layers)), signing.Undecided)
	wantOutcome(t, b.judgeSubject(t, anyOf(layers), signing.Subject{Name: name, Desc: b.image, DiffIDs: []godigest.Digest{godigest.FromString("layer")}}), signing.Pass)
	wantOutcome(t, b.judgeSubject(t, anyOf(listed), signing.Subject{Name: "ghcr.io/acme/apq", Desc: b.image}), signing.Fail)

	stale.Hash.WarnStale = true
	r = b.judge(t, anyOf(stale))
	wantOutcome(t, r, signing.Pass)
	if !strings.Contains(r.Authorities[0].Warning, "expired") {
		t.Errorf("warning %q", r.Authorities[0].Warning)
	}
}

// TestThreatSupersededAndSigned: an old digest with a good signature passes only
// where the signature alone is enough.
func TestThreatSupersededAndSigned(t *testing.T) {
	b := newBench(t)
	b.bundle(t, b.image, b.key.Bundle(t, signtest.Signature(t, b.image.Digest)))
	old := locked(t, lock.Image{Name: name, Superseded: []godigest.Digest{b.image.Digest}}, time.Now().Add(time.Hour))
	both := anyOf(ring("release", b.key), old)
	both.Require = 2
	r := b.judge(t, both)
	wantOutcome(t, r, signing.Fail)
	if r.Authorities[0].Outcome != signing.Pass || !strings.Contains(r.Reason, "old digest") {
		t.Errorf("%+v", r)
	}
}

// TestThreatIndexLock: an index that a lock lists publishes what it lists, where
// the trust inherits.
func TestThreatIndexLock(t *testing.T) {
	b := newBench(t)
	index := b.repo.Index(t, b.image)
	listed := locked(t, lock.Image{Name: name, Digests: []godigest.Digest{index.Desc.Digest}}, time.Now().Add(time.Hour))
	s := signing.Subject{Name: name, Desc: b.image, Parents: []signing.Parent{index}}
	wantOutcome(t, b.judgeSubject(t, anyOf(listed), s), signing.Pass)
	apart := anyOf(listed)
	apart.Inherit = false
	wantOutcome(t, b.judgeSubject(t, apart, s), signing.Fail)
}

func TestLockCompileRefuses(t *testing.T) {
	k := signtest.NewKey(t, "p256")
	good := locked(t, lock.Image{Name: name, Digests: []godigest.Digest{godigest.FromString("x")}}, time.Now().Add(time.Hour))
	change := func(f func(*signing.Authority)) signing.Trust {
		a := good
		l := *good.Hash
		a.Hash = &l
		f(&a)
		return anyOf(a)
	}
	for _, tt := range []struct {
		name  string
		trust signing.Trust
		want  string
	}{
		{"broken lock", change(func(a *signing.Authority) { a.Hash.Data = []byte("x") }), "the lock is a mapping"},
		{"unsigned lock", change(func(a *signing.Authority) { a.Hash.Unsigned = false }), "nobody is named"},
		{"lock and key", change(func(a *signing.Authority) { a.Key = ring("x", k).Key }), "2 of key, keyless, notation and hash"},
		{"formats", change(func(a *signing.Authority) { a.Formats = []signing.Format{signing.FormatBundle} }), "a lock lists images and signs none"},
		{"attestations", change(func(a *signing.Authority) {
			a.Attestations = []signing.AttestationRule{{Name: "x", PredicateType: "y"}}
		}), "a lock lists images and signs none"},
		{"an issuer", signing.Trust{Issuers: []signing.Authority{good}}, "a lock lists images and signs none"},
	} {
		if _, err := verify.Compile(tt.trust); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q", tt.name, err, tt.want)
		}
	}
}
