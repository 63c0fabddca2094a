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

// frameSize is how much of a blob goes into one frame, at most.
const frameSize = 256 << 10

// maxNote bounds every message but an answer, in bytes.
const maxNote = 64 << 10

// setup tells a process what it is for.
type setup struct {
	Layer  layer.Options `json:"layer"`
	Memory int64         `json:"memory"` // bytes
	Files  int64         `json:"files"`  // bytes of the largest file that it may write
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
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return err
	}
	n := int64(binary.BigEndian.Uint32(length[:]))
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
	left int // of the current frame
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
	for f.left == 0 {
		var length [4]byte
		if _, err := io.ReadFull(f.r, length[:]); err != nil {
			return 0, f.fail(err)
		}
		n := binary.BigEndian.Uint32(length[:])
		if n == 0 {
			e := new(end)
			if err := readMessage(f.r, maxNote, e); err != nil {
				return 0, f.fail(err)
			}
			f.end = e
			return 0, io.EOF
		}
		if n > frameSize {
			return 0, f.fail(fmt.Errorf("a frame of %d bytes", n))
		}
		f.left = int(n)
	}
	n, err := f.r.Read(p[:min(len(p), f.left)])
	f.left -= n
	if err != nil {
		err = f.fail(err)
	}
	return n, err
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
