package policy

import (
	"slices"
	"testing"
	"time"

	"github.com/sluiceproxy/sluice/analyzer"
)

// TestEndOfLife looks at an image before and after the last day of its
// distribution, and at one whose last day is not known.
func TestEndOfLife(t *testing.T) {
	end := clock.Add(48 * time.Hour)
	for _, tt := range []struct {
		name  string
		end   time.Time
		now   time.Time
		fires bool
		until time.Time // the verdict is taken again then
	}{
		{"supported", end, clock, false, end},
		{"the last moment", end, end.Add(-1), false, end},
		{"ended", end, end, true, time.Time{}},
		{"unknown", time.Time{}, clock, false, time.Time{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := large()
			e.Now, e.Report.Findings = tt.now, nil
			e.Report.OS = analyzer.OSRelease{ID: "alpine", VersionID: "3.21.2", EndOfLife: tt.end}
			v := Default().Decide(e)
			i := slices.IndexFunc(v.Reasons, func(r Reason) bool { return r.Rule == "end-of-life" })
			if (i >= 0) != tt.fires {
				t.Fatalf("reasons: %+v", v.Reasons)
			}
			if tt.fires && (v.Reasons[i].Action != Annotate || v.Reasons[i].Message != "alpine 3.21.2 has had no security updates since 2026-11-22 12:00 UTC") {
				t.Errorf("reason: %+v", v.Reasons[i])
			}
			if !tt.until.IsZero() && !v.Until.Equal(tt.until) {
				t.Errorf("until %v, want %v", v.Until, tt.until)
			}
		})
	}
}
