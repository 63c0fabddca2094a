package layer

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"database/sql"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	godigest "github.com/opencontainers/go-digest"
	"github.com/ulikunitz/xz"

	"github.com/sluiceproxy/sluice/analyzer"
)

// sharedData returns the folder with real data, or skips.
func sharedData(t testing.TB, sub string) string {
	t.Helper()
	dir := os.Getenv("SLUICE_TEST_DATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "data")
	}
	dir = filepath.Join(dir, sub)
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("no real data at %s: set SLUICE_TEST_DATA", dir)
	}
	return dir
}

// TestRealRootFS compares what a scan finds in real root file systems with an
// independent count.
func TestRealRootFS(t *testing.T) {
	if testing.Short() {
		t.Skip("long under the race detector")
	}
	files, err := filepath.Glob(filepath.Join(sharedData(t, "rootfs"), "*.tar.*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no root file systems: %v", err)
	}
	s := newScanner(t, Options{})
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			f, err := os.Open(file)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			var blob io.Reader = f
			if strings.HasSuffix(file, ".xz") { // no client takes it as a layer
				if blob, err = xz.NewReader(bufio.NewReader(f)); err != nil {
					t.Fatal(err)
				}
			}
			l, err := s.Scan(t.Context(), blob)
			if err != nil {
				t.Fatal(err)
			}
			want := countIndependently(t, file)
			if l.DiffID != want.diffID {
				t.Errorf("diffID = %s, want %s", l.DiffID, want.diffID)
			}
			got := 0
			for _, p := range l.Packages {
				if p.Type == want.kind {
					got++
				} else {
					t.Logf("also: %s %s %s at %s", p.Type, p.Name, p.Version, p.Path)
				}
			}
			if got != want.packages || got == 0 {
				t.Errorf("%d %s packages, the database has %d", got, want.kind, want.packages)
			}
			if l.OSRelease == nil || l.OSRelease.ID != want.id || !strings.HasPrefix(l.OSRelease.VersionID, want.version) {
				t.Errorf("OS = %+v, want %s %s", l.OSRelease, want.id, want.version)
			}
			if len(l.Secrets) > 0 {
				t.Errorf("secrets: %+v", l.Secrets)
			}
			if len(l.Incomplete) > 0 {
				t.Errorf("incomplete: %+v", l.Incomplete)
			}
			t.Logf("%d %s packages, %s %s, %d paths", got, want.kind, l.OSRelease.ID, l.OSRelease.VersionID, len(l.Paths))
		})
	}
}

type independent struct {
	kind, id, version string
	packages          int
	diffID            godigest.Digest
}

// countIndependently unpacks with other libraries and counts by other means:
// the lines "P:" of an apk database, the rows of an rpm database.
func countIndependently(t *testing.T, file string) independent {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var r io.Reader
	if strings.HasSuffix(file, ".xz") {
		r, err = xz.NewReader(bufio.NewReader(f))
	} else {
		r, err = gzip.NewReader(f)
	}
	if err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	out := independent{diffID: godigest.FromBytes(all)}
	name := strings.Split(filepath.Base(file), "-")
	tr := tar.NewReader(strings.NewReader(string(all)))
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		switch filepath.Clean(h.Name) {
		case "lib/apk/db/installed":
			b, err := io.ReadAll(tr)
			if err != nil {
				t.Fatal(err)
			}
			out.kind, out.id, out.version = "apk", "alpine", name[2]
			out.packages = strings.Count("\n"+string(b), "\nP:")
		case "var/lib/rpm/rpmdb.sqlite":
			db := filepath.Join(t.TempDir(), "rpmdb.sqlite")
			w, err := os.Create(db)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(w, tr); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			conn, err := sql.Open("sqlite", db)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			out.kind, out.id, out.version = "rpm", "almalinux", name[1]
			if err := conn.QueryRowContext(t.Context(), "SELECT count(*) FROM Packages").Scan(&out.packages); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func newScanner(t testing.TB, opts Options) *Scanner {
	t.Helper()
	if opts.TempDir == "" {
		opts.TempDir = t.TempDir()
	}
	s, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var _ analyzer.LayerScanner = (*Scanner)(nil)
