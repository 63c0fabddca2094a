package layer

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/sluiceproxy/sluice/analyzer"
	"github.com/sluiceproxy/sluice/analyzer/extract"
	"github.com/sluiceproxy/sluice/analyzer/secret"
)

// maxIncomplete bounds the list of what was not analysed; the rest is counted.
const maxIncomplete = 200

// walk is the consumer: one pass over the tar entries.
type walk struct {
	opts    Options
	ex      *extract.Extractor
	session *extract.Session

	entries   int
	pathBytes int64
	read      int64 // bytes of content looked at; a sparse file has more than the stream

	paths, whiteouts, opaque []string
	setuid                   map[string]struct{}
	links                    map[string]string // symbolic links, as linkTarget has it
	kept                     map[string][]byte // see remember
	keptBytes                int
	found                    map[string]*found
	dirs                     map[string]struct{} // directories of the keys of found
	lost                     []analyzer.Secret   // of files that a later entry replaced
	late                     []analyzer.Package  // of databases read at the end
	release                  *analyzer.OSRelease
	facts                    facts
	incomplete               []analyzer.Incomplete
	more                     int // entries of incomplete that were not kept

	head    [4 << 10]byte
	buf     []byte
	secrets *secret.Scanner
}

// found is what one file gave.
type found struct {
	packages []analyzer.Package
	secrets  []analyzer.Secret
}

func (w *walk) run(ctx context.Context, in *blocks) error {
	end, err := w.walk(ctx, tar.NewReader(in))
	if err != nil {
		return err
	}
	// The rest belongs to the diffID, and an error of it is the scan's.
	zero, err := in.rest()
	switch {
	case errors.Is(err, errLimit): // the stream knows the reason
	case err != nil:
		return err
	case end && !zero:
		w.miss("", "data after the end of the tar archive")
	}
	res, release, err := w.session.Finish(ctx)
	if err != nil {
		return err
	}
	w.late, w.release = res.Packages, release
	w.problems(res)
	return nil
}

// walk visits the entries up to the archive's end, a limit, or something that
// is no tar. end reports the first. The error is of the stream or this machine.
func (w *walk) walk(ctx context.Context, tr *tar.Reader) (end bool, err error) {
	for {
		h, err := tr.Next()
		switch {
		case errors.Is(err, io.EOF):
			return true, nil
		case errors.Is(err, errLimit):
			return false, nil
		case errors.Is(err, tar.ErrHeader), errors.Is(err, tar.ErrFieldTooLong), errors.Is(err, io.ErrUnexpectedEOF):
			w.miss("", "tar: "+err.Error())
			return false, nil
		case err != nil && !errors.Is(err, tar.ErrInsecurePath):
			return false, err
		}
		w.entries++
		w.pathBytes += int64(len(h.Name))
		if w.entries > w.opts.MaxEntries {
			w.miss("", fmt.Sprintf("more than %d entries", w.opts.MaxEntries))
			return false, nil
		}
		if w.pathBytes > w.opts.MaxPathBytes {
			w.miss("", fmt.Sprintf("more than %d bytes of paths", w.opts.MaxPathBytes))
			return false, nil
		}
		if err := w.entry(ctx, h, tr); errors.Is(err, errLimit) {
			return false, nil
		} else if errors.Is(err, io.ErrUnexpectedEOF) {
			p, _ := clean(h.Name)
			w.miss(p, "tar: "+err.Error())
			return false, nil
		} else if err != nil {
			return false, err
		}
	}
}

func (w *walk) entry(ctx context.Context, h *tar.Header, content io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	p, bad := clean(h.Name)
	if bad != "" {
		w.miss(p, bad)
	}
	if p == "" {
		return nil
	}
	m, about := classify(p)
	switch m {
	case whiteout:
		w.whiteouts = append(w.whiteouts, about)
		return nil
	case opaque:
		w.opaque = append(w.opaque, about)
		return nil
	case metadata:
		return nil
	case invalid:
		w.miss(p, "an invalid whiteout")
		return nil
	case plain:
	}
	w.facts.entry(p, h)
	if h.Typeflag == tar.TypeDir {
		w.paths = append(w.paths, p+"/")
		delete(w.links, p)
		return nil
	}
	w.paths = append(w.paths, p)
	w.replace(p)
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse, tar.TypeCont:
		return w.file(ctx, p, h, content)
	case tar.TypeSymlink:
		target := linkTarget(p, h.Linkname)
		w.session.Link(p, h.Linkname)
		w.links[p] = target
		if w.ex.HiddenBy(p, target) {
			w.miss(p, fmt.Sprintf("a link to %q, where its content is not recognised", target))
		}
	case tar.TypeLink:
		return w.hardLink(ctx, p, h.Linkname)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
	default:
		w.miss(p, fmt.Sprintf("a tar entry of type %q", h.Typeflag))
	}
	return nil
}

// file looks at a regular file's content, if it matters.
func (w *walk) file(ctx context.Context, p string, h *tar.Header, content io.Reader) error {
	if h.Mode&0o6000 != 0 {
		w.setuid[p] = struct{}{}
	}
	if h.Size == 0 {
		return nil
	}
	head := w.head[:min(int64(len(w.head)), h.Size)]
	if _, err := io.ReadFull(content, head); err != nil {
		return unexpected(err)
	}
	wanted, depth, keystore := w.ex.Wants(p, head), secret.DepthOf(p, head), secret.WantsBinary(p, head, h.Size)
	if !wanted && depth == secret.Nothing && !keystore {
		return nil // the reader skips to the next entry
	}
	if h.Size > w.opts.MaxFile {
		w.miss(p, fmt.Sprintf("a file of more than %d bytes", w.opts.MaxFile))
		return nil
	}
	if w.read += h.Size; w.read > w.opts.MaxUncompressed {
		w.miss(p, fmt.Sprintf("more than %d bytes of content", w.opts.MaxUncompressed))
		return errLimit
	}
	if h.Size > w.opts.MaxMemory {
		return w.large(ctx, p, head, h.Size, content, wanted, depth)
	}
	if int64(cap(w.buf)) < h.Size {
		w.buf = make([]byte, min(max(2*h.Size, 64<<10), w.opts.MaxMemory))
	}
	b := w.buf[:h.Size]
	copy(b, head)
	if _, err := io.ReadFull(content, b[len(head):]); err != nil {
		return unexpected(err)
	}
	f := &found{}
	if depth > secret.Nothing {
		w.scanner(p, depth)
		f.secrets = w.secrets.Whole(b)
	}
	if keystore {
		f.secrets = append(f.secrets, secret.Keystore(p, b)...)
	}
	if wanted {
		if err := w.parse(ctx, p, head, extract.Content{ReaderAt: memory(b), Size: h.Size}, f); err != nil {
			return err
		}
	} else {
		w.remember(p, b)
	}
	if wanted || len(f.secrets) > 0 {
		w.keep(p, f)
	}
	return nil
}

// large is file for content that does not fit in memory: what parsers want goes
// to a temporary file, text goes through the secret scanner on its way.
func (w *walk) large(ctx context.Context, p string, head []byte, size int64, content io.Reader, wanted bool, depth secret.Depth) error {
	sinks := make([]io.Writer, 0, 2)
	if depth > secret.Nothing {
		w.scanner(p, depth)
		sinks = append(sinks, w.secrets)
	}
	var c extract.Content
	if wanted {
		tmp, err := extract.TempFile(w.opts.TempDir)
		if err != nil {
			return err
		}
		defer tmp.Close()
		c = extract.Content{ReaderAt: tmp, Size: size}
		sinks = append(sinks, tmp)
	}
	sink := io.MultiWriter(sinks...)
	if _, err := sink.Write(head); err != nil {
		return err
	}
	if int64(cap(w.buf)) < blockSize {
		w.buf = make([]byte, blockSize)
	}
	n, err := io.CopyBuffer(sink, struct{ io.Reader }{content}, w.buf[:min(cap(w.buf), blockSize)])
	if err != nil {
		return err
	}
	if n != size-int64(len(head)) {
		return io.ErrUnexpectedEOF
	}
	f := &found{}
	if depth > secret.Nothing {
		f.secrets = w.secrets.Close()
	}
	if wanted {
		if err := w.parse(ctx, p, head, c, f); err != nil {
			return err
		}
	}
	if wanted || len(f.secrets) > 0 {
		w.keep(p, f)
	}
	return nil
}

func (w *walk) parse(ctx context.Context, p string, head []byte, c extract.Content, f *found) error {
	res, err := w.session.File(ctx, p, head, c)
	if err != nil {
		return err
	}
	f.packages = res.Packages
	w.problems(res)
	return nil
}

func (w *walk) scanner(p string, depth secret.Depth) {
	if w.secrets == nil {
		w.secrets = secret.NewScanner()
	}
	w.secrets.Reset(p, depth)
}

// keep remembers what a file gave, until a later entry replaces it.
func (w *walk) keep(p string, f *found) {
	w.found[p] = f
	for dir := path.Dir(p); dir != "."; dir = path.Dir(dir) {
		if _, ok := w.dirs[dir]; ok {
			break
		}
		w.dirs[dir] = struct{}{}
	}
}

// replace drops what earlier entries gave at p, or below it: the last of two
// entries with one path wins, and a file replaces a directory. Secrets stay in
// the layer's bytes.
func (w *walk) replace(p string) {
	drop := func(at string, f *found) {
		for _, s := range f.secrets {
			s.Deleted = true
			w.lost = append(w.lost, s)
		}
		delete(w.found, at)
	}
	delete(w.setuid, p)
	delete(w.links, p)
	delete(w.kept, p)
	if f, ok := w.found[p]; ok {
		drop(p, f)
	}
	if _, ok := w.dirs[p]; !ok {
		return
	}
	delete(w.dirs, p)
	for at, f := range w.found {
		if strings.HasPrefix(at, p+"/") {
			drop(at, f)
		}
	}
}

func (w *walk) problems(res extract.Result) {
	for _, p := range res.Problems {
		w.miss(p.Path, p.Reason)
	}
}

// miss records that something was not, or not fully, analysed.
func (w *walk) miss(p, reason string) {
	if len(w.incomplete) >= maxIncomplete {
		w.more++
		return
	}
	w.incomplete = append(w.incomplete, analyzer.Incomplete{Path: p, Reason: reason})
}

// layer puts the results of both goroutines together.
func (w *walk) layer(st *stream) *analyzer.Layer {
	l := &analyzer.Layer{
		Digest: st.digest(), Size: st.stored.n, Uncompressed: st.tar.n,
		Paths: compact(w.paths), Whiteouts: compact(w.whiteouts), Opaque: compact(w.opaque), Setuid: slices.Sorted(maps.Keys(w.setuid)),
		OSRelease: w.release, Packages: w.late, Secrets: w.lost, Hardening: w.facts.layer(),
	}
	if st.limit == "" {
		l.DiffID = st.tar.digest()
	} else {
		w.miss("", st.limit)
	}
	if st.excess > 0 {
		w.miss("", "data after the end of the compressed stream")
	}
	for _, f := range w.found {
		l.Packages = append(l.Packages, f.packages...)
		l.Secrets = append(l.Secrets, f.secrets...)
	}
	l.Packages = append(l.Packages, extract.NixStore(l.Paths)...)
	for i := range l.Packages {
		if p := &l.Packages[i]; !analyzer.IsDistribution(p.Type) {
			p.Owner = w.session.Owner(p.Path)
		}
	}
	for i := range l.Secrets {
		l.Secrets[i].Owner = w.session.Owner(l.Secrets[i].Path)
	}
	l.Links = w.directoryLinks(l.Paths)
	slices.SortFunc(l.Packages, analyzer.ComparePackages)
	l.Packages = slices.CompactFunc(l.Packages, func(a, b analyzer.Package) bool { return a == b })
	slices.SortStableFunc(l.Secrets, analyzer.CompareSecrets)
	l.Incomplete = w.incomplete
	if w.more > 0 {
		l.Incomplete = append(l.Incomplete, analyzer.Incomplete{Reason: fmt.Sprintf("and %d more", w.more)})
	}
	id := l.DiffID
	if id == "" {
		id = l.Digest
	}
	for i := range l.Incomplete {
		l.Incomplete[i].Layer = id
	}
	return l
}

func compact(s []string) []string {
	slices.Sort(s)
	return slices.Compact(s)
}

// unexpected makes the end of the stream within a file what it is.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// memory is bytes.Reader's ReadAt without its state.
type memory []byte

func (m memory) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= int64(len(m)) {
		return 0, io.EOF
	}
	n := copy(p, m[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
