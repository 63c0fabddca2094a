package layer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	godigest "github.com/opencontainers/go-digest"
	"go.uber.org/goleak"

	"github.com/sluiceproxy/sluice/analyzer"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("database/sql.(*DB).connectionOpener"))
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }

// said renders what a layer says in the corpus' short form.
func said(l *analyzer.Layer) []string {
	var out []string
	for _, p := range l.Packages {
		out = append(out, p.Type+"/"+p.Name+"@"+p.Version)
	}
	for _, s := range l.Secrets {
		out = append(out, "secret "+s.Rule)
	}
	for _, i := range l.Incomplete {
		out = append(out, i.Reason)
	}
	return out
}

// TestHostile scans every layer of the corpus and asserts what it says, that it
// leaves no file behind, and that its digests cover all bytes.
func TestHostile(t *testing.T) {
	for _, tt := range corpus(t) {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.opts.TempDir = t.TempDir()
			start := time.Now()
			var blob io.Reader = bytes.NewReader(tt.blob)
			if len(tt.blob) < 64<<10 {
				blob = iotest.OneByteReader(blob)
			}
			l, err := newScanner(t, tt.opts).Scan(t.Context(), blob)
			if d := time.Since(start); d > 20*time.Second { // milliseconds on an idle machine
				t.Errorf("took %s", d)
			}
			if left, _ := os.ReadDir(tt.opts.TempDir); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error = %v, want one with %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := said(l)
			ok := len(got) == len(tt.want)
			slices.Sort(got[:len(l.Packages)])
			want := slices.Clone(tt.want)
			slices.Sort(want[:min(len(want), len(l.Packages))])
			for i := range got {
				ok = ok && strings.Contains(got[i], want[i])
			}
			if !ok {
				t.Errorf("says %q, want %q", got, want)
			}
			if want := godigest.FromBytes(tt.blob); l.Digest != want || l.Size != int64(len(tt.blob)) {
				t.Errorf("digest %s of %d bytes, want %s of %d", l.Digest, l.Size, want, len(tt.blob))
			}
		})
	}
}

// TestDiffID compares the diffID with the digest of the tar stream under every
// compression, padding included.
func TestDiffID(t *testing.T) {
	tarball := append(pack(t, file("a", "1"), file(apkDB, apkRecord)), make([]byte, 700_000)...)
	want := godigest.FromBytes(tarball)
	for name, blob := range map[string][]byte{
		"plain": tarball, "gzip": gz(t, tarball), "zstd": zst(t, tarball),
		"members": append(gz(t, tarball[:1000]), gz(t, tarball[1000:])...),
	} {
		l, err := newScanner(t, Options{}).Scan(t.Context(), bytes.NewReader(blob))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if l.DiffID != want || l.Uncompressed != int64(len(tarball)) {
			t.Errorf("%s: diffID %s of %d bytes, want %s of %d", name, l.DiffID, l.Uncompressed, want, len(tarball))
		}
	}
}

// TestBomb reads 10 GB of zeros up to a limit, and to the ratio's.
func TestBomb(t *testing.T) {
	if testing.Short() {
		t.Skip("long under the race detector")
	}
	for _, tt := range []struct {
		name, want string
		opts       Options
	}{
		{"total", "more than 67108864 uncompressed bytes", Options{MaxUncompressed: 64 << 20}},
		{"ratio", "compression ratio above 256", Options{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l, err := newScanner(t, tt.opts).Scan(t.Context(), bomb(t, pack(t, file(apkDB, apkRecord))[:2048], 10<<30))
			if err != nil {
				t.Fatal(err)
			}
			if l.DiffID != "" {
				t.Errorf("diffID = %s of a stream that was not read to its end", l.DiffID)
			}
			if got := said(l); len(got) != 3 || !strings.Contains(got[2], tt.want) {
				t.Errorf("says %q, want the packages and %q", got, tt.want)
			}
			if l.Uncompressed > 300<<20 {
				t.Errorf("read %d bytes of zeros", l.Uncompressed)
			}
		})
	}
}

// entries is a tar stream of n empty files, made as it is read.
func entries(t testing.TB, n int) io.Reader {
	h := pack(t, file("dir/file-0000000", ""))[:512]
	i := -1
	return readerFunc(func(p []byte) (int, error) {
		if i++; i >= n {
			return 0, io.EOF
		}
		copy(h[len("dir/file-"):], fmt.Sprintf("%07d", i))
		copy(h[148:156], fmt.Sprintf("%06o\x00 ", checksum(h)))
		return copy(p, h), nil
	})
}

// TestManyEntries has one entry more than a limit; the benchmark has a million,
// the default limit.
func TestManyEntries(t *testing.T) { scanEntries(t, 100_000) }

func BenchmarkMillionEntries(b *testing.B) {
	for b.Loop() {
		scanEntries(b, 1_000_000)
	}
}

func scanEntries(t testing.TB, limit int) {
	t.Helper()
	l, err := newScanner(t, Options{MaxEntries: limit}).Scan(t.Context(), entries(t, limit+1))
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("more than %d entries", limit)
	if got := said(l); len(l.Paths) != limit || len(got) != 1 || got[0] != want || l.DiffID == "" {
		t.Errorf("%d paths, says %q, diffID %q", len(l.Paths), got, l.DiffID)
	}
}

// TestEntries checks paths, whiteouts, opaque directories and setuid files.
func TestEntries(t *testing.T) {
	blob := pack(t,
		dir("./"), dir("usr/"), dir("usr/bin"), withMode(file("usr/bin/su", "x"), 0o4755), withMode(file("usr/bin/wall", "x"), 0o2755),
		withMode(file("usr/bin/was", "x"), 0o4755), file("usr/bin/was", "y"),
		file("usr/bin/.wh.gone", ""), file("etc/.wh..wh..opq", ""), file(".wh.top", ""), file("a/x.wh.y", ""),
		symlink("bin", "usr/bin"), file("bad\xff", ""))
	l, err := newScanner(t, Options{}).Scan(t.Context(), bytes.NewReader(blob))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name      string
		got, want []string
	}{
		{"paths", l.Paths, []string{"a/x.wh.y", "bad\uFFFD", "bin", "usr/", "usr/bin/", "usr/bin/su", "usr/bin/wall", "usr/bin/was"}},
		{"whiteouts", l.Whiteouts, []string{"top", "usr/bin/gone"}},
		{"opaque", l.Opaque, []string{"etc"}},
		{"setuid", l.Setuid, []string{"usr/bin/su", "usr/bin/wall"}},
	} {
		if d := cmp.Diff(c.want, c.got); d != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, d)
		}
	}
}

// TestStreamError checks that a failing reader is an error, at any place.
func TestStreamError(t *testing.T) {
	broken := errors.New("connection reset")
	for name, blob := range map[string][]byte{"plain": pack(t, file("a", strings.Repeat("x", 4000))), "gzip": gz(t, pack(t, file("a", "x")))} {
		for _, n := range []int{0, 3, 20, 100, len(blob)} {
			n = min(n, len(blob))
			l, err := newScanner(t, Options{}).Scan(t.Context(), io.MultiReader(bytes.NewReader(blob[:n]), iotest.ErrReader(broken)))
			if !errors.Is(err, broken) {
				t.Errorf("%s cut after %d bytes: layer %v, error %v", name, n, l, err)
			}
		}
	}
}

// TestCancel checks that a cancelled scan ends with the context's error, and
// goleak in TestMain that nothing of it goes on.
func TestCancel(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	r := bomb(t, nil, 1<<40)
	read := 0
	_, err := newScanner(t, Options{MaxRatio: 1 << 40}).Scan(ctx, readerFunc(func(p []byte) (int, error) {
		if read++; read == 3 {
			cancel(errors.New("client left"))
		}
		return r.Read(p)
	}))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v", err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestTempDirFailure checks that a fault of this machine is an error and not a
// property of the layer, which would be remembered.
func TestTempDirFailure(t *testing.T) {
	for name, blob := range map[string][]byte{
		"rpm":   pack(t, file("var/lib/rpm/rpmdb.sqlite", "x")),
		"large": pack(t, file(apkDB, apkRecord)),
		"jar":   pack(t, file("a.jar", jar(t, map[string]string{"b.jar": strings.Repeat("x", 200)}))),
	} {
		opts := Options{TempDir: t.TempDir() + "/missing", MaxMemory: 1 << 20}
		if name == "large" {
			opts.MaxMemory = 10
		}
		opts.Extract.MaxMemory = 10
		s, err := New(opts)
		if err != nil {
			t.Fatal(err)
		}
		if l, err := s.Scan(t.Context(), bytes.NewReader(blob)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: layer %+v, error %v", name, l, err)
		}
	}
}

func TestSecretsOfReplacedFiles(t *testing.T) {
	const token = "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"
	l, err := newScanner(t, Options{}).Scan(t.Context(), bytes.NewReader(pack(t, file("a", token), file("b", token), file("a", "nothing"))))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range l.Secrets {
		if s.Deleted {
			s.Path += " (deleted)"
		}
		got = append(got, s.Path)
	}
	if d := cmp.Diff([]string{"a (deleted)", "b"}, got); d != "" {
		t.Errorf("secrets (-want +got):\n%s", d)
	}
}

func TestRevision(t *testing.T) {
	a, b := newScanner(t, Options{}), newScanner(t, Options{MaxEntries: 7})
	if a.Revision() == b.Revision() {
		t.Error("other limits give the same revision")
	}
	if c := newScanner(t, Options{MaxEntries: 1_000_000}); a.Revision() != c.Revision() {
		t.Error("the defaults, said aloud, and another directory give another revision")
	}
}

// FuzzScan feeds arbitrary blobs: a scan ends with a result or an error, its
// digest is right, a second scan says the same, and so does a cache.
func FuzzScan(f *testing.F) {
	for _, c := range corpus(f) {
		if len(c.blob) < 64<<10 {
			f.Add(c.blob)
		}
	}
	var opts Options
	opts.TempDir = f.TempDir()
	opts.MaxUncompressed, opts.MaxMemory, opts.MaxEntries = 16<<20, 1<<20, 10_000
	opts.Extract.MaxArchiveBytes, opts.Extract.MaxDocument = 4<<20, 1<<20
	s, err := New(opts)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, blob []byte) {
		l, err := s.Scan(t.Context(), bytes.NewReader(blob))
		if err != nil {
			return
		}
		if l.Digest != godigest.FromBytes(blob) {
			t.Errorf("digest %s", l.Digest)
		}
		for _, p := range l.Paths {
			if p == "" || strings.HasPrefix(p, "/") || strings.HasPrefix(p, "../") {
				t.Errorf("path %q", p)
			}
		}
		again, err := s.Scan(t.Context(), iotest.HalfReader(bytes.NewReader(blob)))
		if err != nil {
			t.Fatalf("the second scan failed: %v", err)
		}
		if d := cmp.Diff(l, again); d != "" {
			t.Errorf("two scans differ:\n%s", d)
		}
		b, err := json.Marshal(l)
		if err != nil {
			t.Fatal(err)
		}
		var kept analyzer.Layer
		if err := json.Unmarshal(b, &kept); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(l, &kept, cmpopts.EquateEmpty()); d != "" {
			t.Errorf("as JSON it differs:\n%s", d)
		}
	})
}

// proven is a blob whose digest somebody else has computed.
type proven struct {
	io.Reader
	digest godigest.Digest
	size   int64
	err    error
}

func (p proven) Proof() (godigest.Digest, int64, error) { return p.digest, p.size, p.err }

// TestProven checks that a proof takes the place of the scanner's own hash, also
// past a limit, and that one that does not fit the bytes is an error.
func TestProven(t *testing.T) {
	blob := append(gz(t, pack(t, file(apkDB, apkRecord))), make([]byte, 1000)...)
	n, d, broken := int64(len(blob)), godigest.FromString("whatever was proven"), errors.New("other bytes")
	for _, tt := range []struct {
		name  string
		opts  Options
		size  int64
		proof error
		want  string
	}{
		{"whole", Options{}, n, nil, ""},
		{"past a limit", Options{MaxUncompressed: 100}, n, nil, ""},
		{"of fewer bytes", Options{}, n - 1, nil, "bytes were read"},
		{"refused", Options{}, n, broken, "other bytes"},
	} {
		l, err := newScanner(t, tt.opts).Scan(t.Context(), proven{iotest.HalfReader(bytes.NewReader(blob)), d, tt.size, tt.proof})
		switch {
		case tt.want != "":
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: layer %v, error %v, want one with %q", tt.name, l, err, tt.want)
			}
		case err != nil:
			t.Errorf("%s: %v", tt.name, err)
		case l.Digest != d || l.Size != n:
			t.Errorf("%s: digest %s of %d bytes, want the proven %s of %d", tt.name, l.Digest, l.Size, d, n)
		}
	}
}
