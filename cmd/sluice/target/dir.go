package target

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	godigest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/sluiceproxy/sluice/analyzer"
)

// openDir makes an image of one layer of a root file system. The layer is read
// here, as the stream that tar would write; links are not followed, and other
// mounted file systems at proc, sys and dev are left out.
func openDir(ctx context.Context, spec string, want platform, opts Options) (*Target, error) {
	root, err := os.OpenRoot(spec)
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	l, err := scanDir(ctx, root, opts.Scanner)
	if err != nil {
		return nil, err
	}
	return oneLayer(l, want)
}

func scanDir(ctx context.Context, root *os.Root, scanner analyzer.LayerScanner) (*analyzer.Layer, error) {
	pr, pw := io.Pipe()
	g, ctx := errgroup.WithContext(ctx)
	w := &dirWriter{ctx: ctx, root: root, tw: tar.NewWriter(pw)}
	var l *analyzer.Layer
	g.Go(func() error {
		_ = pw.CloseWithError(w.write()) // the scanner gets the error, and stops at a limit of its own
		return nil
	})
	g.Go(func() (err error) {
		l, err = scanner.Scan(ctx, pr)
		pr.CloseWithError(err)
		return err
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for i := range w.missed {
		w.missed[i].Layer = l.DiffID
	}
	l.Incomplete = append(l.Incomplete, w.missed...)
	return l, nil
}

// oneLayer wraps a layer in an image.
func oneLayer(l *analyzer.Layer, want platform) (*Target, error) {
	config, err := json.Marshal(ocispec.Image{
		Platform: want.Platform,
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []godigest.Digest{l.DiffID}},
	})
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: godigest.FromBytes(config), Size: int64(len(config))},
		Layers: []ocispec.Descriptor{{MediaType: ocispec.MediaTypeImageLayer, Digest: l.Digest, Size: l.Size}},
	})
	if err != nil {
		return nil, err
	}
	m, err := analyzer.ParseManifest("", b)
	if err != nil {
		return nil, err
	}
	return &Target{
		MediaType: m.Descriptor.MediaType,
		Layers:    map[godigest.Digest]*analyzer.Layer{l.Digest: l},
		Image: m.Image(func(_ context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
			if d.Digest != m.Config.Digest {
				return nil, fmt.Errorf("%s is not kept", d.Digest)
			}
			return io.NopCloser(bytes.NewReader(config)), nil
		}),
	}, nil
}

// dirWriter writes a directory as a tar stream.
type dirWriter struct {
	ctx    context.Context
	root   *os.Root
	tw     *tar.Writer
	missed []analyzer.Incomplete // what could not be read
}

func (w *dirWriter) write() error {
	top, err := w.root.Stat(".")
	if err != nil {
		return err
	}
	err = fs.WalkDir(w.root.FS(), ".", func(p string, d fs.DirEntry, err error) error {
		switch {
		case w.ctx.Err() != nil:
			return context.Cause(w.ctx)
		case err != nil:
			w.miss(p, err)
			return nil
		case p == ".":
			return nil
		}
		info, err := d.Info()
		if err != nil {
			w.miss(p, err)
			return nil
		}
		if kernel(p) && info.IsDir() && device(info) != device(top) {
			return fs.SkipDir
		}
		return w.entry(p, info)
	})
	if err != nil {
		return err
	}
	return w.tw.Close()
}

// kernel names the directories where running systems mount what is no file.
func kernel(p string) bool { return p == "proc" || p == "sys" || p == "dev" }

func (w *dirWriter) miss(p string, err error) {
	w.missed = append(w.missed, analyzer.Incomplete{Path: p, Reason: strings.ToLower(reason(err))})
}

// reason is an error without the path, which stands beside it.
func reason(err error) string {
	if pe, ok := err.(*fs.PathError); ok { //nolint:errorlint // of the outermost only
		return pe.Err.Error()
	}
	return err.Error()
}

// entry writes one file. An error is of the stream; what the file system
// refuses is noted as missed.
func (w *dirWriter) entry(p string, info fs.FileInfo) error {
	link := ""
	switch mode := info.Mode(); {
	case mode&fs.ModeSocket != 0:
		return nil // tar has no sockets, and nothing is in them
	case mode&fs.ModeSymlink != 0:
		var err error
		if link, err = w.root.Readlink(p); err != nil {
			w.miss(p, err)
			return nil
		}
	}
	h, err := tar.FileInfoHeader(info, link)
	if err != nil {
		w.miss(p, err)
		return nil
	}
	h.Name, h.Uname, h.Gname = p, "", ""
	if info.IsDir() {
		h.Name += "/"
	}
	if !info.Mode().IsRegular() {
		return w.tw.WriteHeader(h)
	}
	f, err := w.root.Open(p)
	if err != nil {
		w.miss(p, err)
		return nil
	}
	defer func() { _ = f.Close() }()
	if err := w.tw.WriteHeader(h); err != nil {
		return err
	}
	n, err := io.CopyN(w.tw, f, h.Size)
	if n == h.Size {
		return nil
	}
	if w.ctx.Err() != nil {
		return context.Cause(w.ctx)
	}
	w.miss(p, fmt.Errorf("read %d of %d bytes: %w", n, h.Size, err))
	_, err = io.CopyN(w.tw, zeros{}, h.Size-n) // the stream has promised them
	return err
}

// zeros is an endless stream of them.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
