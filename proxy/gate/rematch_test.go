package gate

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluiceproxy/sluice/analyzer"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/records"
)

// decided returns the recorded decision on an image that was pulled as a.
func (w *world) decided(a Admission) policy.Decision {
	w.t.Helper()
	v, ok, err := w.records.Verdict(w.t.Context(), a.Name, a.Manifest.Descriptor.Digest)
	if err != nil || !ok {
		w.t.Fatalf("verdict on %s: %v, %v", a.Name, ok, err)
	}
	return v.Decision
}

func (w *world) setAdvisories(revision string, finding map[string]analyzer.Severity) {
	w.adv.mu.Lock()
	defer w.adv.mu.Unlock()
	w.adv.rev, w.adv.finding = revision, finding
}

func TestRematch(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.image("app:1", []string{"a"})
	w.image("other:1", []string{"b"})
	app, err := w.pull("app:1")
	if err != nil {
		t.Fatal(err)
	}
	other, err := w.pull("other:1")
	if err != nil {
		t.Fatal(err)
	}
	// A restart forgets what was in memory, and the upstream is gone.
	w.stop()
	w.start(rules)
	w.up.Close()
	w.setAdvisories("adv-2", map[string]analyzer.Severity{"a": analyzer.SeverityCritical, "b": analyzer.SeverityCritical})
	done, err := w.Rematch(t.Context(), []records.PackageKey{{Ecosystem: "npm", Name: "a"}, {Ecosystem: "npm", Name: "none"}})
	if d := cmp.Diff(Rematched{Judged: 1, Changed: 1}, done); d != "" || err != nil {
		t.Errorf("%v %s", err, d)
	}
	if a, o := w.decided(app), w.decided(other); a != policy.Deny || o != policy.Allow {
		t.Errorf("app %s, other %s", a, o)
	}
	trail, _, err := w.records.Audit(t.Context(), records.AuditFilter{Action: records.ActionRematch})
	if err != nil || len(trail) != 1 || !strings.HasPrefix(trail[0].Target, "up/app@") || !strings.Contains(string(trail[0].After), `"decision":"deny"`) {
		t.Errorf("audit %+v, %v", trail, err)
	}
	places, _, err := w.records.Images(t.Context(), records.ImageFilter{Advisory: "CVE-2026-0001"})
	if err != nil || len(places) != 1 || places[0].Name != "up/app" {
		t.Errorf("places %+v, %v", places, err)
	}
	// All that others judged; what these advisories judged is left alone.
	done, err = w.Rematch(t.Context(), nil)
	if d := cmp.Diff(Rematched{Judged: 1, Changed: 1}, done); d != "" || err != nil || w.decided(other) != policy.Deny {
		t.Errorf("%v %s", err, d)
	}
	if n := w.scans.Load(); n != 2 {
		t.Errorf("%d scans, want none but those of the pulls", n)
	}
}

// fakeVEX says the same of every finding in an image.
type fakeVEX struct {
	image  string
	status analyzer.VEXStatus
}

func (f fakeVEX) Mark(rep *analyzer.Report, img analyzer.VEXImage) {
	for i := range rep.Findings {
		if img.Name == f.image && len(img.Digests) > 0 {
			rep.Findings[i].VEX = &analyzer.VEXStatement{Status: f.status, Author: "acme", Source: "a.json"}
		}
	}
}
func (f fakeVEX) Revision() string { return f.image + string(f.status) }

// Waivers and VEX take effect on the next request, as blocks do.
func TestExceptionsTakeEffectAtOnce(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.image("app:1", []string{"bad"})
	check := func(what string, want policy.Decision) {
		t.Helper()
		a, err := w.pull("app:1")
		if want == policy.Deny && !denied(err) || want != policy.Deny && (err != nil || a.Verdict.Decision != want) {
			t.Errorf("%s: %s, %v, want %s", what, a.Verdict.Decision, err, want)
		}
	}
	check("at first", policy.Deny)
	for what, tt := range map[string]struct {
		waiver policy.Waiver
		want   policy.Decision
	}{
		"advisory":      {policy.Waiver{Advisory: "CVE-2026-0001"}, policy.Allow},
		"another":       {policy.Waiver{Advisory: "CVE-2026-0002"}, policy.Deny},
		"package":       {policy.Waiver{Package: "pkg:npm/bad"}, policy.Allow},
		"this image":    {policy.Waiver{Package: "pkg:npm/bad", Images: []string{"up/app:1"}}, policy.Allow},
		"another image": {policy.Waiver{Package: "pkg:npm/bad", Images: []string{"up/other"}}, policy.Deny},
		"one rule":      {policy.Waiver{Rule: "critical"}, policy.Annotate},
	} {
		tt.waiver.Owner, tt.waiver.Reason, tt.waiver.Expires = "ann", "test", time.Now().Add(time.Hour)
		added, err := w.records.AddWaiver(t.Context(), tt.waiver, "ann")
		if err != nil {
			t.Fatal(err)
		}
		check("waiver of "+what, tt.want)
		if err := w.records.RemoveWaiver(t.Context(), added.ID, "ann"); err != nil {
			t.Fatal(err)
		}
		check("without the waiver of "+what, policy.Deny)
	}
	for _, tt := range []struct {
		vex  fakeVEX
		want policy.Decision
	}{
		{fakeVEX{"up/app", analyzer.VEXNotAffected}, policy.Allow},
		{fakeVEX{"up/other", analyzer.VEXNotAffected}, policy.Deny},
		{fakeVEX{"up/app", analyzer.VEXAffected}, policy.Deny},
		{fakeVEX{"up/app", analyzer.VEXFixed}, policy.Allow},
	} {
		w.SetVEX(tt.vex)
		check("VEX "+tt.vex.Revision(), tt.want)
	}
	if n := w.scans.Load(); n != 1 {
		t.Errorf("%d scans", n)
	}
}
