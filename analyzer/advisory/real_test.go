package advisory

import (
	"archive/zip"
	"encoding/json"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/osv-scalibr/semantic"

	"github.com/sluiceproxy/sluice/analyzer"
)

// testData returns the folder of real public data, or skips the test.
func testData(t testing.TB) string {
	t.Helper()
	for _, dir := range []string{os.Getenv("SLUICE_TEST_DATA"), filepath.Join("..", "..", "..", "shared", "data")} {
		if dir == "" {
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, "osv", "ecosystems.txt")); err == nil {
			return dir
		}
	}
	t.Skip("no real advisories: set SLUICE_TEST_DATA to a folder with osv/ and kev/")
	return ""
}

var realIndex struct {
	once  sync.Once
	dir   string
	stats Stats
	err   error
}

// openReal compiles all real advisories, once per run.
func openReal(t testing.TB) (*Index, Stats) {
	t.Helper()
	data := testData(t)
	r := &realIndex
	r.once.Do(func() {
		if r.dir, r.err = os.MkdirTemp("", "sluice-advisory-*"); r.err == nil {
			r.stats, r.err = Compile(t.Context(), Source{
				Base: filepath.Join(data, "osv"), KEV: filepath.Join(data, "kev", "known_exploited_vulnerabilities.json"),
			}, CompileOptions{Dir: r.dir})
		}
	})
	if r.err != nil {
		t.Fatal(r.err)
	}
	x, err := Open(filepath.Join(r.dir, indexName))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close() })
	return x, r.stats
}

func TestMain(m *testing.M) {
	code := m.Run()
	if realIndex.dir != "" {
		os.RemoveAll(realIndex.dir)
	}
	os.Exit(code)
}

func TestRealLookup(t *testing.T) {
	if testing.Short() {
		t.Skip("long under the race detector")
	}
	x, stats := openReal(t)
	for _, tt := range []struct {
		purl string
		want []string
	}{
		{"pkg:npm/lodash@4.17.20", []string{"GHSA-35jh-r3h4-6jhm"}},
		{"pkg:npm/lodash@4.17.21", nil},
		{"pkg:maven/org.springframework/spring-beans@5.3.17", []string{"GHSA-36p3-wjmg-h94x"}},
		{"pkg:maven/org.springframework/spring-beans@5.2.20.RELEASE", nil},
		{"pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1", []string{"GHSA-7rjr-3q55-vv33", "GHSA-jfh8-c2jp-5v3q"}},
		{"pkg:golang/github.com/gin-gonic/gin@v1.6.0", []string{"GO-2021-0052", "GO-2023-1737"}},
		{"pkg:apk/alpine/openssl@1.1.1b-r1?distro=alpine-3.10.9", []string{"ALPINE-CVE-2019-1547", "ALPINE-CVE-2019-1549", "ALPINE-CVE-2019-1563"}},
		{"pkg:deb/debian/openssl@1.1.1n-0%2Bdeb11u3?distro=bullseye", []string{"DSA-5343-1"}},
		{"pkg:deb/debian/openssl@1.1.1n-0%2Bdeb11u4?distro=bullseye", nil},
	} {
		t.Run(tt.purl, func(t *testing.T) {
			got, err := x.Lookup(tt.purl)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, advisories(got)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
	f, err := x.Lookup("pkg:maven/org.springframework/spring-beans@5.3.17")
	if err != nil || len(f) != 1 || f[0].Severity != analyzer.SeverityCritical || !f[0].KEV || f[0].Fixed != "5.3.18" {
		t.Errorf("spring-beans: %+v, %v", f, err)
	}
	if _, err := x.Lookup("pkg:apk/alpine/musl@1.2.5-r0?distro=alpine-3.20"); err == nil {
		t.Error("Alpine 3.20 is not in the feed, but that is no error")
	}
	if stats.Advisories != 27_923 || stats.Errata != 1197 || stats.KEV != 1404 || stats.Withdrawn != 40 || len(stats.Ecosystems) < 20 {
		t.Errorf("statistics: %+v", stats)
	}
}

// TestRealAgainstRecords compares the index with the records themselves: for a
// sample of packages of each archive and several versions of each, the advisories
// found are those that a plain evaluation of the JSON with osv-scalibr's version
// order gives.
func TestRealAgainstRecords(t *testing.T) {
	if testing.Short() {
		t.Skip("long under the race detector")
	}
	x, _ := openReal(t)
	const perArchive = 150
	compared := 0
	for _, archive := range []string{"Alpine", "Debian", "AlmaLinux", "Go", "npm", "PyPI", "RubyGems", "Maven", "crates.io"} {
		byKey := readRecords(t, filepath.Join(testData(t), "osv", archive, "all.zip"))
		var keys []string
		for k := range byKey {
			keys = append(keys, k)
		}
		sort.Strings(keys)
		step := max(len(keys)/perArchive, 1)
		for i := 0; i < len(keys); i += step {
			eco, name, _ := strings.Cut(keys[i], "\x00")
			for _, version := range sampleVersions(byKey[keys[i]]) {
				if newInstalled(archive, version).compare == nil || strings.Contains(version, ".module") {
					continue // modules have rules of their own: see TestMatch
				}
				m := &matching{index: x}
				p := analyzer.Package{Type: "test", Ecosystem: eco, Name: name, Version: version}
				if archive == "AlmaLinux" {
					p.Type = "rpm"
				}
				e := parseEcosystem(eco)
				entries, err := m.entries(e, name)
				if err != nil {
					t.Fatal(err)
				}
				in := newInstalled(e.base, version)
				m.found = nil
				for len(entries) > 0 {
					n := 1
					for n < len(entries) && entries[n].advisory == entries[0].advisory {
						n++
					}
					if err := m.weigh(entries[:n], &in, &p); err != nil {
						t.Fatal(err)
					}
					entries = entries[n:]
				}
				got := make(map[string]bool)
				for _, f := range m.found {
					got[f.Advisory] = true
				}
				want := make(map[string]bool)
				for _, r := range byKey[keys[i]] {
					if plainlyAffected(t, r, eco, version) {
						want[r.ID] = true
					}
				}
				for _, u := range m.undecided { // versions that osv-scalibr reads somehow
					delete(want, u.Advisory)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s %s %s: -want +got:\n%s", eco, name, version, diff)
				}
				compared++
			}
		}
	}
	t.Logf("%d package versions compared", compared)
	if compared < 2000 {
		t.Errorf("only %d package versions were compared", compared)
	}
}

// readRecords reads an archive's records by ecosystem and name, without those
// that are withdrawn or bug fixes only.
func readRecords(t *testing.T, path string) map[string][]osvRecord {
	t.Helper()
	z, err := zip.OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	out := make(map[string][]osvRecord)
	for _, e := range z.File {
		data, err := readEntry(e, nil)
		if err != nil {
			t.Fatal(err)
		}
		var r osvRecord
		if err := json.Unmarshal(data, &r); err != nil {
			t.Fatal(err)
		}
		if r.Withdrawn != "" || (strings.Contains("ALBA ALEA", r.ID[:4]) && !strings.Contains(string(data), "CVE-")) {
			continue
		}
		seen := make(map[string]bool)
		for _, a := range r.Affected {
			key := a.Package.Ecosystem + "\x00" + a.Package.Name
			one := r
			one.Affected = nil
			for _, b := range r.Affected {
				if b.Package == a.Package {
					one.Affected = append(one.Affected, b)
				}
			}
			if !seen[key] {
				out[key] = append(out[key], one)
			}
			seen[key] = true
		}
	}
	return out
}

// sampleVersions are the versions at and around the events of some records.
func sampleVersions(records []osvRecord) []string {
	var out []string
	for i, r := range records {
		if i%max(len(records)/4, 1) != 0 {
			continue
		}
		for _, a := range r.Affected {
			for _, g := range a.Ranges {
				for _, e := range g.Events {
					for _, v := range e {
						if g.Type != "GIT" && v != "0" && len(out) < 12 {
							out = append(out, v, strings.TrimSuffix(v, v[len(v)-1:])+"0")
						}
					}
				}
			}
		}
	}
	return out
}

func plainlyAffected(t *testing.T, r osvRecord, eco, version string) bool {
	t.Helper()
	v, err := semantic.Parse(version, eco)
	if err != nil {
		t.Fatal(err)
	}
	affected := false
	for _, a := range r.Affected {
		for _, listed := range a.Versions {
			affected = affected || listed == version
		}
		for _, g := range a.Ranges {
			if g.Type == "GIT" {
				continue
			}
			in, modular := false, false
			for _, e := range sortedEvents(t, eco, g.Events) {
				modular = modular || strings.Contains(e.version, ".module")
				if e.version == version && e.kind == eventFixed && strings.HasPrefix(eco, "AlmaLinux") {
					return false // it is one of the fixed builds
				}
				n := 1
				if e.version != "0" {
					if n, err = v.CompareStr(e.version); err != nil {
						t.Fatal(err)
					}
				}
				switch {
				case e.kind == eventIntroduced && n >= 0:
					in = true
				case e.kind == eventFixed && n >= 0, e.kind == eventLastAffected && n > 0:
					in = false
				}
			}
			affected = affected || (in && !modular)
		}
	}
	return affected
}

// sortedEvents sorts a range's events: PYSEC-2017-60 and others have them in
// another order than that of the versions.
func sortedEvents(t *testing.T, eco string, list []map[string]string) []event {
	t.Helper()
	var out []event
	for _, m := range list {
		out = append(out, eventsOf(m)...)
	}
	sort.SliceStable(out, func(i, j int) bool {
		if out[i].version == "0" || out[j].version == "0" {
			return out[i].version == "0" && out[j].version != "0"
		}
		v, err := semantic.Parse(out[i].version, eco)
		if err != nil {
			t.Fatal(err)
		}
		n, err := v.CompareStr(out[j].version)
		if err != nil {
			t.Fatal(err)
		}
		return n < 0
	})
	return out
}

func advisories(findings []analyzer.Finding) []string {
	var out []string
	for _, f := range findings {
		out = append(out, f.Advisory)
	}
	return out
}
