package advisory

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// fastRetry keeps tests of failing servers short.
var fastRetry = Limits{Retry: time.Millisecond, Stall: 2 * time.Second}

// server is an OSV export behind HTTP that can be made to misbehave.
type server struct {
	mu    sync.Mutex
	files map[string][]byte
	log   []string // status, path and Range of each answer, but for ecosystems.txt
	cut   int      // bodies longer than this break off there; 0 = none
	fail  int      // this many answers are 503 first
	etag  func([]byte) string
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	note := func(code int) {
		if !strings.HasSuffix(r.URL.Path, ".txt") {
			s.log = append(s.log, strings.TrimSpace(fmt.Sprintf("%d %s %s", code, r.URL.Path, r.Header.Get("Range"))))
		}
	}
	data, ok := s.files[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	if s.fail > 0 && !strings.HasSuffix(r.URL.Path, ".txt") {
		s.fail--
		note(http.StatusServiceUnavailable)
		http.Error(w, "later", http.StatusServiceUnavailable)
		return
	}
	if s.etag != nil {
		w.Header().Set("ETag", s.etag(data))
	}
	rec := httptest.NewRecorder()
	rec.Header().Set("ETag", w.Header().Get("ETag"))
	http.ServeContent(rec, r, "x.zip", time.Time{}, bytes.NewReader(data))
	note(rec.Code)
	for k, v := range rec.Header() {
		w.Header()[k] = v
	}
	w.WriteHeader(rec.Code)
	body := rec.Body.Bytes()
	if s.cut > 0 && len(body) > s.cut {
		_, _ = w.Write(body[:s.cut])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	_, _ = w.Write(body)
}

func (s *server) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.log
	s.log = nil
	return out
}

func strongTag(data []byte) string { return fmt.Sprintf(`"%x"`, hashID(string(data))) }

func newServer(t *testing.T, s *server) Source {
	t.Helper()
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	return Source{Base: h.URL}
}

// TestUnchanged: what did not change is not downloaded again, and if nothing
// did the index stays and counts as checked.
func TestUnchanged(t *testing.T) {
	npm, pypi := entries(t, goodRecord("GHSA-1")), entries(t, osv("PYSEC-1", "PyPI", "b", "introduced 0", ""))
	s := &server{files: map[string][]byte{
		"/ecosystems.txt": []byte("npm\nPyPI\n"), "/npm/all.zip": npm, "/PyPI/all.zip": pypi,
	}, etag: strongTag}
	src, dir := newServer(t, s), t.TempDir()
	day := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	update := func(day time.Time) Stats {
		t.Helper()
		stats, err := Compile(t.Context(), src, CompileOptions{Dir: dir, Limits: fastRetry, Now: day})
		if err != nil {
			t.Fatal(err)
		}
		return stats
	}
	first := update(day)
	if diff := cmp.Diff([]string{"200 /PyPI/all.zip", "200 /npm/all.zip"}, s.take()); diff != "" || first.Unchanged {
		t.Errorf("first: %v, -want +got:\n%s", first.Unchanged, diff)
	}
	second := update(day.Add(time.Hour))
	if diff := cmp.Diff([]string{"304 /PyPI/all.zip", "304 /npm/all.zip"}, s.take()); diff != "" || !second.Unchanged || second.Revision != first.Revision || !second.Built.Equal(day) {
		t.Errorf("second: %+v, -want +got:\n%s", second, diff)
	}
	x, err := Open(filepath.Join(dir, indexName))
	if err != nil {
		t.Fatal(err)
	}
	if !x.Checked().Equal(day.Add(time.Hour)) {
		t.Errorf("checked %v", x.Checked())
	}
	x.Close()
	s.files["/npm/all.zip"] = entries(t, goodRecord("GHSA-2"))
	if third := update(day.Add(2 * time.Hour)); third.Unchanged || third.Revision == first.Revision {
		t.Errorf("third: %+v", third)
	}
	if diff := cmp.Diff([]string{"304 /PyPI/all.zip", "200 /npm/all.zip"}, s.take()); diff != "" {
		t.Errorf("third: -want +got:\n%s", diff)
	}
	// A damaged index is made anew of the same files.
	path := filepath.Join(dir, indexName)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[headerSize+3] ^= 1
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	if fourth := update(day.Add(3 * time.Hour)); fourth.Unchanged {
		t.Error("a damaged index was kept")
	}
	if err := Verify(t.Context(), path); err != nil {
		t.Error(err)
	}
	// Without the server all of it is still there.
	s.take()
	if _, err := Recompile(t.Context(), dir, CompileOptions{Now: day.Add(4 * time.Hour)}); err != nil {
		t.Error(err)
	}
	if got := s.take(); len(got) > 0 {
		t.Errorf("offline: %q was asked for", got)
	}
}

// TestResume: a download goes on where it broke off, also after the process
// ended, and never mixes two files.
func TestResume(t *testing.T) {
	archive := entries(t, goodRecord("GHSA-1"), goodRecord("GHSA-2"), goodRecord("GHSA-3"))
	other := entries(t, goodRecord("GHSA-4"), goodRecord("GHSA-5"), goodRecord("GHSA-6"))
	files := func() map[string][]byte {
		return map[string][]byte{"/ecosystems.txt": []byte("npm\n"), "/npm/all.zip": archive}
	}
	part := len(archive)/2 - 10 // three tries are needed
	for _, tt := range []struct {
		name   string
		server *server
		want   []string
	}{
		{"in one run", &server{etag: strongTag, cut: part}, []string{
			"200 /npm/all.zip", fmt.Sprintf("206 /npm/all.zip bytes=%d-", part), fmt.Sprintf("206 /npm/all.zip bytes=%d-", 2*part),
		}},
		{"a weak tag does not prove the same bytes", &server{etag: func(b []byte) string { return "W/" + strongTag(b) }, fail: 2}, []string{
			"503 /npm/all.zip", "503 /npm/all.zip", "200 /npm/all.zip",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.server.files = files()
			stats, err := Compile(t.Context(), newServer(t, tt.server), CompileOptions{Dir: t.TempDir(), Limits: fastRetry})
			if err != nil || stats.Advisories != 3 {
				t.Fatalf("%+v, %v", stats, err)
			}
			if diff := cmp.Diff(tt.want, tt.server.take()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
	t.Run("in the next run, and the file is another one", func(t *testing.T) {
		s := &server{files: files(), etag: strongTag, cut: 40} // five tries are too few
		src, dir := newServer(t, s), t.TempDir()
		if _, err := Compile(t.Context(), src, CompileOptions{Dir: dir, Limits: fastRetry}); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("cut five times: %v", err)
		}
		s.take()
		s.cut = 0
		s.files["/npm/all.zip"] = other
		stats, err := Compile(t.Context(), src, CompileOptions{Dir: dir, Limits: fastRetry})
		if err != nil || stats.Advisories != 3 {
			t.Fatalf("%+v, %v", stats, err)
		}
		if diff := cmp.Diff([]string{"200 /npm/all.zip bytes=200-"}, s.take()); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		x, err := Open(filepath.Join(dir, indexName))
		if err != nil {
			t.Fatal(err)
		}
		defer x.Close()
		if a, err := x.Advisory("GHSA-4"); err != nil || len(a) != 1 {
			t.Errorf("the new file: %v, %v", a, err)
		}
	})
}

// TestBadDownload: a download that is no archive leaves the index in force and
// is asked for anew, not by its tag.
func TestBadDownload(t *testing.T) {
	good := entries(t, goodRecord("GHSA-1"))
	s := &server{files: map[string][]byte{"/ecosystems.txt": []byte("npm\n"), "/npm/all.zip": good}, etag: strongTag}
	src, dir := newServer(t, s), t.TempDir()
	before, err := Compile(t.Context(), src, CompileOptions{Dir: dir, Limits: fastRetry})
	if err != nil {
		t.Fatal(err)
	}
	s.files["/npm/all.zip"] = good[:len(good)-10]
	if _, err := Compile(t.Context(), src, CompileOptions{Dir: dir, Limits: fastRetry}); err == nil || !strings.Contains(err.Error(), "advisories of npm: all.zip") {
		t.Fatalf("half an archive: %v", err)
	}
	x, err := Open(filepath.Join(dir, indexName))
	if err != nil || x.Revision() != before.Revision {
		t.Fatalf("the index in force: %v", err)
	}
	x.Close()
	s.take()
	if _, err := Compile(t.Context(), src, CompileOptions{Dir: dir, Limits: fastRetry}); err == nil {
		t.Fatal("half an archive, again: no error")
	}
	if diff := cmp.Diff([]string{"200 /npm/all.zip"}, s.take()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	// What the index was made of is still there.
	if stats, err := Recompile(t.Context(), dir, CompileOptions{}); err != nil || !stats.Unchanged {
		t.Errorf("from what is kept: %+v, %v", stats, err)
	}
}

// TestKeptCopies: a catalogue that cannot be reached is taken from the last
// update, and said.
func TestKeptCopies(t *testing.T) {
	s := &server{files: map[string][]byte{"/kev.json": []byte(`{"vulnerabilities":[{"cveID":"CVE-2024-1"}]}`)}, etag: strongTag}
	h := newServer(t, s)
	src := Source{Base: export(t, map[string][]string{"npm": {osv("GHSA-1", "npm", "a", "introduced 0", `"aliases": ["CVE-2024-1"]`)}}), KEV: h.Base + "/kev.json"}
	dir := t.TempDir()
	if _, err := Compile(t.Context(), src, CompileOptions{Dir: dir, Limits: fastRetry}); err != nil {
		t.Fatal(err)
	}
	s.fail = 100
	stats, err := Compile(t.Context(), src, CompileOptions{Dir: dir, Limits: fastRetry})
	if err != nil || stats.KEVMatched != 1 || len(stats.Warnings) != 1 || !strings.Contains(stats.Warnings[0], "kev: an earlier copy") {
		t.Errorf("%q, %v", stats.Warnings, err)
	}
	if _, err := Compile(t.Context(), src, CompileOptions{Dir: t.TempDir(), Limits: fastRetry}); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("without a copy: %v", err)
	}
}
