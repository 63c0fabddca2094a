package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCompare(t *testing.T) {
	for _, tt := range []struct {
		ecosystem, a, b string
		want            int
	}{
		{"Alpine:v3.10", "1.1.1c-r9", "1.1.1d-r0", -1},
		{"Alpine:v3.10", "1.29.3-r9", "1.29.3-r10", -1},
		{"Alpine:v3.10", "1.2_rc1-r0", "1.2-r0", -1},
		{"Alpine:v3.10", "1.2_p1-r0", "1.2-r0", 1},
		{"npm", "4.17.20", "4.17.21", -1},
		{"npm", "1.0.0-rc.2", "1.0.0-rc.10", -1},
		{"npm", "1.0.0-rc.1", "1.0.0", -1},
		{"Go", "0.0.0-20200622213623-75b288015ac9", "0.0.0-20201216223049-8b5274cf687f", -1},
		{"Go", "3.2.0+incompatible", "3.2.0", 0},
		{"Maven", "2.14.1", "2.3.1", 1},
		{"RubyGems", "2.2.3", "2.2.3.1", -1},
	} {
		var v versions
		got, err := v.compare(t.Context(), tt.ecosystem, tt.a, tt.b)
		if err != nil || got != tt.want {
			t.Errorf("%s: %s and %s: %d, %v, want %d", tt.ecosystem, tt.a, tt.b, got, err, tt.want)
		}
	}
}

func TestWithin(t *testing.T) {
	f := &feed{}
	for _, tt := range []struct {
		events, version string
		want            bool
	}{
		{`[{"introduced":"0"},{"fixed":"1.2"}]`, "1.1", true},
		{`[{"introduced":"0"},{"fixed":"1.2"}]`, "1.2", false},
		{`[{"introduced":"0"},{"last_affected":"1.2"}]`, "1.2", true},
		{`[{"introduced":"0"},{"last_affected":"1.2"}]`, "1.3", false},
		{`[{"introduced":"4.0"},{"fixed":"4.0.4"},{"introduced":"3.2"},{"fixed":"3.2.13"}]`, "3.2.0", true},
		{`[{"introduced":"4.0"},{"fixed":"4.0.4"},{"introduced":"3.2"},{"fixed":"3.2.13"}]`, "3.2.13", false},
		{`[{"introduced":"4.0"},{"fixed":"4.0.4"},{"introduced":"3.2"},{"fixed":"3.2.13"}]`, "4.0.1", true},
		{`[{"introduced":"2.0"}]`, "1.9", false},
		{`[{"introduced":"2.0"}]`, "9", true},
	} {
		var events []map[string]string
		if err := json.Unmarshal([]byte(tt.events), &events); err != nil {
			t.Fatal(err)
		}
		if got, err := f.within(t.Context(), events, "npm", tt.version); err != nil || got != tt.want {
			t.Errorf("%s in %s: %v, %v", tt.version, tt.events, got, err)
		}
	}
}

// TestDifferences has one of each kind, and what is none.
func TestDifferences(t *testing.T) {
	r := row{image: image{name: "x"}}
	found := &result{}
	if err := json.Unmarshal([]byte(`{
		"packages": [{"type":"pypi","name":"Py_YAML","version":"1"},{"type":"pypi","name":"more","version":"1"},{"type":"deb","name":"unlisted-type","version":"1"}],
		"findings": [
			{"advisory":"GHSA-a","aliases":["CVE-1","PYSEC-1"],"package":"Py_YAML","version":"1"},
			{"advisory":"GHSA-b","package":"Py_YAML","version":"1"}]}`), found); err != nil {
		t.Fatal(err)
	}
	yaml := pkg{typ: "pypi", name: "py-yaml", version: "1", path: "/x", owned: true}
	r.packages = comparePackages([]pkg{yaml, {typ: "pypi", name: "lost", version: "2"}}, found)
	r.findings = compareFindings([]pair{{&record{ID: "PYSEC-1"}, yaml}, {&record{ID: "PYSEC-2", Aliases: []string{"CVE-2"}}, yaml}}, found)
	want := []string{
		"x: listed, not found: pypi lost 2", "x: found, not listed: pypi more 1", "x: owner differs from dpkg's: pypi py-yaml 1",
		"x: implied, not reported: PYSEC-2 py-yaml 1", "x: reported, not implied: GHSA-b Py_YAML 1",
	}
	if d := cmp.Diff(want, r.differences()); d != "" {
		t.Errorf("differences (-want +got):\n%s", d)
	}
	if verdict([]row{r}) == nil || verdict([]row{{}}) != nil {
		t.Error("the verdict is wrong")
	}
}

func TestReplaceTable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "page.md")
	if err := os.WriteFile(file, []byte("a\n"+begin+"old\n"+end+"b\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := replaceTable(file, "new\n"); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(file)
	if err != nil || string(b) != "a\n"+begin+"new\n"+end+"b\n" {
		t.Errorf("%q, %v", b, err)
	}
	if err := os.WriteFile(file, []byte("no markers"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := replaceTable(file, "new\n"); err == nil {
		t.Error("a page without markers was written")
	}
}
