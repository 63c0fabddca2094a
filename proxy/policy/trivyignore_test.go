package policy

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseTrivyIgnore(t *testing.T) {
	year := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name, text string
		want       []Waiver
	}{
		{".trivyignore", "# accepted\n\n CVE-2021-1 \nGHSA-1 exp:2027-01-01 # until then\r\nprivate-key\n", []Waiver{
			{Advisory: "CVE-2021-1", Expires: Forever}, {Advisory: "GHSA-1", Expires: year}, {Secret: "private-key", Expires: Forever},
		}},
		{".trivyignore.yaml", `
vulnerabilities:
  - id: CVE-2021-1
  - id: CVE-2021-2
    paths: [app/a.jar, "**/b.jar"]
    purls: ["pkg:maven/a/b", "pkg:maven/a/c@1"]
    statement: not built
    expired_at: 2027-01-01
secrets:
  - {id: github-token, paths: ["/root/**"]}
misconfigurations:
  - {id: AVD-DS-0002}
licenses:
  - {id: GPL-3.0}
`, []Waiver{
			{Advisory: "CVE-2021-1", Expires: Forever},
			{Advisory: "CVE-2021-2", Path: "app/a.jar", Package: "pkg:maven/a/b", Reason: "not built", Expires: year},
			{Advisory: "CVE-2021-2", Path: "app/a.jar", Package: "pkg:maven/a/c@1", Reason: "not built", Expires: year},
			{Advisory: "CVE-2021-2", Path: "**/b.jar", Package: "pkg:maven/a/b", Reason: "not built", Expires: year},
			{Advisory: "CVE-2021-2", Path: "**/b.jar", Package: "pkg:maven/a/c@1", Reason: "not built", Expires: year},
			{Advisory: "CVE-2021-2", Path: "b.jar", Package: "pkg:maven/a/b", Reason: "not built", Expires: year},
			{Advisory: "CVE-2021-2", Path: "b.jar", Package: "pkg:maven/a/c@1", Reason: "not built", Expires: year},
			{Secret: "github-token", Path: "root/**", Expires: Forever},
		}},
		{"empty", "", nil},
	} {
		got, err := ParseTrivyIgnore("some/"+tt.name, []byte(tt.text))
		if err != nil {
			t.Fatal(err)
		}
		for i := range tt.want {
			tt.want[i].Owner = tt.name
			if tt.want[i].Reason == "" {
				tt.want[i].Reason = "listed in " + tt.name
			}
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%s: %s", tt.name, d)
		}
	}
}

func TestParseTrivyIgnoreProblems(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"a", "CVE-1\nCVE-2 exp:tomorrow\nCVE-3 soon", "a:2:7: \"exp:tomorrow\" is not an expiry such as exp:2026-12-31\na:3:7: \"soon\" is not an expiry such as exp:2026-12-31"},
		{"a.yaml", "vulnerabilities: [{id: CVE-1, path: [x]}]", `a.yaml:1:31: unknown key "path" in an exception of vulnerabilities (did you mean paths?)`},
		{"a.yaml", "vulnerabilities: [{id: CVE-1, purls: [lodash]}]", "a.yaml:1:19: package \"lodash\": a package is named by its purl, such as pkg:npm/lodash"},
		{"a.yaml", "vulnerabilities: [{id: CVE-1, paths: ['']}]", "a.yaml:1:39: a path is a text"},
		{"a.yaml", "vulnerabilities: [{id: CVE-1, expired_at: soon}]", `a.yaml:1:43: expired_at is a date such as 2026-12-31, not "soon"`},
		{"a.yaml", "secrets: [{statement: x}]", "a.yaml:1:11: an exception of secrets has no id"},
		{"a.yml", "- CVE-1", "a.yml:1:1: the file is a mapping with the keys vulnerabilities, secrets, misconfigurations, licenses"},
	} {
		got, err := ParseTrivyIgnore(tt.name, []byte(tt.text))
		if err == nil || err.Error() != tt.want || got != nil {
			t.Errorf("%q: %v, want %s", tt.text, err, tt.want)
		}
	}
}

// What Trivy ignores forever has no date in the report.
func TestForever(t *testing.T) {
	w := Waiver{Owner: ".trivyignore", Reason: "r", Expires: Forever}
	if got := sayWaiver(&w); got != ".trivyignore: r" {
		t.Errorf("%q", got)
	}
}

func FuzzParseTrivyIgnore(f *testing.F) {
	f.Add(".trivyignore", []byte("CVE-1 exp:2027-01-01\n# x\nprivate-key"))
	f.Add(".trivyignore.yaml", []byte("vulnerabilities: [{id: CVE-1, paths: ['**/x'], purls: [pkg:npm/x], statement: s, expired_at: 2027-01-01}]"))
	f.Fuzz(func(t *testing.T, name string, b []byte) {
		waivers, err := ParseTrivyIgnore(name, b)
		if err != nil && (waivers != nil || strings.TrimSpace(err.Error()) == "") {
			t.Fatalf("%v with %v", waivers, err)
		}
		for i := range waivers {
			if err := waivers[i].Validate(); err != nil {
				t.Fatalf("%+v: %v", waivers[i], err)
			}
		}
	})
}
