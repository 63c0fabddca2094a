package advisory

import (
	"archive/zip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestPrivatePins: a private source whose bytes are not those that were named
// fails the update; the index in force stays.
func TestPrivatePins(t *testing.T) {
	record := osv("ACME-1", "npm", "a", "introduced 0, fixed 3.0.0", "")
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "sub", "b.json"), []byte(record), 0o644); err != nil {
		t.Fatal(err)
	}
	file := writeFile(t, record)
	archive := string(entries(t, record))
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, archive) }))
	defer web.Close()
	sum := func(s string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(s))) }
	listing := sum(sum(record) + "  sub/b.json\n") // as sha256sum prints it
	base := export(t, map[string][]string{"npm": {goodRecord("GHSA-1")}})
	into := t.TempDir()
	before, err := Compile(t.Context(), Source{Base: base}, CompileOptions{Dir: into})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ from, want string }{
		{file + pinMark + sum(record), ""},
		{file + pinMark + strings.ToUpper(sum(record)), ""},
		{dir + pinMark + listing, ""},
		{writeFile(t, archive), ""},
		{web.URL + "/feed.zip" + pinMark + sum(archive), ""},
		{file + pinMark + sum("x"), "and " + sum("x") + " is wanted"},
		{dir + pinMark + sum(record), "is wanted"},
		{web.URL + "/feed.zip" + pinMark + sum("x"), "is wanted"},
		{web.URL + "/feed.zip", "http proves nothing"},
		{file + pinMark + "12", "wants 64 hexadecimal digits"},
		{"ftp://x/y" + pinMark + sum("x"), "only http, https and files"},
		{t.TempDir(), "no .json files"},
	} {
		stats, err := Compile(t.Context(), Source{Base: base, Private: []string{tt.from}}, CompileOptions{Dir: t.TempDir(), Limits: fastRetry})
		if tt.want == "" {
			if err != nil || stats.Advisories != 2 {
				t.Errorf("%s: %+v, %v", tt.from, stats, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q", tt.from, err, tt.want)
		}
		if _, err := Compile(t.Context(), Source{Base: base, Private: []string{tt.from}}, CompileOptions{Dir: into, Limits: fastRetry}); err == nil {
			t.Errorf("%s: no error", tt.from)
		}
		unchangedIndex(t, into, before.Revision)
	}
}

func unchangedIndex(t *testing.T, dir, revision string) {
	t.Helper()
	x, err := Open(filepath.Join(dir, indexName))
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	if x.Revision() != revision {
		t.Errorf("revision %s, want the old %s", x.Revision(), revision)
	}
}

// TestImport: imported records survive updates, all or none are taken, and the
// errors name file and record.
func TestImport(t *testing.T) {
	dir := t.TempDir()
	base := export(t, map[string][]string{"npm": {goodRecord("GHSA-1")}})
	if _, err := Recompile(t.Context(), dir, CompileOptions{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before the first update: %v", err)
	}
	if _, err := Compile(t.Context(), Source{Base: base}, CompileOptions{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	ids, err := ImportPrivate(t.Context(), dir, writeFile(t, osv("ACME-1:x", "npm", "a", "introduced 0, fixed 3.0.0", "")), Limits{})
	if err != nil || !cmp.Equal(ids, []string{"ACME-1:x"}) {
		t.Fatalf("%q, %v", ids, err)
	}
	stats, err := Recompile(t.Context(), dir, CompileOptions{})
	if err != nil || stats.Advisories != 2 {
		t.Fatalf("%+v, %v", stats, err)
	}
	// Another version of the record, in an archive with a second one.
	archive := writeFile(t, string(rawZip(t, func(z *zip.Writer) {
		for name, text := range map[string]string{"one.json": osv("ACME-1:x", "npm", "a", "introduced 0, fixed 4.0.0", ""), "two.json": osv("ACME-2", "Debian:12", "b", "introduced 0", "")} {
			w, err := z.Create(name)
			if err == nil {
				_, err = fmt.Fprint(w, text)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	})))
	if _, err := ImportPrivate(t.Context(), dir, archive, Limits{}); err != nil {
		t.Fatal(err)
	}
	if stats, err = Compile(t.Context(), Source{Base: base}, CompileOptions{Dir: dir}); err != nil || stats.Advisories != 3 {
		t.Fatalf("after an update: %+v, %v", stats, err)
	}
	for name, tt := range map[string]struct{ record, want string }{
		"no package":         {`{"id": "ACME-9"}`, "record ACME-9: it names no affected package"},
		"unknown ecosystem":  {osv("ACME-9", "Debain:12", "a", "introduced 0", ""), `ecosystem "Debain:12" is not known`},
		"unreadable version": {osv("ACME-9", "npm", "a", "introduced 0, fixed banana", ""), `record ACME-9: affected[0] (npm a): version cannot be read: "banana"`},
		"unknown event":      {osv("ACME-9", "npm", "a", "introduced 0, repaired 2", ""), "a kind of event that is not known"},
		"no versions":        {osv("ACME-9", "npm", "a", "", ""), "neither a range of versions nor a list"},
		"no JSON":            {`{`, "not an OSV record"},
	} {
		files := t.TempDir()
		for n, text := range map[string]string{"a-good.json": osv("ACME-8", "npm", "a", "introduced 0", ""), "bad.json": tt.record} {
			if err := os.WriteFile(filepath.Join(files, n), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		_, err := ImportPrivate(t.Context(), dir, files, Limits{})
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "bad.json") {
			t.Errorf("%s: error %v, want %q and the file", name, err, tt.want)
		}
		if _, err := os.Stat(filepath.Join(dir, privateName, "ACME-8.json")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: a part of it was taken: %v", name, err)
		}
	}
	if _, err := ImportPrivate(t.Context(), dir, "https://example.com/x.json", Limits{}); err == nil || !strings.Contains(err.Error(), "advisories.private") {
		t.Errorf("a URL: %v", err)
	}
}
