package target

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// archive is a tar file whose entries can be opened in any order.
type archive struct {
	f       *os.File
	remove  bool // f is a temporary file
	entries map[string]entry
}

// entry is where a file's bytes are, or what it is a link to.
type entry struct {
	offset, size int64
	link         string
}

const (
	maxEntries = 100_000 // of an archive of an image: a few for each layer
	maxLinks   = 8       // from link to link
)

// openTar reads the table of a tar file, which may be compressed with gzip or
// zstd; then it is unpacked into tempDir first.
func openTar(ctx context.Context, name, tempDir string) (*archive, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	a := &archive{f: f, entries: map[string]entry{}}
	if err = a.decompress(ctx, tempDir); err == nil {
		err = a.index(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

// decompress replaces a compressed file by a temporary one.
func (a *archive) decompress(ctx context.Context, tempDir string) error {
	in := bufio.NewReaderSize(a.f, 1<<20)
	head, err := in.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	var plain io.Reader
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		plain, err = gzip.NewReader(in)
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		var z *zstd.Decoder
		if z, err = zstd.NewReader(in, zstd.WithDecoderConcurrency(1)); err == nil {
			defer z.Close()
			plain = z
		}
	default:
		_, err := a.f.Seek(0, io.SeekStart)
		return err
	}
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(tempDir, "sluice-scan-*.tar")
	if err != nil {
		return err
	}
	_, err = io.Copy(tmp, &interruptedReader{ctx, plain})
	compressed := a.f
	a.f, a.remove = tmp, true
	if err := errors.Join(err, compressed.Close()); err != nil {
		return fmt.Errorf("decompress: %w", err)
	}
	_, err = tmp.Seek(0, io.SeekStart)
	return err
}

// index notes where each entry is. The tar reader reads headers from the file
// itself, so after Next the file stands at the entry's first byte.
func (a *archive) index(ctx context.Context) error {
	tr := tar.NewReader(a.f)
	for {
		h, err := tr.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("not a tar file: %w", err)
		case len(a.entries) == maxEntries:
			return fmt.Errorf("more than %d entries", maxEntries)
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
		name := clean(h.Name)
		e := entry{size: h.Size}
		switch h.Typeflag {
		case tar.TypeReg:
			if _, sparse := h.PAXRecords["GNU.sparse.map"]; sparse {
				return fmt.Errorf("entry %q is sparse", name)
			}
			if e.offset, err = a.f.Seek(0, io.SeekCurrent); err != nil {
				return err
			}
		case tar.TypeSymlink:
			e.link = clean(path.Join(path.Dir(name), h.Linkname))
		case tar.TypeLink:
			e.link = clean(h.Linkname)
		default:
			continue
		}
		if _, twice := a.entries[name]; twice {
			return fmt.Errorf("entry %q stands twice", name)
		}
		a.entries[name] = e
	}
}

// clean makes a name relative to the archive's root; "../" cannot leave it.
func clean(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }

// open opens an entry, through links within the archive.
func (a *archive) open(name string) (io.ReadCloser, error) {
	at := clean(name)
	for range maxLinks {
		e, ok := a.entries[at]
		if !ok {
			return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
		}
		if e.link == "" {
			return io.NopCloser(io.NewSectionReader(a.f, e.offset, e.size)), nil
		}
		at = e.link
	}
	return nil, fmt.Errorf("%s: more than %d links", name, maxLinks)
}

// Close closes the file, and removes it if it is temporary.
func (a *archive) Close() error {
	err := a.f.Close()
	if a.remove {
		err = errors.Join(err, os.Remove(a.f.Name()))
	}
	return err
}

// interruptedReader ends when ctx does.
type interruptedReader struct {
	ctx context.Context
	r   io.Reader
}

func (r *interruptedReader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.r.Read(p)
}
