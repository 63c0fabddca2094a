package advisory

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluiceproxy/sluice/analyzer"
)

func TestChanges(t *testing.T) {
	vector := `"aliases": ["CVE-2024-1"], "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H"}]`
	old := map[string][]string{
		"npm":    {osv("GHSA-1", "npm", "same", "introduced 0", ""), osv("GHSA-2", "npm", "range", "introduced 0, fixed 2.0.0", ""), osv("GHSA-3", "npm", "gone", "introduced 0", ""), osv("GHSA-4", "npm", "text", "introduced 0", "")},
		"Debian": {osv("DSA-1", "Debian:12", "lent", "introduced 0", `"aliases": ["CVE-2024-1"]`), osv("DSA-2", "Debian:12", "kev", "introduced 0", `"aliases": ["CVE-2024-2"]`), osv("DSA-3", "Debian:12", "epss", "introduced 0", `"aliases": ["CVE-2024-3"]`)},
		"PyPI":   {osv("PYSEC-1", "PyPI", "lender", "introduced 0", "")},
	}
	new := map[string][]string{
		"npm": {
			osv("GHSA-0", "npm", "came", "introduced 0", ""), osv("GHSA-1", "npm", "same", "introduced 0", ""), osv("GHSA-2", "npm", "range", "introduced 0, fixed 2.0.1", ""),
			osv("GHSA-4", "npm", "text", "introduced 0", `"summary": "now with words"`),
		},
		"Debian": old["Debian"],
		"PyPI":   {osv("PYSEC-1", "PyPI", "lender", "introduced 0", vector)},
		"Hex":    {osv("EEF-1", "Hex", "a", "introduced 0", "")},
	}
	kev := func(cve string) string { return writeFile(t, `{"vulnerabilities":[{"cveID":"`+cve+`"}]}`) }
	scores := func(s string) string {
		return writeFile(t, "#model_version:v1,score_date:2026-05-18\ncve,epss,percentile\nCVE-2024-3,"+s+",0.5\n")
	}
	compile := func(records map[string][]string, kev, epss string) *Index {
		x, _ := compileSource(t, Source{Base: export(t, records), KEV: kev, EPSS: epss}, CompileOptions{})
		return x
	}
	a, b := compile(old, kev("CVE-2000-1"), scores("0.1")), compile(new, kev("CVE-2024-2"), scores("0.10001"))
	got, err := Changes(a, b)
	if err != nil {
		t.Fatal(err)
	}
	want := []Key{
		{"Debian:12", "epss"},
		{"Debian:12", "kev"},
		{"Debian:12", "lent"},
		{"Hex", ""},
		{"Hex", "a"},
		{"PyPI", "lender"},
		{"npm", "came"},
		{"npm", "gone"},
		{"npm", "range"},
		{"npm", "text"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	// The numbers of all advisories differ, but nothing that is said.
	old["npm"] = append([]string{}, old["npm"][3], old["npm"][1], old["npm"][2], old["npm"][0])
	if got, err = Changes(a, compile(old, kev("CVE-2000-1"), scores("0.1"))); err != nil || len(got) > 0 {
		t.Errorf("another order: %v, %v", got, err)
	}
	// A package's keys are those under which it is looked up.
	keys := Keys(&analyzer.Package{Type: "deb", Ecosystem: "Debian:12", Name: "libkev1", Source: "kev", Version: "1"})
	if diff := cmp.Diff([]Key{{"Debian:12", "kev"}, {"Debian:12", ""}, {"Debian", "kev"}, {"Debian", ""}}, keys); diff != "" {
		t.Errorf("keys: -want +got:\n%s", diff)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Changes(a, b); !errors.Is(err, ErrClosed) {
		t.Errorf("a closed index: %v", err)
	}
}

// TestAge: what counts for an image is the stalest of the feeds that it needs,
// and a feed is stale when it is silent for longer than it uses to be.
func TestAge(t *testing.T) {
	day := func(n int) time.Time { return time.Date(2026, 1, n, 12, 0, 0, 0, time.UTC) }
	record := func(eco, name string, n int) []string {
		out := make([]string, 10)
		for i := range out {
			out[i] = osv(fmt.Sprintf("%s-%d-%d", eco, n, i), eco, name, "introduced 0", `"modified": "`+day(n).Format(time.RFC3339)+`"`)
		}
		return out
	}
	var npm, debian, hex, gems, alpine []string
	for n := 1; n <= 40; n++ {
		npm = append(npm, record("npm", "a", n)...) // every day, to the end
		if n <= 20 {
			debian = append(debian, record("Debian:12", "a", n)...) // every day, then nothing more
		}
		if n%4 == 1 {
			gems = append(gems, record("RubyGems", "a", n)...) // every four days: 37 is the last
		}
	}
	hex = append(hex, record("Hex", "a", 3)...) // too few to tell
	for i := range 200 {                        // long ago, all on one day
		alpine = append(alpine, osv(fmt.Sprintf("ALPINE-%d", i), "Alpine:v3.11", "a", "introduced 0", `"modified": "2025-06-08T12:00:00Z"`))
	}
	x, stats := compileRecords(t, map[string][]string{"npm": npm, "Debian": debian, "Hex": hex, "RubyGems": gems, "Alpine": alpine}, CompileOptions{Now: day(41)})
	if !stats.Updated.Equal(day(40)) {
		t.Errorf("updated %v", stats.Updated)
	}
	pkg := func(typ, eco string) analyzer.Package {
		return analyzer.Package{Type: typ, Ecosystem: eco, Name: "x", Version: "1.0.0"}
	}
	for _, tt := range []struct {
		name string
		pkgs []analyzer.Package
		want time.Time
	}{
		{"nothing", nil, time.Time{}},
		{"daily", []analyzer.Package{pkg("npm", "npm")}, day(40)},
		{"daily, but stopped", []analyzer.Package{pkg("npm", "npm"), pkg("deb", "Debian:12")}, day(21)},
		{"its usual silence", []analyzer.Package{pkg("gem", "RubyGems")}, day(40)},
		{"too small to tell", []analyzer.Package{pkg("hex", "Hex")}, day(40)},
		{"of one day", []analyzer.Package{pkg("apk", "Alpine:v3.11")}, time.Date(2025, 7, 8, 12, 0, 0, 0, time.UTC)},
		{"a release that is not covered", []analyzer.Package{pkg("deb", "Debian:11"), pkg("npm", "npm")}, day(40)},
	} {
		m, err := x.Match(t.Context(), tt.pkgs)
		if err != nil || !m.AsOf.Equal(tt.want) {
			t.Errorf("%s: %v, %v, want %v", tt.name, m.AsOf, err, tt.want)
		}
	}
	many := make([]analyzer.Package, 300, 301) // by several goroutines
	for i := range many {
		many[i] = pkg("npm", "npm")
	}
	m, err := x.Match(t.Context(), append(many, pkg("deb", "Debian:12")))
	if err != nil || !m.AsOf.Equal(day(21)) {
		t.Errorf("many: %v, %v", m.AsOf, err)
	}
}

// TestOtherVersion: an index of another version says what to do about it.
func TestOtherVersion(t *testing.T) {
	dir := t.TempDir()
	if _, err := Compile(t.Context(), Source{Base: export(t, map[string][]string{"npm": {goodRecord("GHSA-1")}})}, CompileOptions{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, indexName)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(magic)]--
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); err == nil || !strings.Contains(err.Error(), "made by another version") || !strings.Contains(err.Error(), "run 'sluice db update'") {
		t.Errorf("error %v", err)
	}
}
