package lock_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	"github.com/sluiceproxy/sluice/signing"
	"github.com/sluiceproxy/sluice/signing/lock"
	"github.com/sluiceproxy/sluice/signing/signtest"
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func digest(s string) godigest.Digest { return godigest.FromString(s) }

// text is a lock with the images, in YAML.
func text(t testing.TB, images ...lock.Image) []byte {
	t.Helper()
	f := lock.File{Version: 1, Serial: 7, Expires: now.Add(time.Hour), Images: images}
	b, err := f.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// unsigned is a lock whose operator wrote that it is unsigned.
func unsigned(data []byte) signing.Lock {
	return signing.Lock{Name: "l", Material: signing.Material{File: "images.lock", Data: data}, Unsigned: true}
}

// signed is a lock that the key must have signed.
func signed(k *signtest.Key, data, signature []byte) signing.Lock {
	return signing.Lock{
		Name: "l", Material: signing.Material{File: "images.lock", Data: data},
		Signature: signing.Material{File: "images.lock.sig", Data: signature},
		SignedBy:  &signing.KeyRing{Keys: []signing.Key{{Material: signing.Material{Data: k.PEM}}}},
	}
}

func open(t testing.TB, l signing.Lock) *lock.Lock {
	t.Helper()
	o, err := lock.Open(l)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func encoded(b []byte) []byte { return []byte(base64.StdEncoding.EncodeToString(b) + "\n") }

func TestParse(t *testing.T) {
	want := &lock.File{
		Version: 1, Serial: 42, Expires: time.Date(2026, 12, 31, 0, 0, 0, 0, time.UTC),
		Images: []lock.Image{{
			Name: "docker.io/library/debian", Tag: "bookworm", Digests: []godigest.Digest{digest("index")},
			Platforms: map[string][]godigest.Digest{"linux/amd64": {digest("amd64")}}, DiffIDs: []godigest.Digest{digest("layer")},
			Source:     &lock.Origin{Type: lock.DebianArtifacts, URL: "https://x/index.json", Fetched: time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC), SHA256: digest("page")},
			Superseded: []godigest.Digest{digest("old")},
		}},
	}
	for _, name := range []string{"testdata/images.lock", "testdata/images.lock.json"} {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := lock.Parse(name, data)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
		again, err := got.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if back, err := lock.Parse("again", again); err != nil || cmp.Diff(want, back) != "" {
			t.Errorf("%s: written and read again: %v\n%s", name, err, again)
		}
	}
}

func TestParseProblems(t *testing.T) {
	d := digest("x").String()
	for _, tt := range []struct{ name, text, want string }{
		{"empty", "", "l:1:1: the lock is empty"},
		{"not YAML", "a: [", "l:1:1: neither YAML nor JSON: did not find expected node content"},
		{"two documents", "version: 1\n---\nversion: 1\n", "l:2:1: the lock has a second document"},
		{"a list", "[]", "l:1:1: the lock is a mapping"},
		{"unknown key", "version: 1\nserial: 1\nimages: []\nextra: 1\n", `l:4:1: unknown key "extra" in the lock: it has version, serial, expires, images`},
		{"key twice", "version: 1\nserial: 1\nserial: 2\nimages: []\n", `l:3:1: the lock has the key "serial" twice`},
		{"other version", "version: 2\nserial: 1\nimages: []\n", `l:1:10: version "2" is not known to this program`},
		{"no serial", "version: 1\nserial: 0\nimages: []\n", "l:2:9: serial is a number from 1"},
		{"negative serial", "version: 1\nserial: -1\nimages: []\n", "l:2:9: serial is a number from 1"},
		{"expiry", "version: 1\nserial: 1\nexpires: soon\nimages: []\n", `l:3:10: expires is a date (2027-01-31) or a time of RFC 3339, not "soon"`},
		{"short name", "version: 1\nserial: 1\nimages:\n- {name: debian, digests: [" + d + "]}\n", `l:4:10: name is a canonical name with its registry, docker.io/library/debian, not "debian"`},
		{"nothing published", "version: 1\nserial: 1\nimages:\n- {name: a.io/b}\n", "l:4:3: the image has neither digests nor platforms: nothing would be published"},
		{"capitals", "version: 1\nserial: 1\nimages:\n- {name: a.io/b, digests: [" + strings.ToUpper(d) + "]}\n", `is not sha256:<64 lower-case hexadecimal digits>`},
		{"sha512", "version: 1\nserial: 1\nimages:\n- {name: a.io/b, digests: [" + godigest.SHA512.FromString("x").String() + "]}\n", `is not sha256:<64 lower-case hexadecimal digits>`},
		{"published and old", "version: 1\nserial: 1\nimages:\n- {name: a.io/b, digests: [" + d + "], superseded: [" + d + "]}\n", "l:4:3: " + d + " is published and superseded at once"},
		{"entry twice", "version: 1\nserial: 1\nimages:\n- {name: a.io/b, tag: x, digests: [" + d + "]}\n- {name: a.io/b, tag: x, digests: [" + d + "]}\n", "l:5:3: a.io/b:x is there twice, first in line 4"},
		{"platform", "version: 1\nserial: 1\nimages:\n- {name: a.io/b, platforms: {amd64: [" + d + "]}}\n", `l:4:30: platform is os/arch or os/arch/variant, not "amd64"`},
		{"alias", "version: 1\nserial: 1\nimages: &a [*a]\n", "a mapping"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := lock.Parse("l", []byte(tt.text))
			var problems lock.Problems
			if !errors.As(err, &problems) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %s", err, tt.want)
			}
		})
	}
}

func TestListed(t *testing.T) {
	const name = "docker.io/library/debian"
	data := text(
		t,
		lock.Image{
			Name: name, Tag: "bookworm", Digests: []godigest.Digest{digest("index")},
			Platforms:  map[string][]godigest.Digest{"linux/amd64": {digest("amd64")}, "linux/arm/v7": {digest("arm")}},
			Superseded: []godigest.Digest{digest("old"), digest("old index")},
		},
		lock.Image{Name: name, Tag: "oldstable", Digests: []godigest.Digest{digest("old"), digest("bullseye")}},
		lock.Image{Name: "ghcr.io/acme/any", Digests: []godigest.Digest{digest("any")}},
		lock.Image{Name: "ghcr.io/acme/rootfs", Tag: "1", Digests: []godigest.Digest{digest("rootfs")}, DiffIDs: []godigest.Digest{digest("a"), digest("b")}},
	)
	l := open(t, unsigned(data))
	parents := func(ds ...string) (out []signing.Parent) {
		for _, d := range ds {
			out = append(out, signing.Parent{Desc: ocispec.Descriptor{Digest: digest(d)}})
		}
		return out
	}
	for _, tt := range []struct {
		name  string
		image string
		s     signing.Subject
		want  signing.Publication
	}{
		{"an index", "index", signing.Subject{Name: name}, signing.Published},
		{"by its tag", "index", signing.Subject{Name: name, Tags: []string{"bookworm"}}, signing.Published},
		{"by a tag without entry", "index", signing.Subject{Name: name, Tags: []string{"12"}}, signing.Published},
		{"by another's tag", "index", signing.Subject{Name: name, Tags: []string{"oldstable"}}, signing.Mismatched},
		{"by one tag of two", "index", signing.Subject{Name: name, Tags: []string{"oldstable", "bookworm"}}, signing.Published},
		{"a platform", "amd64", signing.Subject{Name: name, Platform: "linux/amd64"}, signing.Published},
		{"another platform than listed", "amd64", signing.Subject{Name: name, Platform: "linux/arm64"}, signing.Mismatched},
		{"a variant", "arm", signing.Subject{Name: name, Platform: "linux/arm/v7"}, signing.Published},
		{"another variant", "arm", signing.Subject{Name: name, Platform: "linux/arm/v6"}, signing.Mismatched},
		{"no variant", "arm", signing.Subject{Name: name, Platform: "linux/arm"}, signing.Published},
		{"child of a listed index", "s390x", signing.Subject{Name: name, Parents: parents("other", "index"), Platform: "linux/s390x"}, signing.Published},
		{"child of it for a platform that has other digests", "x", signing.Subject{Name: name, Parents: parents("index"), Platform: "linux/amd64"}, signing.Mismatched},
		{"child of an unlisted index", "x", signing.Subject{Name: name, Parents: parents("other")}, signing.Unlisted},
		{"child of an old index", "x", signing.Subject{Name: name, Parents: parents("old index")}, signing.Superseded},
		{"child of an old and the current index", "x", signing.Subject{Name: name, Parents: parents("old index", "index")}, signing.Published},
		{"nothing known of it", "x", signing.Subject{Name: name}, signing.Unlisted},
		{"other digest of a tag", "x", signing.Subject{Name: name, Tags: []string{"bookworm"}}, signing.Mismatched},
		{"old", "old", signing.Subject{Name: name, Tags: []string{"bookworm"}}, signing.Superseded},
		{"old, and current of another tag", "old", signing.Subject{Name: name}, signing.Published},
		{"other name", "index", signing.Subject{Name: "docker.io/library/debiam"}, signing.Unlisted},
		{"every tag", "any", signing.Subject{Name: "ghcr.io/acme/any", Tags: []string{"x"}}, signing.Published},
		{"every tag, other digest", "x", signing.Subject{Name: "ghcr.io/acme/any", Tags: []string{"x"}}, signing.Mismatched},
		{"its layers", "rootfs", signing.Subject{Name: "ghcr.io/acme/rootfs", DiffIDs: []godigest.Digest{digest("a"), digest("b"), digest("c")}}, signing.Published},
		{"other layers", "rootfs", signing.Subject{Name: "ghcr.io/acme/rootfs", DiffIDs: []godigest.Digest{digest("a"), digest("c")}}, signing.Mismatched},
		{"too few layers", "rootfs", signing.Subject{Name: "ghcr.io/acme/rootfs", DiffIDs: []godigest.Digest{digest("a")}}, signing.Mismatched},
		{"layers not known", "rootfs", signing.Subject{Name: "ghcr.io/acme/rootfs"}, signing.Unproven},
		{"an index has none", "rootfs", signing.Subject{Name: "ghcr.io/acme/rootfs", Desc: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex}}, signing.Published},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.s.Desc.Digest = digest(tt.image)
			got := l.Listed(&tt.s, now)
			if got.Publication != tt.want || (got.Reason == "") != (tt.want == signing.Published) || got.Lock != "l" {
				t.Errorf("%+v, want %s", got, tt.want)
			}
			if want := now.Add(time.Hour + 1); !got.Until.Equal(want) {
				t.Errorf("until %s, want %s", got.Until, want)
			}
		})
	}
}

// TestThreatStaleLock: a mirror that keeps serving an old lock must not keep old
// digests trusted.
func TestThreatStaleLock(t *testing.T) {
	data := text(t, lock.Image{Name: "a.io/b", Digests: []godigest.Digest{digest("x")}, Superseded: []godigest.Digest{digest("old")}})
	x := &signing.Subject{Name: "a.io/b", Desc: ocispec.Descriptor{Digest: digest("x")}}
	old := &signing.Subject{Name: "a.io/b", Desc: ocispec.Descriptor{Digest: digest("old")}}
	after := now.Add(2 * time.Hour)
	l := unsigned(data)
	if got := open(t, l).Listed(x, after); got.Publication != signing.Unlisted || !strings.Contains(got.Reason, "expired") {
		t.Errorf("expired lock: %+v", got)
	}
	if got := open(t, l).Listed(old, after); got.Publication != signing.Superseded {
		t.Errorf("old digest in an expired lock: %+v", got)
	}
	l.WarnStale = true
	if got := open(t, l).Listed(x, after); got.Publication != signing.Published || !strings.Contains(got.Warning, "expired") {
		t.Errorf("expired lock with a warning: %+v", got)
	}
}

// TestThreatForgedLock: whoever can write the file must not decide.
func TestThreatForgedLock(t *testing.T) {
	k, other := signtest.NewKey(t, "p256"), signtest.NewKey(t, "p256")
	data := text(t, lock.Image{Name: "a.io/b", Digests: []godigest.Digest{digest("x")}})
	forged := text(t, lock.Image{Name: "a.io/b", Digests: []godigest.Digest{digest("evil")}})
	envelope := func(k *signtest.Key, payloadType string, payload []byte) []byte {
		b, err := json.Marshal(map[string]any{
			"payloadType": payloadType, "payload": payload,
			"signatures": []map[string]any{{"sig": k.Sign(t, dsse.PAE(payloadType, payload))}},
		})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	bundle := func(sig []byte) []byte {
		b, err := json.Marshal(map[string]any{
			"mediaType":            "application/vnd.dev.sigstore.bundle.v0.3+json",
			"verificationMaterial": map[string]any{"publicKey": map[string]any{"hint": "x"}},
			"messageSignature":     map[string]any{"messageDigest": map[string]any{"algorithm": "SHA2_256", "digest": sig[:32]}, "signature": sig},
		})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	revoked := signed(k, data, encoded(k.Sign(t, data)))
	revoked.SignedBy.Keys[0].Revoked = true
	revoked.SignedBy.Keys = append(revoked.SignedBy.Keys, signing.Key{Material: signing.Material{Data: other.PEM}})
	both := unsigned(data)
	both.SignedBy = revoked.SignedBy
	for _, tt := range []struct {
		name string
		lock signing.Lock
		want string // of the error; "" = opens
	}{
		{"detached signature", signed(k, data, encoded(k.Sign(t, data))), ""},
		{"cosign's bundle", signed(k, data, bundle(k.Sign(t, data))), ""},
		{"envelope", signed(k, envelope(k, lock.PayloadType, data), nil), ""},
		{"altered", signed(k, forged, encoded(k.Sign(t, data))), "signed by somebody else"},
		{"altered, bundle", signed(k, forged, bundle(k.Sign(t, data))), "signed by somebody else"},
		{"another key", signed(k, data, encoded(other.Sign(t, data))), "signed by somebody else"},
		{"envelope by another key", signed(k, envelope(other, lock.PayloadType, data), nil), "signed by somebody else"},
		{"envelope of another type", signed(k, envelope(k, "application/vnd.in-toto+json", data), nil), "payload type"},
		{"no signature", signed(k, data, nil), "not signed"},
		{"no base64", signed(k, data, []byte("???")), "neither base64 nor a bundle"},
		{"newer bundle", signed(k, data, []byte(`{"mediaType":"application/vnd.dev.sigstore.bundle.v9+json"}`)), "newer"},
		{"revoked key", revoked, "revoked"},
		{"nobody named", signing.Lock{Name: "l", Material: signing.Material{Data: data}}, "nobody is named"},
		{"signed and unsigned", both, "both"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := lock.Open(tt.lock)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

// TestThreatRetiredLockKey: a key that was retired signs no more locks.
func TestThreatRetiredLockKey(t *testing.T) {
	k := signtest.NewKey(t, "ed25519")
	data := text(t, lock.Image{Name: "a.io/b", Digests: []godigest.Digest{digest("x")}})
	l := signed(k, data, encoded(k.Sign(t, data)))
	l.SignedBy.Keys[0].NotBefore, l.SignedBy.Keys[0].NotAfter = now.Add(-time.Hour), now
	s := &signing.Subject{Name: "a.io/b", Desc: ocispec.Descriptor{Digest: digest("x")}}
	o := open(t, l)
	for at, want := range map[time.Time]signing.Publication{
		now.Add(-2 * time.Hour): signing.Unlisted, now.Add(-time.Minute): signing.Published, now: signing.Published, now.Add(time.Second): signing.Unlisted,
	} {
		if got := o.Listed(s, at); got.Publication != want || want == signing.Published && !got.Until.Equal(now.Add(1)) {
			t.Errorf("at %s: %+v, want %s", at, got, want)
		}
	}
}

func TestSet(t *testing.T) {
	l := lock.Image{Name: "a.io/b", Tag: "1", Digests: []godigest.Digest{digest("x")}}
	old := lock.Image{Name: "a.io/b", Tag: "1", Superseded: []godigest.Digest{digest("x")}}
	other := lock.Image{Name: "a.io/c", Digests: []godigest.Digest{digest("c")}}
	subject := &signing.Subject{Name: "a.io/b", Desc: ocispec.Descriptor{Digest: digest("x")}}
	for _, tt := range []struct {
		name  string
		locks [][]byte
		want  signing.Publication
	}{
		{"none", nil, signing.Unlisted},
		{"another's", [][]byte{text(t, other)}, signing.Unlisted},
		{"the second", [][]byte{text(t, other), text(t, l)}, signing.Published},
		{"superseded outweighs", [][]byte{text(t, l), text(t, old)}, signing.Superseded},
	} {
		var specs []signing.Lock
		for _, data := range tt.locks {
			specs = append(specs, unsigned(data))
		}
		s, err := lock.OpenAll(specs)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Listed(subject, now); got.Publication != tt.want {
			t.Errorf("%s: %+v, want %s", tt.name, got, tt.want)
		}
		if len(s.IDs()) != len(tt.locks) {
			t.Errorf("%s: ids %v", tt.name, s.IDs())
		}
	}
	if _, err := lock.OpenAll([]signing.Lock{unsigned([]byte("x")), unsigned([]byte("y"))}); err == nil || strings.Count(err.Error(), "lock l:") != 2 {
		t.Errorf("error %v, want two problems", err)
	}
}

func TestUpdate(t *testing.T) {
	f := &lock.File{Version: 1, Serial: 1}
	entry := func(platform string, ds ...string) lock.Image {
		im := lock.Image{Name: "a.io/b", Tag: "1"}
		for _, d := range ds {
			im.Digests = append(im.Digests, digest(d))
		}
		if platform != "" {
			im.Platforms = map[string][]godigest.Digest{"linux/amd64": {digest(platform)}}
		}
		return im
	}
	for _, tt := range []struct {
		name    string
		im      lock.Image
		changed bool
		old     []string // superseded afterwards
	}{
		{"new", entry("a1", "x1"), true, nil},
		{"same", entry("a1", "x1"), false, nil},
		{"next", entry("a2", "x2"), true, []string{"x1", "a1"}},
		{"one more", entry("a2", "x2", "x3"), true, []string{"x1", "a1"}},
		{"back", entry("a1", "x1"), true, []string{"a2", "x2", "x3"}},
	} {
		if got := f.Update(tt.im); got != tt.changed {
			t.Errorf("%s: changed %v", tt.name, got)
		}
		got := map[godigest.Digest]bool{}
		for _, d := range f.Find("a.io/b", "1").Superseded {
			got[d] = true
		}
		want := map[godigest.Digest]bool{}
		for _, d := range tt.old {
			want[digest(d)] = true
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: superseded (-want +got):\n%s", tt.name, d)
		}
	}
}

func TestLoad(t *testing.T) {
	files := map[string]string{"l": "lock", "l.sig": "sig", "k": "key"}
	read := func(name string) ([]byte, error) {
		if s, ok := files[name]; ok {
			return []byte(s), nil
		}
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	l := signing.Lock{
		Name: "l", Material: signing.Material{File: "l"}, Signature: signing.Material{File: "l.sig", Optional: true},
		SignedBy: &signing.KeyRing{Keys: []signing.Key{{Material: signing.Material{File: "k"}}}},
	}
	got, err := l.Load(read)
	if err != nil || string(got.Data)+string(got.Signature.Data)+string(got.SignedBy.Keys[0].Data) != "locksigkey" || l.SignedBy.Keys[0].Data != nil {
		t.Errorf("loaded %+v, %v; original %+v", got, err, l)
	}
	delete(files, "l.sig")
	if got, err := l.Load(read); err != nil || got.Signature.Data != nil {
		t.Errorf("without signature: %+v, %v", got, err)
	}
	delete(files, "k")
	if _, err := l.Load(read); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without key: %v", err)
	}
}

func FuzzOpen(f *testing.F) {
	for _, name := range []string{"testdata/images.lock", "testdata/images.lock.json"} {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, "docker.io/library/debian", "bookworm")
	}
	f.Add([]byte("version: 1\nserial: 1\nimages: &a [*a]"), "a/b", "")
	f.Fuzz(func(t *testing.T, data []byte, name, tag string) {
		parsed, err := lock.Parse("l", data)
		if err != nil {
			return
		}
		l := open(t, unsigned(data))
		for _, im := range parsed.Images {
			for _, d := range im.Superseded {
				s := &signing.Subject{Name: im.Name, Tags: []string{im.Tag}, Desc: ocispec.Descriptor{Digest: d}}
				if im.Tag != "" && l.Listed(s, time.Time{}).Publication == signing.Published && parsed.Find(im.Name, "") == nil {
					t.Errorf("%s of %s:%s is published and superseded", d, im.Name, im.Tag)
				}
			}
		}
		if got := l.Listed(&signing.Subject{Name: name, Tags: []string{tag}, Desc: ocispec.Descriptor{Digest: digest("elsewhere")}}, now); got.Publication == signing.Published {
			t.Errorf("a digest that is not in the lock is published: %+v", got)
		}
		if _, err := parsed.Marshal(); err != nil {
			t.Errorf("written: %v", err)
		}
	})
}
