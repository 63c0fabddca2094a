package advisory

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluiceproxy/sluice/analyzer"
)

func goodRecord(id string) string { return osv(id, "npm", "a", "introduced 0, fixed 2.0.0", "") }

// rawZip makes an archive whose entries the function writes as it likes.
func rawZip(t *testing.T, write func(z *zip.Writer)) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	write(z)
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func addEntry(t *testing.T, z *zip.Writer, h *zip.FileHeader, data []byte) {
	t.Helper()
	w, err := z.CreateRaw(h)
	if err == nil {
		_, err = w.Write(data)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func entries(t *testing.T, records ...string) []byte {
	t.Helper()
	return rawZip(t, func(z *zip.Writer) {
		for i, r := range records {
			w, err := z.Create(fmt.Sprintf("r%d.json", i))
			if err == nil {
				_, err = io.WriteString(w, r)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestHostileArchives: every update fails, says which archive and entry, and
// leaves the index that was there, and no temporary file.
func TestHostileArchives(t *testing.T) {
	good := entries(t, goodRecord("GHSA-1"), goodRecord("GHSA-2"))
	named := func(name string) []byte {
		return rawZip(t, func(z *zip.Writer) {
			w, err := z.Create(name)
			if err == nil {
				_, err = io.WriteString(w, goodRecord("GHSA-1"))
			}
			if err != nil {
				t.Fatal(err)
			}
		})
	}
	for _, tt := range []struct {
		name    string
		archive []byte
		limits  Limits
		want    string
	}{
		{"empty file", nil, Limits{}, "not a valid zip"},
		{"truncated", good[:len(good)-30], Limits{}, "not a valid zip"},
		{"not a zip", []byte("<html>it works</html>"), Limits{}, "not a valid zip"},
		{"no records", rawZip(t, func(*zip.Writer) {}), Limits{}, "no records"},
		{"traversal", named("../../etc/cron.d/x.json"), Limits{}, "leaves the archive"},
		{"absolute", named("/etc/x.json"), Limits{}, "leaves the archive"},
		{"backslash", named(`..\x.json`), Limits{}, "leaves the archive"},
		{"not a record", named("README.md"), Limits{}, "not a record"},
		{"wrong CRC", rawZip(t, func(z *zip.Writer) {
			data := []byte(goodRecord("GHSA-1"))
			addEntry(t, z, &zip.FileHeader{Name: "r.json", Method: zip.Store, CRC32: 1, CompressedSize64: uint64(len(data)), UncompressedSize64: uint64(len(data))}, data)
		}), Limits{}, `"r.json": zip: checksum error`},
		{"claims 2 GiB", rawZip(t, func(z *zip.Writer) {
			data := []byte(goodRecord("GHSA-1"))
			addEntry(t, z, &zip.FileHeader{Name: "r.json", Method: zip.Deflate, CompressedSize64: uint64(len(data)), UncompressedSize64: 2 << 30}, data)
		}), Limits{}, "more than the limit"},
		{"claims less than it holds", rawZip(t, func(z *zip.Writer) {
			data := []byte(goodRecord("GHSA-1"))
			addEntry(t, z, &zip.FileHeader{Name: "r.json", Method: zip.Store, CompressedSize64: uint64(len(data)), UncompressedSize64: 10}, data)
		}), Limits{}, `"r.json"`},
		{"bomb", entries(t, `{"id": "GHSA-1", "details": "`+strings.Repeat("0", 4<<20)+`"}`), Limits{}, "expands more than 200-fold"},
		{"all together too large", entries(t, goodRecord("GHSA-1"), goodRecord("GHSA-2")), Limits{Text: 300}, "expands to more than the limit"},
		{"overlapping entries", overlapping(t), Limits{}, "entries overlap"},
		{"too many records", good, Limits{Records: 1}, "2 records, more than the limit of 1"},
		{"record too large", good, Limits{Record: 160}, "more than the limit of 160 for a record"},
		{"archive too large", good, Limits{Archive: 400}, "larger than the limit of 400 bytes"},
		{"broken JSON", entries(t, goodRecord("GHSA-1"), `{"id": "GHSA-2", "affected": [`), Limits{}, `"r1.json": not an OSV record`},
		{"another shape", entries(t, `{"id": "GHSA-2", "affected": "all"}`), Limits{}, "not an OSV record"},
		{"text after the record", entries(t, goodRecord("GHSA-1")+"{}"), Limits{}, "not an OSV record"},
		{"no id", entries(t, `{"summary": "hello"}`), Limits{}, "it has no id"},
		{"id with a line break", entries(t, `{"id": "GHSA-1\nGHSA-2"}`), Limits{}, "its id"},
		{"the same id twice", entries(t, goodRecord("GHSA-1"), goodRecord("GHSA-1")), Limits{}, "its id GHSA-1 is also that of another record"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			before, err := Compile(t.Context(), Source{Base: export(t, map[string][]string{"npm": {goodRecord("OLD-1")}})}, CompileOptions{Dir: dir})
			if err != nil {
				t.Fatal(err)
			}
			src := export(t, map[string][]string{"PyPI": {osv("PYSEC-1", "PyPI", "b", "introduced 0", "")}})
			if err := os.MkdirAll(filepath.Join(src, "npm"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(src, "npm", "all.zip"), tt.archive, 0o644); err != nil {
				t.Fatal(err)
			}
			_, err = Compile(t.Context(), Source{Base: src}, CompileOptions{Dir: dir, Limits: tt.limits})
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "npm") {
				t.Errorf("error %v, want one of npm with %q", err, tt.want)
			}
			unchanged(t, dir, before.Revision)
		})
	}
}

// unchanged checks that dir holds the index of that revision, whole, and
// nothing else but the lock.
func unchanged(t *testing.T, dir, revision string) {
	t.Helper()
	path := filepath.Join(dir, indexName)
	if err := Verify(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	x, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	if x.Revision() != revision {
		t.Errorf("revision %s, want the old %s", x.Revision(), revision)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if f.Name() != indexName && f.Name() != lockName && f.Name() != rememberedName {
			t.Errorf("left behind: %s", f.Name())
		}
	}
}

// overlapping makes an archive whose directory names one entry's bytes many times.
func overlapping(t *testing.T) []byte {
	t.Helper()
	one := entries(t, goodRecord("GHSA-1"))
	const end = 22
	tail := one[len(one)-end:]
	off := binary.LittleEndian.Uint32(tail[16:])
	dir := one[off : len(one)-end]
	out := bytes.Clone(one[:off])
	for range 100 {
		out = append(out, dir...)
	}
	tail = bytes.Clone(tail)
	binary.LittleEndian.PutUint16(tail[8:], 100)
	binary.LittleEndian.PutUint16(tail[10:], 100)
	binary.LittleEndian.PutUint32(tail[12:], uint32(100*len(dir)))
	return append(out, tail...)
}

func TestCompileSources(t *testing.T) {
	t.Run("ecosystems.txt rules, releases and non-packages are left out", func(t *testing.T) {
		dir := export(t, map[string][]string{
			"Debian": {osv("DSA-1-1", "Debian:12", "a", "introduced 0", "")}, "Debian:12": {osv("DSA-1-1", "Debian:12", "a", "introduced 0", "")},
			"GIT": {osv("X-1", "GIT", "a", "introduced 0", "")}, "npm": {goodRecord("GHSA-1")},
		})
		if err := os.WriteFile(filepath.Join(dir, "ecosystems.txt"), []byte("Debian\nDebian:12\nGIT\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		x, stats := compileSource(t, Source{Base: dir}, CompileOptions{})
		if got := names(stats); !cmp.Equal(got, []string{"Debian:12 covered 1"}) {
			t.Errorf("ecosystems %q", got)
		}
		if _, ok := x.covered[ecosystem{base: "npm"}]; ok {
			t.Error("npm is not in ecosystems.txt")
		}
	})
	t.Run("only those that were asked for", func(t *testing.T) {
		dir := export(t, map[string][]string{"npm": {goodRecord("GHSA-1")}, "PyPI": {osv("PYSEC-1", "PyPI", "b", "introduced 0", "")}})
		_, stats := compileSource(t, Source{Base: dir}, CompileOptions{Ecosystems: []string{"NPM"}})
		if got := names(stats); !cmp.Equal(got, []string{"npm covered 1"}) {
			t.Errorf("ecosystems %q", got)
		}
		_, err := Compile(t.Context(), Source{Base: dir}, CompileOptions{Dir: t.TempDir(), Ecosystems: []string{"Gentoo"}})
		if err == nil || !strings.Contains(err.Error(), `"Gentoo": the source does not have it; it has PyPI, npm`) {
			t.Errorf("unknown ecosystem: %v", err)
		}
	})
	t.Run("one id in two archives with different content", func(t *testing.T) {
		x, _ := compileRecords(t, map[string][]string{
			"RubyGems": {osv("GHSA-1", "RubyGems", "lodash-rails", "introduced 0, fixed 5.0.0", "")},
			"npm":      {osv("GHSA-1", "npm", "lodash", "introduced 0, fixed 4.17.21", "")},
		}, CompileOptions{})
		for purl, fixed := range map[string]string{"pkg:npm/lodash@4.17.20": "4.17.21", "pkg:gem/lodash-rails@4.0.0": "5.0.0"} {
			if f, err := x.Lookup(purl); err != nil || len(f) != 1 || f[0].Fixed != fixed {
				t.Errorf("%s: %v, %v", purl, f, err)
			}
		}
	})
	t.Run("entries of an ecosystem that was not asked for say nothing", func(t *testing.T) {
		both := record1("GHSA-1", `[{"package":{"ecosystem":"npm","name":"a"},"ranges":[{"type":"SEMVER","events":[{"introduced":"0"}]}]},
			{"package":{"ecosystem":"NuGet","name":"a"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"}]}]}]`, "")
		dir := export(t, map[string][]string{"npm": {both}})
		_, stats := compileSource(t, Source{Base: dir}, CompileOptions{Ecosystems: []string{"npm"}})
		if got := names(stats); !cmp.Equal(got, []string{"npm covered 1"}) {
			t.Errorf("limited: %q", got)
		}
		_, stats = compileSource(t, Source{Base: dir}, CompileOptions{})
		if got := names(stats); !cmp.Equal(got, []string{"NuGet 1", "npm covered 1"}) {
			t.Errorf("not limited: %q", got)
		}
	})
	t.Run("private records", func(t *testing.T) {
		private := t.TempDir()
		for name, text := range map[string]string{"team/one.json": osv("ACME-1", "npm", "a", "introduced 0, fixed 3.0.0", ""), "two.json": osv("ACME-2", "Debian:12", "b", "introduced 0", ""), "notes.txt": "not a record"} {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(private, name)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(private, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		x, stats := compileSource(t, Source{Base: export(t, map[string][]string{"npm": {goodRecord("GHSA-1")}}), Private: []string{private}}, CompileOptions{})
		if got := names(stats); !cmp.Equal(got, []string{"Debian:12 1", "npm covered 2"}) {
			t.Errorf("ecosystems %q", got)
		}
		m, err := x.Match(t.Context(), []analyzer.Package{{Type: "npm", Ecosystem: "npm", Name: "a", Version: "1.0.0"}, {Type: "deb", Ecosystem: "Debian:12", Name: "b", Version: "1"}})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"ACME-1 3.0.0", "ACME-2", "GHSA-1 2.0.0", "? : the index has no advisories for Debian:12"}, brief(m)); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		_, err = Compile(t.Context(), Source{Private: []string{t.TempDir()}}, CompileOptions{Dir: t.TempDir()})
		if err == nil || !strings.Contains(err.Error(), "no .json files") {
			t.Errorf("empty directory: %v", err)
		}
	})
	t.Run("the newest modification is the age, a later one than now is not", func(t *testing.T) {
		now := time.Date(2026, 1, 10, 0, 0, 0, 0, time.UTC)
		_, stats := compileRecords(t, map[string][]string{"npm": {
			osv("GHSA-1", "npm", "a", "introduced 0", `"modified": "2026-01-02T00:00:00Z"`), osv("GHSA-2", "npm", "a", "introduced 0", `"modified": "2026-01-01T00:00:00Z"`),
			osv("GHSA-3", "npm", "a", "introduced 0", `"modified": "2036-01-01T00:00:00Z"`),
		}}, CompileOptions{Now: now})
		if want := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC); !stats.Updated.Equal(want) || !stats.Built.Equal(now) {
			t.Errorf("updated %v, built %v", stats.Updated, stats.Built)
		}
	})
	t.Run("the same content has the same revision", func(t *testing.T) {
		records := map[string][]string{"npm": {goodRecord("GHSA-1")}, "PyPI": {osv("PYSEC-1", "PyPI", "b", "introduced 0", "")}}
		_, a := compileRecords(t, records, CompileOptions{Now: time.Unix(1, 0)})
		_, b := compileRecords(t, records, CompileOptions{Now: time.Unix(2, 0)})
		records["npm"][0] = osv("GHSA-1", "npm", "a", "introduced 0, fixed 2.0.1", "")
		_, c := compileRecords(t, records, CompileOptions{})
		if a.Revision != b.Revision || a.Revision == c.Revision {
			t.Errorf("revisions %s, %s, %s", a.Revision, b.Revision, c.Revision)
		}
	})
	for name, src := range map[string]Source{
		"nothing": {}, "no such directory": {Base: filepath.Join(t.TempDir(), "none")}, "a file": {Base: writeFile(t, "x")},
		"another scheme": {Base: "ftp://example.com/osv"}, "no host": {Base: "http:///osv"}, "empty directory": {Base: t.TempDir()},
		"no private file": {Private: []string{filepath.Join(t.TempDir(), "none.json")}},
	} {
		if _, err := Compile(t.Context(), src, CompileOptions{Dir: t.TempDir()}); err == nil {
			t.Errorf("source %s: no error", name)
		}
	}
}

func names(s Stats) []string {
	var out []string
	for _, e := range s.Ecosystems {
		word := ""
		if e.Covered {
			word = " covered"
		}
		out = append(out, fmt.Sprintf("%s%s %d", e.Name, word, e.Advisories))
	}
	return out
}

func TestCompileHTTP(t *testing.T) {
	archive := entries(t, osv("RLSA-1:1", "Rocky Linux:9", "a", "introduced 0, fixed 2-1", ""))
	for _, tt := range []struct {
		name    string
		handler http.HandlerFunc
		want    string // in the error; "" = success
	}{
		{"whole", func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/export/ecosystems.txt":
				fmt.Fprintln(w, "Rocky Linux")
			case "/export/Rocky Linux/all.zip":
				w.Write(archive)
			default:
				http.NotFound(w, r)
			}
		}, ""},
		{"server error", func(w http.ResponseWriter, r *http.Request) { http.Error(w, "no", http.StatusBadGateway) }, "502 Bad Gateway"},
		{"no list", http.NotFound, "no ecosystems.txt"},
		{"archive missing", func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, ".txt") {
				fmt.Fprintln(w, "npm")
				return
			}
			http.NotFound(w, r)
		}, "advisories of npm: GET http"},
		{"cut short", func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, ".txt") {
				fmt.Fprintln(w, "npm")
				return
			}
			w.Header().Set("Content-Length", fmt.Sprint(len(archive)))
			w.Write(archive[:len(archive)/2])
		}, "unexpected EOF"},
		{"names that leave the base", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "../../secret") }, "not a name"},
		{"stalled", func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, ".txt") {
				fmt.Fprintln(w, "npm")
				return
			}
			w.Write(archive[:10])
			http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, errStalled.Error()},
		{"redirect to a file", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		}, `redirect to scheme "file"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := httptest.NewServer(tt.handler)
			defer s.Close()
			var last Progress
			base := strings.Replace(s.URL, "http://", "http://user:hunter2@", 1) + "/export"
			stats, err := Compile(t.Context(), Source{Base: base}, CompileOptions{
				Dir: t.TempDir(), Limits: Limits{Stall: 200 * time.Millisecond, Retry: time.Millisecond}, Progress: func(p Progress) { last = p },
			})
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "hunter2") {
					t.Errorf("error %v, want %q and no password", err, tt.want)
				}
				return
			}
			if err != nil || stats.Advisories != 1 || strings.Contains(stats.Source, "hunter2") {
				t.Errorf("%+v, %v", stats, err)
			}
			if want := (Progress{Phase: "write", Records: 1}); last != want {
				t.Errorf("last progress %+v", last)
			}
		})
	}
}

func TestCompileIsCancelled(t *testing.T) {
	dir := t.TempDir()
	before, err := Compile(t.Context(), Source{Base: export(t, map[string][]string{"npm": {goodRecord("OLD-1")}})}, CompileOptions{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	for _, phase := range []string{"download", "read", "write"} {
		ctx, cancel := context.WithCancel(t.Context())
		_, err = Compile(ctx, Source{Base: export(t, map[string][]string{"npm": {goodRecord("NEW-1")}})}, CompileOptions{Dir: dir, Progress: func(p Progress) {
			if p.Phase == phase {
				cancel()
			}
		}})
		cancel()
		if !errors.Is(err, context.Canceled) {
			t.Errorf("in phase %s: %v", phase, err)
		}
		unchanged(t, dir, before.Revision)
	}
}

// TestKilledUpdate: what a killed process leaves behind neither hides the index
// nor stays.
func TestKilledUpdate(t *testing.T) {
	dir := t.TempDir()
	src := Source{Base: export(t, map[string][]string{"npm": {goodRecord("OLD-1")}})}
	before, err := Compile(t.Context(), src, CompileOptions{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{tempPrefix + "index-1", tempPrefix + "postings-1", tempPrefix + "archive-1"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("half of it"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if x, err := Open(filepath.Join(dir, indexName)); err != nil {
		t.Fatal(err)
	} else {
		x.Close()
	}
	if _, err := Compile(t.Context(), src, CompileOptions{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	unchanged(t, dir, before.Revision)
}

func TestLock(t *testing.T) {
	dir := t.TempDir()
	unlock, err := lock(filepath.Join(dir, lockName))
	if err != nil {
		t.Fatal(err)
	}
	src := Source{Base: export(t, map[string][]string{"npm": {goodRecord("OLD-1")}})}
	if _, err := Compile(t.Context(), src, CompileOptions{Dir: dir}); !errors.Is(err, ErrBusy) {
		t.Errorf("locked: %v", err)
	}
	unlock()
	if _, err := Compile(t.Context(), src, CompileOptions{Dir: dir}); err != nil {
		t.Errorf("unlocked: %v", err)
	}
}

func TestKEV(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"good", `{"count": 1, "vulnerabilities": [{"cveID": "CVE-2024-1"}]}`, ""},
		{"truncated", `{"count": 1, "vulnerabilities": [{"cveID": "CVE-2`, "not a KEV catalogue"},
		{"fewer than counted", `{"count": 2, "vulnerabilities": [{"cveID": "CVE-2024-1"}]}`, "1 entries of 2"},
		{"empty", `{}`, "no vulnerabilities"},
		{"another list", `{"vulnerabilities": [{"id": "CVE-2024-1"}]}`, "no cveID"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, tt.text) }))
			defer server.Close()
			src := Source{Base: export(t, map[string][]string{"npm": {osv("GHSA-1", "npm", "a", "introduced 0", `"aliases": ["CVE-2024-1"]`), goodRecord("GHSA-2")}})}
			for _, from := range []string{writeFile(t, tt.text), server.URL} {
				src.KEV = from
				stats, err := Compile(t.Context(), src, CompileOptions{Dir: t.TempDir()})
				if tt.want != "" {
					if err == nil || !strings.Contains(err.Error(), tt.want) {
						t.Errorf("error %v, want %q", err, tt.want)
					}
				} else if err != nil || stats.KEV != 1 || stats.KEVMatched != 1 {
					t.Errorf("%+v, %v", stats, err)
				}
			}
		})
	}
	if _, err := Compile(t.Context(), Source{Base: export(t, map[string][]string{"npm": {goodRecord("GHSA-1")}}), KEV: "/no/such/file"}, CompileOptions{Dir: t.TempDir()}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing catalogue: %v", err)
	}
}

func TestStatsCount(t *testing.T) {
	_, got := compileRecords(t, map[string][]string{
		"npm": {
			goodRecord("GHSA-1"), osv("MAL-2024-1", "npm", "evil", "introduced 0", ""), osv("GHSA-2", "npm", "a", "introduced 0", `"withdrawn": "2024-01-01T00:00:00Z"`),
			record1("GHSA-3", `[{"package":{"ecosystem":"npm","name":"c"},"ranges":[{"type":"GIT","events":[{"introduced":"0"}]}]}]`, ""), record1("GHSA-4", `[{"ranges":[{"type":"GIT","events":[{"introduced":"0"}]}]}]`, ""),
		},
		"AlmaLinux": {osv("ALBA-1:1", "AlmaLinux:9", "x", "introduced 0, fixed 1-1", ""), osv("ALSA-1:1", "AlmaLinux:9", "y", "introduced 0, fixed 1-1", "")},
	}, CompileOptions{Now: time.Unix(1e9, 0)})
	got.Revision, got.Source, got.Size, got.Sources, got.Inputs = "", "", 0, nil, ""
	want := Stats{
		Built: time.Unix(1e9, 0).UTC(), Updated: time.Unix(1e9, 0).UTC(), Advisories: 4, Packages: 4, Withdrawn: 1, Errata: 1, NoPackage: 1, CommitsOnly: 1, Malware: 1,
		Ecosystems: []EcosystemStats{
			{Name: "AlmaLinux:9", Advisories: 1, Covered: true, AsOf: time.Unix(1e9, 0).UTC()}, {Name: "npm", Advisories: 3, Covered: true, AsOf: time.Unix(1e9, 0).UTC()},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
