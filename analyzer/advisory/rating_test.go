package advisory

import (
	"testing"

	"github.com/sluiceproxy/sluice/analyzer"
)

func TestRating(t *testing.T) {
	const (
		v31 = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"
		v30 = "CVSS:3.0/AV:N/AC:H/PR:N/UI:N/S:U/C:H/I:H/A:H"
		v40 = "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:N/VI:N/VA:L/SC:N/SI:N/SA:N"
		v2  = "AV:N/AC:L/Au:N/C:C/I:C/A:C"
	)
	severity := func(list string) string { return `"severity": [` + list + `]` }
	entry := func(typ, score string) string { return `{"type": "` + typ + `", "score": "` + score + `"}` }
	affected := func(more string) string {
		return `[{"package": {"ecosystem": "npm", "name": "a"}, "ranges": [{"type": "SEMVER", "events": [{"introduced": "0"}]}]` + more + `}]`
	}
	for _, tt := range []struct {
		name     string
		affected string
		more     string
		want     analyzer.Severity
		score    float64
	}{
		{"v3.1", "", severity(entry("CVSS_V3", v31)), analyzer.SeverityCritical, 9.8},
		{"v3.0", "", severity(entry("CVSS_V3", v30)), analyzer.SeverityHigh, 8.1},
		{"v4 before v3", "", severity(entry("CVSS_V3", v31) + "," + entry("CVSS_V4", v40)), analyzer.SeverityMedium, 6.9},
		{"v3 before v2", "", severity(entry("CVSS_V2", v2) + "," + entry("CVSS_V3", v30)), analyzer.SeverityHigh, 8.1},
		{"v2 is never critical", "", severity(entry("CVSS_V2", v2)), analyzer.SeverityHigh, 10},
		{"unreadable v4 falls back to v3", "", severity(entry("CVSS_V4", "CVSS:4.0/AV:X") + "," + entry("CVSS_V3", v31)), analyzer.SeverityCritical, 9.8},
		{"of the affected entry", affected(`, "severity": [` + entry("CVSS_V3", v31) + `]`), "", analyzer.SeverityCritical, 9.8},
		{"a vector before a word", "", severity(entry("CVSS_V3", v31)) + `, "database_specific": {"severity": "LOW"}`, analyzer.SeverityCritical, 9.8},
		{"the database's word", "", `"database_specific": {"severity": "MODERATE"}`, analyzer.SeverityMedium, 0},
		{"a score without a vector", "", `"database_specific": {"cvss_v3_score": 7.55}`, analyzer.SeverityHigh, 7.6},
		{"the ecosystem's urgency", affected(`, "ecosystem_specific": {"urgency": "unimportant"}`), "", analyzer.SeverityNone, 0},
		{"urgency that says nothing", affected(`, "ecosystem_specific": {"urgency": "not yet assigned"}`), "", analyzer.SeverityUnknown, 0},
		{"Ubuntu's priority", "", severity(entry("Ubuntu", "high")), analyzer.SeverityHigh, 0},
		{"the summary's word", "", `"summary": "Important: nodejs:20 security update"`, analyzer.SeverityHigh, 0},
		{"a summary that begins with another word", "", `"summary": "Highly important: read this"`, analyzer.SeverityUnknown, 0},
		{"nothing", "", `"database_specific": {"severity": 3}`, analyzer.SeverityUnknown, 0},
		{"objects of another shape", affected(`, "ecosystem_specific": ["x"]`), `"database_specific": "x"`, analyzer.SeverityUnknown, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := tt.affected
			if a == "" {
				a = affected("")
			}
			x, _ := compileRecords(t, map[string][]string{"npm": {record1("GHSA-1", a, tt.more)}}, CompileOptions{})
			m, err := x.Match(t.Context(), []analyzer.Package{{Type: "npm", Ecosystem: "npm", Name: "a", Version: "1.0.0"}})
			if err != nil || len(m.Findings) != 1 {
				t.Fatalf("%+v, %v", m, err)
			}
			if f := m.Findings[0]; f.Severity != tt.want || f.Score != tt.score {
				t.Errorf("%v %.1f, want %v %.1f", f.Severity, f.Score, tt.want, tt.score)
			}
		})
	}
}

// TestBorrowedRating: an advisory without a rating takes the worst that another
// feed gives one of its CVEs, and says so; one with a word of its own does not.
func TestBorrowedRating(t *testing.T) {
	rated := func(id, cve, vector string) string {
		return osv(id, "Bitnami", "x", "introduced 0", `"aliases": ["`+cve+`"], "severity": [{"type": "CVSS_V3", "score": "`+vector+`"}]`)
	}
	x, _ := compileRecords(t, map[string][]string{
		"Bitnami": {rated("BIT-1", "CVE-2024-1", "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H"), rated("BIT-2", "CVE-2024-2", "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H")},
		"Debian":  {osv("DSA-1-1", "Debian:12", "a", "introduced 0", `"upstream": ["CVE-2024-1", "CVE-2024-2", "CVE-2024-3"]`), osv("DSA-2-1", "Debian:12", "a", "introduced 0", `"upstream": ["CVE-2024-3"]`)},
		"AlmaLinux": {
			osv("ALSA-1:1", "AlmaLinux:9", "a", "introduced 0, fixed 9-1", `"related": ["CVE-2024-2"], "summary": "Low: a security update"`),
		},
	}, CompileOptions{})
	m, err := x.Match(t.Context(), []analyzer.Package{
		{Type: "deb", Ecosystem: "Debian:12", Name: "a", Version: "1"}, {Type: "rpm", Ecosystem: "AlmaLinux:9", Name: "a", Version: "1-1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range m.Findings {
		got = append(got, f.Advisory+" "+f.Severity.String()+" by "+f.RatedBy+" "+f.Source)
	}
	want := []string{
		"DSA-1-1 critical by BIT-2 Debian:12 introduced 0",
		"ALSA-1:1 low by AlmaLinux AlmaLinux:9 introduced 0, fixed 9-1",
		"DSA-2-1 unknown by  Debian:12 introduced 0",
	}
	if len(got) != len(want) || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestMalware(t *testing.T) {
	x, stats := compileRecords(t, map[string][]string{"npm": {
		osv("MAL-2024-1", "npm", "evil", "introduced 0", ""), osv("GHSA-1", "npm", "evil2", "introduced 0", `"aliases": ["MAL-2024-2"]`), osv("GHSA-2", "npm", "bad", "introduced 0", ""),
	}}, CompileOptions{})
	if stats.Malware != 2 {
		t.Errorf("%d malware advisories, want 2", stats.Malware)
	}
	for name, want := range map[string]analyzer.Class{"evil": analyzer.ClassMalware, "evil2": analyzer.ClassMalware, "bad": analyzer.ClassVulnerability} {
		f, err := x.Lookup("pkg:npm/" + name + "@1.0.0")
		if err != nil || len(f) != 1 || f[0].Class != want {
			t.Errorf("%s: %+v, %v, want %s", name, f, err, want)
		}
	}
}
