package report_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	godigest "github.com/opencontainers/go-digest"

	"github.com/sluiceproxy/sluice/analyzer"
	"github.com/sluiceproxy/sluice/analyzer/report"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var (
	diffID = godigest.FromString("layer")
	epss   = 0.9412
	lodash = analyzer.Package{Type: "npm", Name: "lodash", Version: "4.17.20", Ecosystem: "npm", PURL: "pkg:npm/lodash@4.17.20", Path: "app/node_modules/lodash/package.json", Layer: diffID}
	zlib   = analyzer.Package{Type: "deb", Name: "zlib1g", Version: "1:1.2.13", Ecosystem: "Debian:12", PURL: "pkg:deb/debian/zlib1g@1:1.2.13?distro=debian-12", Path: "var/lib/dpkg/status", Source: "zlib"}
	django = analyzer.Package{Type: "deb", Name: "python3-django", Version: "3:3.2.19-1", Ecosystem: "Debian:12", PURL: "pkg:deb/debian/python3-django@3:3.2.19-1?distro=debian-12", Path: "var/lib/dpkg/status"}
	owned  = analyzer.Package{Type: "pypi", Name: "Django", Version: "3.2.19", Ecosystem: "PyPI", PURL: "pkg:pypi/django@3.2.19", Path: "usr/lib/python3/dist-packages/Django-3.2.19.egg-info", Owner: django.PURL}
	log4j  = analyzer.Package{Type: "maven", Name: "org.apache.logging.log4j:log4j-core", Version: "2.14.1", Ecosystem: "Maven", PURL: "pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1", Path: "opt/app.war", Inner: "WEB-INF/lib/log4j-core-2.14.1.jar", Layer: diffID}
	evil   = analyzer.Package{Type: "npm", Name: "evil\x1b[2Jcolors\n\xff", Version: "6.6.6", PURL: "pkg:npm/evil@6.6.6", Path: "app/\u202e"}
	waiver = report.Waiver{ID: "w-1", Owner: "web-team", Reason: "not reachable", Expires: time.Date(2027, 1, 31, 0, 0, 0, 0, time.UTC)}

	full = report.New("docker.io/acme/shop:1.2",
		report.Verdict{
			Decision: "deny", ID: "v-7k2mq4xw3a", Policy: "default@1f2e", Image: "docker.io/acme/shop", Tags: []string{"1.2"},
			Reasons: []report.Reason{
				{Rule: "known-exploited", Action: "deny", Advisory: "GHSA-jfh8-c2jp-5v3q", Message: "CVE-2021-44228 (critical, known to be exploited)", Package: log4j.Name, Version: log4j.Version, PURL: log4j.PURL, Path: log4j.Path, Layer: diffID.String()},
				{Rule: "critical-fixable", Action: "deny", Advisory: "GHSA-35jh-r3h4-6jhm", Message: "CVE-2021-23337 (critical) in npm lodash 4.17.20; fixed in 4.17.21", Package: "lodash", Version: "4.17.20", PURL: lodash.PURL, Path: lodash.Path, Layer: diffID.String()},
				{Rule: "leaked-key", Action: "deny", Message: "private key in root/.ssh/id_rsa (deleted by a later layer)", Path: "root/.ssh/id_rsa", Layer: diffID.String()},
				{Rule: "root-user", Action: "annotate", Message: "runs as root"},
				{Rule: "high", Action: "deny", Advisory: "DSA-5000-1", Message: "x", PURL: zlib.PURL, Version: zlib.Version, Path: zlib.Path, Package: "zlib1g", Waived: "web-team: not reachable (until 2027-01-31)", Waiver: &waiver},
				{Rule: "other-secret", Action: "annotate", Message: "y", Path: "app/.npmrc", Waived: "web-team: a read-only token (until 2027-01-31)"},
			},
		},
		&analyzer.Report{
			Inventory: analyzer.Inventory{
				Revision: "a1", Manifest: godigest.FromString("manifest"), Platform: "linux/amd64",
				Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
				OS:      analyzer.OSRelease{ID: "debian", VersionID: "12", Name: "Debian GNU/Linux 12 (bookworm)", EndOfLife: time.Date(2028, 6, 30, 0, 0, 0, 0, time.UTC)},
				Layers:  []analyzer.LayerSummary{{DiffID: diffID, Size: 12_345_678, Uncompressed: 40_000_000}, {Size: 1000, Uncompressed: 5000}},
				Packages: []analyzer.Package{
					zlib, django, log4j, evil, lodash, owned,
				},
				Removed: []analyzer.Package{{Type: "npm", Name: "left-pad", Version: "1.0.0", Layer: diffID, Path: "app/node_modules/left-pad/package.json"}},
				Secrets: []analyzer.Secret{
					{Kind: "private-key", Rule: "pem-private-key", Path: "root/.ssh/id_rsa", Line: 1, Excerpt: "-----BEGIN", Layer: diffID, Deleted: true},
					{Kind: "api-token", Rule: "npm-token", Path: "app/.npmrc", Line: 3, Excerpt: "npm_"},
				},
				Setuid: []string{"usr/bin/su", "usr/bin/passwd", "opt/tool"},
				Hardening: analyzer.Hardening{
					Root: true, Shells: []string{"bin/sh"}, PackageManagers: []string{"usr/bin/apt", "usr/bin/dpkg"}, WorldWritable: []string{"srv/"},
					SSH: []string{"port 22"}, Ports: []string{"22/tcp", "80/tcp"}, AddedURLs: []string{"https://example.org/x.tar"}, Wasted: 4_000_000, WastedFiles: []string{"opt/x"}, UnusualSetuid: []string{"opt/tool"},
				},
				Base: analyzer.Base{
					Kind: analyzer.BaseDistribution, Name: "docker.io/library/debian:12", Digest: godigest.FromString("base"), Pinned: true, ClaimFalse: true,
					Proven: &analyzer.ProvenBase{Name: "docker.io/library/debian:12", Digest: godigest.FromString("base"), ChainID: diffID, Layers: 1},
				},
				Incomplete:   []analyzer.Incomplete{{Layer: diffID, Path: "opt/big.jar", Reason: "nested deeper than 4 archives"}},
				DiffIDBroken: "layer 2 is not the second of rootfs.diff_ids",
				URLs:         []string{"https://elsewhere.example.org/layer"},
			},
			Matches: analyzer.Matches{
				Findings: []analyzer.Finding{
					{Advisory: "DSA-5000-1", Aliases: []string{"CVE-2022-1", "CVE-2022-2"}, Class: analyzer.ClassVulnerability, Severity: analyzer.SeverityHigh, KEV: true, Source: "Debian:12", Package: zlib},
					{
						Advisory: "GHSA-35jh-r3h4-6jhm", Aliases: []string{"CVE-2021-23337"}, Class: analyzer.ClassVulnerability, Severity: analyzer.SeverityCritical, Fixed: "4.17.21",
						Source: "npm introduced 0, fixed 4.17.21", Package: lodash, Summary: "Command Injection in <lodash> & friends", Published: time.Date(2021, 5, 6, 16, 5, 51, 0, time.UTC),
					},
					{
						Advisory: "GHSA-jfh8-c2jp-5v3q", Aliases: []string{"CVE-2021-44228"}, Class: analyzer.ClassVulnerability, Severity: analyzer.SeverityCritical, Score: 10,
						Vector: "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:C/C:H/I:H/A:H", RatedBy: "GitHub", KEV: true, EPSS: &epss, Fixed: "2.15.0", Source: "Maven introduced 2.13.0, fixed 2.15.0", Package: log4j, Summary: "Remote code injection in Log4j",
					},
					{
						Advisory: "DEBIAN-CVE-2023-3", Aliases: []string{"CVE-2023-3"}, Class: analyzer.ClassVulnerability, Severity: analyzer.SeverityMedium, Source: "Debian:12 introduced 0", Package: django,
						VEX: &analyzer.VEXStatement{Status: analyzer.VEXNotAffected, Vulnerability: "CVE-2023-3", Justification: "vulnerable_code_not_in_execute_path", Author: "Acme", Source: "vex.json: statements[0]"},
					},
					{
						Advisory: "ACME-2026-1", Class: analyzer.ClassVulnerability, Severity: analyzer.SeverityLow, Score: 2.1, Vector: "CVSS:4.0/AV:L/AC:H/AT:N/PR:L/UI:N/VC:L/VI:N/VA:N/SC:N/SI:N/SA:N", Source: "Debian:12 introduced 0", Package: django,
						VEX: &analyzer.VEXStatement{Status: analyzer.VEXUnderInvestigation, Vulnerability: "ACME-2026-1", Author: "Acme", Source: "vex.json: statements[1]"},
					},
					{Advisory: "MAL-2024-1", Class: analyzer.ClassMalware, Package: evil},
				},
				Undecided: []analyzer.Undecided{{Advisory: "GHSA-x", Package: analyzer.Package{Name: "odd", Version: "not.a.version"}, Reason: "version cannot be read"}},
			},
			Advisories: "osv-9c1d", Updated: time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC),
		})
	empty = report.New("dir:/srv/root", report.Verdict{Decision: "allow", ID: "v-aaaa"}, &analyzer.Report{Inventory: analyzer.Inventory{User: "1000"}})
	sbom  = report.New("sbom:bom.json", report.Verdict{Decision: "allow", ID: "v-bbbb", Image: "local/bom-json"}, &analyzer.Report{
		Inventory:  analyzer.Inventory{SBOM: "CycloneDX 1.6", Packages: []analyzer.Package{{Type: "npm", Name: "a", Version: "1", PURL: "pkg:npm/a@1"}}},
		Advisories: "osv-9c1d",
	})
	opts = report.Options{Version: "v1.2.3", Time: time.Date(2026, 11, 23, 15, 4, 5, 0, time.FixedZone("CET", 3600))}
)

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (run with -update to accept):\n%s", file, diff)
	}
}

func TestGolden(t *testing.T) {
	table := func(r report.Result, o report.TableOptions) func(*bytes.Buffer) error {
		return func(b *bytes.Buffer) error { return report.WriteTable(b, r, o) }
	}
	removed := full
	removed.Removed = []analyzer.Package{{Type: "npm", Name: "left-pad", Version: "1.0.0", Layer: diffID, Path: "app/node_modules/left-pad/package.json"}}
	tests := map[string]func(*bytes.Buffer) error{
		"full.txt":          table(full, report.TableOptions{}),
		"full.80.color.txt": table(full, report.TableOptions{Color: true, Width: 80}),
		"full.waived.txt":   table(removed, report.TableOptions{Waived: true, Removed: true}),
		"full.high.txt":     table(full, report.TableOptions{Least: analyzer.SeverityHigh}),
		"empty.txt":         table(empty, report.TableOptions{}),
		"sbom.txt":          table(sbom, report.TableOptions{}),
	}
	for _, format := range []string{"json", "sarif", "cyclonedx", "spdx-json", "junit", "gitlab"} {
		for name, r := range map[string]report.Result{"full": full, "empty": empty, "sbom": sbom} {
			tests[name+"."+format] = func(b *bytes.Buffer) error { return report.Write(b, format, r, opts) }
		}
	}
	for name, write := range tests {
		t.Run(name, func(t *testing.T) {
			var b, again bytes.Buffer
			if err := errors.Join(write(&b), write(&again)); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(b.Bytes(), again.Bytes()) {
				t.Error("the same result gave other bytes")
			}
			golden(t, name, b.Bytes())
		})
	}
}

// TestContract pins the names that scripts rely on (DESIGN.md, section 2).
func TestContract(t *testing.T) {
	var b bytes.Buffer
	if err := report.WriteJSON(&b, full); err != nil {
		t.Fatal(err)
	}
	var top map[string]json.RawMessage
	if err := json.Unmarshal(b.Bytes(), &top); err != nil {
		t.Fatal(err)
	}
	var findings []map[string]json.RawMessage
	if err := json.Unmarshal(top["findings"], &findings); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		got  map[string]json.RawMessage
		want string
	}{
		{top, "image digest verdict findings secrets facts packages"},
		{findings[0], "advisory aliases package version fixed severity kev epss class path layer source"},
	} {
		for name := range strings.SplitSeq(tt.want, " ") {
			if _, ok := tt.got[name]; !ok {
				t.Errorf("%s is missing", name)
			}
		}
	}
	if n := bytes.Count(b.Bytes(), []byte(": null")); n != len(findings)-1 { // epss only
		t.Error("a list is null")
	}
}

func TestTableHoldsNoControlCharacters(t *testing.T) {
	var b bytes.Buffer
	if err := report.WriteTable(&b, full, report.TableOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, r := range b.String() {
		if r < ' ' && r != '\n' || r == '\u202e' {
			t.Fatalf("%q is in the table", r)
		}
	}
}

func TestNewDoesNotTouchTheReport(t *testing.T) {
	rep := &analyzer.Report{Matches: analyzer.Matches{Findings: []analyzer.Finding{
		{Advisory: "low", Severity: analyzer.SeverityLow}, {Advisory: "high", Severity: analyzer.SeverityHigh},
	}}}
	r := report.New("x", report.Verdict{}, rep)
	if rep.Findings[0].Advisory != "low" || r.Findings[0].Advisory != "high" {
		t.Errorf("report %v, result %v", rep.Findings, r.Findings)
	}
}

type brokenWriter struct{}

var errDisk = errors.New("disk full")

func (brokenWriter) Write([]byte) (int, error) { return 0, errDisk }

func TestWriteErrors(t *testing.T) {
	for _, format := range report.Formats() {
		name, _, _ := strings.Cut(format, "\t")
		if err := report.Write(brokenWriter{}, name, full, opts); !errors.Is(err, errDisk) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := report.Write(io.Discard, "yaml", full, opts); err == nil {
		t.Error("an unknown format was written")
	}
}

func TestStatus(t *testing.T) {
	p := analyzer.Package{Name: "p", Version: "1", PURL: "pkg:npm/p@1"}
	not := &analyzer.VEXStatement{Status: analyzer.VEXNotAffected, Author: "acme"}
	triage := &analyzer.VEXStatement{Status: analyzer.VEXUnderInvestigation, Author: "acme"}
	reason := func(rule, action, waived string, vex *analyzer.VEXStatement) report.Reason {
		return report.Reason{Rule: rule, Action: action, Waived: waived, VEX: vex, Advisory: "A", Package: "p", Version: "1", PURL: p.PURL}
	}
	for _, tt := range []struct {
		name    string
		vex     *analyzer.VEXStatement
		reasons []report.Reason
		want    report.Status
		stops   bool
	}{
		{"no rule", nil, nil, report.StatusOpen, false},
		{"denied", nil, []report.Reason{reason("r", "deny", "", nil)}, report.StatusOpen, true},
		{"annotated", nil, []report.Reason{reason("r", "annotate", "", nil)}, report.StatusOpen, false},
		{"another version's reason", nil, []report.Reason{{Rule: "r", Action: "deny", Advisory: "A", Package: "p", Version: "2", PURL: "pkg:npm/p@2"}}, report.StatusOpen, false},
		{"waived", nil, []report.Reason{reason("r", "deny", "by x", nil)}, report.StatusWaived, false},
		{"waived for one rule of two", nil, []report.Reason{reason("r", "deny", "by x", nil), reason("s", "annotate", "", nil)}, report.StatusOpen, false},
		{"one rule denies in spite of a waiver of another", nil, []report.Reason{reason("r", "annotate", "by x", nil), reason("s", "deny", "", nil)}, report.StatusOpen, true},
		{"not affected, no rule", not, nil, report.StatusNotAffected, false},
		{"not affected, obeyed", not, []report.Reason{reason("r", "deny", "not affected", not)}, report.StatusNotAffected, false},
		{"not affected, but a rule counts", not, []report.Reason{reason("r", "deny", "", not)}, report.StatusOpen, true},
		{"attached statement", nil, []report.Reason{reason("r", "deny", "not affected", not)}, report.StatusNotAffected, false},
		{"under investigation", triage, []report.Reason{reason("r", "deny", "", triage)}, report.StatusOpen, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := report.New("x", report.Verdict{Reasons: tt.reasons}, &analyzer.Report{Matches: analyzer.Matches{Findings: []analyzer.Finding{{Advisory: "A", Package: p, VEX: tt.vex}}}})
			if f := &r.Findings[0]; f.Status != tt.want || f.Stops() != tt.stops {
				t.Errorf("status %s, stops %v; want %s, %v", f.Status, f.Stops(), tt.want, tt.stops)
			}
		})
	}
}
