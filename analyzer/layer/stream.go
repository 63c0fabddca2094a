package layer

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	godigest "github.com/opencontainers/go-digest"
)

const (
	blockSize  = 256 << 10
	blockCount = 10 // blocks that exist: the producer is that far ahead at most
	// ratioFloor is where the compression ratio begins to count.
	ratioFloor = 256 << 20
	// zstdWindow is the largest window of a zstd frame that is accepted. The
	// reference tool refuses more than 128 MiB as well unless told otherwise.
	zstdWindow = 128 << 20
)

// errLimit ends the tar stream before its end.
var errLimit = errors.New("limit")

// stream is the producer: it reads the blob, hashes both streams and hands the
// uncompressed one over in blocks. Its results are valid once produce returned.
type stream struct {
	opts   Options
	blob   io.Reader
	full   chan block
	free   chan []byte
	stored counter
	tar    counter
	limit  string // why the tar stream was not read to its end; "" if it was
	excess int64  // bytes after the end of the compressed stream that are not padding
}

type block struct {
	b   []byte
	err error
}

type counter struct {
	h hash.Hash
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return c.h.Write(p)
}

func (c *counter) digest() godigest.Digest { return godigest.NewDigest(godigest.SHA256, c.h) }

func newStream(blob io.Reader, opts Options) *stream {
	s := &stream{
		opts: opts, blob: blob,
		full: make(chan block, blockCount), free: make(chan []byte, blockCount),
		stored: counter{h: sha256.New()}, tar: counter{h: sha256.New()},
	}
	for range blockCount {
		s.free <- nil // made when first used: most layers are small
	}
	return s
}

// produce reads the blob to its end. It returns only errors of the stream and
// of ctx; the reader of the blocks gets the same error.
func (s *stream) produce(ctx context.Context) error {
	in := bufio.NewReaderSize(io.TeeReader(s.blob, &s.stored), blockSize)
	err := s.decompress(ctx, in)
	if errors.Is(err, errLimit) {
		err = s.drain(ctx, in, nil)
	}
	return err
}

func (s *stream) decompress(ctx context.Context, in *bufio.Reader) error {
	dec, name, err := s.decoder(in)
	if err != nil {
		err = fmt.Errorf("%s: %w", name, err)
		s.send(ctx, block{err: err})
		return err
	}
	defer dec.Close()
	for {
		var buf []byte
		select {
		case buf = <-s.free:
		case <-ctx.Done():
			return ctx.Err()
		}
		if buf == nil {
			buf = make([]byte, blockSize)
		}
		n, err := io.ReadFull(dec, buf[:blockSize])
		if errors.Is(err, io.ErrUnexpectedEOF) && dec.ended() {
			err = io.EOF
		}
		if err != nil && !errors.Is(err, io.EOF) {
			err = fmt.Errorf("%s: %w", name, err)
			s.send(ctx, block{err: err})
			return err
		}
		if over := s.over(int64(n)); over != "" {
			s.limit = over
			s.send(ctx, block{err: errLimit})
			return errLimit
		}
		_, _ = s.tar.Write(buf[:n]) // hashes do not fail
		if err != nil {
			// What follows the last member belongs to the stored bytes: read it
			// before the walk may end, so that an error of it is the scan's.
			if err := s.drain(ctx, in, &s.excess); err != nil {
				s.send(ctx, block{err: err})
				return err
			}
			s.send(ctx, block{buf[:n], io.EOF})
			return nil
		}
		s.send(ctx, block{buf[:n], nil})
	}
}

// over says which limit n more bytes would pass.
func (s *stream) over(n int64) string {
	total := s.tar.n + n
	if total > s.opts.MaxUncompressed {
		return fmt.Sprintf("more than %d uncompressed bytes", s.opts.MaxUncompressed)
	}
	if total > ratioFloor && total/s.opts.MaxRatio > s.stored.n {
		return fmt.Sprintf("compression ratio above %d", s.opts.MaxRatio)
	}
	return ""
}

func (s *stream) send(ctx context.Context, b block) {
	select {
	case s.full <- b:
	case <-ctx.Done():
	}
}

// drain reads the rest of the stored bytes, so that their digest is whole, and
// counts those that are not zero.
func (s *stream) drain(ctx context.Context, in *bufio.Reader, excess *int64) error {
	for {
		b, err := in.Peek(1)
		if len(b) == 0 {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		b, _ = in.Peek(in.Buffered())
		if excess != nil {
			*excess += int64(len(b) - bytes.Count(b, []byte{0}))
		}
		if _, err := in.Discard(len(b)); err != nil {
			return err
		}
	}
}

// decoder is a decompressor whose end of input is known.
type decoder struct {
	io.Reader
	ended func() bool
	close func()
}

func (d *decoder) Close() {
	if d.close != nil {
		d.close()
	}
}

// decoder chooses by magic bytes: a media type is only a claim, and clients
// look at the bytes as well.
func (s *stream) decoder(in *bufio.Reader) (*decoder, string, error) {
	magic, err := in.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, "read", err
	}
	switch {
	case isGzip(magic):
		m := &members{in: in}
		return &decoder{Reader: m, ended: func() bool { return m.done }}, "gzip", m.next()
	case isZstd(magic):
		z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(zstdWindow), zstd.WithDecoderMaxMemory(uint64(s.opts.MaxUncompressed)))
		if err != nil {
			return nil, "zstd", err
		}
		e := &ending{r: z}
		return &decoder{Reader: e, ended: func() bool { return e.done }, close: z.Close}, "zstd", nil
	}
	e := &ending{r: in}
	return &decoder{Reader: e, ended: func() bool { return e.done }}, "read", nil
}

func isGzip(b []byte) bool { return bytes.HasPrefix(b, []byte{0x1f, 0x8b}) }

// isZstd accepts a frame or a skippable frame (RFC 8878, 3.1), with which
// zstd:chunked layers may begin.
func isZstd(b []byte) bool {
	return bytes.HasPrefix(b, []byte{0x28, 0xb5, 0x2f, 0xfd}) ||
		len(b) == 4 && b[0]&0xf0 == 0x50 && b[1] == 0x2a && b[2] == 0x4d && b[3] == 0x18
}

// ending remembers that its reader has ended, which io.ReadFull does not tell
// from a reader that fails with io.ErrUnexpectedEOF.
type ending struct {
	r    io.Reader
	done bool
}

func (e *ending) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	e.done = e.done || errors.Is(err, io.EOF)
	return n, err
}

// members reads the members of a gzip stream (RFC 1952, 2.2). It ends after the
// last one, where compress/gzip would fail on padding.
type members struct {
	in   *bufio.Reader
	z    *gzip.Reader
	done bool
}

func (m *members) next() (err error) {
	if m.z == nil {
		m.z, err = gzip.NewReader(m.in)
	} else {
		err = m.z.Reset(m.in)
	}
	if err == nil {
		m.z.Multistream(false)
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF // a header that was cut
	}
	return err
}

func (m *members) Read(p []byte) (int, error) {
	for {
		if m.done {
			return 0, io.EOF
		}
		n, err := m.z.Read(p)
		if !errors.Is(err, io.EOF) {
			return n, err
		}
		magic, err := m.in.Peek(2)
		if err != nil && !errors.Is(err, io.EOF) {
			return n, err
		}
		if !isGzip(magic) {
			m.done = true
		} else if err := m.next(); err != nil {
			return n, err
		}
		if n > 0 {
			return n, nil
		}
	}
}

// blocks is the tar stream as its consumer sees it.
func (s *stream) blocks(ctx context.Context) *blocks { return &blocks{ctx: ctx, s: s} }

type blocks struct {
	ctx context.Context
	s   *stream
	cur block
	off int
}

func (b *blocks) Read(p []byte) (int, error) {
	if err := b.fill(); err != nil {
		return 0, err
	}
	n := copy(p, b.cur.b[b.off:])
	b.off += n
	return n, nil
}

// fill makes sure that there are bytes in the current block.
func (b *blocks) fill() error {
	for b.off == len(b.cur.b) {
		if b.cur.err != nil {
			return b.cur.err
		}
		if b.cur.b != nil {
			b.s.free <- b.cur.b[:blockSize]
			b.cur.b = nil
		}
		select {
		case b.cur = <-b.s.full:
			b.off = 0
		case <-b.ctx.Done():
			return b.ctx.Err()
		}
	}
	return nil
}

// rest reads the stream to its end and reports whether all of it was zero.
func (b *blocks) rest() (zero bool, err error) {
	zero = true
	for {
		if err := b.fill(); err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return zero, err
		}
		if chunk := b.cur.b[b.off:]; zero {
			zero = bytes.Count(chunk, []byte{0}) == len(chunk)
		}
		b.off = len(b.cur.b)
	}
}
