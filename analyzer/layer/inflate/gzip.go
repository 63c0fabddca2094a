package inflate

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

var (
	// ErrHeader is for bytes that do not begin a gzip member.
	ErrHeader = errors.New("invalid header")
	// ErrChecksum is for a member whose bytes are not those that were packed.
	ErrChecksum = errors.New("invalid checksum")
)

// Reader unpacks a gzip stream of one member or more (RFC 1952, 2.2). It ends
// after the last member, where something other than a gzip header comes; that is
// left in the input.
type Reader struct {
	in      *bufio.Reader
	d       decoder
	crc     uint32
	size    uint32 // of the member, modulo 2^32
	history int    // bytes of the member that are in window, at its end
	window  [Window]byte
	err     error
}

// NewReader returns a Reader of in, which is at the beginning of a stream.
func NewReader(in *bufio.Reader) *Reader {
	r := &Reader{in: in}
	r.d.in, r.d.litSymbols, r.d.repeats = in, litSymbols(), repeatSymbols()
	r.err = r.header()
	return r
}

// ReadBlock unpacks into buf[Window:], as much as there is room for, and returns
// how many bytes it wrote there: fewer only together with an error, which is
// io.EOF at the end of the stream. The bytes before belong to the Reader during
// the call. The error of a stream that is cut is io.ErrUnexpectedEOF.
func (r *Reader) ReadBlock(buf []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	copy(buf[Window-r.history:Window], r.window[Window-r.history:])
	start, at := Window-r.history, Window
	for r.err == nil && at < len(buf) {
		from := at
		at, r.err = r.d.decode(buf, start, at)
		r.crc = crc32.Update(r.crc, crc32.IEEETable, buf[from:at])
		r.size += uint32(at - from)
		if errors.Is(r.err, io.EOF) {
			r.err = r.next()
			start = at
		}
	}
	r.history = min(at-start, Window)
	copy(r.window[Window-r.history:], buf[at-r.history:at])
	return at - Window, r.err
}

// next compares a member's trailer (RFC 1952, 2.3.1) and goes on to the next
// member. io.EOF says that there is none.
func (r *Reader) next() error {
	var trailer [8]byte
	if _, err := io.ReadFull(r.in, trailer[:]); err != nil {
		return cut(err)
	}
	if binary.LittleEndian.Uint32(trailer[:]) != r.crc || binary.LittleEndian.Uint32(trailer[4:]) != r.size {
		return ErrChecksum
	}
	magic, err := r.in.Peek(2)
	switch {
	case len(magic) < 2 && errors.Is(err, io.EOF):
		return io.EOF
	case len(magic) < 2:
		return err
	case magic[0] != 0x1f || magic[1] != 0x8b:
		return io.EOF
	}
	return r.header()
}

const (
	flagHeaderCRC = 1 << 1
	flagExtra     = 1 << 2
	flagName      = 1 << 3
	flagComment   = 1 << 4
)

// header reads a member's header (RFC 1952, 2.3) and drops what it tells.
func (r *Reader) header() error {
	h := header{in: r.in}
	var b [10]byte
	h.read(b[:])
	if h.err == nil && (b[0] != 0x1f || b[1] != 0x8b || b[2] != 8) {
		return ErrHeader
	}
	flags := b[3]
	if flags&flagExtra != 0 {
		n := h.uint16()
		for range n {
			h.readByte()
		}
	}
	if flags&flagName != 0 {
		h.skipString()
	}
	if flags&flagComment != 0 {
		h.skipString()
	}
	if flags&flagHeaderCRC != 0 {
		want := uint16(h.crc)
		if got := h.uint16(); h.err == nil && got != want {
			return fmt.Errorf("%w: its checksum", ErrHeader)
		}
	}
	if h.err != nil {
		return cut(h.err)
	}
	r.crc, r.size, r.history = 0, 0, 0
	r.d.reset()
	return nil
}

// header is a header that is being read. After an error nothing is read any more.
type header struct {
	in  *bufio.Reader
	crc uint32
	err error
}

func (h *header) read(b []byte) {
	for i := range b {
		b[i] = h.readByte()
	}
}

func (h *header) readByte() byte {
	if h.err != nil {
		return 0
	}
	var b byte
	if b, h.err = h.in.ReadByte(); h.err != nil {
		return 0
	}
	h.crc = crc32.Update(h.crc, crc32.IEEETable, []byte{b})
	return b
}

func (h *header) uint16() uint16 {
	return uint16(h.readByte()) | uint16(h.readByte())<<8
}

func (h *header) skipString() {
	for h.err == nil && h.readByte() != 0 {
	}
}
