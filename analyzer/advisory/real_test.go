package advisory

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

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
			r.stats, r.err = Compile(t.Context(), Source{Base: filepath.Join(data, "osv")}, CompileOptions{
				Dir: r.dir, KEV: filepath.Join(data, "kev", "known_exploited_vulnerabilities.json"),
			})
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
	x, _ := openReal(t)
	for _, tt := range []struct {
		purl string
		want []string
	}{
		{"pkg:npm/lodash@4.17.20", []string{"GHSA-35jh-r3h4-6jhm"}},
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
}

func advisories(findings []analyzer.Finding) []string {
	var out []string
	for _, f := range findings {
		out = append(out, f.Advisory)
	}
	return out
}
