package fetch

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	godigest "github.com/opencontainers/go-digest"
	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// disk is a store of blobs in a folder, with the sinks that fill it.
type disk struct {
	dir      string
	failAt   int64 // a write that passes this many bytes fails as on a full disk; 0 = never
	mu       sync.Mutex
	commits  int
	aborted  int
	commitOK chan struct{} // when set, Commit waits for it
}

type diskSink struct {
	d *disk
	f *os.File
	n int64
}

func (d *disk) path(dg godigest.Digest) string { return filepath.Join(d.dir, dg.Encoded()) }

func (d *disk) stored(_ context.Context, dg godigest.Digest) (bool, error) {
	_, err := os.Stat(d.path(dg))
	return err == nil, nil
}

func (d *disk) sink(context.Context, godigest.Digest, int64) (Sink, error) {
	f, err := os.CreateTemp(d.dir, "spool-*")
	return &diskSink{d: d, f: f}, err
}

func (s *diskSink) Write(b []byte) (int, error) {
	if s.n += int64(len(b)); s.d.failAt > 0 && s.n > s.d.failAt {
		return 0, syscall.ENOSPC
	}
	return s.f.Write(b)
}
func (s *diskSink) Tail() (*os.File, error) { return os.Open(s.f.Name()) }

func (s *diskSink) Commit(_ context.Context, dg godigest.Digest, _ int64) error {
	if s.d.commitOK != nil {
		<-s.d.commitOK
	}
	s.d.mu.Lock()
	s.d.commits++
	s.d.mu.Unlock()
	return errors.Join(s.f.Close(), os.Rename(s.f.Name(), s.d.path(dg)))
}

func (s *diskSink) Abort() error {
	s.d.mu.Lock()
	s.d.aborted++
	s.d.mu.Unlock()
	_ = s.f.Close()
	return os.Remove(s.f.Name())
}

// blob is a source of random bytes with faults.
type blob struct {
	bytes  []byte
	digest godigest.Digest
	opens  atomic.Int64
	cutAt  []int64         // the nth open ends with an error at this offset
	gate   <-chan struct{} // when set, the second half waits for it
	err    error           // of Open
	total  int64           // announced instead of the true size; 0 = true, -1 = not announced
}

func newBlob(n int) *blob {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(n)})
	_, _ = r.Read(b)
	return &blob{bytes: b, digest: godigest.FromBytes(b)}
}

func (b *blob) open(ctx context.Context, off, _ int64) (io.ReadCloser, int64, error) {
	n := int(b.opens.Add(1))
	if b.err != nil {
		return nil, -1, b.err
	}
	total := int64(len(b.bytes))
	if b.total != 0 {
		total = b.total
	}
	rest := b.bytes[off:]
	var r io.Reader = bytes.NewReader(rest)
	if n <= len(b.cutAt) {
		r = io.MultiReader(bytes.NewReader(b.bytes[off:b.cutAt[n-1]]), errReader{errors.New("connection reset")})
	}
	if b.gate != nil {
		half := len(rest) / 2
		r = io.MultiReader(bytes.NewReader(rest[:half]), &waitReader{ctx: ctx, gate: b.gate, r: bytes.NewReader(rest[half:])})
	}
	return io.NopCloser(r), total, nil
}

type errReader struct{ err error }

func (e errReader) Read([]byte) (int, error) { return 0, e.err }

type waitReader struct {
	ctx  context.Context
	gate <-chan struct{}
	r    io.Reader
}

func (w *waitReader) Read(p []byte) (int, error) {
	select {
	case <-w.gate:
		return w.r.Read(p)
	case <-w.ctx.Done():
		return 0, w.ctx.Err()
	}
}

func newManager(t *testing.T, d *disk) *Manager {
	t.Helper()
	d.dir = t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	m := New(ctx, Options{NewSink: d.sink, Stored: d.stored, Grace: time.Minute, Retries: 2, Log: zaptest.NewLogger(t)})
	t.Cleanup(func() { cancel(); m.Wait() })
	return m
}

func read(ctx context.Context, tl *Tail) ([]byte, error) {
	var out bytes.Buffer
	_, err := tl.CopyTo(ctx, &out, 0, -1)
	return out.Bytes(), errors.Join(err, tl.Close())
}

func TestCrowdSharesOneDownload(t *testing.T) {
	gate := make(chan struct{})
	b := newBlob(3 << 20)
	b.gate = gate
	d := &disk{}
	m := newManager(t, d)
	var wg sync.WaitGroup
	for i := range 50 {
		if i == 40 { // ten come when half is there already
			close(gate)
		}
		tl, err := m.Join(t.Context(), b.digest, int64(len(b.bytes)), b.open)
		if errors.Is(err, ErrStored) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			if got, err := read(t.Context(), tl); err != nil || !bytes.Equal(got, b.bytes) {
				t.Errorf("reader %d: %d bytes, %v", i, len(got), err)
			}
		})
	}
	wg.Wait()
	if n := b.opens.Load(); n != 1 {
		t.Errorf("%d upstream requests, want 1", n)
	}
	m.Wait()
	if _, err := m.Join(t.Context(), b.digest, -1, b.open); !errors.Is(err, ErrStored) {
		t.Errorf("Join afterwards: %v, want ErrStored", err)
	}
}

func TestUnverifiedSeesAllBytes(t *testing.T) {
	b := newBlob(1 << 20)
	m := newManager(t, &disk{})
	tl, err := m.Join(t.Context(), b.digest, -1, b.open)
	if err != nil {
		t.Fatal(err)
	}
	r := tl.Unverified(t.Context())
	got, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(got, b.bytes) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

func TestRangeOfARunningDownload(t *testing.T) {
	b := newBlob(100_000)
	m := newManager(t, &disk{})
	tl, err := m.Join(t.Context(), b.digest, -1, b.open)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if n, err := tl.CopyTo(t.Context(), &out, 10, 99_990); err != nil || n != 99_980 || !bytes.Equal(out.Bytes(), b.bytes[10:99_990]) {
		t.Errorf("n = %d, %v", n, err)
	}
	if err := tl.Close(); err != nil {
		t.Error(err)
	}
}

func TestCutIsResumed(t *testing.T) {
	b := newBlob(1 << 20)
	b.cutAt = []int64{300_000, 300_000, 700_000} // the second try brings nothing
	m := newManager(t, &disk{})
	tl, err := m.Join(t.Context(), b.digest, int64(len(b.bytes)), b.open)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := read(t.Context(), tl); err != nil || !bytes.Equal(got, b.bytes) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if n := b.opens.Load(); n != 4 {
		t.Errorf("%d requests, want 4", n)
	}
}

func TestFailuresCommitNothing(t *testing.T) {
	refused := errors.New("403 from the upstream")
	for _, tt := range []struct {
		name  string
		size  int64 // of the descriptor
		mend  func(b *blob, d *disk)
		want  error
		opens int64
	}{
		{name: "wrong bytes", size: -1, mend: func(b *blob, _ *disk) { b.bytes[0] ^= 1 }, want: ErrMismatch, opens: 1},
		{name: "wrong bytes, no length", size: -1, mend: func(b *blob, _ *disk) { b.bytes[0] ^= 1; b.total = -1 }, want: ErrMismatch, opens: 1},
		{name: "announces another size", size: 99_999, mend: func(*blob, *disk) {}, want: ErrMismatch, opens: 1},
		{name: "sends more than announced", size: -1, mend: func(b *blob, _ *disk) { b.total = 50_000 }, want: ErrMismatch, opens: 1},
		{name: "sends less than announced", size: -1, mend: func(b *blob, _ *disk) { b.total = 200_000 }, want: io.ErrUnexpectedEOF, opens: 3},
		{name: "refused", size: -1, mend: func(b *blob, _ *disk) { b.err = Permanent(refused) }, want: refused, opens: 1},
		{name: "unreachable", size: -1, mend: func(b *blob, _ *disk) { b.err = refused }, want: refused, opens: 3},
		{name: "full disk", size: -1, mend: func(_ *blob, d *disk) { d.failAt = 10 }, want: syscall.ENOSPC, opens: 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, d := newBlob(100_000), &disk{}
			tt.mend(b, d)
			m := newManager(t, d)
			tl, err := m.Join(t.Context(), b.digest, tt.size, b.open)
			if err != nil {
				t.Fatal(err)
			}
			got, err := read(t.Context(), tl)
			var fe *Error
			if !errors.Is(err, tt.want) || !errors.As(err, &fe) || fe.Digest != b.digest {
				t.Errorf("error = %v, want %v in an *Error", err, tt.want)
			}
			if len(got) >= len(b.bytes) {
				t.Errorf("the reader got %d bytes of a blob that was never verified", len(got))
			}
			m.Wait()
			if n := b.opens.Load(); n != tt.opens {
				t.Errorf("%d requests, want %d", n, tt.opens)
			}
			left, err := os.ReadDir(d.dir)
			if err != nil || len(left) != 0 || d.commits != 0 {
				t.Errorf("left on the disk: %v, %d commits, %v", left, d.commits, err)
			}
		})
	}
}

func TestLeavingReaders(t *testing.T) {
	b := newBlob(1 << 20)
	d := &disk{dir: t.TempDir()}
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		b.gate = gate
		m := New(t.Context(), Options{NewSink: d.sink, Stored: d.stored, Grace: time.Minute, Retries: 2, Log: zaptest.NewLogger(t)})
		join := func() *Tail {
			tl, err := m.Join(t.Context(), b.digest, -1, b.open)
			if err != nil {
				t.Fatal(err)
			}
			return tl
		}
		first := join()
		_ = first.Close()
		time.Sleep(50 * time.Second) // within the grace: the same download goes on
		second := join()
		time.Sleep(2 * time.Minute)
		if n := b.opens.Load(); n != 1 {
			t.Errorf("%d requests, want the first to live on", n)
		}
		_ = second.Close()
		time.Sleep(2 * time.Minute) // past it: cancelled, and a new one starts
		synctest.Wait()
		if d.aborted != 1 {
			t.Errorf("%d downloads cancelled, want 1", d.aborted)
		}
		third := join()
		close(gate)
		if got, err := read(t.Context(), third); err != nil || !bytes.Equal(got, b.bytes) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		m.Wait()
	})
}

// TestJoinWhileGivenUp: who comes after the last reader's grace, and before the
// download has noticed, is not told that nobody was left.
func TestJoinWhileGivenUp(t *testing.T) {
	for name, end := range map[string]struct {
		err   error // of the upstream's stream after its first half
		opens int64
	}{"it is cancelled": {context.Canceled, 2}, "its last bytes had come": {nil, 1}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, d := newBlob(1000), &disk{dir: t.TempDir()}
				notice := make(chan struct{})
				src := func(ctx context.Context, off, size int64) (io.ReadCloser, int64, error) {
					body, total, err := b.open(ctx, off, size)
					if b.opens.Load() == 1 {
						rest := io.Reader(bytes.NewReader(b.bytes[500:]))
						if end.err != nil {
							rest = errReader{end.err}
						}
						body = io.NopCloser(io.MultiReader(bytes.NewReader(b.bytes[:500]), &waitReader{ctx: context.Background(), gate: notice, r: rest}))
					}
					return body, total, err
				}
				m := New(t.Context(), Options{NewSink: d.sink, Stored: d.stored, Grace: time.Minute, Retries: 2, Log: zaptest.NewLogger(t)})
				first, err := m.Join(t.Context(), b.digest, -1, src)
				if err != nil {
					t.Fatal(err)
				}
				_ = first.Close()
				time.Sleep(2 * time.Minute)
				late := make(chan error)
				go func() {
					tl, err := m.Join(t.Context(), b.digest, -1, src)
					if err == nil {
						_, err = read(t.Context(), tl)
					}
					late <- err
				}()
				synctest.Wait()
				close(notice)
				if err := <-late; err != nil && !errors.Is(err, ErrStored) {
					t.Error(err)
				}
				m.Wait()
				if n := b.opens.Load(); n != end.opens || d.commits != 1 {
					t.Errorf("%d requests, %d commits, want %d and 1", n, d.commits, end.opens)
				}
			})
		})
	}
}

// TestDescriptorsThatDiffer: one that lies about a blob's size spoils nobody
// else's download of it.
func TestDescriptorsThatDiffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, d := newBlob(1000), &disk{dir: t.TempDir()}
		gate := make(chan struct{})
		src := func(ctx context.Context, off, size int64) (io.ReadCloser, int64, error) {
			<-gate
			return b.open(ctx, off, size)
		}
		m := New(t.Context(), Options{NewSink: d.sink, Stored: d.stored, Grace: time.Minute, Retries: 2, Log: zaptest.NewLogger(t)})
		errs := make(map[int64]error)
		var mu sync.Mutex
		var all sync.WaitGroup
		for _, size := range []int64{999, 1000, 1001, -1} {
			all.Go(func() {
				tl, err := m.Join(t.Context(), b.digest, size, src)
				if err == nil {
					_, err = read(t.Context(), tl)
				}
				mu.Lock()
				defer mu.Unlock()
				errs[size] = err
			})
			synctest.Wait()
		}
		close(gate)
		all.Wait()
		m.Wait()
		if err := errs[999]; !errors.Is(err, ErrMismatch) {
			t.Errorf("one byte less: %v", err)
		}
		if err := errs[1000]; err != nil && !errors.Is(err, ErrStored) {
			t.Errorf("the right size: %v", err)
		}
		if d.commits != 1 {
			t.Errorf("%d commits", d.commits)
		}
	})
}

// TestRetriesAreSpread: downloads that were cut together do not come back
// together.
func TestRetriesAreSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{dir: t.TempDir()}
		m := New(t.Context(), Options{NewSink: d.sink, Stored: d.stored, Grace: time.Minute, Retries: 2, Log: zaptest.NewLogger(t)})
		start := time.Now()
		var mu sync.Mutex
		seen := make(map[time.Duration]bool)
		for n := range 4 {
			b := newBlob(1000 + n)
			tl, err := m.Join(t.Context(), b.digest, -1, func(context.Context, int64, int64) (io.ReadCloser, int64, error) {
				mu.Lock()
				defer mu.Unlock()
				seen[time.Since(start)] = true
				return nil, -1, errors.New("no route")
			})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = tl.Close() }()
		}
		m.Wait()
		if len(seen) != 1+4*2 { // the first tries are at once
			t.Errorf("tries after %v", seen)
		}
	})
}

// TestJoinDuringCommit: verified bytes do not wait for the disk, neither for
// those who were there before nor for those who come now.
func TestJoinDuringCommit(t *testing.T) {
	b := newBlob(1000)
	d := &disk{commitOK: make(chan struct{})}
	m := newManager(t, d)
	for _, who := range []string{"first", "late"} {
		tl, err := m.Join(t.Context(), b.digest, -1, b.open)
		if err != nil {
			t.Fatalf("%s: %v", who, err)
		}
		if err := tl.Verified(t.Context()); err != nil {
			t.Fatalf("%s: %v", who, err)
		}
		if got, err := read(t.Context(), tl); err != nil || !bytes.Equal(got, b.bytes) {
			t.Fatalf("%s: %d bytes, %v", who, len(got), err)
		}
	}
	close(d.commitOK)
	m.Wait()
	if _, err := m.Join(t.Context(), b.digest, -1, b.open); !errors.Is(err, ErrStored) {
		t.Errorf("Join afterwards: %v, want ErrStored", err)
	}
	if n := b.opens.Load(); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
}

// TestJoinBetweenCommitAndStore: the bytes have left the sink, so that there is
// nothing to open, and the download is not over.
func TestJoinBetweenCommitAndStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBlob(1000)
		d := &disk{dir: t.TempDir()}
		moved := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		m := New(ctx, Options{Stored: d.stored, Log: zaptest.NewLogger(t), NewSink: func(ctx context.Context, dg godigest.Digest, n int64) (Sink, error) {
			s, err := d.sink(ctx, dg, n)
			return &slowSink{s, moved}, err
		}})
		defer m.Wait()
		defer cancel()
		tl, err := m.Join(t.Context(), b.digest, -1, b.open)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := read(t.Context(), tl); err != nil || len(got) != 1000 {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		synctest.Wait() // until it is moved
		late := make(chan error)
		go func() {
			_, err := m.Join(t.Context(), b.digest, -1, b.open)
			late <- err
		}()
		synctest.Wait()
		select {
		case err := <-late:
			t.Errorf("late Join did not wait: %v", err)
			return
		default:
		}
		close(moved)
		if err := <-late; !errors.Is(err, ErrStored) {
			t.Errorf("late Join: %v, want ErrStored", err)
		}
	})
}

// slowSink has not ended its Commit when the bytes have left.
type slowSink struct {
	Sink
	moved chan struct{}
}

func (s *slowSink) Commit(ctx context.Context, dg godigest.Digest, n int64) error {
	err := s.Sink.Commit(ctx, dg, n)
	<-s.moved
	return err
}

func TestJoinsRacingCommits(t *testing.T) {
	d := &disk{}
	m := newManager(t, d)
	for round := range 40 {
		b := newBlob(1000 + round)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				tl, err := m.Join(t.Context(), b.digest, -1, b.open)
				if errors.Is(err, ErrStored) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				if got, err := read(t.Context(), tl); err != nil || !bytes.Equal(got, b.bytes) {
					t.Errorf("%d bytes, %v", len(got), err)
				}
			})
		}
		wg.Wait()
		m.Wait()
		if n := b.opens.Load(); n != 1 {
			t.Fatalf("round %d: %d requests, want 1", round, n)
		}
	}
}

// TestSinkIsMadeOutsideTheLock: making room for one blob stops neither another
// blob's download nor those who give up, and is not done twice.
func TestSinkIsMadeOutsideTheLock(t *testing.T) {
	for name, full := range map[string]error{"room is made": nil, "there is none": syscall.ENOSPC} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &disk{dir: t.TempDir()}
				slow, quick := newBlob(2000), newBlob(3000)
				room := make(chan struct{})
				var sinks atomic.Int64
				ctx, cancel := context.WithCancel(t.Context())
				m := New(ctx, Options{Stored: d.stored, Log: zaptest.NewLogger(t), NewSink: func(ctx context.Context, dg godigest.Digest, n int64) (Sink, error) {
					if dg == slow.digest {
						sinks.Add(1)
						<-room
						if full != nil {
							return nil, full
						}
					}
					return d.sink(ctx, dg, n)
				}})
				defer m.Wait()
				defer cancel()
				var crowd sync.WaitGroup
				for range 5 {
					crowd.Go(func() {
						tl, err := m.Join(t.Context(), slow.digest, -1, slow.open)
						if full == nil && errors.Is(err, ErrStored) { // came to it after its end
							return
						}
						if !errors.Is(err, full) {
							t.Errorf("%v, want %v", err, full)
						}
						if err != nil {
							return
						}
						if got, err := read(t.Context(), tl); err != nil || !bytes.Equal(got, slow.bytes) {
							t.Errorf("%d bytes, %v", len(got), err)
						}
					})
				}
				synctest.Wait()
				tl, err := m.Join(t.Context(), quick.digest, -1, quick.open)
				if err != nil {
					t.Fatal(err)
				}
				if got, err := read(t.Context(), tl); err != nil || !bytes.Equal(got, quick.bytes) {
					t.Errorf("the other blob: %d bytes, %v", len(got), err)
				}
				gone, leave := context.WithCancel(t.Context())
				leave()
				if _, err := m.Join(gone, slow.digest, -1, slow.open); !errors.Is(err, context.Canceled) {
					t.Errorf("a client that is gone: %v", err)
				}
				close(room)
				crowd.Wait()
				want := int64(1)
				if full != nil {
					want = 0
				}
				if sinks.Load() != 1 || slow.opens.Load() != want {
					t.Errorf("%d sinks, %d downloads, want 1 and %d", sinks.Load(), slow.opens.Load(), want)
				}
			})
		})
	}
}

func TestServerStops(t *testing.T) {
	b := newBlob(1 << 20)
	b.gate = make(chan struct{})
	d := &disk{dir: t.TempDir()}
	ctx, cancel := context.WithCancel(t.Context())
	m := New(ctx, Options{NewSink: d.sink, Stored: d.stored, Grace: time.Minute, Log: zaptest.NewLogger(t)})
	tl, err := m.Join(t.Context(), b.digest, -1, b.open)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := read(t.Context(), tl); !errors.Is(err, context.Canceled) {
		t.Errorf("reader: %v, want canceled", err)
	}
	m.Wait()
	if _, err := m.Join(t.Context(), b.digest, -1, b.open); !errors.Is(err, context.Canceled) {
		t.Errorf("Join afterwards: %v, want canceled", err)
	}
}
