package worker

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// TestRing: who has the file sees what is written here, and cannot change it.
func TestRing(t *testing.T) {
	f, mem, err := newRing()
	if err != nil {
		t.Skip("no sealed memory: ", err)
	}
	defer freeRing(mem)
	fd := int(f.Fd())
	if m, err := unix.Mmap(fd, 0, ringSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err == nil {
		t.Error("mapped for writing")
		freeRing(m)
	}
	for name, err := range map[string]error{
		"write":      func() error { _, err := f.WriteAt([]byte("x"), 0); return err }(),
		"shrink":     unix.Ftruncate(fd, 1),
		"grow":       unix.Ftruncate(fd, 2*ringSize),
		"punch hole": unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 4096),
		"seal":       func() error { _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_WRITE); return err }(),
	} {
		if !errors.Is(err, unix.EPERM) {
			t.Errorf("%s: %v", name, err)
		}
	}
	own, err := unix.Dup(fd)
	if err != nil {
		t.Fatal(err)
	}
	view, err := attachRing(own)
	if err != nil {
		t.Fatal(err)
	}
	defer freeRing(view)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mprotect(view, unix.PROT_READ|unix.PROT_WRITE); !errors.Is(err, unix.EACCES) {
		t.Errorf("made writable: %v", err)
	}
	copy(mem[ringSize-5:], "there")
	if got := string(view[ringSize-5:]); got != "there" {
		t.Errorf("sees %q", got)
	}
}
