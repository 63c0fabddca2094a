package extract

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"
	"time"

	cpb "github.com/google/osv-scalibr/binary/proto/config_go_proto"
	"github.com/google/osv-scalibr/extractor/filesystem"
	scalibrfs "github.com/google/osv-scalibr/fs"
	"github.com/google/osv-scalibr/inventory"
	"github.com/google/osv-scalibr/log"

	"github.com/sluiceproxy/sluice/analyzer"
)

// Options bound what one file may cost. Zero values are replaced by the defaults.
type Options struct {
	// MaxDocument is the size of the largest text database, manifest or lock
	// file that is parsed, in bytes. Default 64 MiB.
	MaxDocument int64
	// MaxArchiveDepth is how deep archives in archives (war in ear, jar in war)
	// are opened; the outermost is 1. Default 6.
	MaxArchiveDepth int
	// MaxArchiveBytes is the sum of the uncompressed sizes of all archives
	// opened inside one file, in bytes. Default 2 GiB.
	MaxArchiveBytes int64
	// MaxArchiveEntries is the number of entries of one archive. Default 200,000.
	MaxArchiveEntries int
	// MaxMemory is the size up to which an inner archive is held in memory; a
	// larger one goes to a file in TempDir. Default 16 MiB.
	MaxMemory int64
	// TempDir holds rpm databases and large inner archives while they are read.
	// Default os.TempDir().
	TempDir string
}

func (o Options) withDefaults() Options {
	if o.MaxDocument <= 0 {
		o.MaxDocument = 64 << 20
	}
	if o.MaxArchiveDepth <= 0 {
		o.MaxArchiveDepth = 6
	}
	if o.MaxArchiveBytes <= 0 {
		o.MaxArchiveBytes = 2 << 30
	}
	if o.MaxArchiveEntries <= 0 {
		o.MaxArchiveEntries = 200_000
	}
	if o.MaxMemory <= 0 {
		o.MaxMemory = 16 << 20
	}
	if o.TempDir == "" {
		o.TempDir = os.TempDir()
	}
	return o
}

// Extractor holds the parsers. It is safe for concurrent use.
type Extractor struct {
	opts    Options
	parsers []parser
}

// Result is what one file names.
type Result struct {
	Packages []analyzer.Package
	Problems []Problem
}

// Problem says why a file was not, or not fully, understood.
type Problem struct {
	Path   string
	Reason string // lower-case phrase
}

// Content is a file's content, at random access.
type Content struct {
	io.ReaderAt
	Size int64
}

// silence replaces scalibr's process-wide logger, which would write to standard
// error what is reported as a Problem here.
var silence sync.Once

// New returns an Extractor. The first call in a process also silences
// osv-scalibr's logger, which the library keeps in a package variable.
func New(opts Options) (*Extractor, error) {
	silence.Do(func() { log.SetLogger(quiet{}) })
	e := &Extractor{opts: opts.withDefaults()}
	for _, s := range scalibrParsers() {
		ex, err := s.make(&cpb.PluginConfig{})
		if err != nil {
			return nil, fmt.Errorf("extractor %s: %w", s.name, err)
		}
		e.parsers = append(e.parsers, parser{
			name: s.name, wants: s.wants, document: s.document, check: s.check, parse: scalibrParse(ex),
		})
	}
	e.parsers = append(e.parsers, ownParsers()...)
	return e, nil
}

// Options returns the limits in force.
func (e *Extractor) Options() Options { return e.opts }

// Wants reports whether the content of a regular file matters. p is clean and
// relative to the image's root; head is at least the first 64 bytes of the
// file, or all of a shorter one.
func (e *Extractor) Wants(p string, head []byte) bool {
	if isRPM(p) || isRelease(p) {
		return true
	}
	f := file{path: p, base: path.Base(p), binary: isBinary(head)}
	for i := range e.parsers {
		if e.parsers[i].wants(f) {
			return true
		}
	}
	return false
}

// WantsPath reports whether a file's content would matter by its path alone:
// a link at such a path hides content from a reader of the stream.
func (e *Extractor) WantsPath(p string) bool { return e.Wants(p, nil) }

// file is what a parser's path test sees.
type file struct {
	path, base string
	binary     bool // an executable or shared library by its first bytes
}

// parser reads one format.
type parser struct {
	name     string
	wants    func(file) bool
	document bool // parsed as a whole: bounded by MaxDocument and by nesting
	parse    func(ctx context.Context, s *Session, p string, c Content) ([]analyzer.Package, error)
	// check finds what parse lost without an error; nil where it cannot.
	check func(c Content, got []analyzer.Package) error
}

// Session extracts from the files of one layer. It is not safe for concurrent
// use. Close it when done.
type Session struct {
	ex      *Extractor
	rpm     rpmFiles
	release releases
	owners  owners
	opened  int64 // bytes of inner archives opened for the current file
}

// NewSession returns a Session for one layer.
func (e *Extractor) NewSession() *Session { return &Session{ex: e} }

// File runs every parser that wants the file. The error is of this machine or
// of ctx; what is wrong with the file is in Result.Problems.
func (s *Session) File(ctx context.Context, p string, head []byte, c Content) (Result, error) {
	var res Result
	if isRPM(p) {
		return res, s.rpm.add(s.ex.opts.TempDir, p, c)
	}
	if isRelease(p) {
		if err := s.release.add(p, c); err != nil {
			return res, err
		}
	}
	f := file{path: p, base: path.Base(p), binary: isBinary(head)}
	for i := range s.ex.parsers {
		pr := &s.ex.parsers[i]
		if !pr.wants(f) {
			continue
		}
		pkgs, err := s.run(ctx, pr, p, c)
		if ctx.Err() != nil {
			return res, ctx.Err()
		}
		var local *machineError
		if errors.As(err, &local) {
			return res, fmt.Errorf("%s %s: %w", pr.name, p, local.err)
		}
		if err != nil {
			for _, reason := range reasons(err) {
				res.Problems = append(res.Problems, Problem{Path: p, Reason: pr.name + ": " + reason})
			}
		}
		res.Packages = append(res.Packages, pkgs...)
	}
	textual(&res)
	return res, nil
}

// Link records a symbolic link, which may stand for the OS release.
func (s *Session) Link(p, target string) { s.release.link(p, target) }

// Finish reads the rpm databases and the OS release. The release is nil where
// the layer has none.
func (s *Session) Finish(ctx context.Context) (Result, *analyzer.OSRelease, error) {
	res, err := s.rpm.read(ctx, &s.owners)
	if err != nil {
		return Result{}, nil, err
	}
	textual(&res)
	return res, s.release.best(), nil
}

// textual replaces bytes that are not UTF-8: results are kept as JSON, and must
// be the same when they come back.
func textual(res *Result) {
	for i := range res.Packages {
		p := &res.Packages[i]
		for _, s := range []*string{&p.Name, &p.Version, &p.Source, &p.SourceVersion, &p.Arch, &p.Modularity, &p.PURL, &p.Inner} {
			*s = strings.ToValidUTF8(*s, "\uFFFD")
		}
	}
	for i := range res.Problems {
		res.Problems[i].Reason = strings.ToValidUTF8(res.Problems[i].Reason, "\uFFFD")
	}
}

// Close removes the session's temporary files.
func (s *Session) Close() error { return s.rpm.close() }

// run calls one parser and turns a panic into an error: the content is hostile
// until proven otherwise, and a parser must not take the process down.
func (s *Session) run(ctx context.Context, pr *parser, p string, c Content) (pkgs []analyzer.Package, err error) {
	defer func() {
		if r := recover(); r != nil {
			pkgs, err = nil, fmt.Errorf("panic: %v", r)
		}
	}()
	s.opened = 0
	if pr.document {
		if c.Size > s.ex.opts.MaxDocument {
			return nil, fmt.Errorf("larger than %d bytes", s.ex.opts.MaxDocument)
		}
		if err := checkNesting(c); err != nil {
			return nil, err
		}
	}
	pkgs, err = pr.parse(ctx, s, p, c)
	if err == nil && pr.check != nil {
		err = pr.check(c, pkgs)
	}
	return pkgs, err
}

// machineError marks an error that says nothing about the content.
type machineError struct{ err error }

func (e *machineError) Error() string { return e.err.Error() }
func (e *machineError) Unwrap() error { return e.err }

// reasons splits joined errors into one line each.
func reasons(err error) []string {
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		var out []string
		for _, e := range j.Unwrap() {
			out = append(out, reasons(e)...)
		}
		return out
	}
	return []string{err.Error()}
}

// scalibrParse adapts one of scalibr's extractors.
func scalibrParse(ex filesystem.Extractor) func(context.Context, *Session, string, Content) ([]analyzer.Package, error) {
	return func(ctx context.Context, _ *Session, p string, c Content) ([]analyzer.Package, error) {
		inv, err := runScalibr(ctx, ex, p, c)
		return convert(inv.Packages, p), err
	}
}

func runScalibr(ctx context.Context, ex filesystem.Extractor, p string, c Content) (inventory.Inventory, error) {
	info := fileInfo{name: path.Base(p), size: c.Size}
	return ex.Extract(ctx, &filesystem.ScanInput{
		FS: noFS{}, Path: p, Info: info,
		Reader: &openFile{io.NewSectionReader(c, 0, c.Size), info},
	})
}

// fileInfo, openFile and noFS are what scalibr asks of a file and of the file
// system around it. The file system is empty: the neighbours are in a stream.
type fileInfo struct {
	name string
	size int64
}

func (i fileInfo) Name() string     { return i.name }
func (i fileInfo) Size() int64      { return i.size }
func (fileInfo) Mode() fs.FileMode  { return 0o755 }
func (fileInfo) ModTime() time.Time { return time.Time{} }
func (fileInfo) IsDir() bool        { return false }
func (fileInfo) Sys() any           { return nil }

type openFile struct {
	*io.SectionReader
	info fileInfo
}

func (f *openFile) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *openFile) Close() error               { return nil }

type noFS struct{}

var _ scalibrfs.FS = noFS{}

func (noFS) Open(name string) (fs.File, error)          { return nil, notExist("open", name) }
func (noFS) Stat(name string) (fs.FileInfo, error)      { return nil, notExist("stat", name) }
func (noFS) ReadDir(name string) ([]fs.DirEntry, error) { return nil, notExist("readdir", name) }

func notExist(op, name string) error {
	return &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
}

// quiet is a scalibr logger that says nothing.
type quiet struct{}

func (quiet) Errorf(string, ...any) {}
func (quiet) Error(...any)          {}
func (quiet) Warnf(string, ...any)  {}
func (quiet) Warn(...any)           {}
func (quiet) Infof(string, ...any)  {}
func (quiet) Info(...any)           {}
func (quiet) Debugf(string, ...any) {}
func (quiet) Debug(...any)          {}
