package records

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluiceproxy/sluice/proxy/policy"
)

func TestWaivers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "records.db")
	db := openAt(t, path)
	db.now = func() time.Time { return clock }
	before := db.DecisionsRevision()
	in := policy.Waiver{
		Advisory: "CVE-1", Package: "pkg:npm/lodash", Path: "app/**", Images: []string{"ghcr.io/acme/**"},
		Reason: "not\n reachable ", Expires: clock.Add(time.Hour),
	}
	first, err := db.AddWaiver(t.Context(), in, "bob")
	if err != nil {
		t.Fatal(err)
	}
	want := in
	want.ID, want.Owner, want.Reason, want.Created = first.ID, "bob", "not reachable", clock
	if d := cmp.Diff(want, first); d != "" {
		t.Error(d)
	}
	if !strings.HasPrefix(first.ID, "w-") || db.DecisionsRevision() == before {
		t.Errorf("id %q, revision %d after %d", first.ID, db.DecisionsRevision(), before)
	}
	db.now = func() time.Time { return clock.Add(2 * time.Hour) } // the first has expired and stays listed
	second, err := db.AddWaiver(t.Context(), policy.Waiver{Rule: "leaked-secret", Secret: "github-token", Owner: "web", Reason: "r", Expires: clock.AddDate(0, 1, 0)}, "bob")
	if err != nil {
		t.Fatal(err)
	}
	other := openAt(t, path) // what is on disk
	for name, db := range map[string]*DB{"here": db, "another process": other} {
		got, err := db.Waivers(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff([]policy.Waiver{second, first}, got); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	revision := db.DecisionsRevision()
	if err := db.RemoveWaiver(t.Context(), first.ID, "carol"); err != nil {
		t.Fatal(err)
	}
	if err := db.RemoveWaiver(t.Context(), first.ID, "carol"); !errors.Is(err, ErrNotFound) {
		t.Errorf("removed twice: %v", err)
	}
	if got, err := db.Waivers(t.Context()); err != nil || len(got) != 1 || db.DecisionsRevision() <= revision {
		t.Errorf("after the removal: %v, %v, revision %d after %d", got, err, db.DecisionsRevision(), revision)
	}
	trail, _, err := db.Audit(t.Context(), AuditFilter{Target: first.ID})
	if err != nil || len(trail) != 2 || trail[0].Action != ActionWaiverRemove || trail[0].By != "carol" || trail[0].Before == nil || trail[1].Action != ActionWaiverAdd {
		t.Errorf("trail %+v, %v", trail, err)
	}
}

func TestAddWaiverRefuses(t *testing.T) {
	db := openNew(t)
	soon := time.Now().Add(time.Hour)
	for name, w := range map[string]policy.Waiver{
		"no target":      {Reason: "r", Owner: "o", Expires: soon},
		"path alone":     {Path: "**", Reason: "r", Owner: "o", Expires: soon},
		"no reason":      {Advisory: "CVE-1", Owner: "o", Expires: soon},
		"no expiry":      {Advisory: "CVE-1", Reason: "r", Owner: "o"},
		"expired":        {Advisory: "CVE-1", Reason: "r", Owner: "o", Expires: time.Now().Add(-time.Second)},
		"bad glob":       {Advisory: "CVE-1", Images: []string{"nginx"}, Reason: "r", Owner: "o", Expires: soon},
		"bad purl":       {Package: "lodash", Reason: "r", Owner: "o", Expires: soon},
		"built-in rule":  {Rule: policy.RuleAnalysisFailed, Reason: "r", Owner: "o", Expires: soon},
		"never together": {Advisory: "CVE-1", Secret: "private-key", Reason: "r", Owner: "o", Expires: soon},
	} {
		if _, err := db.AddWaiver(t.Context(), w, "alice"); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
	if trail, _, err := db.Audit(t.Context(), AuditFilter{}); err != nil || len(trail) != 0 {
		t.Errorf("refused waivers left a trail: %v, %v", trail, err)
	}
}
