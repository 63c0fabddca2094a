package records

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	godigest "github.com/opencontainers/go-digest"

	"github.com/sluiceproxy/sluice/proxy/policy"
)

func link(t *testing.T, db *DB, name string, at time.Time, blobs ...string) (ds []godigest.Digest) {
	t.Helper()
	for _, b := range blobs {
		d := digest(b)
		if err := db.LinkBlob(t.Context(), name, d, int64(len(b)), at, nil); err != nil {
			t.Fatal(err)
		}
		ds = append(ds, d)
	}
	return ds
}

func pushed(name, manifest string) LocalManifest {
	return LocalManifest{Name: name, Digest: digest(manifest), MediaType: "application/vnd.oci.image.manifest.v1+json", Size: 7, Pusher: "robot:ci", Pushed: clock}
}

// serve notes that a verdict served the manifest, as the gate does before a push
// is stored.
func serve(t *testing.T, db *DB, name, manifest string) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	if _, err := db.SeenImage(ctx, name, "", digest(manifest), "m", clock); err != nil {
		t.Error(err)
	}
	if err := db.PutVerdict(ctx, policy.Verdict{ID: "v", Decision: policy.Allow, Image: name, Digest: digest(manifest), At: clock}); err != nil {
		t.Error(err)
	}
}

func TestPutLocalManifest(t *testing.T) {
	db := openNew(t)
	blobs := link(t, db, "local/app", clock, "config", "layer")
	p := Push{Manifest: pushed("local/app", "m1"), Blobs: blobs, Tags: []PushedTag{{"v1", true}}}
	p.Manifest.Annotations = map[string]string{"a": "b"}
	if err := db.PutLocalManifest(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	serve(t, db, "local/app", "m1")
	got, ok, err := db.LocalManifest(t.Context(), "local/app", digest("m1"))
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	if d := cmp.Diff(p.Manifest, got); d != "" {
		t.Errorf("LocalManifest (-want +got):\n%s", d)
	}
	for name, tt := range map[string]struct {
		push Push
		err  error
	}{
		"the same again":          {p, nil},
		"an immutable tag moves":  {Push{Manifest: pushed("local/app", "m2"), Tags: []PushedTag{{"v1", true}}}, ErrImmutable},
		"another tag":             {Push{Manifest: pushed("local/app", "m2"), Tags: []PushedTag{{"v2", true}}}, nil},
		"a mutable tag moves":     {Push{Manifest: pushed("local/app", "m3"), Tags: []PushedTag{{"v2", false}}}, nil},
		"a blob of another":       {Push{Manifest: pushed("local/other", "m4"), Blobs: blobs}, &MissingError{Digest: digest("config")}},
		"a child that is missing": {Push{Manifest: pushed("local/app", "m5"), Children: []godigest.Digest{digest("m9")}}, &MissingError{Digest: digest("m9"), Manifest: true}},
		"an index":                {Push{Manifest: pushed("local/app", "m6"), Children: []godigest.Digest{digest("m1")}}, nil},
	} {
		err := db.PutLocalManifest(t.Context(), tt.push)
		var missing, want *MissingError
		switch {
		case errors.As(tt.err, &want):
			if !errors.As(err, &missing) || *missing != *want {
				t.Errorf("%s: %v", name, err)
			}
		case !errors.Is(err, tt.err):
			t.Errorf("%s: %v", name, err)
		}
		if err != nil {
			if _, ok, err := db.LocalManifest(t.Context(), tt.push.Manifest.Name, tt.push.Manifest.Digest); ok && tt.push.Manifest.Digest != digest("m2") || err != nil {
				t.Errorf("%s: stored all the same, %v", name, err)
			}
		}
	}
	if err := db.DeleteLocalManifest(t.Context(), "local/app", digest("m1"), time.Now(), nil); !errors.Is(err, ErrInUse) {
		t.Errorf("delete the child of an index: %v", err)
	}
	if err := db.DeleteLocalManifest(t.Context(), "local/app", digest("m1"), time.Now(), func(tag string) bool { return tag == "v1" }); !errors.Is(err, ErrImmutable) {
		t.Errorf("delete what has an immutable tag: %v", err)
	}
	for _, m := range []string{"m6", "m1"} {
		if err := db.DeleteLocalManifest(t.Context(), "local/app", digest(m), time.Now(), nil); err != nil {
			t.Error(err)
		}
	}
	if err := db.DeleteLocalManifest(t.Context(), "local/app", digest("m1"), time.Now(), nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("delete again: %v", err)
	}
	if _, _, ok, err := db.Tag(t.Context(), "local/app", "v1"); ok || err != nil {
		t.Errorf("the tag is still there, %v", err)
	}
}

func TestThreatImmutableTagUnderManyPushers(t *testing.T) {
	db := openNew(t)
	var (
		wg   sync.WaitGroup
		wins atomic.Int64
	)
	for i := range 50 {
		wg.Go(func() {
			serve(t, db, "local/app", fmt.Sprint("m", i))
			err := db.PutLocalManifest(context.WithoutCancel(t.Context()), Push{Manifest: pushed("local/app", fmt.Sprint("m", i)), Tags: []PushedTag{{"v1", true}}})
			switch {
			case err == nil:
				wins.Add(1)
			case !errors.Is(err, ErrImmutable):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if wins.Load() != 1 {
		t.Errorf("%d pushers won", wins.Load())
	}
	if list, err := db.Kept(t.Context(), "local/app"); err != nil || len(list) != 1 {
		t.Errorf("%d manifests, %v", len(list), err)
	}
}

func TestFixedImageReplacesADeniedOne(t *testing.T) {
	db := openNew(t)
	for _, m := range []string{"bad", "fixed"} {
		if err := db.PutLocalManifest(t.Context(), Push{Manifest: pushed("local/app", m), Tags: []PushedTag{{"v1", true}}}); err != nil {
			t.Errorf("%s: %v", m, err)
		}
	}
	serve(t, db, "local/app", "fixed")
	if err := db.PutLocalManifest(t.Context(), Push{Manifest: pushed("local/app", "later"), Tags: []PushedTag{{"v1", true}}}); !errors.Is(err, ErrImmutable) {
		t.Error(err)
	}
}

func TestLocalListsAndReferrers(t *testing.T) {
	db := openNew(t)
	for _, tag := range []string{"b", "a", "c"} {
		if err := db.PutLocalManifest(t.Context(), Push{Manifest: pushed("local/app", "m"), Tags: []PushedTag{{tag, false}}}); err != nil {
			t.Fatal(err)
		}
	}
	sig := pushed("local/app", "sig")
	sig.Subject, sig.ArtifactType = digest("m"), "application/x"
	other := pushed("local/other", "m")
	for _, m := range []LocalManifest{sig, other} {
		if err := db.PutLocalManifest(t.Context(), Push{Manifest: m}); err != nil {
			t.Fatal(err)
		}
	}
	tags, more, err := db.Tags(t.Context(), "local/app", "", 2)
	if d := cmp.Diff([]string{"a", "b"}, tags); d != "" || !more || err != nil {
		t.Errorf("tags %v, %v, %v", tags, more, err)
	}
	if tags, more, err = db.Tags(t.Context(), "local/app", "b", 2); len(tags) != 1 || more || err != nil {
		t.Errorf("tags %v, %v, %v", tags, more, err)
	}
	if names, err := db.LocalRepositories(t.Context(), "local/app", 9); len(names) != 1 || names[0] != "local/other" || err != nil {
		t.Errorf("repositories %v, %v", names, err)
	}
	refs, err := db.LocalReferrers(t.Context(), "local/app", digest("m"))
	if len(refs) != 1 || refs[0].Digest != digest("sig") || refs[0].ArtifactType != "application/x" || err != nil {
		t.Errorf("referrers %+v, %v", refs, err)
	}
	if err := db.DeleteTag(t.Context(), "local/app", "c"); err != nil {
		t.Error(err)
	}
	if err := db.DeleteTag(t.Context(), "local/app", "c"); !errors.Is(err, ErrNotFound) {
		t.Errorf("delete a tag again: %v", err)
	}
}

func TestUnusedBlobs(t *testing.T) {
	db := openNew(t)
	used := link(t, db, "local/app", clock, "used")
	link(t, db, "local/app", clock, "stray", "asked for")
	link(t, db, "local/app", clock.Add(time.Hour), "fresh")
	link(t, db, "local/apple", clock.Add(time.Hour), "used")
	if err := db.PutLocalManifest(t.Context(), Push{Manifest: pushed("local/app", "m"), Blobs: used}); err != nil {
		t.Fatal(err)
	}
	if size, ok, err := db.HasBlob(t.Context(), "local/app", digest("asked for"), clock.Add(time.Hour), time.Minute); size != 9 || !ok || err != nil {
		t.Errorf("HasBlob = %d, %v, %v", size, ok, err)
	}
	before := clock.Add(time.Minute)
	links, err := db.UnusedBlobs(t.Context(), before)
	if err != nil || len(links) != 1 || links[0].Digest != digest("stray") {
		t.Fatalf("unused %v, %v", links, err)
	}
	// It is asked for between the list and the removal.
	if _, ok, err := db.HasBlob(t.Context(), "local/app", digest("stray"), clock.Add(time.Hour), time.Minute); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if gone, err := db.UnlinkUnused(t.Context(), links[0], before); gone || err != nil {
		t.Errorf("UnlinkUnused = %v, %v", gone, err)
	}
	if gone, err := db.UnlinkUnused(t.Context(), links[0], clock.Add(2*time.Hour)); !gone || err != nil {
		t.Errorf("UnlinkUnused = %v, %v", gone, err)
	}
	if ok, err := db.LocalContent(t.Context(), digest("stray")); ok || err != nil {
		t.Errorf("LocalContent = %v, %v", ok, err)
	}
	if n, err := db.LocalBytes(t.Context(), "local/app/"); n != 0 || err != nil {
		t.Errorf("LocalBytes = %d, %v", n, err)
	}
	if n, err := db.LocalBytes(t.Context(), "local/app"); n != 4+9+5+4+7 || err != nil {
		t.Errorf("LocalBytes = %d, %v", n, err)
	}
	if err := db.UnlinkBlob(t.Context(), "local/app", digest("used")); !errors.Is(err, ErrInUse) {
		t.Errorf("unlink a used blob: %v", err)
	}
	for name, want := range map[string]bool{"local/app": true, "local/nothing": false} {
		if known, err := db.LocalKnown(t.Context(), name); known != want || err != nil {
			t.Errorf("LocalKnown(%s) = %v, %v", name, known, err)
		}
	}
	if names, err := db.RepositoriesWith(t.Context(), digest("used")); len(names) != 2 || err != nil {
		t.Errorf("repositories %v, %v", names, err)
	}
}

func TestRobots(t *testing.T) {
	db := openNew(t)
	db.now = func() time.Time { return clock }
	hash := sha256.Sum256([]byte("s"))
	want, err := db.AddRobot(t.Context(), Robot{Name: "ci", Hash: hash, Expires: clock.Add(time.Hour)}, "alice")
	if err != nil {
		t.Fatal(err)
	}
	got, err := db.Robots(t.Context())
	if d := cmp.Diff([]Robot{want}, got); d != "" || err != nil {
		t.Errorf("Robots: %v (-want +got):\n%s", err, d)
	}
	for name, r := range map[string]Robot{"taken": {Name: "ci"}, "no name": {}, "colon": {Name: "a:b"}, "over": {Name: "x", Expires: clock}} {
		if _, err := db.AddRobot(t.Context(), r, "alice"); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := db.RemoveRobot(t.Context(), "ci", "bob"); err != nil {
		t.Error(err)
	}
	if err := db.RemoveRobot(t.Context(), "ci", "bob"); !errors.Is(err, ErrNotFound) {
		t.Errorf("remove again: %v", err)
	}
	entries, _, err := db.Audit(t.Context(), AuditFilter{Target: "ci"})
	if err != nil || len(entries) != 2 || entries[0].Action != ActionRobotRemove || entries[1].By != "alice" {
		t.Errorf("audit %+v, %v", entries, err)
	}
}
