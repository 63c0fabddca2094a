package policy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	godigest "github.com/opencontainers/go-digest"

	"github.com/sluiceproxy/sluice/analyzer"
)

var clock = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// large is evidence of 400 packages, of which 100 have a finding.
func large() *Evidence {
	e := &Evidence{
		Image: Image{
			Name: "docker.io/library/big", Upstream: "docker.io", Repository: "library/big", Digest: godigest.FromString("big"),
			Tags: []string{"1", "latest"}, FirstSeen: clock,
		},
		Report:     &analyzer.Report{Advisories: "r1", Updated: clock, Inventory: analyzer.Inventory{User: "app", Manifest: godigest.FromString("big")}},
		Advisories: Advisories{Revision: "r1", Updated: clock},
		Now:        clock,
	}
	for i := range 400 {
		p := analyzer.Package{
			Type: "deb", Name: fmt.Sprintf("package-%d", i), Version: "1.2.3-1", Ecosystem: "Debian:12",
			PURL: fmt.Sprintf("pkg:deb/debian/package-%d@1.2.3-1?arch=amd64", i), Path: "var/lib/dpkg/status", Layer: godigest.FromString("layer"),
		}
		e.Report.Packages = append(e.Report.Packages, p)
		if i%4 == 0 {
			e.Report.Findings = append(e.Report.Findings, analyzer.Finding{
				Advisory: fmt.Sprintf("DSA-%d-1", i), Aliases: []string{fmt.Sprintf("CVE-2026-%04d", i)}, Class: analyzer.ClassVulnerability,
				Severity: analyzer.Severity(i / 4 % 6), Score: 7.5, Fixed: "1.2.4-1", Published: clock.Add(-time.Hour), Package: p,
			})
		}
	}
	return e
}

// Names from an image cannot break a header, a terminal or a reader's eye.
func TestMessagesArePrintable(t *testing.T) {
	e := large()
	e.Report.Findings = nil
	for _, path := range []string{"a\r\nSluice-Verdict: allow", "\x1b[2J", "\u202egpj.exe", "\xff\xfe", strings.Repeat("ü", 5000), "fine/ü ☃"} {
		e.Report.Secrets = append(e.Report.Secrets, analyzer.Secret{Kind: "private-key", Path: path})
	}
	v := Default().Decide(e)
	if len(v.Reasons) != len(e.Report.Secrets) {
		t.Fatalf("%d reasons", len(v.Reasons))
	}
	var messages []string
	for _, r := range v.Reasons {
		messages = append(messages, r.Message)
		if len(r.Message) > 1100 || !utf8.ValidString(r.Message) || strings.ContainsFunc(r.Message, func(c rune) bool { return !unicode.IsPrint(c) }) {
			t.Errorf("message %q", r.Message)
		}
	}
	for _, want := range []string{`private key in a\r\nSluice-Verdict: allow`, `private key in \xff\xfe`, "private key in fine/ü ☃"} {
		if !slices.Contains(messages, want) {
			t.Errorf("no message %q in %q", want, messages)
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	p, e := Default(), large()
	b.ReportAllocs()
	for b.Loop() {
		if v := p.Decide(e); v.Decision != Deny {
			b.Fatal(v.Summary())
		}
	}
}

func BenchmarkParse(b *testing.B) {
	for b.Loop() {
		if _, err := Parse("default.yaml", defaultText); err != nil {
			b.Fatal(err)
		}
	}
}

var (
	exampleSecret    = analyzer.Secret{Kind: "private-key", Rule: "pem-private-key", Path: "root/.ssh/id_rsa", Line: 1, Layer: godigest.FromString("layer")}
	exampleUndecided = analyzer.Undecided{Advisory: "DSA-1", Reason: "odd version", Package: analyzer.Package{Type: "deb", Name: "a", Version: "x"}}
)
