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

	"github.com/klauspost/compress/zstd"
	godigest "github.com/opencontainers/go-digest"

	"github.com/sluiceproxy/sluice/analyzer"
	"github.com/sluiceproxy/sluice/analyzer/layer/inflate"
)

const (
	blockSize  = 256 << 10
	bufferSize = inflate.Window + blockSize
	blockCount = 4 // blocks that exist: the producer is that far ahead at most
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
	proven godigest.Digest // of the stored bytes, where the blob's reader tells; "" where they are hashed here
	tar    counter
	limit  string // why the tar stream was not read to its end; "" if it was
	excess int64  // bytes after the end of the compressed stream that are not padding
}

// block is a piece of the tar stream in a buffer of bufferSize, and the error
// that comes after it.
type block struct {
	buf []byte
	b   []byte
	err error
}

type counter struct {
	h hash.Hash // nil only counts
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	if c.h == nil {
		return len(p), nil
	}
	return c.h.Write(p)
}

func (c *counter) digest() godigest.Digest { return godigest.NewDigest(godigest.SHA256, c.h) }

func newStream(blob io.Reader, opts Options) *stream {
	s := &stream{
		opts: opts, blob: blob,
		full: make(chan block, blockCount), free: make(chan []byte, blockCount),
		tar: counter{h: sha256.New()},
	}
	if _, ok := blob.(analyzer.Proven); !ok {
		s.stored.h = sha256.New()
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
	if p, ok := s.blob.(analyzer.Proven); ok && err == nil {
		return s.prove(p)
	}
	return err
}

// prove takes the digest of the stored bytes from who has computed it.
func (s *stream) prove(p analyzer.Proven) error {
	dgst, n, err := p.Proof()
	if err == nil && n != s.stored.n {
		err = fmt.Errorf("%d bytes were read, of %d with the digest %s", s.stored.n, n, dgst)
	}
	s.proven = dgst
	return err
}

func (s *stream) digest() godigest.Digest {
	if s.stored.h == nil {
		return s.proven
	}
	return s.stored.digest()
}

func (s *stream) decompress(ctx context.Context, in *bufio.Reader) error {
	dec, name, err := s.decoder(in)
	if err != nil {
		err = fmt.Errorf("%s: %w", name, err)
		s.send(ctx, block{err: err})
		return err
	}
	defer dec.close()
	for {
		var buf []byte
		select {
		case buf = <-s.free:
		case <-ctx.Done():
			return ctx.Err()
		}
		if buf == nil {
			buf = make([]byte, bufferSize)
		}
		n, err := dec.ReadBlock(buf)
		if err != nil && !errors.Is(err, io.EOF) {
			err = fmt.Errorf("%s: %w", name, err)
			s.send(ctx, block{err: err})
			return err
		}
		b := buf[inflate.Window:][:n]
		if over := s.over(int64(n)); over != "" {
			s.limit = over
			s.send(ctx, block{err: errLimit})
			return errLimit
		}
		_, _ = s.tar.Write(b) // hashes do not fail
		if err != nil {
			// What follows the last member belongs to the stored bytes: read it
			// before the walk may end, so that an error of it is the scan's.
			if err := s.drain(ctx, in, &s.excess); err != nil {
				s.send(ctx, block{err: err})
				return err
			}
			s.send(ctx, block{buf, b, io.EOF})
			return nil
		}
		s.send(ctx, block{buf, b, nil})
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

// blockReader is a decompressor. ReadBlock writes to buf[inflate.Window:] until
// it is full, or the input ends (io.EOF) or is broken.
type blockReader interface {
	ReadBlock(buf []byte) (int, error)
}

type decoder struct {
	blockReader
	close func()
}

// decoder chooses by magic bytes: a media type is only a claim, and clients
// look at the bytes as well.
func (s *stream) decoder(in *bufio.Reader) (decoder, string, error) {
	magic, err := in.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return decoder{}, "read", err
	}
	switch {
	case isGzip(magic):
		return decoder{inflate.NewReader(in), func() {}}, "gzip", nil
	case isZstd(magic):
		z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(zstdWindow), zstd.WithDecoderMaxMemory(uint64(s.opts.MaxUncompressed)))
		if err != nil {
			return decoder{}, "zstd", err
		}
		return decoder{&reader{r: z}, z.Close}, "zstd", nil
	}
	return decoder{&reader{r: in}, func() {}}, "read", nil
}

func isGzip(b []byte) bool { return bytes.HasPrefix(b, []byte{0x1f, 0x8b}) }

// isZstd accepts a frame or a skippable frame (RFC 8878, 3.1), with which
// zstd:chunked layers may begin.
func isZstd(b []byte) bool {
	return bytes.HasPrefix(b, []byte{0x28, 0xb5, 0x2f, 0xfd}) ||
		len(b) == 4 && b[0]&0xf0 == 0x50 && b[1] == 0x2a && b[2] == 0x4d && b[3] == 0x18
}

// reader is a blockReader of r. It remembers that r has ended, which io.ReadFull
// does not tell from a reader that fails with io.ErrUnexpectedEOF.
type reader struct {
	r     io.Reader
	ended bool
}

// Read is r's.
func (r *reader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.ended = r.ended || errors.Is(err, io.EOF)
	return n, err
}

// ReadBlock fills buf after its first inflate.Window bytes.
func (r *reader) ReadBlock(buf []byte) (int, error) {
	n, err := io.ReadFull(r, buf[inflate.Window:])
	if err != nil && r.ended {
		err = io.EOF
	}
	return n, err
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
		if b.cur.buf != nil {
			b.s.free <- b.cur.buf
			b.cur = block{}
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
