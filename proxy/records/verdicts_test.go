package records

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluiceproxy/sluice/proxy/policy"
)

// verdict is the nth verdict of a test; reasons name advisories.
func verdict(n int, image string, d policy.Decision, advisories ...string) policy.Verdict {
	v := policy.Verdict{
		ID: fmt.Sprintf("v-%d", n), Decision: d, Image: image, Digest: digest(image), Tags: []string{"latest"},
		Policy: "p-1", At: clock.Add(time.Duration(n) * time.Minute),
	}
	for _, a := range advisories {
		v.Reasons = append(v.Reasons, policy.Reason{Rule: "high", Action: d, Message: a, Advisory: a, Aliases: []string{"CVE-" + a}, GraceUntil: clock})
	}
	return v
}

func put(t *testing.T, db *DB, v policy.Verdict) {
	t.Helper()
	if err := db.PutVerdict(t.Context(), v); err != nil {
		t.Fatal(err)
	}
}

func TestVerdict(t *testing.T) {
	db := openNew(t)
	if _, ok, err := db.Verdict(t.Context(), nginx, digest(nginx)); ok || err != nil {
		t.Fatalf("before: %v, %v", ok, err)
	}
	denied, annotated := verdict(1, nginx, policy.Deny, "A-1"), verdict(2, nginx, policy.Annotate, "A-2")
	put(t, db, denied)
	if img, ok, err := db.Image(t.Context(), nginx, digest(nginx)); err != nil || ok && !img.AllowedSince.IsZero() {
		t.Errorf("a denied image is allowed since %v, %v", img.AllowedSince, err)
	}
	put(t, db, annotated)
	again := annotated
	again.At = again.At.Add(time.Hour) // the same verdict, taken again
	put(t, db, again)

	got, ok, err := db.Verdict(t.Context(), nginx, digest(nginx))
	if err != nil || !ok {
		t.Fatalf("after: %v, %v", ok, err)
	}
	if d := cmp.Diff(again, got); d != "" {
		t.Error(d)
	}
	img, _, err := db.Image(t.Context(), nginx, digest(nginx))
	if err != nil || !img.AllowedSince.Equal(annotated.At) {
		t.Errorf("AllowedSince = %v, %v, want the time of the first verdict that served", img.AllowedSince, err)
	}
	history, err := db.readVerdicts(t.Context(), "SELECT body FROM verdict_history WHERE image = ? AND digest = ? ORDER BY seq DESC", nginx, digest(nginx).String())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]policy.Verdict{annotated, denied}, history); d != "" {
		t.Error(d)
	}
	of, err := db.VerdictsOf(t.Context(), digest(nginx))
	if err != nil || len(of) != 1 || of[0].ID != again.ID {
		t.Errorf("VerdictsOf = %v, %v", of, err)
	}
}

func TestVerdictsFilter(t *testing.T) {
	db := openNew(t)
	put(t, db, verdict(1, "docker.io/library/a", policy.Deny, "GHSA-x"))
	put(t, db, verdict(2, "docker.io/library/b", policy.Allow))
	put(t, db, verdict(3, "docker.io/acme/deep/c", policy.Annotate, "GHSA-y", "GHSA-x"))
	put(t, db, verdict(4, "ghcr.io/acme/d", policy.Deny, "GHSA-z"))
	put(t, db, verdict(5, "ghcr.io/acme/d", policy.Deny, "GHSA-w")) // z is gone
	for _, tt := range []struct {
		name   string
		filter VerdictFilter
		want   []string
	}{
		{"all", VerdictFilter{}, []string{"v-5", "v-3", "v-2", "v-1"}},
		{"decision", VerdictFilter{Decision: policy.Deny}, []string{"v-5", "v-1"}},
		{"advisory", VerdictFilter{Advisory: "ghsa-X"}, []string{"v-3", "v-1"}},
		{"alias", VerdictFilter{Advisory: "CVE-GHSA-y"}, []string{"v-3"}},
		{"replaced", VerdictFilter{Advisory: "GHSA-z"}, nil},
		{"glob", VerdictFilter{Image: "docker.io/*/*"}, []string{"v-2", "v-1"}},
		{"deep glob", VerdictFilter{Image: "docker.io/**"}, []string{"v-3", "v-2", "v-1"}},
		{"tag", VerdictFilter{Image: "**:latest"}, []string{"v-5", "v-3", "v-2", "v-1"}},
		{"other tag", VerdictFilter{Image: "**:1"}, nil},
		{"since", VerdictFilter{Since: clock.Add(3 * time.Minute)}, []string{"v-5", "v-3"}},
		{"both", VerdictFilter{Decision: policy.Deny, Image: "docker.io/**"}, []string{"v-1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			items, next, err := db.Verdicts(t.Context(), tt.filter)
			if err != nil || next != "" {
				t.Fatalf("next = %q, %v", next, err)
			}
			var got []string
			for _, v := range items {
				got = append(got, v.ID)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
		})
	}
	for _, f := range []VerdictFilter{{PageToken: "!"}, {PageToken: pageToken("audit", 3)}, {Image: "a[b"}} {
		if _, _, err := db.Verdicts(t.Context(), f); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v, want ErrInvalid", f, err)
		}
	}
}

// While pages are read, verdicts change and new ones come: none is given twice,
// and none that stayed as it was is missed.
func TestVerdictsPaging(t *testing.T) {
	db := openNew(t)
	const n = 25
	for i := range n {
		put(t, db, verdict(i, fmt.Sprintf("docker.io/library/i%02d", i), policy.Deny))
	}
	seen := map[string]int{}
	f := VerdictFilter{Limit: 10, Image: "docker.io/**"}
	for page := 0; ; page++ {
		items, next, err := db.Verdicts(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range items {
			seen[v.Image]++
		}
		put(t, db, verdict(100+page, "docker.io/library/i24", policy.Deny)) // was on the first page
		put(t, db, verdict(200+page, fmt.Sprintf("docker.io/library/new%d", page), policy.Deny))
		if next == "" {
			break
		}
		f.PageToken = next
	}
	for i := range n {
		if name := fmt.Sprintf("docker.io/library/i%02d", i); seen[name] != 1 {
			t.Errorf("%s was given %d times", name, seen[name])
		}
	}
	if len(seen) != n {
		t.Errorf("%d images, want %d", len(seen), n)
	}
}

func FuzzPageToken(f *testing.F) {
	f.Add("")
	f.Add(pageToken("verdicts", 1))
	f.Add(pageToken("audit", 1<<62))
	f.Add("dmVyZGljdHM6LTE")
	f.Add("dmVyZGljdHM6MDE")
	f.Fuzz(func(t *testing.T, token string) {
		seq, err := parsePageToken("verdicts", token)
		switch {
		case err != nil && !errors.Is(err, ErrInvalid):
			t.Errorf("%q: %v is not ErrInvalid", token, err)
		case err == nil && token != "" && (seq <= 0 || pageToken("verdicts", seq) != token):
			t.Errorf("%q gives %d, whose token is %q", token, seq, pageToken("verdicts", seq))
		}
	})
}
