package registry

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/sluiceproxy/sluice/proxy/gate"
)

// How the end of a blob is withheld until its image has a verdict. Clients wait
// for it for minutes as long as some bytes come (reference: clients.md,
// "Waiting"): containerd's CRI gives up after 5 minutes without any.
const (
	withheld = 64 << 10 // the end of a blob that does not leave at once
	never    = 1 << 10  // the end of that, of which no byte leaves before the verdict: too many to guess
	drop     = 512      // bytes that leave at each trickle
)

// sender sends the bytes of a blob in order.
type sender struct {
	w       http.ResponseWriter
	flush   func() error
	b       gate.Blob
	pos     int64 // next byte to send
	trickle time.Duration
}

// sendTo sends the bytes up to end.
func (s *sender) sendTo(ctx context.Context, end int64) error {
	if end <= s.pos {
		return nil
	}
	var n int64
	var err error
	if s.b.Tail != nil {
		n, err = s.b.Tail.CopyTo(ctx, s.w, s.pos, end)
	} else if _, err = s.b.File.Seek(s.pos, io.SeekStart); err == nil {
		n, err = io.CopyN(s.w, s.b.File, end-s.pos)
	}
	s.pos += n
	return err
}

// withhold sends what may leave before the verdict of the bytes up to end of a
// blob of size bytes, and returns nil when the verdict lets the rest go. The
// limits count from the blob's end, whatever range is asked for, so that no
// number of requests adds up to a whole blob.
func (s *sender) withhold(ctx context.Context, size, end int64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	verdict := make(chan error, 1)
	go func() { verdict <- s.b.Release(ctx) }()
	if err := s.sendTo(ctx, min(size-withheld, end)); err != nil {
		return err
	}
	tick := time.NewTicker(s.trickle)
	defer tick.Stop()
	for {
		if err := s.flush(); err != nil {
			return err
		}
		select {
		case err := <-verdict:
			return err
		case <-tick.C:
			if err := s.sendTo(ctx, min(s.pos+drop, size-never, end)); err != nil {
				return err
			}
		}
	}
}
