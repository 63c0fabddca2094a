package records

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	godigest "github.com/opencontainers/go-digest"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/sluiceproxy/sluice/analyzer"
)

var clock = time.Date(2026, 11, 20, 12, 0, 0, 123456789, time.UTC)

func TestMain(m *testing.M) {
	if path := os.Getenv(crashEnv); path != "" {
		crash(path)
	}
	goleak.VerifyTestMain(m)
}

// openAt opens the database at path for the length of the test.
func openAt(t *testing.T, path string) *DB {
	t.Helper()
	db, err := Open(t.Context(), path, zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func openNew(t *testing.T) *DB { return openAt(t, filepath.Join(t.TempDir(), "records.db")) }

func digest(s string) godigest.Digest { return godigest.FromString(s) }

func TestOpenModes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a name?with%odd#letters.db")
	db := openAt(t, path)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode = %v, want 0600", info.Mode())
	}
	for _, tt := range []struct {
		pool   *sql.DB
		pragma string
		want   string
	}{
		{db.durable, "synchronous", "2"},
		{db.quick, "synchronous", "1"},
		{db.durable, "journal_mode", "wal"},
		{db.quick, "journal_mode", "wal"},
		{db.read, "query_only", "1"},
		{db.durable, "foreign_keys", "1"},
		{db.durable, "busy_timeout", "10000"},
	} {
		var got string
		if err := tt.pool.QueryRowContext(t.Context(), "PRAGMA "+tt.pragma).Scan(&got); err != nil || got != tt.want {
			t.Errorf("%s = %q, %v, want %q", tt.pragma, got, err, tt.want)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	healthy := func(t *testing.T, path string) {
		db, err := Open(t.Context(), path, zap.NewNop())
		if err != nil {
			t.Fatal(err)
		}
		for range 200 {
			if _, err := db.AddBlock(t.Context(), block("registry.example/a"), "alice"); err != nil {
				t.Fatal(err)
			}
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name    string
		prepare func(t *testing.T, path string)
		want    []string
	}{
		{"not a database", func(t *testing.T, path string) {
			write(t, path, bytes.Repeat([]byte("not a database\n"), 1000))
		}, []string{"damaged or not a database", "restore it from a backup"}},
		{"damaged pages", func(t *testing.T, path string) {
			healthy(t, path)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for i := len(b) / 2; i < len(b); i++ {
				b[i] = 0xa5
			}
			write(t, path, b)
		}, []string{"damaged or not a database"}},
		{"newer program", func(t *testing.T, path string) {
			healthy(t, path)
			pool, err := connect(path, "FULL", 1)
			if err != nil {
				t.Fatal(err)
			}
			defer pool.Close()
			if _, err := pool.ExecContext(t.Context(), "INSERT INTO schema_version (version) VALUES (99)"); err != nil {
				t.Fatal(err)
			}
		}, []string{"schema 99", "newer sluice"}},
		{"a directory", func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, []string{"is a directory"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "records.db")
			tt.prepare(t, path)
			db, err := Open(t.Context(), path, zap.NewNop())
			if err == nil {
				db.Close()
				t.Fatal("opened")
			}
			for _, want := range append(tt.want, path) {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
		})
	}
}

// Several processes that start at once on a new file all get the same database.
func TestOpenTogether(t *testing.T) {
	path := filepath.Join(t.TempDir(), "records.db")
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			db, err := Open(t.Context(), path, zap.NewNop())
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := db.AddBlock(t.Context(), block("registry.example/a"), "alice"); err != nil {
				t.Error(err)
			}
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if blocks, err := openAt(t, path).Blocks(t.Context()); err != nil || len(blocks) != 6 {
		t.Errorf("%d blocks, %v", len(blocks), err)
	}
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestLayer(t *testing.T) {
	db := openNew(t)
	want := &analyzer.Layer{
		DiffID: digest("tar"), Digest: digest("blob"), Size: 3, Uncompressed: 9, Paths: []string{"etc/", "etc/passwd"},
		Packages: []analyzer.Package{{Type: "deb", Name: "zlib1g", Version: "1:1.2.13", PURL: "pkg:deb/debian/zlib1g@1:1.2.13"}},
	}
	if _, ok, err := db.Layer(t.Context(), want.Digest, "r1"); ok || err != nil {
		t.Fatalf("before: %v, %v", ok, err)
	}
	for range 2 { // the second replaces the first
		if err := db.PutLayer(t.Context(), "r1", want); err != nil {
			t.Fatal(err)
		}
	}
	got, ok, err := db.Layer(t.Context(), want.Digest, "r1")
	if err != nil || !ok {
		t.Fatalf("after: %v, %v", ok, err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if _, ok, err := db.Layer(t.Context(), want.Digest, "r2"); ok || err != nil {
		t.Errorf("another revision: %v, %v", ok, err)
	}
}

func TestInventory(t *testing.T) {
	db := openNew(t)
	want := &analyzer.Inventory{Revision: "r1", Manifest: digest("m"), Platform: "linux/amd64", Created: clock, User: "app"}
	if err := db.PutInventory(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	got, ok, err := db.Inventory(t.Context(), want.Manifest, "r1")
	if err != nil || !ok {
		t.Fatalf("%v, %v", ok, err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if _, ok, err := db.Inventory(t.Context(), want.Manifest, "r2"); ok || err != nil {
		t.Errorf("another revision: %v, %v", ok, err)
	}
}

func TestDamagedBodyIsAMiss(t *testing.T) {
	for _, tt := range []struct {
		name string
		body func(db *DB) []byte
	}{
		{"not compressed", func(*DB) []byte { return []byte(`{"digest":""}`) }},
		{"not JSON", func(db *DB) []byte { return db.encoder.EncodeAll([]byte("{"), nil) }},
		{"of another layer", func(db *DB) []byte { return db.encoder.EncodeAll([]byte(`{"digest":"`+digest("x")+`"}`), nil) }},
		{"empty", func(*DB) []byte { return nil }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			db := openAt(t, filepath.Join(t.TempDir(), "records.db"))
			db.log = zap.NewNop()
			body := tt.body(db)
			if body == nil {
				body = []byte{}
			}
			if _, err := db.quick.ExecContext(t.Context(), "INSERT INTO layers (blob, revision, body) VALUES (?, 'r', ?)", digest("b").String(), body); err != nil {
				t.Fatal(err)
			}
			if l, ok, err := db.Layer(t.Context(), digest("b"), "r"); ok || err != nil {
				t.Errorf("Layer = %v, %v, %v, want a miss", l, ok, err)
			}
		})
	}
}

func TestCanceled(t *testing.T) {
	db := openNew(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := db.AddBlock(ctx, block("registry.example/a"), "alice"); !errors.Is(err, context.Canceled) {
		t.Errorf("AddBlock = %v", err)
	}
	if _, _, err := db.Verdict(ctx, "a", digest("a")); !errors.Is(err, context.Canceled) {
		t.Errorf("Verdict = %v", err)
	}
	if _, err := db.AddBlock(t.Context(), block("registry.example/a"), "alice"); err != nil {
		t.Errorf("after a canceled write: %v", err)
	}
}
