package advisory

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// The kinds of sources.
const (
	KindOSV     = "osv"
	KindKEV     = "kev"
	KindEPSS    = "epss"
	KindNVD     = "nvd"
	KindPrivate = "private"
)

// gatherer brings all files of a source together before anything of them is
// read, so that an update needs the network at its begin only.
type gatherer struct {
	src    Source
	opts   CompileOptions
	feed   *feed
	bundle *bundle // of a Base that is an artifact; nil for others

	all      []*input // of every kind, in the order in which they are read
	warnings []string
}

func newGatherer(src Source, opts CompileOptions) *gatherer {
	return &gatherer{src: src, opts: opts, feed: &feed{
		dir: filepath.Join(opts.Dir, feedName), client: opts.Client, limits: opts.Limits,
		offline: opts.Offline, now: opts.Now, used: make(map[string]*input),
	}}
}

func (g *gatherer) close() {
	for _, in := range g.all {
		in.close()
	}
}

// of returns the inputs of a kind.
func (g *gatherer) of(kind string) []*input {
	var out []*input
	for _, in := range g.all {
		if in.Kind == kind {
			out = append(out, in)
		}
	}
	return out
}

// fingerprint names all that an index depends on.
func (g *gatherer) fingerprint() string {
	h := sha256.New()
	fmt.Fprintf(h, "format %d, only %q\n", formatVersion, g.opts.Ecosystems)
	for _, in := range g.all {
		fmt.Fprintf(h, "%s %q %s\n", in.Kind, in.Name, in.SHA256)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func (g *gatherer) add(kind, name string, in *input) {
	in.Kind, in.Name = kind, name
	g.all = append(g.all, in)
	if in.Kept != "" {
		g.warnings = append(g.warnings, fmt.Sprintf("%s: an earlier copy is used, of %s: %s", kind, in.Checked.UTC().Format("2006-01-02 15:04 UTC"), in.Kept))
	}
}

// gather opens every file.
func (g *gatherer) gather(ctx context.Context) error {
	if g.src.Base != "" {
		if err := g.archives(ctx); err != nil {
			return err
		}
	}
	for _, c := range []struct {
		kind, file, from string
		limit            int64
	}{{KindKEV, bundleKEV, g.src.KEV, maxKEV}, {KindEPSS, bundleEPSS, g.src.EPSS, maxEPSS}} {
		in, err := g.bundle.input(c.file)
		if in == nil && err == nil && c.from != "" {
			in, err = g.file(ctx, c.from, c.limit, c.kind)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", c.kind, err)
		}
		if in != nil {
			g.add(c.kind, "", in)
		}
	}
	if err := g.nvd(ctx); err != nil {
		return fmt.Errorf("nvd: %w", err)
	}
	if err := g.private(ctx); err != nil {
		return fmt.Errorf("private advisories: %w", err)
	}
	return nil
}

func (g *gatherer) archives(ctx context.Context) error {
	o, err := g.origin(ctx, g.src.Base)
	if err != nil {
		return err
	}
	archives, err := choose(ctx, o, g.opts.Ecosystems)
	if err != nil {
		return err
	}
	for i, name := range archives {
		p := Progress{Phase: "download", Ecosystem: name, Archive: i + 1, Archives: len(archives)}
		g.opts.Progress(p)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		in, err := o.archive(ctx, name, func(done, total int64) {
			p.Bytes, p.Total = done, total
			g.opts.Progress(p)
		})
		if err != nil {
			return fmt.Errorf("advisories of %s: %w", name, err)
		}
		g.add(KindOSV, name, in)
	}
	return nil
}

// file opens a file or URL that may be pinned. A URL that cannot be reached is
// taken from an earlier update.
func (g *gatherer) file(ctx context.Context, from string, limit int64, kind string) (*input, error) {
	from, pin, err := ParsePin(from)
	if err != nil {
		return nil, err
	}
	u, remote := isURL(from)
	var in *input
	switch {
	case remote && kind == KindPrivate && u.Scheme == "http" && pin == "":
		return nil, fmt.Errorf("%s: http proves nothing about what it sends: use https, or add #sha256=…", redact(from))
	case remote:
		p := Progress{Phase: "download", Ecosystem: kind}
		in, err = g.feed.get(ctx, u, limit, true, func(done, total int64) {
			p.Bytes, p.Total = done, total
			g.opts.Progress(p)
		})
	case strings.Contains(from, "://"):
		return nil, fmt.Errorf("%s: only http, https and files are supported", redact(from))
	default:
		in, err = openInput(from, limit)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
			err = fmt.Errorf("%s: %w", from, err)
		}
	}
	if err != nil {
		return nil, err
	}
	if err := checkPin(in, pin); err != nil {
		g.feed.spoiled(in)
		in.close()
		return nil, err
	}
	return in, nil
}

func checkPin(in *input, pin string) error {
	if pin != "" && in.SHA256 != pin {
		return fmt.Errorf("%s: its sha256 is %s, and %s is wanted", in.From, in.SHA256, pin)
	}
	return nil
}

const pinMark = "#sha256="

// ParsePin splits "<file, directory or URL>#sha256=<hex>". pin is "" without one.
// The pin of a directory is that of the listing that
//
//	find . -name '*.json' | sed 's#^./##' | LC_ALL=C sort | xargs -d '\n' sha256sum
//
// prints in it.
func ParsePin(s string) (from, pin string, err error) {
	i := strings.LastIndex(s, pinMark)
	if i < 0 {
		return s, "", nil
	}
	from, pin = s[:i], strings.ToLower(s[i+len(pinMark):])
	if b, err := hex.DecodeString(pin); err != nil || len(b) != sha256.Size {
		return "", "", fmt.Errorf("%s: %s wants 64 hexadecimal digits", redact(from), pinMark)
	}
	return from, pin, nil
}

// nvd opens NVD's files, those of a directory in the order of their names.
func (g *gatherer) nvd(ctx context.Context) error {
	from := slices.Clone(g.src.NVD)
	for _, name := range g.bundle.below("nvd/") {
		in, err := g.bundle.input(name)
		if err != nil {
			return err
		}
		g.add(KindNVD, name, in)
	}
	for _, root := range from {
		files := []string{root}
		if info, err := os.Stat(root); err == nil && info.IsDir() {
			entries, err := os.ReadDir(root)
			if err != nil {
				return err
			}
			files = nil
			for _, e := range entries {
				if strings.HasSuffix(e.Name(), ".json") || strings.HasSuffix(e.Name(), ".json.gz") {
					files = append(files, filepath.Join(root, e.Name()))
				}
			}
			if len(files) == 0 {
				return fmt.Errorf("%s: no .json and no .json.gz files", root)
			}
		}
		for _, f := range files {
			in, err := g.file(ctx, f, g.opts.Limits.Archive, KindNVD)
			if err != nil {
				return err
			}
			g.add(KindNVD, "nvd/"+filepath.Base(in.From), in)
		}
	}
	return nil
}
