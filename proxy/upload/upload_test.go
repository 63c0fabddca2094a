package upload

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	godigest "github.com/opencontainers/go-digest"
	"go.uber.org/zap/zaptest"
)

// shelf is a store of finished blobs, and counts what is held.
type shelf struct {
	mu    sync.Mutex
	blobs map[godigest.Digest]string
	held  int
	full  bool
}

type spool struct {
	*shelf
	bytes.Buffer
	ended bool
}

func (s *shelf) NewSpool() (Spool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held++
	return &spool{shelf: s}, nil
}

func (p *spool) Write(b []byte) (int, error) {
	if p.full {
		return 0, errors.New("no space left")
	}
	return p.Buffer.Write(b)
}

func (p *spool) Commit(_ context.Context, d godigest.Digest, _ int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.blobs[d] = p.String()
	return nil
}

func (p *spool) Abort() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return errors.New("ended twice")
	}
	p.ended = true
	p.held--
	return nil
}

type tap struct {
	bytes.Buffer
	finished godigest.Digest
	aborted  bool
}

func (t *tap) Write(p []byte)                              { t.Buffer.Write(p) }
func (t *tap) Finish(_ context.Context, d godigest.Digest) { t.finished = d }
func (t *tap) Abort()                                      { t.aborted = true }

type bench struct {
	*Manager
	*shelf
	now  time.Time
	taps []*tap
}

func newBench(t *testing.T, change func(*Options)) *bench {
	t.Helper()
	b := &bench{shelf: &shelf{blobs: map[godigest.Digest]string{}}, now: time.Unix(1e9, 0)}
	opts := Options{
		NewSpool: b.NewSpool, Log: zaptest.NewLogger(t), Now: func() time.Time { return b.now },
		NewTap: func() Tap { b.taps = append(b.taps, &tap{}); return b.taps[len(b.taps)-1] },
	}
	if change != nil {
		change(&opts)
	}
	b.Manager = New(opts)
	t.Cleanup(func() {
		b.Close()
		if b.held != 0 {
			t.Errorf("%d spools are still held", b.held)
		}
	})
	return b
}

func (b *bench) start(t *testing.T) Key {
	t.Helper()
	k, err := b.Start("local/app", "user:alice")
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func chunk(s string) Chunk { return Chunk{Body: strings.NewReader(s), From: -1, Size: int64(len(s))} }

func at(from int64, s string) Chunk {
	c := chunk(s)
	c.From = from
	return c
}

func TestChunks(t *testing.T) {
	b := newBench(t, nil)
	k := b.start(t)
	want := godigest.FromString("hello world")
	for _, step := range []struct {
		c    Chunk
		size int64
		err  error
	}{
		{at(0, "hello"), 5, nil},
		{at(4, "o wor"), 5, ErrRange}, // an overlap
		{at(7, "orld"), 5, ErrRange},  // a gap
		{at(5, " wor"), 9, nil},
		{Chunk{Body: strings.NewReader("l"), From: 9, Size: 2}, 10, ErrSize}, // cut: what came is kept
		{chunk(""), 10, nil},
	} {
		size, err := b.Append(t.Context(), k, step.c)
		if size != step.size || !errors.Is(err, step.err) {
			t.Fatalf("%+v: size %d, %v", step, size, err)
		}
	}
	if size, err := b.Size(k); size != 10 || err != nil {
		t.Errorf("size %d, %v", size, err)
	}
	if _, err := b.Finish(t.Context(), k, at(3, "x"), want); !errors.Is(err, ErrRange) {
		t.Errorf("finish with an overlap: %v", err)
	}
	if size, err := b.Finish(t.Context(), k, chunk("d"), want); size != 11 || err != nil {
		t.Fatalf("finish: %d, %v", size, err)
	}
	if got := b.blobs[want]; got != "hello world" {
		t.Errorf("stored %q", got)
	}
	if tp := b.taps[0]; tp.String() != "hello world" || tp.finished != want {
		t.Errorf("the tap got %q, %s", tp, tp.finished)
	}
	if _, err := b.Size(k); !errors.Is(err, ErrUnknown) {
		t.Errorf("after the end: %v", err)
	}
}

func TestWrongDigestStoresNothing(t *testing.T) {
	b := newBench(t, nil)
	k := b.start(t)
	if _, err := b.Finish(t.Context(), k, chunk("evil"), godigest.FromString("good")); !errors.Is(err, ErrDigest) {
		t.Fatalf("error %v", err)
	}
	if len(b.blobs) != 0 || b.held != 0 || !b.taps[0].aborted || b.taps[0].finished != "" {
		t.Errorf("blobs %v, held %d, tap %+v", b.blobs, b.held, b.taps[0])
	}
}

func TestThreatUploadOfAnother(t *testing.T) {
	b := newBench(t, nil)
	k := b.start(t)
	for _, other := range []Key{
		{k.Repository, "user:mallory", k.ID}, {"local/other", k.Owner, k.ID}, {k.Repository, k.Owner, "guess"}, {"", "", k.ID},
	} {
		_, err1 := b.Append(t.Context(), other, chunk("x"))
		_, err2 := b.Finish(t.Context(), other, chunk("x"), godigest.FromString("x"))
		_, err3 := b.Size(other)
		for _, err := range []error{err1, err2, err3, b.Cancel(other)} {
			if !errors.Is(err, ErrUnknown) {
				t.Errorf("%+v: %v", other, err)
			}
		}
	}
	if size, err := b.Size(k); size != 0 || err != nil {
		t.Errorf("size %d, %v", size, err)
	}
}

func TestBrokenBodyGoesOn(t *testing.T) {
	b := newBench(t, nil)
	k := b.start(t)
	body := io.MultiReader(strings.NewReader("hel"), iotest.ErrReader(errors.New("connection reset")))
	if size, err := b.Append(t.Context(), k, Chunk{Body: body, From: 0, Size: 5}); size != 3 || err == nil {
		t.Fatalf("size %d, %v", size, err)
	}
	if _, err := b.Finish(t.Context(), k, at(3, "lo"), godigest.FromString("hello")); err != nil {
		t.Fatal(err)
	}
}

func TestOneWriterAtATime(t *testing.T) {
	b := newBench(t, nil)
	k := b.start(t)
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := b.Append(t.Context(), k, Chunk{Body: r, From: -1, Size: -1})
		done <- err
	}()
	if _, err := io.WriteString(w, "hello"); err != nil { // returns when Append has read it
		t.Fatal(err)
	}
	if _, err := b.Append(t.Context(), k, chunk("x")); !errors.Is(err, ErrBusy) {
		t.Errorf("a second writer: %v", err)
	}
	b.now = b.now.Add(24 * time.Hour)
	b.Purge() // does not end what is written to
	_ = w.Close()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if _, err := b.Finish(t.Context(), k, chunk(""), godigest.FromString("hello")); err != nil {
		t.Error(err)
	}
}

func TestLimits(t *testing.T) {
	b := newBench(t, func(o *Options) { o.MaxBytes, o.PerOwner, o.Sessions = 4, 2, 3 })
	k := b.start(t)
	if _, err := b.Append(t.Context(), k, chunk("12345")); !errors.Is(err, ErrLarge) {
		t.Errorf("five bytes: %v", err)
	}
	if _, err := b.Size(k); !errors.Is(err, ErrUnknown) {
		t.Errorf("after it: %v", err)
	}
	b.start(t)
	b.start(t)
	if _, err := b.Start("local/app", "user:alice"); !errors.Is(err, ErrTooMany) {
		t.Errorf("a third one: %v", err)
	}
	if _, err := b.Start("local/app", "user:bob"); err != nil {
		t.Errorf("another owner: %v", err)
	}
	if _, err := b.Start("local/app", "user:carol"); !errors.Is(err, ErrTooMany) {
		t.Errorf("more than all: %v", err)
	}
	b.now = b.now.Add(time.Hour)
	k = b.start(t) // idle ones made room
	if b.held != 1 {
		t.Errorf("%d spools are held", b.held)
	}
	b.full = true
	if _, err := b.Append(t.Context(), k, chunk("x")); err == nil {
		t.Error("written to a full disk")
	}
	if b.held != 0 {
		t.Error("a spool that failed is held")
	}
}
