package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// holdBack is how many bytes are withheld from clients until the whole blob
// has been verified.
const holdBack = 1

// Tail is one reader of a download. It is used by one goroutine.
type Tail struct {
	d     *download
	f     *os.File
	close sync.Once
}

// Close leaves the download.
func (t *Tail) Close() error {
	var err error
	t.close.Do(func() {
		err = t.f.Close()
		t.d.leave()
	})
	return err
}

// Size waits for the blob's size. It is -1 where the upstream does not tell.
func (t *Tail) Size(ctx context.Context) (int64, error) {
	select {
	case <-t.d.known:
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	t.d.mu.Lock()
	defer t.d.mu.Unlock()
	return t.d.size, t.d.err
}

// Verified waits until the whole blob is there and has its digest.
func (t *Tail) Verified(ctx context.Context) error {
	for {
		t.d.mu.Lock()
		st, err, wake := t.d.state, t.d.err, t.d.wake
		t.d.mu.Unlock()
		if st != running {
			return err
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Begun waits for the first byte, or the end of an empty blob. It returns why
// none will come.
func (t *Tail) Begun(ctx context.Context) error {
	_, _, err := t.d.available(ctx, 0, 0)
	return err
}

// available waits for bytes past off. It returns up to where the file can be
// read with hold bytes withheld, and whether that is the end.
func (d *download) available(ctx context.Context, off, hold int64) (upTo int64, end bool, err error) {
	for {
		d.mu.Lock()
		st, err, n, wake := d.state, d.err, d.written, d.wake
		d.mu.Unlock()
		switch {
		case st == failed:
			return 0, false, err
		case st == complete:
			return n, true, nil
		case n-hold > off:
			return n - hold, false, nil
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return 0, false, context.Cause(ctx)
		}
	}
}

// CopyTo writes the bytes [off, end) to w as they come; end < 0 means to the
// blob's end. The blob's last byte is written only after all were verified. It
// uses w's ReadFrom where there is one, which becomes sendfile for a socket.
func (t *Tail) CopyTo(ctx context.Context, w io.Writer, off, end int64) (int64, error) {
	if _, err := t.f.Seek(off, io.SeekStart); err != nil {
		return 0, err
	}
	var sent int64
	for end < 0 || off < end {
		upTo, last, err := t.d.available(ctx, off, holdBack)
		if err != nil {
			return sent, err
		}
		if end >= 0 {
			upTo = min(upTo, end)
		}
		n, err := io.CopyN(w, t.f, upTo-off)
		sent, off = sent+n, off+n
		if err != nil {
			return sent, fmt.Errorf("copy of %s at byte %d: %w", t.d.digest, off, err)
		}
		if last && off >= upTo {
			break
		}
	}
	return sent, nil
}

// Unverified returns a stream of the bytes as they arrive, not verified yet,
// for a reader that compares the digest itself. Closing it closes the Tail. A
// failed download is its read error.
func (t *Tail) Unverified(ctx context.Context) io.ReadCloser { return &unverified{ctx: ctx, t: t} }

type unverified struct {
	ctx context.Context //nolint:containedctx // io.Reader has no room for it; lives as long as one read of the blob
	t   *Tail
	off int64
}

func (u *unverified) Close() error { return u.t.Close() }

func (u *unverified) Read(p []byte) (int, error) {
	upTo, end, err := u.t.d.available(u.ctx, u.off, 0)
	switch {
	case err != nil:
		return 0, err
	case end && u.off >= upTo:
		return 0, io.EOF
	}
	n, err := u.t.f.ReadAt(p[:min(int64(len(p)), upTo-u.off)], u.off)
	u.off += int64(n)
	if n > 0 && errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}
