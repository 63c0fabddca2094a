package policy

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files")

// Each testdata/bad/*.yaml gives the problems of its .want, all of them.
func TestParseProblems(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, name := range files {
		t.Run(filepath.Base(name), func(t *testing.T) {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			p, err := Parse(name, text)
			var problems Problems
			if p != nil || !errors.As(err, &problems) || len(problems) == 0 {
				t.Fatalf("Parse = %v, %v, want problems", p, err)
			}
			golden := strings.TrimSuffix(name, ".yaml") + ".want"
			if *update {
				if err := os.WriteFile(golden, []byte(err.Error()+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), problems.Error()+"\n"); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestDefaultIsWhole(t *testing.T) {
	p, err := Parse("default.yaml", defaultText)
	if err != nil {
		t.Fatal(err)
	}
	if d := Default(); d.Revision() != p.Revision() || !strings.HasPrefix(p.Revision(), "p-") || string(d.Text()) != string(defaultText) {
		t.Errorf("revision %q of %q", d.Revision(), p.Revision())
	}
}

// The example of DESIGN.md §5, without what is not supported yet.
func TestParseDesign(t *testing.T) {
	p, err := Parse("design.yaml", []byte(`
version: 1
policies:
  - name: default
    images: ["**"]
    exclude: ["docker.io/acme/sandbox/**"]
    rules:
      - {id: malware,       for: finding, when: 'finding.class == "malware"',                              action: deny}
      - {id: known-exploited, for: finding, when: 'finding.kev',                                           action: deny, grace: 72h}
      - {id: critical-fixable, for: finding, when: 'finding.severity >= CRITICAL && finding.fixed != ""', action: deny, grace: 168h}
      - {id: high,          for: finding, when: 'finding.severity >= HIGH',                                action: annotate}
      - {id: leaked-key,    for: secret,  when: 'secret.kind in ["private-key", "cloud-token"]',           action: deny}
      - {id: too-young,     for: image,   when: 'image.firstSeenAge < duration("72h") && image.upstream == "docker.io"', action: annotate}
      - {id: root-user,     for: image,   when: 'image.user in ["", "0", "root"]',                         action: annotate}
      - {id: incomplete,    for: image,   when: '!image.analysis.complete',                                action: deny}
      - {id: stale-advisories, for: image, when: 'advisories.age > duration("120h")',                      action: annotate}
    messages: {root-user: "runs as root; set USER in the Dockerfile"}
waivers:
  - {advisory: CVE-2024-0001, images: ["docker.io/library/nginx:*"], package: "pkg:deb/debian/zlib1g", owner: web-team, reason: "not reachable: no MiniZip", expires: 2027-01-31}
  - {package: "pkg:npm/lodash@4.17.20", owner: x, reason: y, expires: 2027-01-31T10:00:00+02:00}
`))
	if err != nil {
		t.Fatal(err)
	}
	rules := p.sets[0].rules
	if len(rules) != 9 || rules[1].grace != 72*time.Hour || rules[6].message == "" {
		t.Errorf("rules: %+v", rules)
	}
	if got, want := p.waivers[0].Expires, time.Date(2027, 1, 31, 23, 59, 59, 0, time.UTC); !got.Equal(want) {
		t.Errorf("a date lasts to %v, want the end of the day %v", got, want)
	}
	if got, want := p.waivers[1].Expires, time.Date(2027, 1, 31, 8, 0, 0, 0, time.UTC); !got.Equal(want) {
		t.Errorf("a time is %v, want %v", got, want)
	}
}

// Every field of every variable can be named in a condition of its rule, and
// evaluated on evidence that has it.
func TestEveryFieldEvaluates(t *testing.T) {
	c, err := newCompiler()
	if err != nil {
		t.Fatal(err)
	}
	e := large()
	report := e.Report
	secret, undecided := report.Secrets, report.Undecided
	secret = append(secret, exampleSecret)
	undecided = append(undecided, exampleUndecided)
	s := &subject{Evidence: e, finding: &report.Findings[0], secret: &secret[0], undecided: &undecided[0]}
	for _, k := range []kind{forFinding, forSecret, forUndecided, forImage} {
		for _, variable := range variablesOf(k) {
			for _, f := range c.vocabulary.variables[variable].fields {
				expression := "[" + variable + "." + f.name + "].size() == 1 || has(" + variable + "." + f.name + ")"
				cond, faults := c.compile(k, expression)
				if len(faults) > 0 {
					t.Errorf("%s: %s", expression, faults[0].message)
					continue
				}
				if ok, err := cond.evaluate(s); err != nil || !ok {
					t.Errorf("%s = %v, %v", expression, ok, err)
				}
			}
		}
	}
}

func TestConditions(t *testing.T) {
	c, err := newCompiler()
	if err != nil {
		t.Fatal(err)
	}
	s := &subject{Evidence: large()}
	s.finding = &s.Report.Findings[3]
	s.Image.Tags = []string{"1", "latest"}
	for _, tt := range []struct {
		expression string
		want       bool
		err        string
	}{
		{"finding.severity == MEDIUM", true, ""},
		{"finding.severity >= HIGH", false, ""},
		{`finding.aliases.exists(a, a.startsWith("CVE-2026-"))`, true, ""},
		{`finding.age < duration("24h")`, true, ""},
		{`finding.published < timestamp("2026-01-01T00:00:00Z")`, false, ""},
		{`[finding].exists(f, f.package == "package-12")`, true, ""}, // by way of a value, not a field
		{`finding == finding && type(finding) == type(finding)`, true, ""},
		{`image.tags.exists(t, t == "latest") && image.packages == 400`, true, ""},
		{`image.tags[9] == ""`, false, "index out of bounds"},
		{`1 / (image.layers - image.layers) == 1`, false, "division by zero"},
		{`image.tags.exists(a, "` + strings.Repeat("x", 100) + `".matches("(x+)+y"))`, false, ""},
		{`[1,2,3,4,5,6,7,8,9,10].all(a, [1,2,3,4,5,6,7,8,9,10].all(b, [1,2,3,4,5,6,7,8,9,10].all(c, [1,2,3,4,5,6,7,8,9,10].all(d, [1,2,3,4,5,6,7,8,9,10].all(e, [1,2,3,4,5,6,7,8,9,10].all(f, image.layers + a + b + c + d + e + f > 0))))))`, false, "cost limit"},
	} {
		cond, faults := c.compile(forFinding, tt.expression)
		if len(faults) > 0 {
			t.Errorf("%s: %s", tt.expression, faults[0].message)
			continue
		}
		got, err := cond.evaluate(s)
		if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s = %v, %v, want %v, %q", tt.expression, got, err, tt.want, tt.err)
		}
	}
	if cond, faults := c.compile(forFinding, "sluice.Finding{kev: true}.kev"); len(faults) == 0 {
		if ok, err := cond.evaluate(s); err == nil || ok {
			t.Errorf("evidence was made in a condition: %v, %v", ok, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(defaultText)
	for _, pattern := range []string{"testdata/bad/*.yaml", "testdata/*.policytest"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, name := range files {
			text, err := os.ReadFile(name)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(text)
		}
	}
	f.Add([]byte("a: &a [*a]\npolicies: *a\nversion: *a"))
	f.Add([]byte("version: 1\npolicies: &p\n - {name: a, images: ['**'], rules: [{id: r, for: image, when: &w 'image.x', action: *w}]}\nwaivers: *p"))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := Parse("fuzz.yaml", text)
		var problems Problems
		switch {
		case err == nil:
			if v := p.Decide(large()); v.ID == "" || v.Decision == Undecided {
				t.Errorf("verdict %+v", v)
			}
		case !errors.As(err, &problems) || len(problems) == 0:
			t.Errorf("error %v", err)
		case p != nil:
			t.Error("a policy with problems")
		}
		for _, problem := range problems {
			if problem.Line < 1 || problem.Column < 1 || problem.Message == "" || problem.File != "fuzz.yaml" {
				t.Errorf("problem %+v", problem)
			}
		}
	})
}
