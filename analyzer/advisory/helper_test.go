package advisory

import (
	"archive/zip"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"github.com/sluiceproxy/sluice/analyzer"
)

// zipOf makes an archive of records by entry name, in the order of the names.
func zipOf(t testing.TB, path string, records map[string]string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	z := zip.NewWriter(f)
	var names []string
	for n := range records {
		names = append(names, n)
	}
	sort.Strings(names)
	for _, n := range names {
		w, err := z.Create(n)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(records[n])); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// export makes a source directory: per ecosystem the records, each under its
// place in the list.
func export(t testing.TB, ecosystems map[string][]string) string {
	t.Helper()
	dir := t.TempDir()
	for eco, records := range ecosystems {
		entries := make(map[string]string)
		for i, r := range records {
			entries[fmt.Sprintf("%04d.json", i)] = r
		}
		zipOf(t, filepath.Join(dir, eco, "all.zip"), entries)
	}
	return dir
}

// compileRecords opens an index of the records.
func compileRecords(t testing.TB, ecosystems map[string][]string, opts CompileOptions) (*Index, Stats) {
	t.Helper()
	return compileSource(t, Source{Base: export(t, ecosystems)}, opts)
}

func compileSource(t testing.TB, src Source, opts CompileOptions) (*Index, Stats) {
	t.Helper()
	opts.Dir = t.TempDir()
	stats, err := Compile(t.Context(), src, opts)
	if err != nil {
		t.Fatal(err)
	}
	x, err := Open(filepath.Join(opts.Dir, indexName))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close() })
	return x, stats
}

// osv writes a record for one package with one range: events are words such as
// "introduced 0", "fixed 1.2". more is added to the record.
func osv(id, eco, name, events, more string) string {
	var list []string
	for e := range strings.SplitSeq(events, ", ") {
		kind, version, _ := strings.Cut(e, " ")
		list = append(list, fmt.Sprintf("{%q: %q}", kind, version))
	}
	ranges := fmt.Sprintf(`[{"type": "ECOSYSTEM", "events": [%s]}]`, strings.Join(list, ","))
	if events == "" {
		ranges = "[]"
	}
	return record1(id, fmt.Sprintf(`[{"package": {"ecosystem": %q, "name": %q}, "ranges": %s}]`, eco, name, ranges), more)
}

// record1 writes a record with the given affected list.
func record1(id, affected, more string) string {
	if more != "" {
		more = ", " + more
	}
	return fmt.Sprintf(`{"id": %q, "affected": %s%s}`, id, affected, more)
}

// brief writes matches in a form that a table can hold: "ADVISORY fixed" and
// "? ADVISORY reason".
func brief(m analyzer.Matches) []string {
	var out []string
	for _, f := range m.Findings {
		out = append(out, strings.TrimSpace(f.Advisory+" "+f.Fixed))
	}
	for _, u := range m.Undecided {
		out = append(out, "? "+u.Advisory+": "+u.Reason)
	}
	return out
}

func writeFile(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}
