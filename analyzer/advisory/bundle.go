package advisory

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	godigest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// The media types of advisories as an OCI artifact (OCI image-spec 1.1,
// manifest.md, "Guidelines for Artifact Usage"): one layer for each file, whose
// annotation org.opencontainers.image.title is its name:
//
//	osv/ecosystems.txt, osv/<Ecosystem>/all.zip
//	kev.json, epss.csv.gz, nvd/<file>, private/<file>
const (
	ArtifactType      = "application/vnd.sluice.advisories.v1+json" // also of the config
	ArtifactLayerType = "application/vnd.sluice.advisories.file.v1"
)

const (
	bundleKEV   = "kev.json"
	bundleEPSS  = "epss.csv.gz"
	bundleList  = "osv/ecosystems.txt"
	maxManifest = 4 << 20
	maxLayers   = 10_000
)

// Artifact is an artifact of advisories in a registry or a file.
type Artifact struct {
	Manifest []byte
	// Blob opens the bytes of a layer from an offset on.
	Blob func(ctx context.Context, desc ocispec.Descriptor, offset int64) (io.ReadCloser, error)
}

// bundle are the files of an artifact, which lie in the feed's folder by their
// digests. Methods of a nil bundle find nothing.
type bundle struct {
	dir   string
	feed  *feed
	files map[string]ocispec.Descriptor // by name
	names []string                      // of files, in the artifact's order
}

// bundleName accepts the names of ArtifactType's files.
func bundleName(name string) bool {
	if !safeName(name) || len(name) > 300 {
		return false
	}
	dir, base := path.Split(name)
	switch {
	case name == bundleKEV, name == bundleEPSS, name == bundleList, dir == "nvd/", dir == "private/":
		return true
	}
	eco, ok := strings.CutPrefix(strings.TrimSuffix(dir, "/"), "osv/")
	return ok && base == "all.zip" && checkEcosystemName(eco) == nil
}

func readBundle(f *feed, manifest []byte) (*bundle, error) {
	var m ocispec.Manifest
	if len(manifest) > maxManifest {
		return nil, fmt.Errorf("manifest: %w of %d bytes", errTooLarge, maxManifest)
	}
	if err := json.Unmarshal(manifest, &m); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	if m.ArtifactType != ArtifactType && m.Config.MediaType != ArtifactType {
		return nil, fmt.Errorf("it holds no advisories: its type is %q, not %q; 'sluice db export' makes one", m.ArtifactType, ArtifactType)
	}
	if len(m.Layers) == 0 || len(m.Layers) > maxLayers {
		return nil, fmt.Errorf("manifest: %d layers", len(m.Layers))
	}
	b := &bundle{dir: f.dir, feed: f, files: make(map[string]ocispec.Descriptor)}
	for i, l := range m.Layers {
		name := l.Annotations[ocispec.AnnotationTitle]
		_, twice := b.files[name]
		switch {
		case !bundleName(name) || twice:
			return nil, fmt.Errorf("manifest: layer %d: %q is not a name of such an artifact, or there twice", i, name)
		case l.Digest.Validate() != nil || l.Digest.Algorithm() != godigest.SHA256:
			return nil, fmt.Errorf("manifest: layer %d: digest %q", i, l.Digest)
		case l.Size < 0 || l.Size > f.limits.Archive:
			return nil, fmt.Errorf("manifest: layer %d: %d bytes, more than the limit of %d", i, l.Size, f.limits.Archive)
		}
		b.files[name] = l
		b.names = append(b.names, name)
	}
	return b, nil
}

func (b *bundle) path(d ocispec.Descriptor) string {
	return filepath.Join(b.dir, "sha256-"+d.Digest.Encoded())
}

// below returns the names that begin with prefix, in the artifact's order.
func (b *bundle) below(prefix string) []string {
	if b == nil {
		return nil
	}
	var out []string
	for _, name := range b.names {
		if strings.HasPrefix(name, prefix) {
			out = append(out, name)
		}
	}
	return out
}

// input opens a file of the artifact; nil if it has none of that name.
func (b *bundle) input(name string) (*input, error) {
	if b == nil {
		return nil, nil
	}
	d, ok := b.files[name]
	if !ok {
		return nil, nil
	}
	file := b.path(d)
	in, err := openInput(file, b.feed.limits.Archive)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if in.SHA256 != d.Digest.Encoded() {
		in.close()
		os.Remove(file)
		return nil, fmt.Errorf("%s: its bytes are not those of %s", name, d.Digest)
	}
	in.From, in.base = name, file
	b.feed.used[file] = in
	return in, nil
}

func (b *bundle) ecosystems(context.Context) ([]string, error) {
	in, err := b.input(bundleList)
	if err != nil {
		return nil, err
	}
	if in != nil {
		defer in.close()
		return readEcosystems(in.f)
	}
	var out []string
	for _, name := range b.below("osv/") {
		out = append(out, path.Base(path.Dir(name)))
	}
	return out, nil
}

func (b *bundle) archive(_ context.Context, eco string, progress func(done, total int64)) (*input, error) {
	in, err := b.input("osv/" + eco + "/all.zip")
	if err == nil && in == nil {
		err = fmt.Errorf("the artifact does not hold it: %w", fs.ErrNotExist)
	}
	if err == nil {
		progress(in.Size, in.Size)
	}
	return in, err
}

// fetch brings those files that are not there yet, of the ecosystems that are
// wanted (empty = all).
func (b *bundle) fetch(ctx context.Context, a *Artifact, only []string, report func(Progress)) error {
	if err := os.MkdirAll(b.dir, 0o700); err != nil {
		return err
	}
	names := b.below("")
	for i, name := range names {
		d := b.files[name]
		if eco := path.Base(path.Dir(name)); len(only) > 0 && path.Base(name) == "all.zip" && !slices.ContainsFunc(only, func(o string) bool { return strings.EqualFold(o, eco) }) {
			continue
		}
		if sizeOf(b.path(d)) == d.Size {
			continue // its digest is compared when it is opened
		}
		p := Progress{Phase: "download", Ecosystem: name, Archive: i + 1, Archives: len(names), Total: d.Size}
		var err error
		for try := range 5 {
			if try > 0 {
				if err := b.feed.pause(ctx, try, err); err != nil {
					return err
				}
			}
			if err = b.blob(ctx, a, d, func(done, _ int64) {
				p.Bytes = done
				report(p)
			}); err == nil || ctx.Err() != nil || errors.Is(err, errDigest) {
				break
			}
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

var errDigest = errors.New("its bytes do not have its digest")

// blob brings one file, from where an earlier try ended.
func (b *bundle) blob(ctx context.Context, a *Artifact, d ocispec.Descriptor, progress func(done, total int64)) error {
	part := b.path(d) + ".part"
	out, err := os.OpenFile(part, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	have, err := out.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if have > d.Size {
		have = 0
		if err := errors.Join(out.Truncate(0), rewind(out)); err != nil {
			return err
		}
	}
	if have < d.Size {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		watchdog := time.AfterFunc(b.feed.limits.Stall, func() { cancel(errStalled) })
		defer watchdog.Stop()
		r, err := a.Blob(ctx, d, have)
		if err != nil {
			return because(ctx, err)
		}
		defer r.Close()
		body := &meter{r: &watched{r, watchdog, b.feed.limits.Stall}, done: have, total: d.Size, progress: progress}
		n, err := io.Copy(out, io.LimitReader(body, d.Size-have+1))
		if err != nil {
			return because(ctx, err)
		}
		if have += n; have < d.Size {
			return fmt.Errorf("%d bytes of %d: %w", have, d.Size, io.ErrUnexpectedEOF)
		}
	}
	sum, err := hashFile(out)
	if err != nil {
		return err
	}
	if have != d.Size || sum != d.Digest.Encoded() {
		os.Remove(part)
		return fmt.Errorf("%s: %w", d.Digest, errDigest)
	}
	if err := out.Sync(); err != nil {
		return err
	}
	return os.Rename(part, b.path(d))
}

func rewind(f *os.File) error {
	_, err := f.Seek(0, io.SeekStart)
	return err
}

// manifestName is the manifest of the artifact that the feed holds.
const manifestName = "artifact.json"

// pull opens the artifact of a registry.
func (g *gatherer) pull(ctx context.Context, ref string) (origin, error) {
	fail := func(err error) (origin, error) { return nil, fmt.Errorf("advisories %s%s: %w", ociScheme, ref, err) }
	if g.opts.Offline {
		return g.keptBundle()
	}
	if g.opts.Artifact == nil {
		return fail(errors.New("there is no access to registries here"))
	}
	a, err := g.opts.Artifact(ctx, ref)
	if err != nil {
		return fail(err)
	}
	if err := g.take(ctx, a); err != nil {
		return fail(err)
	}
	return g.bundle, nil
}

// keptBundle opens the artifact that the last update took.
func (g *gatherer) keptBundle() (origin, error) {
	manifest, err := os.ReadFile(filepath.Join(g.feed.dir, manifestName))
	if err != nil {
		return nil, fmt.Errorf("advisories: %w", errNotKept)
	}
	g.bundle, err = readBundle(g.feed, manifest)
	return g.bundle, err
}

// load opens the artifact in a tar file.
func (g *gatherer) load(ctx context.Context, file string) (origin, error) {
	fail := func(err error) (origin, error) {
		return nil, fmt.Errorf("advisory source %s: neither a directory nor an artifact of 'sluice db export': %w", file, err)
	}
	if g.opts.Offline {
		return g.keptBundle()
	}
	f, err := os.Open(file)
	if err != nil {
		return fail(err)
	}
	defer f.Close()
	a, err := readLayout(f)
	if err != nil {
		return fail(err)
	}
	if err := g.take(ctx, a); err != nil {
		return fail(err)
	}
	return g.bundle, nil
}

func (g *gatherer) take(ctx context.Context, a *Artifact) (err error) {
	if g.bundle, err = readBundle(g.feed, a.Manifest); err != nil {
		return err
	}
	g.feed.manifest = a.Manifest
	return g.bundle.fetch(ctx, a, g.opts.Ecosystems, g.opts.Progress)
}

// readLayout finds the artifact in a tar of an OCI image layout.
func readLayout(f *os.File) (*Artifact, error) {
	type place struct{ off, size int64 }
	files := make(map[string]place)
	tr := tar.NewReader(f)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if len(files) > 2*maxLayers {
			return nil, errors.New("too many entries")
		}
		off, err := f.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		if h.Typeflag == tar.TypeReg {
			files[path.Clean(h.Name)] = place{off, h.Size}
		}
	}
	open := func(name string, offset int64) (*io.SectionReader, error) {
		p, ok := files[name]
		if !ok || offset > p.size {
			return nil, fmt.Errorf("%s is not in it", name)
		}
		return io.NewSectionReader(f, p.off+offset, p.size-offset), nil
	}
	blob := func(d godigest.Digest) string { return "blobs/sha256/" + d.Encoded() }
	read := func(name string, v any) ([]byte, error) {
		r, err := open(name, 0)
		if err != nil {
			return nil, err
		}
		data, err := io.ReadAll(io.LimitReader(r, maxManifest))
		if err != nil {
			return nil, err
		}
		return data, json.Unmarshal(data, v)
	}
	var index ocispec.Index
	if _, err := read(ocispec.ImageIndexFile, &index); err != nil {
		return nil, fmt.Errorf("%s: %w", ocispec.ImageIndexFile, err)
	}
	for _, d := range index.Manifests {
		if d.ArtifactType != ArtifactType || d.Digest.Validate() != nil || d.Digest.Algorithm() != godigest.SHA256 {
			continue
		}
		var m ocispec.Manifest
		data, err := read(blob(d.Digest), &m)
		if err != nil {
			return nil, err
		}
		if godigest.FromBytes(data) != d.Digest {
			return nil, fmt.Errorf("manifest %s: %w", d.Digest, errDigest)
		}
		return &Artifact{Manifest: data, Blob: func(_ context.Context, d ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
			r, err := open(blob(d.Digest), offset)
			return io.NopCloser(r), err
		}}, nil
	}
	return nil, fmt.Errorf("%s names no artifact of type %s", ocispec.ImageIndexFile, ArtifactType)
}

// remembered is what an update leaves for ImportPrivate's and Export's callers.
type remembered struct {
	Source     Source           `json:"source"`
	Ecosystems []string         `json:"ecosystems,omitempty"`
	Files      []rememberedFile `json:"files"`
}

type rememberedFile struct {
	Name   string `json:"name"` // in an artifact; a directory of records ends in a slash
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`
}

const rememberedName = "sources.json"

// remember keeps what the index was made of. URLs can hold passwords, so the
// file is readable by its owner only.
func (g *gatherer) remember() error {
	r := remembered{Source: g.src, Ecosystems: g.opts.Ecosystems}
	for _, p := range append([]*string{&r.Source.Base, &r.Source.KEV, &r.Source.EPSS}, pointers(&r.Source.NVD, &r.Source.Private)...) {
		if *p == "" || strings.Contains(*p, "://") {
			continue
		}
		abs, err := filepath.Abs(*p)
		if err != nil {
			return err
		}
		*p = abs
	}
	taken := make(map[string]bool)
	for _, in := range g.all {
		f := rememberedFile{Name: in.Name, Path: in.base, SHA256: in.SHA256}
		switch in.Kind {
		case KindOSV:
			f.Name = "osv/" + in.Name + "/all.zip"
		case KindKEV:
			f.Name = bundleKEV
		case KindEPSS:
			f.Name = bundleEPSS
		}
		if f.Path == "" {
			var err error
			if f.Path, err = filepath.Abs(in.From); err != nil {
				return err
			}
		}
		for n := 2; taken[f.Name]; n++ { // two sources with the same base name
			f.Name = fmt.Sprintf("%s/%d-%s", path.Dir(f.Name), n, path.Base(f.Name))
		}
		taken[f.Name] = true
		if in.f == nil {
			f.Name += "/"
		}
		r.Files = append(r.Files, f)
	}
	return writeJSON(filepath.Join(g.opts.Dir, rememberedName), r)
}

// pointers replaces lists by copies and returns the addresses of their texts.
func pointers(lists ...*[]string) []*string {
	var out []*string
	for _, l := range lists {
		*l = slices.Clone(*l)
		for i := range *l {
			out = append(out, &(*l)[i])
		}
	}
	return out
}

func recall(dir string) (r remembered, err error) {
	data, err := os.ReadFile(filepath.Join(dir, rememberedName))
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	if err != nil {
		return r, fmt.Errorf("the sources of the index are not known: run 'sluice db update': %w", err)
	}
	return r, nil
}

// Recompile makes the index of dir anew from the sources of the last Compile
// without asking anybody for them, as after ImportPrivate.
func Recompile(ctx context.Context, dir string, opts CompileOptions) (Stats, error) {
	r, err := recall(dir)
	if err != nil {
		return Stats{}, err
	}
	opts.Dir, opts.Ecosystems, opts.Offline = dir, r.Ecosystems, true
	return Compile(ctx, r.Source, opts)
}

// Export is an artifact of the files that an index was made of.
type Export struct {
	Manifest ocispec.Descriptor
	Blobs    []ExportBlob // the config first, then the layers in their order
	manifest []byte
}

// ExportBlob is one blob of an Export.
type ExportBlob struct {
	ocispec.Descriptor
	path string
	data []byte // if path is empty
}

// Open opens the bytes.
func (b *ExportBlob) Open() (io.ReadCloser, error) {
	if b.path == "" {
		return io.NopCloser(strings.NewReader(string(b.data))), nil
	}
	return os.Open(b.path)
}

// ManifestBytes are the bytes that Manifest describes.
func (e *Export) ManifestBytes() []byte { return e.manifest }

// NewExport describes the sources of the index in dir as an artifact: see
// ArtifactType. The same files give the same digest. A file that changed since
// the index was made is an error.
func NewExport(ctx context.Context, dir string) (*Export, error) {
	r, err := recall(dir)
	if err != nil {
		return nil, err
	}
	x, err := Open(filepath.Join(dir, indexName))
	if err != nil {
		return nil, err
	}
	defer x.Close()
	e := &Export{}
	config, err := json.Marshal(struct {
		Updated time.Time `json:"updated"`
		Inputs  string    `json:"inputs"`
	}{x.stats.Updated, x.stats.Inputs})
	if err != nil {
		return nil, err
	}
	e.Blobs = []ExportBlob{{Descriptor: ocispec.Descriptor{MediaType: ArtifactType, Digest: godigest.FromBytes(config), Size: int64(len(config))}, data: config}}
	var list strings.Builder
	for _, f := range r.Files {
		if eco, ok := strings.CutPrefix(f.Name, "osv/"); ok {
			list.WriteString(path.Dir(eco) + "\n")
		}
	}
	if list.Len() > 0 {
		e.add(bundleList, ExportBlob{data: []byte(list.String())}, godigest.FromString(list.String()), int64(list.Len()))
	}
	for _, f := range r.Files {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err := e.file(ctx, f); err != nil {
			return nil, fmt.Errorf("export %s: %w", f.Path, err)
		}
	}
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: ArtifactType, Config: e.Blobs[0].Descriptor,
		Annotations: map[string]string{ocispec.AnnotationCreated: x.stats.Updated.UTC().Format(time.RFC3339)},
	}
	for _, b := range e.Blobs[1:] {
		m.Layers = append(m.Layers, b.Descriptor)
	}
	if e.manifest, err = json.Marshal(m); err != nil {
		return nil, err
	}
	e.Manifest = ocispec.Descriptor{
		MediaType: m.MediaType, ArtifactType: ArtifactType, Digest: godigest.FromBytes(e.manifest), Size: int64(len(e.manifest)),
	}
	return e, nil
}

func (e *Export) add(name string, b ExportBlob, d godigest.Digest, size int64) {
	b.Descriptor = ocispec.Descriptor{
		MediaType: ArtifactLayerType, Digest: d, Size: size, Annotations: map[string]string{ocispec.AnnotationTitle: name},
	}
	e.Blobs = append(e.Blobs, b)
}

func (e *Export) file(ctx context.Context, f rememberedFile) error {
	if name, ok := strings.CutSuffix(f.Name, "/"); ok {
		n := 0
		sum, err := walkRecords(ctx, f.Path, Limits{}.orDefault(), func(_ string, data []byte) error {
			n++
			e.add(fmt.Sprintf("%s-%06d.json", name, n), ExportBlob{data: data}, godigest.FromBytes(data), int64(len(data)))
			return nil
		})
		if err == nil && sum != f.SHA256 {
			err = errChanged
		}
		return err
	}
	in, err := openInput(f.Path, 1<<62)
	if err != nil {
		return err
	}
	defer in.close()
	if in.SHA256 != f.SHA256 {
		return errChanged
	}
	e.add(f.Name, ExportBlob{path: f.Path}, godigest.NewDigestFromEncoded(godigest.SHA256, in.SHA256), in.Size)
	return nil
}

var errChanged = errors.New("it changed since the index was made: run 'sluice db update' first")

// WriteTar writes the artifact as a tar of an OCI image layout.
func (e *Export) WriteTar(w io.Writer) error {
	tw := tar.NewWriter(w)
	put := func(name string, size int64, r io.Reader) error {
		if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644}); err != nil {
			return err
		}
		_, err := io.Copy(tw, r)
		return err
	}
	index, err := json.Marshal(ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{e.Manifest},
	})
	if err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		data []byte
	}{
		{ocispec.ImageLayoutFile, []byte(`{"imageLayoutVersion":"` + ocispec.ImageLayoutVersion + `"}`)},
		{ocispec.ImageIndexFile, index},
		{"blobs/sha256/" + e.Manifest.Digest.Encoded(), e.manifest},
	} {
		if err := put(f.name, int64(len(f.data)), strings.NewReader(string(f.data))); err != nil {
			return err
		}
	}
	written := make(map[godigest.Digest]bool)
	for i := range e.Blobs {
		b := &e.Blobs[i]
		if written[b.Digest] {
			continue
		}
		written[b.Digest] = true
		r, err := b.Open()
		if err != nil {
			return err
		}
		err = put("blobs/sha256/"+b.Digest.Encoded(), b.Size, r)
		if err := errors.Join(err, r.Close()); err != nil {
			return err
		}
	}
	return tw.Close()
}
