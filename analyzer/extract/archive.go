package extract

import (
	"archive/zip"
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"slices"
	"strings"

	cpb "github.com/google/osv-scalibr/binary/proto/config_go_proto"
	"github.com/google/osv-scalibr/extractor/filesystem/language/java/archive"
	"github.com/google/osv-scalibr/extractor/filesystem/language/python/wheelegg"

	"github.com/sluiceproxy/sluice/analyzer"
)

// maxManifest bounds a pom.properties or a manifest's main section, in bytes.
const maxManifest = 1 << 20

func isJava(name string) bool { return archive.IsArchive(name) }

// isArchive knows the archives that runtimes load programs from, Java's and
// Python's (wheels, eggs, zipapps), and plain zip files, which carry such.
func isArchive(name string) bool {
	switch strings.ToLower(path.Ext(name)) {
	case ".whl", ".egg", ".pyz", ".pex", ".zip":
		return true
	}
	return isJava(name)
}

// parseArchive identifies an archive and the archives within it.
//
// scalibr identifies (pom.properties, manifest, file name; METADATA, PKG-INFO),
// but it reads inner archives and manifests to whatever size they claim. So the
// archives are walked here, under the session's limits, and scalibr gets a small
// archive with nothing but the manifests.
func parseArchive(ctx context.Context, s *Session, p string, c Content) ([]analyzer.Package, error) {
	return s.archive(ctx, p, "", c, 1)
}

func (s *Session) archive(ctx context.Context, outer, inner string, c Content, depth int) ([]analyzer.Package, error) {
	if depth > s.ex.opts.MaxArchiveDepth {
		return nil, fmt.Errorf("archives nested deeper than %d", s.ex.opts.MaxArchiveDepth)
	}
	if c.Size <= 22 { // at most an empty archive's end record
		return nil, nil
	}
	err := checkDirectory(c, s.ex.opts.MaxArchiveEntries)
	var zr *zip.Reader
	if err == nil {
		zr, err = zip.NewReader(c, c.Size)
	}
	if errors.Is(err, zip.ErrFormat) && strings.EqualFold(path.Ext(path.Join(outer, inner)), ".zip") {
		return nil, nil // something else of that name, which nothing loads code from
	}
	if err == nil && overlap(zr.File) {
		err = errors.New("entries that share bytes")
	}
	if err != nil {
		return nil, err
	}
	var pkgs []analyzer.Package
	var errs []error
	var manifests bytes.Buffer
	zw := zip.NewWriter(&manifests)
	for _, f := range zr.File {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		base := path.Base(f.Name)
		var err error
		switch {
		case base == "pom.properties" || strings.EqualFold(base, "manifest.mf"):
			err = copyManifest(zw, f)
		case isMetadata(file{path: f.Name, base: base}) && !f.FileInfo().IsDir():
			var found []analyzer.Package
			found, err = s.innerMetadata(ctx, outer, inner, f)
			pkgs = append(pkgs, found...)
		case isArchive(f.Name) && !f.FileInfo().IsDir():
			var found []analyzer.Package
			found, err = s.innerArchive(ctx, outer, innerPath(inner, f.Name), f, depth+1)
			pkgs = append(pkgs, found...)
		}
		var local *machineError
		if errors.As(err, &local) {
			return pkgs, err
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", f.Name, err))
		}
		if manifests.Len() > 32*maxManifest {
			errs = append(errs, errors.New("too many manifests"))
			break
		}
	}
	if !isJava(path.Join(outer, inner)) {
		return pkgs, errors.Join(errs...)
	}
	found, err := identify(ctx, zw, &manifests, outer, inner)
	return append(pkgs, found...), errors.Join(append(errs, err)...)
}

// innerMetadata reads what an archive says of a Python package in it.
func (s *Session) innerMetadata(ctx context.Context, outer, inner string, f *zip.File) ([]analyzer.Package, error) {
	if err := s.open(int64(min(f.UncompressedSize64, maxManifest))); err != nil {
		return nil, err
	}
	r, err := f.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, int64(min(f.UncompressedSize64, maxManifest)))) // the fields stand before the text
	if err != nil {
		return nil, err
	}
	ex, err := wheelegg.New(&cpb.PluginConfig{})
	if err != nil {
		return nil, err
	}
	inv, err := runScalibr(ctx, ex, f.Name, Content{bytes.NewReader(b), int64(len(b))})
	if err == nil && len(inv.Packages) == 0 {
		err = errors.New("no name or version found")
	}
	pkgs := convert(inv.Packages, outer)
	for i := range pkgs {
		pkgs[i].Inner = inner
	}
	return pkgs, err
}

// identify lets scalibr name the archive whose manifests were collected.
func identify(ctx context.Context, zw *zip.Writer, b *bytes.Buffer, outer, inner string) ([]analyzer.Package, error) {
	// One entry more: scalibr takes an archive without any for damaged.
	if _, err := zw.Create("sluice"); err != nil {
		return nil, err
	}
	if err := zw.Close(); err != nil {
		return nil, err
	}
	ex, err := archive.New(&cpb.PluginConfig{})
	if err != nil {
		return nil, err
	}
	inv, err := runScalibr(ctx, ex, path.Join(outer, inner), Content{bytes.NewReader(b.Bytes()), int64(b.Len())})
	var pkgs []analyzer.Package
	for _, pkg := range convert(inv.Packages, outer) {
		if pkg.Name == "unknown" { // scalibr's way to hand over a hash
			continue
		}
		pkg.Inner = inner
		pkgs = append(pkgs, pkg)
	}
	return pkgs, err
}

// open counts bytes that are unpacked, against the limit for one file.
func (s *Session) open(size int64) error {
	if size > s.ex.opts.MaxArchiveBytes-s.opened {
		return fmt.Errorf("archives within it hold more than %d bytes", s.ex.opts.MaxArchiveBytes)
	}
	s.opened += size
	return nil
}

// innerArchive unpacks one archive within an archive to memory or to a file.
func (s *Session) innerArchive(ctx context.Context, outer, inner string, f *zip.File, depth int) ([]analyzer.Package, error) {
	size := int64(min(f.UncompressedSize64, 1<<62))
	if err := s.open(size); err != nil {
		return nil, err
	}
	r, err := f.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if size <= s.ex.opts.MaxMemory {
		b := make([]byte, size)
		if _, err := io.ReadFull(r, b); err != nil {
			return nil, err
		}
		return s.archive(ctx, outer, inner, Content{bytes.NewReader(b), size}, depth)
	}
	tmp, err := TempFile(s.ex.opts.TempDir)
	if err != nil {
		return nil, &machineError{err}
	}
	defer tmp.Close()
	n, err := io.Copy(machineWriter{tmp}, io.LimitReader(r, size))
	if err != nil {
		return nil, err
	}
	return s.archive(ctx, outer, inner, Content{tmp, n}, depth)
}

// TempFile opens a file without a name in dir: it is gone when it is closed,
// however the process ends.
func TempFile(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, "sluice-scan-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// machineWriter marks write errors as this machine's.
type machineWriter struct{ w io.Writer }

func (m machineWriter) Write(p []byte) (int, error) {
	n, err := m.w.Write(p)
	if err != nil {
		err = &machineError{err}
	}
	return n, err
}

// copyManifest copies a pom.properties, or a manifest's main section, which
// ends at the first blank line (JAR File Specification, "Manifest").
func copyManifest(zw *zip.Writer, f *zip.File) error {
	r, err := f.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, maxManifest+1))
	if err != nil {
		return err
	}
	if strings.EqualFold(path.Base(f.Name), "manifest.mf") {
		for _, sep := range []string{"\r\n\r\n", "\n\n", "\r\r"} {
			if i := bytes.Index(b, []byte(sep)); i >= 0 {
				b = b[:i+len(sep)]
			}
		}
	}
	if len(b) > maxManifest {
		return fmt.Errorf("larger than %d bytes", maxManifest)
	}
	w, err := zw.CreateHeader(&zip.FileHeader{Name: f.Name, Method: zip.Store})
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

// overlap reports whether two entries claim the same bytes, as those of a zip
// bomb do (D. Fifield, "A better zip bomb", 2019). No tool writes such archives.
func overlap(files []*zip.File) bool {
	type span struct{ from, to int64 }
	spans := make([]span, 0, len(files))
	for _, f := range files {
		from, err := f.DataOffset()
		if err != nil || f.CompressedSize64 == 0 { // who reads it gets the error
			continue
		}
		spans = append(spans, span{from, from + int64(min(f.CompressedSize64, math.MaxInt64/2))})
	}
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	for i := 1; i < len(spans); i++ {
		if spans[i].from < spans[i-1].to {
			return true
		}
	}
	return false
}

// checkDirectory refuses an archive with more than maxEntries entries before
// archive/zip allocates for each of them. It counts the central directory's
// headers from the offset that the end record gives (APPNOTE.TXT 4.3.12, 4.3.16).
func checkDirectory(c Content, maxEntries int) error {
	tail := make([]byte, min(c.Size, 66<<10))
	if _, err := c.ReadAt(tail, c.Size-int64(len(tail))); err != nil && !errors.Is(err, io.EOF) {
		return &machineError{err}
	}
	end := bytes.LastIndex(tail, []byte("PK\x05\x06"))
	if end < 0 || len(tail)-end < 22 {
		return zip.ErrFormat
	}
	if n := int(binary.LittleEndian.Uint16(tail[end+10:])); n != 0xffff && n > maxEntries {
		return fmt.Errorf("more than %d entries", maxEntries)
	}
	size := int64(binary.LittleEndian.Uint32(tail[end+12:]))
	// A directory cannot hold more headers than its bytes allow (46 each), and
	// what lies between it and the end record is read as headers, too.
	if size/46 > 4*int64(maxEntries) {
		return fmt.Errorf("a directory of %d bytes", size)
	}
	return countHeaders(c, c.Size-int64(len(tail))+int64(end)-size, maxEntries)
}

func countHeaders(c Content, off int64, maxEntries int) error {
	if off < 0 {
		return zip.ErrFormat
	}
	r := io.NewSectionReader(c, off, c.Size-off)
	head := make([]byte, 46)
	for n := 0; ; n++ {
		if n > maxEntries {
			return fmt.Errorf("more than %d entries", maxEntries)
		}
		if _, err := io.ReadFull(r, head); err != nil || string(head[:4]) != "PK\x01\x02" {
			return nil // archive/zip judges the rest
		}
		skip := int64(binary.LittleEndian.Uint16(head[28:])) + int64(binary.LittleEndian.Uint16(head[30:])) + int64(binary.LittleEndian.Uint16(head[32:]))
		if _, err := r.Seek(skip, io.SeekCurrent); err != nil {
			return err
		}
	}
}
