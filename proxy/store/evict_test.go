package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	godigest "github.com/opencontainers/go-digest"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// unit is the size of most blobs here: large enough not to count as small.
const unit = 100 << 10

// blob is n bytes that begin with name.
func blob(name string, n int) []byte {
	return append([]byte(name), make([]byte, n-len(name))...)
}

func unitDigest(name string) godigest.Digest { return godigest.FromBytes(blob(name, unit)) }

func put(t testing.TB, s *Store, name string, n int) godigest.Digest {
	t.Helper()
	b := blob(name, n)
	d := godigest.FromBytes(b)
	if err := s.Put(t.Context(), d, b); err != nil {
		t.Fatal(err)
	}
	s.running.Wait()
	return d
}

// use reads a blob, as a client does.
func use(t testing.TB, s *Store, d godigest.Digest) {
	t.Helper()
	f, err := s.OpenBlob(d)
	if err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
}

// names are those of the blobs that s has, of one size.
func names(t testing.TB, s *Store, n int, from string) string {
	t.Helper()
	var have strings.Builder
	for _, name := range from {
		ok, err := s.Has(t.Context(), godigest.FromBytes(blob(string(name), n)))
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			have.WriteRune(name)
		}
	}
	return have.String()
}

// onDisk is the sum of the bytes of all files below dir.
func onDisk(t testing.TB, dir string) int64 {
	t.Helper()
	var sum int64
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		sum += info.Size()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// check compares the account with the disk, while nothing is under way.
func check(t testing.TB, s *Store) {
	t.Helper()
	s.running.Wait()
	x := &s.index
	if got, want := x.used, onDisk(t, s.root); got != want {
		t.Errorf("%d bytes are accounted for, %d are on the disk", got, want)
	}
	if x.reserved != 0 || x.unwritten != 0 {
		t.Errorf("reserved %d, unwritten %d with no download under way", x.reserved, x.unwritten)
	}
	var used, light, pinned int64
	for d, e := range x.entries {
		used += e.size
		switch {
		case x.pins[d] > 0:
			pinned += e.size
		case e.size <= smallBytes:
			light += e.size
		}
	}
	if diff := cmp.Diff([]int64{used, light, pinned}, []int64{x.used, x.light, x.pinned}); diff != "" {
		t.Errorf("used, light and pinned: counted -, accounted +\n%s", diff)
	}
	if len(x.entries) > 0 && x.used > s.limit {
		t.Errorf("%d bytes, more than %d", x.used, s.limit)
	}
}

// clock is a time that tests move.
type clock struct{ t time.Time }

func newClock() *clock                    { return &clock{time.Now()} }
func (c *clock) now() time.Time           { return c.t }
func (c *clock) forward(by time.Duration) { c.t = c.t.Add(by) }

func TestOptions(t *testing.T) {
	for _, tt := range []struct {
		name      string
		opts      Options
		ok        bool
		high, low int64
	}{
		{"defaults", Options{MaxBytes: 100}, true, 95, 85},
		{"low follows high", Options{MaxBytes: 100, High: .5}, true, 50, 50},
		{"negative", Options{MaxBytes: -1}, false, 0, 0},
		{"low above high", Options{MaxBytes: 100, High: .5, Low: .6}, false, 0, 0},
		{"high above all", Options{MaxBytes: 100, High: 1.1}, false, 0, 0},
		{"negative low", Options{MaxBytes: 100, Low: -.1}, false, 0, 0},
		{"not a number", Options{MaxBytes: 100, Low: math.NaN()}, false, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.opts.Metrics, tt.opts.Log = prometheus.NewRegistry(), zap.NewNop()
			s, err := Open(t.TempDir(), tt.opts)
			if (err == nil) != tt.ok {
				t.Fatalf("error %v", err)
			}
			if err == nil && (s.high != tt.high || s.low != tt.low) {
				t.Errorf("watermarks %d and %d, want %d and %d", s.high, s.low, tt.high, tt.low)
			}
		})
	}
}

func TestLeastRecentlyUsedGoesFirst(t *testing.T) {
	c := newClock()
	s := openWith(t, t.TempDir(), Options{MaxBytes: 10 * unit, Now: c.now})
	for _, name := range "abcdefgh" {
		put(t, s, string(name), unit)
		c.forward(time.Minute)
	}
	for _, name := range "ca" {
		use(t, s, unitDigest(string(name)))
		c.forward(time.Minute)
	}
	put(t, s, "i", unit) // 9 units: below the high watermark
	if got, want := names(t, s, unit, "abcdefghij"), "abcdefghi"; got != want {
		t.Errorf("below the high watermark: %q, want %q", got, want)
	}
	put(t, s, "j", unit) // 10: evict to 8.5
	if got, want := names(t, s, unit, "abcdefghij"), "acefghij"; got != want {
		t.Errorf("past it: %q, want %q", got, want)
	}
	check(t, s)
}

func TestRestartKeepsTheOrder(t *testing.T) {
	c, dir := newClock(), t.TempDir()
	s := openWith(t, dir, Options{Now: c.now})
	for _, name := range "abcd" {
		put(t, s, string(name), unit)
	}
	for _, name := range "bdac" {
		c.forward(2 * time.Hour)
		use(t, s, unitDigest(string(name)))
	}
	s.Close()
	// The bound is lower now: what is too much goes at once.
	s = openWith(t, dir, Options{MaxBytes: 3 * unit, High: .9, Low: .7, Now: c.now})
	s.running.Wait()
	if got, want := names(t, s, unit, "abcd"), "ac"; got != want {
		t.Errorf("after the restart: %q, want %q", got, want)
	}
	check(t, s)
}

func TestLastUseIsSavedOnceAnHour(t *testing.T) {
	c := newClock()
	s := openWith(t, t.TempDir(), Options{Now: c.now})
	d := put(t, s, "a", unit)
	saved := func() time.Time {
		info, err := os.Stat(s.root + blobPath(d))
		if err != nil {
			t.Fatal(err)
		}
		return info.ModTime()
	}
	before := saved()
	c.forward(59 * time.Minute)
	if use(t, s, d); !saved().Equal(before) {
		t.Error("saved before an hour had gone")
	}
	c.forward(time.Minute)
	if use(t, s, d); saved().Sub(c.t).Abs() > time.Second {
		t.Errorf("saved %s, want %s", saved(), c.t)
	}
}

func TestSmallBlobsGoLast(t *testing.T) {
	c := newClock()
	s := openWith(t, t.TempDir(), Options{MaxBytes: 10 * unit, Now: c.now})
	for _, name := range "ABC" { // the oldest, and 3 % of all
		put(t, s, string(name), 10<<10)
		c.forward(time.Minute)
	}
	for _, name := range "abcdefghijklmn" {
		put(t, s, string(name), unit)
		c.forward(time.Minute)
	}
	if got := names(t, s, 10<<10, "ABC"); got != "ABC" {
		t.Errorf("small blobs left: %q", got)
	}
	for i := range 20 { // many small ones: then their age counts
		put(t, s, fmt.Sprintf("small %d", i), 30<<10)
		c.forward(time.Minute)
	}
	if s.index.large.Len() == 0 {
		t.Error("no large blob is left")
	}
	if got := names(t, s, 10<<10, "ABC"); got != "" {
		t.Errorf("old small blobs left among many: %q", got)
	}
	check(t, s)
}

func TestPinnedStays(t *testing.T) {
	c := newClock()
	s := openWith(t, t.TempDir(), Options{MaxBytes: 4 * unit, High: 1, Low: .5, Now: c.now})
	unpinA := s.Pin(unitDigest("a")) // before it is there
	for _, name := range "abcd" {
		put(t, s, string(name), unit)
		c.forward(time.Minute)
	}
	unpinB, unpinB2 := s.Pin(unitDigest("b")), s.Pin(unitDigest("b"))
	put(t, s, "e", unit) // in the place of c
	if got := names(t, s, unit, "abcde"); got != "abde" {
		t.Errorf("%q, want abde", got)
	}
	p, err := s.NewSpool(2 * unit)
	if err != nil {
		t.Fatal(err)
	}
	if got := names(t, s, unit, "abcde"); got != "ab" {
		t.Errorf("%q, want ab", got)
	}
	if _, err := s.NewSpool(1); !errors.Is(err, ErrFull) {
		t.Errorf("past what is pinned and reserved: %v, want ErrFull", err)
	}
	unpinB()
	unpinB() // does nothing more
	if _, err := s.NewSpool(1); !errors.Is(err, ErrFull) {
		t.Errorf("with b pinned once more: %v, want ErrFull", err)
	}
	unpinB2()
	q, err := s.NewSpool(1)
	if err != nil {
		t.Fatal(err)
	}
	s.running.Wait()
	if got := names(t, s, unit, "abcde"); got != "a" {
		t.Errorf("%q, want a", got)
	}
	unpinA()
	for _, p := range []*Spool{p, q} {
		if err := p.Abort(); err != nil {
			t.Error(err)
		}
	}
	if len(s.index.pins) != 0 {
		t.Errorf("pins left: %v", s.index.pins)
	}
	check(t, s)
}

func TestReservation(t *testing.T) {
	for _, tt := range []struct {
		name string
		size int64
		full bool
		left string
	}{
		{"fits", unit, false, "abc"},
		{"evicts just enough at once", 2 * unit, false, "bc"},
		{"evicts all", 4 * unit, false, ""},
		{"more than the bound evicts nothing", 4*unit + 1, true, "abc"},
		{"absurd", math.MaxInt64, true, "abc"},
		{"unknown", -1, false, "abc"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newClock()
			s := openWith(t, t.TempDir(), Options{MaxBytes: 4 * unit, High: 1, Low: 1, Now: c.now})
			for _, name := range "abc" {
				put(t, s, string(name), unit)
				c.forward(time.Minute)
			}
			p, err := s.NewSpool(tt.size)
			if errors.Is(err, ErrFull) != tt.full || (err == nil) == tt.full {
				t.Fatalf("error %v, full = %v", err, tt.full)
			}
			if got := names(t, s, unit, "abc"); got != tt.left {
				t.Errorf("left %q, want %q", got, tt.left)
			}
			if p != nil {
				if _, err := s.NewSpool(4*unit - p.reserved + 1); !errors.Is(err, ErrFull) {
					t.Errorf("another one for more than what is left: %v", err)
				}
				if got := names(t, s, unit, "abc"); got != tt.left {
					t.Errorf("after another one that was refused: left %q, want %q", got, tt.left)
				}
				if err := p.Abort(); err != nil {
					t.Error(err)
				}
			}
			if left, _ := os.ReadDir(s.spool()); len(left) != 0 {
				t.Errorf("in the spool: %v", left)
			}
			check(t, s)
		})
	}
}

// TestUnknownSizeGrows writes more than was announced, which counts as it comes.
func TestUnknownSizeGrows(t *testing.T) {
	c := newClock()
	s := openWith(t, t.TempDir(), Options{MaxBytes: 4 * unit, High: 1, Low: 1, Now: c.now})
	for _, name := range "abc" {
		put(t, s, string(name), unit)
		c.forward(time.Minute)
	}
	p, err := s.NewSpool(-1)
	if err != nil {
		t.Fatal(err)
	}
	for i, left := range []string{"abc", "bc", "c", ""} {
		if _, err := p.Write(make([]byte, unit)); err != nil {
			t.Fatal(err)
		}
		if got := names(t, s, unit, "abc"); got != left {
			t.Errorf("after %d units: %q, want %q", i+1, got, left)
		}
	}
	if n, err := p.Write([]byte("x")); n != 0 || !errors.Is(err, ErrFull) {
		t.Errorf("past the bound: %d, %v", n, err)
	}
	if got := onDisk(t, s.root); got != 4*unit {
		t.Errorf("%d bytes on the disk", got)
	}
	if err := p.Abort(); err != nil {
		t.Error(err)
	}
	check(t, s)
}

func TestCommitOverExistingCountsOnce(t *testing.T) {
	s := openWith(t, t.TempDir(), Options{MaxBytes: 10 * unit})
	for range 3 {
		put(t, s, "a", unit)
		check(t, s)
	}
	if s.index.used != unit {
		t.Errorf("used %d, want %d", s.index.used, unit)
	}
}

func TestCommitOfAnotherSize(t *testing.T) {
	s := open(t, t.TempDir())
	p, err := s.NewSpool(4)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(p, "abc"); err != nil {
		t.Fatal(err)
	}
	if err := p.Commit(t.Context(), godigest.FromString("abc"), 4); err == nil {
		t.Error("no error")
	}
	if err := p.Abort(); err != nil {
		t.Error(err)
	}
	check(t, s)
}

func TestAbortAfterCommit(t *testing.T) {
	s := open(t, t.TempDir())
	p, err := s.NewSpool(4)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(p, "abc"); err != nil {
		t.Fatal(err)
	}
	if err := p.Commit(t.Context(), godigest.FromString("abc"), 3); err != nil {
		t.Fatal(err)
	}
	if err := p.Abort(); err != nil {
		t.Error(err)
	}
	use(t, s, godigest.FromString("abc"))
	check(t, s)
}

func TestReaderOutlivesEviction(t *testing.T) {
	s := openWith(t, t.TempDir(), Options{MaxBytes: 2 * unit, High: 1, Low: 1})
	d := put(t, s, "a", unit)
	f, err := s.OpenBlob(d)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	put(t, s, "b", 2*unit)
	if _, err := s.OpenBlob(d); !errors.Is(err, ErrNotFound) {
		t.Errorf("after the eviction: %v", err)
	}
	if _, err := os.Stat(filepath.Dir(s.root + blobPath(d))); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the blob's folder: %v", err)
	}
	if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, blob("a", unit)) {
		t.Errorf("the open reader got %d bytes, %v", len(got), err)
	}
}

// TestBlobWithoutItsData is what an operator or a bad disk did to a blob.
func TestBlobWithoutItsData(t *testing.T) {
	for _, tt := range []struct {
		name string
		harm func(path string) error
	}{
		{"file removed", os.Remove},
		{"folder removed", func(path string) error { return os.RemoveAll(filepath.Dir(path)) }},
		{"emptied", func(path string) error { return os.Truncate(path, 0) }},
		{"cut", func(path string) error { return os.Truncate(path, unit-1) }},
		{"a folder in its place", func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := open(t, t.TempDir())
			d := put(t, s, "a", unit)
			if err := tt.harm(s.root + blobPath(d)); err != nil {
				t.Fatal(err)
			}
			if _, err := s.OpenBlob(d); !errors.Is(err, ErrNotFound) {
				t.Errorf("OpenBlob: %v", err)
			}
			if ok, err := s.Has(t.Context(), d); ok || err != nil { // else fetch would believe it is there
				t.Errorf("Has = %v, %v", ok, err)
			}
			check(t, s)
			put(t, s, "a", unit)
			use(t, s, d)
		})
	}
}

// TestOpenDuringRemoval: while one reader's find, a damaged file, is removed,
// another does not get it for a whole blob.
func TestOpenDuringRemoval(t *testing.T) {
	s := open(t, t.TempDir())
	d := put(t, s, "a", unit)
	if err := os.Truncate(s.root+blobPath(d), 0); err != nil {
		t.Fatal(err)
	}
	s.disk.Lock() // as remove does
	e := s.index.take(d)
	opened := make(chan error, 1)
	go func() {
		f, err := s.OpenBlob(d)
		if err == nil {
			err = f.Close()
		}
		opened <- err
	}()
	time.Sleep(20 * time.Millisecond) // time to find the file
	if err := s.drop(e); err != nil {
		t.Error(err)
	}
	s.disk.Unlock()
	if err := <-opened; !errors.Is(err, ErrNotFound) {
		t.Errorf("error = %v, want that it is not found", err)
	}
	check(t, s)
}

func TestDiskFloor(t *testing.T) {
	const total = 1000 * unit // of which 50 stay free
	for _, tt := range []struct {
		name    string
		blobs   string
		avail   int64 // with all blobs on the disk
		deaf    bool  // the disk does not become emptier by eviction
		size    int64
		wantErr error
		left    string
	}{
		{"room enough", "abc", 60 * unit, false, 10 * unit, nil, "abc"},
		{"one blob short", "abc", 60 * unit, false, 11 * unit, nil, "bc"},
		{"all blobs short", "abc", 51 * unit, false, 4 * unit, nil, ""},
		{"eviction would not do", "abc", 51 * unit, false, 5 * unit, ErrFull, "abc"},
		{"eviction does not help", "abcdef", 60 * unit, true, 11 * unit, ErrFull, "def"},
		{"disk does not answer", "abc", -1, false, 1, syscall.EIO, "abc"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newClock()
			s := openWith(t, t.TempDir(), Options{Now: c.now})
			for _, name := range tt.blobs {
				put(t, s, string(name), unit)
				c.forward(time.Minute)
			}
			s.free = func(string) (int64, int64, error) {
				if tt.avail < 0 {
					return 0, 0, syscall.EIO
				}
				if tt.deaf {
					return tt.avail, total, nil
				}
				return tt.avail + int64(len(tt.blobs))*unit - onDisk(t, s.root), total, nil
			}
			p, err := s.NewSpool(tt.size)
			if !errors.Is(err, tt.wantErr) {
				t.Errorf("error %v, want %v", err, tt.wantErr)
			}
			if got := names(t, s, unit, tt.blobs); got != tt.left {
				t.Errorf("left %q, want %q", got, tt.left)
			}
			if p != nil {
				if err := p.Abort(); err != nil {
					t.Error(err)
				}
			}
			check(t, s)
		})
	}
}

// fullDisk takes room bytes, then fails until a blob was evicted, and for ever
// if stays is set.
type fullDisk struct {
	s     *Store
	w     io.Writer
	room  int
	stays bool
	had   int64
}

func (d *fullDisk) Write(b []byte) (int, error) {
	if !d.stays && d.s.index.used < d.had {
		return d.w.Write(b)
	}
	n, err := d.w.Write(b[:min(d.room, len(b))])
	d.room -= n
	if err == nil && n < len(b) {
		err = &fs.PathError{Op: "write", Path: "spool", Err: syscall.ENOSPC}
	}
	return n, err
}

func TestFullDisk(t *testing.T) {
	for _, tt := range []struct {
		name  string
		blobs string
		stays bool
		left  string
		full  bool
	}{
		{"one eviction helps", "abc", false, "bc", false},
		{"eviction does not help", "abc", true, "bc", true},
		{"nothing to evict", "", true, "", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newClock()
			s := openWith(t, t.TempDir(), Options{Now: c.now})
			for _, name := range tt.blobs {
				put(t, s, string(name), unit)
				c.forward(time.Minute)
			}
			want := blob("z", unit)
			d := godigest.FromBytes(want)
			p, err := s.NewSpool(unit)
			if err != nil {
				t.Fatal(err)
			}
			p.w = &fullDisk{s: s, w: p.f, room: 1000, stays: tt.stays, had: s.index.used}
			n, err := p.Write(want)
			if got := names(t, s, unit, "abc"); got != tt.left {
				t.Errorf("left %q, want %q", got, tt.left)
			}
			if tt.full {
				if !errors.Is(err, ErrFull) || !errors.Is(err, syscall.ENOSPC) || n != 1000 {
					t.Errorf("%d, %v, want 1000 bytes, ErrFull and ENOSPC", n, err)
				}
				if err := p.Abort(); err != nil {
					t.Error(err)
				}
			} else {
				if err != nil || n != unit {
					t.Fatalf("%d, %v", n, err)
				}
				if err := p.Commit(t.Context(), d, unit); err != nil {
					t.Fatal(err)
				}
				if got, err := s.Get(t.Context(), d); err != nil || !bytes.Equal(got, want) {
					t.Errorf("read %d bytes, %v", len(got), err)
				}
			}
			check(t, s)
		})
	}
}

func TestKeptContentIsNotEvicted(t *testing.T) {
	s := openWith(t, t.TempDir(), Options{MaxBytes: 3 * unit, Keep: true})
	a, b := put(t, s, "a", unit), put(t, s, "b", unit)
	if _, err := s.NewSpool(2 * unit); !errors.Is(err, ErrFull) {
		t.Errorf("more than fits: %v", err)
	}
	for _, d := range []godigest.Digest{a, b} {
		use(t, s, d)
	}
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	s, err := Open(t.TempDir(), Options{MaxBytes: 3 * unit, High: 1, Low: 1, Metrics: reg, Log: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, "a", 2*unit)
	d := put(t, s, "b", 2*unit)
	for range 3 {
		use(t, s, d)
	}
	if _, err := s.OpenBlob(unitDigest("z")); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	p, err := s.NewSpool(50)
	if err != nil {
		t.Fatal(err)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			got[f.GetName()] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	if diff := cmp.Diff(map[string]float64{
		"sluice_cache_bytes": 2*unit + 50, "sluice_cache_max_bytes": 3 * unit, "sluice_cache_evicted_bytes_total": 2 * unit,
		"sluice_cache_hits_total": 3, "sluice_cache_misses_total": 1,
	}, got); diff != "" {
		t.Errorf("metrics: -want +got\n%s", diff)
	}
	if err := p.Abort(); err != nil {
		t.Error(err)
	}
}
