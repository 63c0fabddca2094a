package report_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
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
	layer = godigest.FromString("layer")
	full  = report.New("docker.io/acme/shop:1.2",
		report.Verdict{
			Decision: "deny", ID: "v-7k2mq4xw3a", Policy: "default@1f2e",
			Reasons: []report.Reason{
				{Rule: "critical-fixable", Action: "deny", Advisory: "GHSA-35jh-r3h4-6jhm", Message: "CVE-2021-23337 (critical) in npm lodash 4.17.20; fixed in 4.17.21"},
				{Rule: "leaked-key", Action: "deny", Message: "private key in root/.ssh/id_rsa (deleted by a later layer)"},
				{Rule: "root-user", Action: "annotate", Message: "runs as root"},
				{Rule: "high", Action: "deny", Advisory: "DSA-5000-1", Message: "x", Waived: "web-team: not reachable (until 2027-01-31)"},
			},
		},
		&analyzer.Report{
			Inventory: analyzer.Inventory{
				Revision: "a1", Manifest: godigest.FromString("manifest"), Platform: "linux/amd64",
				Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
				OS:      analyzer.OSRelease{ID: "debian", VersionID: "12", Name: "Debian GNU/Linux 12 (bookworm)"},
				Layers:  []analyzer.LayerSummary{{DiffID: layer, Size: 12_345_678, Uncompressed: 40_000_000}, {Size: 1000, Uncompressed: 5000}},
				Packages: []analyzer.Package{
					{Type: "npm", Name: "lodash", Version: "4.17.20", Ecosystem: "npm", PURL: "pkg:npm/lodash@4.17.20", Path: "app/node_modules/lodash/package.json", Layer: layer},
					{Type: "deb", Name: "zlib1g", Version: "1:1.2.13", Ecosystem: "Debian:12", PURL: "pkg:deb/debian/zlib1g@1:1.2.13", Path: "var/lib/dpkg/status"},
				},
				Secrets:      []analyzer.Secret{{Kind: "private-key", Rule: "pem-private-key", Path: "root/.ssh/id_rsa", Line: 1, Excerpt: "-----BEGIN", Layer: layer, Deleted: true}},
				Setuid:       []string{"usr/bin/su", "usr/bin/passwd"},
				Incomplete:   []analyzer.Incomplete{{Layer: layer, Path: "opt/big.jar", Reason: "nested deeper than 4 archives"}},
				DiffIDBroken: "layer 2 is not the second of rootfs.diff_ids",
				URLs:         []string{"https://elsewhere.example.org/layer"},
			},
			Matches: analyzer.Matches{
				Findings: []analyzer.Finding{
					{Advisory: "DSA-5000-1", Aliases: []string{"CVE-2022-1", "CVE-2022-2"}, Class: analyzer.ClassVulnerability, Severity: analyzer.SeverityHigh, KEV: true, Source: "Debian:12", Package: analyzer.Package{Name: "zlib1g", Version: "1:1.2.13"}},
					{Advisory: "GHSA-35jh-r3h4-6jhm", Aliases: []string{"CVE-2021-23337"}, Class: analyzer.ClassVulnerability, Severity: analyzer.SeverityCritical, Fixed: "4.17.21", Source: "npm introduced 0, fixed 4.17.21", Package: analyzer.Package{Name: "lodash", Version: "4.17.20", Path: "app/node_modules/lodash/package.json", Layer: layer}},
					{Advisory: "MAL-2024-1", Class: analyzer.ClassMalware, Package: analyzer.Package{Name: "evil\x1b[2Jcolors\n", Version: "6.6.6", Path: "app/\u202e"}},
				},
				Undecided: []analyzer.Undecided{{Advisory: "GHSA-x", Package: analyzer.Package{Name: "odd", Version: "not.a.version"}, Reason: "version cannot be read"}},
			},
			Advisories: "osv-9c1d", Updated: time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC),
		})
	empty = report.New("dir:/srv/root", report.Verdict{Decision: "allow", ID: "v-aaaa"}, &analyzer.Report{Inventory: analyzer.Inventory{User: "1000"}})
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
	for _, tt := range []struct {
		name  string
		write func(*bytes.Buffer) error
	}{
		{"full.txt", func(b *bytes.Buffer) error { return report.WriteTable(b, full, report.TableOptions{}) }},
		{"full.80.color.txt", func(b *bytes.Buffer) error {
			return report.WriteTable(b, full, report.TableOptions{Color: true, Width: 80})
		}},
		{"full.json", func(b *bytes.Buffer) error { return report.WriteJSON(b, full) }},
		{"empty.txt", func(b *bytes.Buffer) error { return report.WriteTable(b, empty, report.TableOptions{}) }},
		{"empty.json", func(b *bytes.Buffer) error { return report.WriteJSON(b, empty) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var b bytes.Buffer
			if err := tt.write(&b); err != nil {
				t.Fatal(err)
			}
			golden(t, tt.name, b.Bytes())
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
		if n := len(strings.Fields(tt.want)); len(tt.got) != n {
			t.Errorf("%d names, want %d", len(tt.got), n)
		}
	}
	if n := bytes.Count(b.Bytes(), []byte(": null")); n != len(findings) { // epss only
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
	if err := report.WriteTable(brokenWriter{}, full, report.TableOptions{}); !errors.Is(err, errDisk) {
		t.Errorf("table: %v", err)
	}
	if err := report.WriteJSON(brokenWriter{}, full); !errors.Is(err, errDisk) {
		t.Errorf("json: %v", err)
	}
}
