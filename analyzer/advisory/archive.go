package advisory

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

// maxDirectory bounds what is read to find an archive's entries, because each
// takes several times its bytes in memory.
const maxDirectory = 128 << 20

// readArchive hands every record of an OSV archive to take, in the archive's
// order. Every error names the entry. data is valid during the call only.
func readArchive(ctx context.Context, f *os.File, limits Limits, take func(data []byte) error) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	budget := &budgetReader{r: f, left: maxDirectory}
	z, err := zip.NewReader(budget, info.Size())
	if err != nil {
		return err
	}
	budget.lifted = true
	if len(z.File) > limits.Records {
		return fmt.Errorf("%d records, more than the limit of %d", len(z.File), limits.Records)
	}
	records, err := listRecords(z, limits, uint64(info.Size()))
	if err != nil {
		return err
	}
	var buf []byte
	for _, e := range records {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		buf, err = readEntry(e, buf[:0])
		if err == nil {
			err = take(buf)
		}
		if err != nil {
			return fmt.Errorf("entry %.100q: %w", e.Name, err)
		}
	}
	return nil
}

// listRecords checks all that an archive's directory says before anything of it
// is read, and returns the entries without folders.
func listRecords(z *zip.Reader, limits Limits, size uint64) ([]*zip.File, error) {
	var text, packed uint64
	records := z.File[:0]
	for _, e := range z.File {
		if folder, ok := strings.CutSuffix(e.Name, "/"); ok && e.UncompressedSize64 == 0 && safeName(folder) {
			continue
		}
		text += e.UncompressedSize64
		packed += e.CompressedSize64
		if err := checkEntry(e, limits, text, packed, size); err != nil {
			return nil, fmt.Errorf("entry %.100q: %w", e.Name, err)
		}
		records = append(records, e)
	}
	if len(records) == 0 {
		return nil, errors.New("no records")
	}
	return records, nil
}

// checkEntry refuses what no export holds. The sizes are the archive's own
// claims: readEntry holds an entry to them.
func checkEntry(e *zip.File, limits Limits, text, packed, archive uint64) error {
	size := e.UncompressedSize64
	switch {
	case !safeName(e.Name):
		return errors.New("its name leaves the archive")
	case path.Ext(e.Name) != ".json" || !e.Mode().IsRegular():
		return errors.New("not a record: its name does not end in .json, or it is no regular file")
	case size > uint64(limits.Record):
		return fmt.Errorf("%d bytes, more than the limit of %d for a record", size, limits.Record)
	case size > 1<<20 && size/max(e.CompressedSize64, 1) > uint64(limits.Ratio):
		return fmt.Errorf("expands more than %d-fold", limits.Ratio)
	case text > uint64(limits.Text):
		return fmt.Errorf("the archive expands to more than the limit of %d bytes", limits.Text)
	case packed > archive:
		return errors.New("entries overlap")
	}
	return nil
}

// safeName accepts a relative path that stays below its root. Ids hold colons
// (ALSA-2024:1), so these are allowed.
func safeName(name string) bool {
	return fs.ValidPath(name) && name != "." && !strings.ContainsAny(name, "\\\x00")
}

// readEntry returns an entry's whole content, appended to buf. archive/zip
// compares length and CRC at the end.
func readEntry(e *zip.File, buf []byte) ([]byte, error) {
	r, err := e.Open()
	if err != nil {
		return buf, err
	}
	defer r.Close()
	if size := int(e.UncompressedSize64); cap(buf) < size+1 {
		buf = make([]byte, 0, size+size/4+512)
	}
	limited := io.LimitReader(r, int64(e.UncompressedSize64)+1)
	for {
		n, err := limited.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if err == io.EOF {
			break
		}
		if err != nil {
			return buf, err
		}
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
	}
	if uint64(len(buf)) != e.UncompressedSize64 {
		return buf, zip.ErrFormat
	}
	return buf, nil
}

// budgetReader fails after left bytes, until it is lifted.
type budgetReader struct {
	r      io.ReaderAt
	left   int
	lifted bool
}

func (b *budgetReader) ReadAt(p []byte, off int64) (int, error) {
	if !b.lifted {
		if b.left -= len(p); b.left < 0 {
			return 0, fmt.Errorf("its directory is larger than %d bytes", maxDirectory)
		}
	}
	return b.r.ReadAt(p, off)
}
