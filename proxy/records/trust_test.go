package records

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	godigest "github.com/opencontainers/go-digest"

	"github.com/sluiceproxy/sluice/signing"
)

// TestTrust: a pass is found again by what it rests on, and nothing else is.
func TestTrust(t *testing.T) {
	db := openNew(t)
	d, other := godigest.FromString("image"), godigest.FromString("other")
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	pass := signing.Result{
		Outcome: signing.Pass, Subject: d, Revision: "r1", Until: at.Add(time.Hour),
		Authorities: []signing.AuthorityResult{{Name: "ci", Outcome: signing.Pass}},
	}
	if err := db.PutTrust(t.Context(), "up/app", d, "apps", "r1", pass, at); err != nil {
		t.Fatal(err)
	}
	got, since, ok, err := db.Trust(t.Context(), "up/app", d, "apps", "r1")
	if err != nil || !ok || !since.Equal(at) {
		t.Fatalf("%v %s %v", ok, since, err)
	}
	if diff := cmp.Diff(pass, got); diff != "" {
		t.Error(diff)
	}
	for _, q := range []struct {
		name, policy, basis string
		digest              godigest.Digest
	}{{"up/app", "apps", "r2", d}, {"up/app", "others", "r1", d}, {"up/other", "apps", "r1", d}, {"up/app", "apps", "r1", other}} {
		if _, _, ok, err := db.Trust(t.Context(), q.name, q.digest, q.policy, q.basis); ok || err != nil {
			t.Errorf("%+v is found (%v)", q, err)
		}
	}
	// What is no pass, or of another image, is a miss whatever wrote it.
	for _, r := range []signing.Result{{Outcome: signing.Undecided, Subject: d}, {Outcome: signing.Fail, Subject: d}, {Outcome: signing.Pass, Subject: other}} {
		if err := db.PutTrust(t.Context(), "up/app", d, "apps", "r1", r, at); err != nil {
			t.Fatal(err)
		}
		if _, _, ok, err := db.Trust(t.Context(), "up/app", d, "apps", "r1"); ok || err != nil {
			t.Errorf("%s of %s is found (%v)", r.Outcome, r.Subject, err)
		}
	}
}
