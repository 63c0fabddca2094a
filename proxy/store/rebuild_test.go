package store

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	godigest "github.com/opencontainers/go-digest"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// saveTime sets what a restart takes for the last use of d.
func saveTime(t testing.TB, s *Store, d godigest.Digest, unix int64) {
	t.Helper()
	at := time.Unix(unix, 0)
	if err := os.Chtimes(s.root+blobPath(d), at, at); err != nil {
		t.Fatal(err)
	}
}

func TestRebuildClearsWhatIsNoBlob(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	d := put(t, s, "a", unit)
	empty := put(t, s, "", 0)
	s.Close()
	blobs := filepath.Join(dir, blobsPath)
	outside := filepath.Join(t.TempDir(), "outside")
	hexDigits := strings.Repeat("ab", 32)
	for _, path := range []string{
		outside,
		filepath.Join(blobs, "stray"),
		filepath.Join(blobs, "md5/ab/abcdef/data"),
		filepath.Join(blobs, "sha256/stray"),
		filepath.Join(blobs, "sha256/ab/stray"),
		filepath.Join(blobs, "sha256/ab/short/data"),
		filepath.Join(blobs, "sha256/ac", hexDigits, "data"), // in another's folder
		filepath.Join(blobs, "sha256/ab", strings.ToUpper(hexDigits), "data"),
		filepath.Join(blobs, "sha256/ab", hexDigits, "data.0b4fa1f2-61f0-4f9e-b86f-f9a3f7c2aa10.tmp"),
		filepath.Join(filepath.Dir(dir+blobPath(d)), "data.0b4fa1f2-61f0-4f9e-b86f-f9a3f7c2aa10.tmp"),
		filepath.Join(blobs, "sha256/cd", strings.Repeat("cd", 32), "data/a-folder"),
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for link, shard := range map[string]string{"ef": "sha256/ef", "01": "sha256/01"} {
		dir := filepath.Join(blobs, shard, strings.Repeat(link, 32))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(outside, filepath.Join(dir, "data")); err != nil {
			t.Skip("no symbolic links here:", err)
		}
	}
	zero := filepath.Join(blobs, "sha256/23", strings.Repeat("23", 32))
	if err := os.MkdirAll(zero, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(zero, "data"), nil, 0o600); err != nil {
		t.Fatal(err)
	}

	s = open(t, dir)
	check(t, s)
	got := map[godigest.Digest]int64{}
	for d, e := range s.index.entries {
		got[d] = e.size
	}
	if diff := cmp.Diff(map[godigest.Digest]int64{d: unit, empty: 0}, got); diff != "" {
		t.Errorf("index: -want +got\n%s", diff)
	}
	if b, err := os.ReadFile(outside); err != nil || string(b) != "x" {
		t.Errorf("a link was followed: %q, %v", b, err)
	}
	for _, d := range []godigest.Digest{d, empty} {
		use(t, s, d)
	}
}

// TestRebuildOfUnreadable fails rather than to forget blobs that take up space.
func TestRebuildOfUnreadable(t *testing.T) {
	dir := t.TempDir()
	put(t, open(t, dir), "a", unit)
	shard := filepath.Dir(filepath.Dir(dir + blobPath(unitDigest("a"))))
	if err := os.Chmod(shard, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(shard, 0o700) })
	if _, err := os.ReadDir(shard); err == nil {
		t.Skip("this user may read everything")
	}
	if _, err := Open(dir, Options{Metrics: prometheus.NewRegistry(), Log: zap.NewNop()}); err == nil {
		t.Error("no error")
	}
}

// TestFutureTimes: the uses of a blob that a wrong clock wrote count.
func TestFutureTimes(t *testing.T) {
	c, dir := newClock(), t.TempDir()
	s := openWith(t, dir, Options{Now: c.now})
	saveTime(t, s, put(t, s, "a", unit), c.t.Add(1000*time.Hour).Unix())
	s.Close()
	s = openWith(t, dir, Options{MaxBytes: 2 * unit, High: 1, Low: 1, Now: c.now})
	c.forward(time.Hour)
	put(t, s, "b", unit)
	c.forward(time.Hour)
	use(t, s, unitDigest("a"))
	put(t, s, "c", unit)
	if got := names(t, s, unit, "abc"); got != "ac" {
		t.Errorf("left %q, want ac", got)
	}
}

func FuzzBlobDigest(f *testing.F) {
	for _, seed := range [][3]string{
		{"sha256", "ab", strings.Repeat("ab", 32)},
		{"sha512", "cd", strings.Repeat("cd", 64)},
		{"sha256", "AB", strings.Repeat("AB", 32)},
		{"sha256", "..", ".."},
		{"", "", ""},
		{"sha256:", "ab", "data"},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	f.Fuzz(func(t *testing.T, algorithm, shard, name string) {
		d, ok := blobDigest(algorithm, shard, name)
		if !ok {
			return
		}
		if got, want := blobPath(d), blobsPath+"/"+algorithm+"/"+shard+"/"+name+"/data"; got != want {
			t.Errorf("the blob in %s would be looked for in %s", want, got)
		}
	})
}

// fill makes n tiny blobs as Commit leaves them, without its syncs. The bytes do
// not have their digests: Open does not read them.
func fill(b *testing.B, dir string, n int) {
	b.Helper()
	for i := range n {
		sum := sha256.Sum256([]byte(fmt.Sprint(i)))
		path := dir + blobPath(godigest.NewDigestFromEncoded(godigest.SHA256, hex.EncodeToString(sum[:])))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRebuild20k(b *testing.B) {
	const n = 20_000
	dir := b.TempDir()
	fill(b, dir, n)
	for b.Loop() {
		if s := open(b, dir); len(s.index.entries) != n {
			b.Fatalf("%d blobs", len(s.index.entries))
		}
	}
}

func BenchmarkOpenBlob(b *testing.B) {
	s := open(b, b.TempDir())
	d := put(b, s, "a", 700)
	b.ReportAllocs()
	for b.Loop() {
		use(b, s, d)
	}
}
