package records

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	godigest "github.com/opencontainers/go-digest"

	"github.com/sluiceproxy/sluice/analyzer"
	"github.com/sluiceproxy/sluice/signing"
)

// TestTagHistory follows a tag that is moved, held, moved back and at last
// followed.
func TestTagHistory(t *testing.T) {
	db := openNew(t)
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	hour := func(n int) time.Time { return at.Add(time.Duration(n) * time.Hour) }
	a, b := digest("a"), digest("b")
	see := func(d godigest.Digest, n int) {
		t.Helper()
		if _, err := db.SeenImage(t.Context(), "up/app", "1", d, "", hour(n)); err != nil {
			t.Fatal(err)
		}
	}
	note := func(d godigest.Digest, action string, n int) time.Time {
		t.Helper()
		since, err := db.NoteMove(t.Context(), TagChange{
			Name: "up/app", Tag: "1", Digest: d, Previous: a, Class: "unknown", Action: action, Reason: "why", At: hour(n),
		})
		if err != nil {
			t.Fatal(err)
		}
		return since
	}
	see(a, 0)
	if since := note(b, "hold", 1); !since.Equal(hour(1)) {
		t.Errorf("since %s", since)
	}
	if since := note(b, "hold", 2); !since.Equal(hour(1)) {
		t.Errorf("seen again: since %s", since)
	}
	if got, err := db.Moving(t.Context(), "up/app", "1", b); err != nil || !got.Equal(hour(1)) {
		t.Errorf("moving since %s, %v", got, err)
	}
	if err := db.EndMove(t.Context(), "up/app", "1"); err != nil {
		t.Fatal(err)
	}
	if got, err := db.Moving(t.Context(), "up/app", "1", b); err != nil || !got.IsZero() {
		t.Errorf("after its end: moving since %s, %v", got, err)
	}
	if _, ok, err := db.ServedAs(t.Context(), "up/app", "1", b); ok || err != nil {
		t.Errorf("what was held was served: %v, %v", ok, err)
	}
	note(b, "hold", 3)
	note(b, "alert", 4)
	see(b, 5)
	see(b, 6)
	if got, ok, err := db.ServedAs(t.Context(), "up/app", "1", a); !ok || err != nil || !got.Equal(at) {
		t.Errorf("served from %s, %v, %v", got, ok, err)
	}
	entry := func(d, previous godigest.Digest, class, action, reason string, n int) TagChange {
		return TagChange{Name: "up/app", Tag: "1", Digest: d, Previous: previous, Class: class, Action: action, Reason: reason, At: hour(n)}
	}
	want := []TagChange{
		entry(b, a, "unknown", "alert", "why", 5),
		entry(b, a, "unknown", "hold", "why", 3),
		entry(b, a, "unknown", "hold", "why", 1),
		entry(a, "", "", "alert", "", 0),
	}
	if got, err := db.TagHistory(t.Context(), "up/app", "1"); err != nil || cmp.Diff(want, got) != "" {
		t.Errorf("history %v (-want +got):\n%s", err, cmp.Diff(want, got))
	}
	see(a, 7)
	if _, err := db.SeenImage(t.Context(), "up/app", "other", digest("c"), "", hour(8)); err != nil {
		t.Fatal(err)
	}
	if got, err := db.TagHistoryOf(t.Context(), b); err != nil || len(got) != 5 || got[0].Previous != b {
		t.Errorf("of a digest: %+v, %v", got, err)
	}
	if got, err := db.TagHistory(t.Context(), "up/app", ""); err != nil || len(got) != 6 {
		t.Errorf("of a name: %d entries, %v", len(got), err)
	}
}

// TestThreatBaseNameTaken: whoever copies a base and is pulled first does not take
// its name away.
func TestThreatBaseNameTaken(t *testing.T) {
	db := openNew(t)
	inv := built("debian", "a")
	inv.Created = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	for _, name := range []string{"docker.io/evil/debian:12", "docker.io/library/debian:12", "docker.io/library/debian:bookworm"} {
		if err := db.PutBase(t.Context(), inv, name); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.PutBase(t.Context(), built("rebuilt", "a", "b"), "ghcr.io/acme/runtime:1"); err != nil {
		t.Fatal(err)
	}
	names := func(inv *analyzer.Inventory) (out []string) {
		base, err := db.Base(t.Context(), inv)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range base.Known() {
			out = append(out, p.Name)
			if p.Digest == digest("debian") && !p.Created.Equal(inv.Created) && !p.Created.Equal(time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)) {
				t.Errorf("%s created %s", p.Name, p.Created)
			}
		}
		return out
	}
	if d := cmp.Diff([]string{"ghcr.io/acme/runtime:1", "docker.io/evil/debian:12", "docker.io/library/debian:12"}, names(built("app", "a", "b", "c"))); d != "" {
		t.Errorf("below (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]string{"docker.io/evil/debian:12", "docker.io/library/debian:12"}, names(built("same layers", "a"))); d != "" {
		t.Errorf("below an image without layers of its own (-want +got):\n%s", d)
	}
	if got := names(built("debian", "a")); len(got) > 0 {
		t.Errorf("its own base: %v", got)
	}
}

// TestAcceptLocks: a database keeps the last serial of each lock.
func TestAcceptLocks(t *testing.T) {
	db := openNew(t)
	if err := db.AcceptLocks(t.Context(), []signing.LockID{{Name: "l", Serial: 2, Digest: digest("2")}}); err != nil {
		t.Fatal(err)
	}
	err := db.AcceptLocks(t.Context(), []signing.LockID{{Name: "l", Serial: 1, Digest: digest("1")}})
	if !errors.Is(err, ErrOldLock) {
		t.Errorf("error %v, want %v", err, ErrOldLock)
	}
}
