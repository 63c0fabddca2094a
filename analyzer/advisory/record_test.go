package advisory

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluiceproxy/sluice/analyzer"
)

func TestModuleStreams(t *testing.T) {
	for summary, want := range map[string][]string{
		"Important: container-tools:rhel8 security update":                    {"container-tools:rhel8"},
		"Moderate: virt:rhel and virt-devel:rhel security, bug fix, and more": {"virt:rhel", "virt-devel:rhel"},
		"new module: php:7.4":                                       {"php:7.4"},
		"Moderate: httpd:2.4/httpd security update":                 {"httpd:2.4"},
		"perl-IO-Socket-SSL:2.066 and perl-libwww-perl:6.34 update": {"perl-IO-Socket-SSL:2.066", "perl-libwww-perl:6.34"},
		"Important: nodejs:20, and others":                          {"nodejs:20"},
		"Important: varnish security update":                        nil,
		"":                                                          nil,
	} {
		if diff := cmp.Diff(want, moduleStreams(summary)); diff != "" {
			t.Errorf("%q: -want +got:\n%s", summary, diff)
		}
	}
}

func FuzzRecord(f *testing.F) {
	for _, r := range []string{
		goodRecord("GHSA-1"),
		osv("ALSA-1:1", "AlmaLinux:9", "a", "introduced 0, fixed 1:2-1.module_el9.3.0+1+a", `"summary": "Low: a:1 update", "related": ["CVE-2024-1"]`),
		record1("PYSEC-1", `[{"package":{"ecosystem":"PyPI","name":"a_.B"},"versions":["1.0","","x\u0000y"],"ranges":[{"type":"GIT"},{"type":"ECOSYSTEM","events":[]}]}]`, `"severity":[{"type":"CVSS_V4","score":"CVSS:4.0/AV:N"}],"published":"0001-01-01T00:00:00Z"`),
		osv("X-1", "Debian:12:y", "a", "introduced 1~, limit *, fixed 0, last_affected 3, introduced 1", `"database_specific":{"severity":"High","cvss_v3_score":"11"},"aliases":["MAL-1","\u0001"]`),
		osv("X-1", "Maven", "a", "introduced 1.0-SNAPSHOT, fixed 5.RELEASE", ""), osv("X-1", "RubyGems", "a", "introduced 1.a, fixed 2.0.pre", ""),
		osv("X-1", "Packagist", "a", "introduced v1-RC1, fixed 2.0p1", ""), osv("X-1", "Alpine:v3.18", "a", "introduced 0, fixed 1.0_p1-r0", ""),
	} {
		f.Add([]byte(r), "1.0")
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte, version string) {
		b, err := newBuilder(dir, parseTime("2026-01-01T00:00:00Z"))
		if err != nil {
			t.Fatal(err)
		}
		b.kev = map[string]bool{"CVE-2024-1": true}
		defer b.drop()
		b.startArchive(true)
		if err := b.take(data, func(ecosystem) bool { return true }); err != nil {
			return
		}
		b.cover(ecosystem{base: "npm"})
		path := filepath.Join(dir, indexName)
		if _, err := b.finish(t.Context(), "fuzz", path); err != nil {
			t.Fatalf("a record that was taken cannot be written: %v", err)
		}
		defer os.Remove(path)
		x, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer x.Close()
		r, err := parseRecord(data)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range r.affected {
			for _, p := range []analyzer.Package{
				{Type: "npm", Ecosystem: a.ecosystem, Name: a.name, Version: version},
				{Type: "rpm", Ecosystem: a.ecosystem, Name: a.name, Version: version, Modularity: "a:1:2:3"},
			} {
				if _, err := x.Match(t.Context(), []analyzer.Package{p}); err != nil {
					t.Fatalf("match: %v", err)
				}
			}
		}
		if got, err := x.Advisory(r.ID); err != nil || (len(got) == 0) != (len(b.rows) == 0) {
			t.Fatalf("advisory %q: %v, %v", r.ID, got, err)
		}
	})
}
