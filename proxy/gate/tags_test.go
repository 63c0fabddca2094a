package gate

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/signing"
	"github.com/sluiceproxy/sluice/signing/lock"
	"github.com/sluiceproxy/sluice/signing/signtest"
	"github.com/sluiceproxy/sluice/signing/verify"
)

// tagWorld is a world with a policy's sections, a lock and a clock that the test
// moves.
type tagWorld struct {
	*trustWorld
	lock      lock.File
	warnStale bool // of the lock
}

func newTagWorld(t *testing.T, sections string) *tagWorld {
	t.Helper()
	w := &tagWorld{trustWorld: &trustWorld{world: newWorld(t, t.TempDir()), key: signtest.NewKey(t, "p256")}}
	w.lock = lock.File{Version: 1, Serial: 1, Images: []lock.Image{{Name: "up/else", Digests: []godigest.Digest{godigest.FromString("x")}}}}
	w.follow(sections)
	return w
}

// follow sets the clock and a policy with the sections.
func (w *tagWorld) follow(sections string) {
	w.t.Helper()
	w.now = func() time.Time { return time.Now().Add(time.Duration(w.offset.Load())) }
	text := `version: 1
keys: [{name: release, any: [{file: release.pub}]}]
locks: [{name: published, file: images.lock, unsigned: true}]
policies:
  - name: tags
    images: ["**"]
    rules: []
` + sections
	if w.warnStale {
		text = strings.Replace(text, "unsigned: true", "unsigned: true, onStale: warn", 1)
	}
	p, err := policy.Parse("test.yaml", []byte(text))
	if err != nil {
		w.t.Fatal(err)
	}
	p, err = p.Bind(policy.Binder{
		Now: time.Now(),
		Read: func(name string) ([]byte, error) {
			if name == "images.lock" {
				return w.lock.Marshal()
			}
			return w.key.PEM, nil
		},
		Compile:   func(t signing.Trust) (signing.Verifier, error) { return verify.Compile(t) },
		OpenLocks: func(l []signing.Lock) (signing.Locks, error) { return lock.OpenAll(l) },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.SetPolicy(p)
}

// served pulls the tag some time later and demands the digest.
func (w *tagWorld) served(after time.Duration, ref string, want ocispec.Descriptor) Admission {
	w.t.Helper()
	w.pass(after)
	a, err := w.pull(ref)
	if err != nil {
		w.t.Fatal(err)
	}
	if got := a.Manifest.Descriptor.Digest; got != want.Digest {
		w.t.Fatalf("%s is %s, want %s", ref, got, want.Digest)
	}
	return a
}

// history is the tag's as "class action" of each entry, the oldest first.
func (w *tagWorld) history(tag string) (out []string) {
	w.t.Helper()
	h, err := w.records.TagHistory(w.t.Context(), "up/app", tag)
	if err != nil {
		w.t.Fatal(err)
	}
	for i := range h {
		c := &h[len(h)-1-i]
		out = append(out, strings.TrimSpace(c.Class+" "+c.Action))
	}
	return out
}

func (w *tagWorld) wantHistory(want ...string) {
	w.t.Helper()
	if got := w.history("1"); fmt.Sprint(got) != fmt.Sprint(want) {
		w.t.Errorf("history %q, want %q", got, want)
	}
}

// built is an image whose config says when it was built.
func (w *tagWorld) built(ref, file string, at time.Time) ocispec.Descriptor {
	repo, tag, _ := strings.Cut(ref, ":")
	m := w.image(ref, []string{file})
	config := ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}, Created: &at}
	config.RootFS = ocispec.RootFS{Type: "layers", DiffIDs: []godigest.Digest{m.Layers[0].Digest}}
	m.Config = w.blob(repo, ocispec.MediaTypeImageConfig, w.json(config))
	w.put(repo, tag, m.MediaType, w.json(m))
	return w.descriptor(m, m.MediaType)
}

const hold = "    tags: {onMove: hold, holdFor: 72h}\n"

// TestTagFollowed: without rules on tags a move is followed and on record.
func TestTagFollowed(t *testing.T) {
	w := newTagWorld(t, "")
	a := w.imageOf("app:1", "a")
	w.served(0, "app:1", a)
	b := w.imageOf("app:1", "b")
	if got := w.served(2*time.Hour, "app:1", b); got.Warning != "" {
		t.Errorf("warning %q", got.Warning)
	}
	w.imageOf("app:1", "a")
	w.served(2*time.Hour, "app:1", a)
	w.wantHistory("alert", "unknown alert", "rollback alert")
}

// TestThreatTagMoveHeld: a tag that somebody moved keeps its old digest for a
// time, through a restart; digests are served as ever.
func TestThreatTagMoveHeld(t *testing.T) {
	w := newTagWorld(t, hold)
	a := w.imageOf("app:1", "a")
	w.served(0, "app:1", a)
	b := w.imageOf("app:1", "b")
	got := w.served(2*time.Hour, "app:1", a)
	if !strings.HasPrefix(got.Warning, `299 - "the tag up/app:1 moved from `) || !strings.Contains(got.Warning, b.Digest.String()) {
		t.Errorf("warning %q", got.Warning)
	}
	if by := w.served(0, "app@"+b.Digest.String(), b); by.Warning != "" {
		t.Errorf("by digest: warning %q", by.Warning)
	}
	w.served(30*time.Hour, "app:1", a)
	w.stop()
	w.start(rules)
	w.follow(hold)
	w.served(40*time.Hour, "app:1", a)
	w.wantHistory("alert", "unknown hold")
	if got := w.served(3*time.Hour, "app:1", b); got.Warning != "" {
		t.Errorf("after the hold: warning %q", got.Warning)
	}
	w.wantHistory("alert", "unknown hold", "unknown alert")
}

// TestTagHoldStartsAgain: the hold counts from when the upstream names the digest
// without a break.
func TestTagHoldStartsAgain(t *testing.T) {
	w := newTagWorld(t, hold)
	a := w.imageOf("app:1", "a")
	w.served(0, "app:1", a)
	w.imageOf("app:1", "b")
	w.served(2*time.Hour, "app:1", a)
	w.imageOf("app:1", "a")
	if got := w.served(60*time.Hour, "app:1", a); got.Warning != "" {
		t.Errorf("moved back: warning %q", got.Warning)
	}
	w.imageOf("app:1", "b")
	w.served(2*time.Hour, "app:1", a)
	w.served(60*time.Hour, "app:1", a)
	c := w.imageOf("app:1", "c")
	w.served(20*time.Hour, "app:1", a)
	w.served(60*time.Hour, "app:1", a)
	w.served(14*time.Hour, "app:1", c)
}

// TestThreatTagMoveDenied: the tag is refused until an operator says otherwise.
func TestThreatTagMoveDenied(t *testing.T) {
	w := newTagWorld(t, "    tags: {onMove: deny}\n")
	a := w.imageOf("app:1", "a")
	w.served(0, "app:1", a)
	b := w.imageOf("app:1", "b")
	w.pass(2 * time.Hour)
	_, err := w.pull("app:1")
	wantRule(t, err, policy.RuleTagMoved)
	if !strings.Contains(err.Error(), "the tag up/app:1 moved from "+a.Digest.String()+" to "+b.Digest.String()) {
		t.Errorf("error %v", err)
	}
	h, herr := w.records.TagHistory(t.Context(), "up/app", "1")
	if herr != nil || h[0].Reason != err.Error() {
		t.Errorf("history %+v, %v, want the client's words", h, herr)
	}
	_, again := w.pull("app:1")
	if again == nil || again.Error() != err.Error() {
		t.Errorf("the second time: %v", again)
	}
	w.served(0, "app@"+a.Digest.String(), a)
	w.served(0, "app@"+b.Digest.String(), b)
	down := http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusBadGateway) })
	w.answer.Store(&down)
	w.pass(90 * time.Minute)
	if _, err := w.pull("app:1"); !denied(err) {
		t.Errorf("without the upstream: %v", err)
	}
	w.answer.Store(nil)
	if _, err := w.records.AddWaiver(t.Context(), policy.Waiver{
		Rule: policy.RuleTagMoved, Images: []string{"up/app@" + b.Digest.String()}, Owner: "app-team", Reason: "our release", Expires: w.now().Add(time.Hour),
	}, "alice"); err != nil {
		t.Fatal(err)
	}
	w.served(0, "app:1", b)
	w.wantHistory("alert", "unknown deny", "unknown alert")
	w.imageOf("app:1", "c")
	w.pass(2 * time.Hour)
	if _, err := w.pull("app:1"); !denied(err) {
		t.Errorf("the next move: %v", err)
	}
	w.follow("    tags: {onMove: alert}\n")
	if _, err := w.pull("app:1"); err != nil {
		t.Errorf("under a milder policy: %v", err)
	}
}

// TestThreatTagRollback: an old digest is not let back on its tag, whether the
// proxy served it before or the image itself says that it is older.
func TestThreatTagRollback(t *testing.T) {
	w := newTagWorld(t, "    tags: {onMove: alert}\n")
	day := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	a := w.built("app:1", "a", day)
	w.served(0, "app:1", a)
	b := w.built("app:1", "b", day.Add(24*time.Hour))
	w.served(2*time.Hour, "app:1", b)
	w.built("app:1", "a", day)
	w.pass(2 * time.Hour)
	_, err := w.pull("app:1")
	wantRule(t, err, policy.RuleTagRollback)
	if !strings.Contains(err.Error(), "it was served for the tag before") {
		t.Errorf("error %v", err)
	}
	w.built("app:1", "c", day.Add(time.Hour))
	w.pass(2 * time.Hour)
	_, err = w.pull("app:1")
	wantRule(t, err, policy.RuleTagRollback)
	if !strings.Contains(err.Error(), "it was built 2026-03-01, the one before 2026-03-02") {
		t.Errorf("error %v", err)
	}
	w.served(2*time.Hour, "app:1", w.built("app:1", "d", day.Add(48*time.Hour)))
	w.wantHistory("alert", "unknown alert", "rollback deny", "rollback deny", "unknown alert")
}

// TestTagPublished: what a lock publishes is followed, and what it calls old is
// refused, on a new tag and on one that did not move.
func TestTagPublished(t *testing.T) {
	const strict = "    tags: {onMove: deny, onRollback: deny}\n"
	w := newTagWorld(t, strict)
	a := w.imageOf("app:1", "a")
	w.served(0, "app:1", a)
	b := w.imageOf("app:1", "b")
	w.pass(2 * time.Hour)
	if _, err := w.pull("app:1"); !denied(err) {
		t.Fatalf("unknown: %v", err)
	}
	w.lock.Images = []lock.Image{{Name: "up/app", Tag: "1", Digests: []godigest.Digest{b.Digest}, Superseded: []godigest.Digest{a.Digest}}}
	w.follow(strict)
	w.served(0, "app:1", b)
	w.imageOf("app:1", "a")
	w.pass(2 * time.Hour)
	_, err := w.pull("app:1")
	wantRule(t, err, policy.RuleTagRollback)
	if !strings.Contains(err.Error(), "the lock published lists "+a.Digest.String()+" as an old digest of up/app:1") {
		t.Errorf("error %v", err)
	}
	c := w.imageOf("app:2", "c")
	w.lock.Images = append(w.lock.Images, lock.Image{Name: "up/app", Tag: "2", Superseded: []godigest.Digest{c.Digest}})
	w.follow(strict)
	_, err = w.pull("app:2")
	wantRule(t, err, policy.RuleTagRollback)
	w.wantHistory("alert", "unknown deny", "published alert", "rollback deny")
}

// TestTagSigned: a move is followed if an authority signed both digests.
func TestTagSigned(t *testing.T) {
	w := newTagWorld(t, "    tags: {onMove: deny}\n    trust:\n      action: annotate\n      authorities: [{name: release, key: {ref: release}}]\n")
	a := w.imageOf("app:1", "a")
	w.sign("app", a)
	w.served(0, "app:1", a)
	b := w.imageOf("app:1", "b")
	w.sign("app", b)
	w.served(2*time.Hour, "app:1", b)
	w.imageOf("app:1", "c")
	w.pass(2 * time.Hour)
	_, err := w.pull("app:1")
	wantRule(t, err, policy.RuleTagMoved)
	w.wantHistory("alert", "signed alert", "unknown deny")
}

// TestThreatCloaking: an upstream that answers differently each time changes a
// held tag for nobody.
func TestThreatCloaking(t *testing.T) {
	w := newTagWorld(t, hold)
	a := w.imageOf("app:1", "a")
	w.served(0, "app:1", a)
	w.imageOf("app:1", "b")
	w.imageOf("other:1", "c")
	var turn atomic.Int64
	cloak := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead && strings.HasSuffix(r.URL.Path, "/manifests/1") && turn.Add(1)%2 == 0 {
			r.URL.Path = strings.Replace(r.URL.Path, "/v2/app/manifests/1", "/v2/other/manifests/1", 1)
		}
		w.registry.ServeHTTP(rw, r)
	})
	w.answer.Store(&cloak)
	for range 6 {
		w.served(24*time.Hour, "app:1", a)
	}
}

// TestThreatIndexLies: a child is what its index says, or is denied.
func TestThreatIndexLies(t *testing.T) {
	w := newTagWorld(t, "")
	amd64 := &ocispec.Platform{OS: "linux", Architecture: "amd64"}
	for _, tt := range []struct {
		name string
		lie  func(*ocispec.Descriptor)
		want string // of the error; "" = served
	}{
		{"honest", func(*ocispec.Descriptor) {}, ""},
		{"no platform", func(d *ocispec.Descriptor) { d.Platform = nil }, ""},
		{"size", func(d *ocispec.Descriptor) { d.Size++ }, "bytes"},
		{"media type", func(d *ocispec.Descriptor) { d.MediaType = "application/vnd.docker.distribution.manifest.v2+json" }, "manifest.v2+json"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			repo := "index" + godigest.FromString(tt.name).Encoded()[:8]
			d := w.imageOf(repo+":child", "a")
			d.Platform = amd64
			tt.lie(&d)
			w.index(repo+":1", d)
			if _, err := w.pull(repo + ":1"); err != nil {
				t.Fatal(err)
			}
			_, err := w.pull(repo + "@" + d.Digest.String())
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantRule(t, err, policy.RuleDigestChain)
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

// TestLockAuthority: a policy can demand that a lock lists the image or an index
// that lists it.
func TestLockAuthority(t *testing.T) {
	const locked = "    trust:\n      authorities: [{name: publisher, hash: {lock: published}}]\n"
	w := newTagWorld(t, locked)
	child := w.imageOf("app:child", "a")
	child.Platform = &ocispec.Platform{OS: "linux", Architecture: "amd64"}
	index := w.index("app:1", child)
	_, err := w.pull("app:child")
	wantRule(t, err, policy.RuleTrustFailed)
	if !strings.Contains(err.Error(), "the lock published does not list up/app") {
		t.Errorf("error %v", err)
	}
	if n := w.count("GET /v2/app/referrers/"); n != 0 {
		t.Errorf("%d searches for signatures that nobody wants", n)
	}
	w.lock.Images = []lock.Image{{Name: "up/app", Tag: "1", Digests: []godigest.Digest{index.Digest}}}
	w.follow(locked)
	w.served(0, "app:1", index)
	w.served(0, "app@"+child.Digest.String(), child)
	w.lock.Expires = w.now().Add(-time.Hour).UTC().Truncate(time.Second)
	w.follow(locked)
	_, err = w.pull("app@" + child.Digest.String())
	wantRule(t, err, policy.RuleTrustFailed)
	w.warnStale = true
	w.follow(locked)
	if a := w.served(0, "app@"+child.Digest.String(), child); a.Verdict.Decision != policy.Annotate || !strings.Contains(a.Warning, "the lock published expired") {
		t.Errorf("by an expired lock: %+v, warning %q", a.Verdict, a.Warning)
	}
	w.lock.Expires = time.Time{}
	w.lock.Images[0].Superseded, w.lock.Images[0].Digests = []godigest.Digest{index.Digest}, []godigest.Digest{godigest.FromString("next")}
	w.follow(locked)
	_, err = w.pull("app@" + child.Digest.String())
	wantRule(t, err, policy.RuleTrustFailed)
	if !strings.Contains(err.Error(), "as an old digest") {
		t.Errorf("error %v", err)
	}
}

// TestThreatOldLock: a lock that was replaced does not come back.
func TestThreatOldLock(t *testing.T) {
	w := newTagWorld(t, "")
	ids := func(serial uint64, content string) []signing.LockID {
		return []signing.LockID{{Name: "l", Serial: serial, Digest: godigest.FromString(content)}}
	}
	for _, tt := range []struct {
		name string
		ids  []signing.LockID
		ok   bool
	}{
		{"first", ids(7, "a"), true},
		{"same", ids(7, "a"), true},
		{"same serial, other content", ids(7, "b"), false},
		{"newer", ids(9, "c"), true},
		{"older", ids(8, "d"), false},
		{"older beside a newer one", append(ids(7, "a"), signing.LockID{Name: "m", Serial: 1}), false},
		{"that left nothing", []signing.LockID{{Name: "m", Serial: 1, Digest: "x"}}, true},
	} {
		if err := w.records.AcceptLocks(t.Context(), tt.ids); (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	w.stop()
	w.start(rules)
	if err := w.records.AcceptLocks(t.Context(), ids(8, "d")); err == nil {
		t.Error("after a restart an older lock is in force")
	}
}
