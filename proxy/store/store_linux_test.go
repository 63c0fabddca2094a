package store

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	godigest "github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// TestTinyDisk fills a real disk: 4 MiB of memory, mounted for the test.
func TestTinyDisk(t *testing.T) {
	const mib = 1 << 20
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Skip("a mount needs root and a kernel that lets it:", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	c := newClock()
	s := openWith(t, dir, Options{Now: c.now})
	for _, name := range "ab" {
		put(t, s, string(name), mib)
		c.forward(time.Minute)
	}
	// 2 MiB are free and a twentieth of 4 is kept: a blob has to go for 2.
	p, err := s.NewSpool(2 * mib)
	if err != nil {
		t.Fatal(err)
	}
	if got := names(t, s, mib, "ab"); got != "b" {
		t.Errorf("left %q, want b", got)
	}
	// Somebody else takes the space that was reserved.
	hog := filepath.Join(dir, "hog")
	if err := os.WriteFile(hog, make([]byte, 5*mib/2), 0o600); err != nil {
		t.Fatal(err)
	}
	n, err := p.Write(make([]byte, mib))
	if n != mib || err != nil {
		t.Errorf("with a blob to evict: %d, %v", n, err)
	}
	if got := names(t, s, mib, "ab"); got != "" {
		t.Errorf("left %q, want none", got)
	}
	n, err = p.Write(make([]byte, mib))
	if !errors.Is(err, ErrFull) || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("with nothing to evict: %d, %v", n, err)
	}
	if err := p.Abort(); err != nil {
		t.Error(err)
	}
	if _, err := s.NewSpool(2 * mib); !errors.Is(err, ErrFull) {
		t.Errorf("reservation on the full disk: %v", err)
	}
	if err := os.Remove(hog); err != nil {
		t.Fatal(err)
	}
	want := blob("z", 3*mib)
	put(t, s, "z", 3*mib)
	if got, err := s.Get(t.Context(), godigest.FromBytes(want)); err != nil || !bytes.Equal(got, want) {
		t.Errorf("after it: %d bytes, %v", len(got), err)
	}
	check(t, s)
}
