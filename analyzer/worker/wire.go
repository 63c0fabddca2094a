package worker

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	godigest "github.com/opencontainers/go-digest"

	"github.com/sluiceproxy/sluice/analyzer"
	"github.com/sluiceproxy/sluice/analyzer/layer"
)

// Over stdin go a setup message and then, for each scan, frames of the blob's
// bytes, an empty one, and an end message. Over stdout come a ready message and
// one answer for each scan. A frame or a message is a length of four bytes, big
// end first, and that many bytes; a message's are JSON.
//
// Where there is a ring, memory that both have and only the parent writes, the
// bytes of the nth frame of a scan are in its place n mod ringFrames and not in
// the pipe, and for each frame that was read a length of 0 goes over stdout: that
// place is free.

// frameSize is how much of a blob goes into one frame, at most.
const frameSize = 128 << 10

// ringFrames is how many frames there are in a ring.
const (
	ringFrames = 4
	ringSize   = ringFrames * frameSize
)

// maxNote bounds every message but an answer, in bytes.
const maxNote = 64 << 10

// setup tells a process what it is for.
type setup struct {
	Layer  layer.Options `json:"layer"`
	Memory int64         `json:"memory"` // bytes
	Files  int64         `json:"files"`  // bytes of the largest file that it may write
	Ring   int           `json:"ring"`   // the descriptor of the ring; 0 = there is none
}

// ready is the process's first word.
type ready struct {
	Revision    string   `json:"revision"`
	Confinement []string `json:"confinement"`     // what holds it: "namespaces", "descriptors", "rlimits", "chroot", "seccomp"
	Degraded    []string `json:"degraded"`        // what does not, and why
	Error       string   `json:"error,omitempty"` // why it cannot work at all
}

// end is what the parent knows of a blob that was sent.
type end struct {
	Digest godigest.Digest `json:"digest"`
	Size   int64           `json:"size"`
}

// answer is what came of a scan.
type answer struct {
	Layer *analyzer.Layer `json:"layer,omitempty"`
	Error string          `json:"error,omitempty"` // of the stream
	Local bool            `json:"local,omitempty"` // the error is this machine's, not the stream's
}

func writeMessage(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if uint64(len(b)) > 1<<32-1 {
		return fmt.Errorf("a message of %d bytes", len(b))
	}
	var n [4]byte
	binary.BigEndian.PutUint32(n[:], uint32(len(b)))
	if _, err := w.Write(n[:]); err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

// readMessage reads one message of at most limit bytes into v. Memory grows with
// the bytes that come, not with the length that is claimed.
func readMessage(r io.Reader, limit int64, v any) error {
	n, err := readLength(r)
	if err != nil {
		return err
	}
	return readBody(r, n, limit, v)
}

func readLength(r io.Reader) (int64, error) {
	var length [4]byte
	_, err := io.ReadFull(r, length[:])
	return int64(binary.BigEndian.Uint32(length[:])), err
}

// readBody reads the n bytes of a message.
func readBody(r io.Reader, n, limit int64, v any) error {
	if n > limit {
		return fmt.Errorf("a message of %d bytes, more than %d", n, limit)
	}
	var b bytes.Buffer
	b.Grow(int(min(n, 1<<20)) + bytes.MinRead)
	if got, err := b.ReadFrom(io.LimitReader(r, n)); err != nil {
		return err
	} else if got < n {
		return io.ErrUnexpectedEOF
	}
	d := json.NewDecoder(&b)
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("data after the message")
	}
	return nil
}

// frames is a blob as it comes to the process: an analyzer.Proven, for its
// digest comes with it.
type frames struct {
	r    io.Reader
	ring []byte    // nil = the bytes come over r
	free io.Writer // where is told that a place of the ring is free
	n    int       // frames of the ring that were begun
	cur  []byte    // of the ring: what is left of the current frame
	left int       // of the current frame, where it comes over r
	end  *end
	err  error
}

func (f *frames) Read(p []byte) (int, error) {
	if f.end != nil {
		return 0, io.EOF
	}
	if f.err != nil {
		return 0, f.err
	}
	for f.left == 0 && len(f.cur) == 0 {
		if err := f.next(); err != nil {
			return 0, err
		}
	}
	if len(f.cur) > 0 {
		n := copy(p, f.cur)
		f.cur = f.cur[n:]
		return n, nil
	}
	n, err := f.r.Read(p[:min(len(p), f.left)])
	f.left -= n
	if err != nil {
		err = f.fail(err)
	}
	return n, err
}

// next begins the next frame. Before that the last one is given back.
func (f *frames) next() error {
	if f.n > 0 {
		if _, err := f.free.Write([]byte{0, 0, 0, 0}); err != nil {
			return f.fail(err)
		}
	}
	n, err := readLength(f.r)
	switch {
	case err != nil:
		return f.fail(err)
	case n == 0:
		e := new(end)
		if err := readMessage(f.r, maxNote, e); err != nil {
			return f.fail(err)
		}
		f.end = e
		return io.EOF
	case n > frameSize:
		return f.fail(fmt.Errorf("a frame of %d bytes", n))
	case f.ring == nil:
		f.left = int(n)
	default:
		f.cur = f.ring[f.n%ringFrames*frameSize:][:n]
		f.n++
	}
	return nil
}

// fail remembers that the parent is gone.
func (f *frames) fail(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	f.err = err
	return err
}

func (f *frames) Proof() (godigest.Digest, int64, error) {
	if f.end == nil {
		return "", 0, errors.New("the blob's end was not read")
	}
	return f.end.Digest, f.end.Size, nil
}
