package analyzer

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"time"

	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
)

// maxConfig is the size of the largest image config that is read, in bytes.
const maxConfig = 8 << 20

// mergeRevision changes with what is made of the layers.
const mergeRevision = "merge5"

// minSlots is the least default of Options.Parallel: as many layers as are
// downloaded at once, and some that are there already.
const minSlots = 8

// Options are the parts of an Analyzer.
type Options struct {
	Scanner LayerScanner
	Cache   LayerCache // nil keeps nothing
	// ConfigSecrets finds secrets in the bytes of an image config (Secret.Path
	// says where). Nil looks for none.
	ConfigSecrets func(config []byte) []Secret
	// Parallel is how many layers are scanned at a time, over all images.
	// Default: the number of processors, and 8 at least, since a layer that is
	// being downloaded mostly waits and must not hold up those that are there.
	Parallel int
	Log      *zap.Logger
}

// Analyzer turns images into inventories. It is safe for concurrent use.
type Analyzer struct {
	scanner LayerScanner
	cache   LayerCache
	secrets func(config []byte) []Secret
	log     *zap.Logger
	slots   chan struct{}
	flights flights

	arrivals chan struct{} // scans of blobs that arrive, see Arrival
}

// New returns an Analyzer.
func New(opts Options) *Analyzer {
	slots := opts.Parallel
	if opts.Parallel <= 0 {
		opts.Parallel = runtime.GOMAXPROCS(0)
		slots = max(minSlots, opts.Parallel)
	}
	return &Analyzer{
		scanner: opts.Scanner, cache: opts.Cache, secrets: opts.ConfigSecrets, log: opts.Log,
		slots: make(chan struct{}, slots), arrivals: make(chan struct{}, 4*opts.Parallel),
	}
}

// Revision changes whenever the same image could give another Inventory.
func (a *Analyzer) Revision() string { return a.scanner.Revision() + "+" + mergeRevision }

// Inventory analyses an image: its config and all its layers, in parallel,
// each layer once however many images and callers want it at the time. It
// compares the digest and the size of every descriptor with the bytes; a
// difference is an error that names the descriptor. What could be read but not
// understood is in Inventory.Incomplete and Inventory.DiffIDBroken.
//
// A caller whose ctx ends gets its error at once; the scan of a layer goes on
// as long as another caller waits for it.
func (a *Analyzer) Inventory(ctx context.Context, img Image) (*Inventory, error) {
	inv := &Inventory{
		Revision: a.Revision(), Manifest: img.Manifest.Digest, Config: img.Config.Digest,
		URLs: img.URLs, Layers: make([]LayerSummary, len(img.Layers)), ArtifactType: artifactType(img),
	}
	layers := make([]*Layer, len(img.Layers))
	var config *configFile
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		config, err = a.config(gctx, img)
		return err
	})
	for i, desc := range img.Layers {
		g.Go(func() error {
			l, err := a.layer(gctx, img, desc)
			if err != nil {
				return fmt.Errorf("layer %s: %w", desc.Digest, err)
			}
			layers[i] = l
			inv.Layers[i] = LayerSummary{
				DiffID: l.DiffID, Digest: desc.Digest, MediaType: desc.MediaType, Size: desc.Size, Uncompressed: l.Uncompressed,
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, fmt.Errorf("analyze %s: %w", img.Manifest.Digest, err)
	}
	if config != nil {
		inv.Platform = platform(config.Platform)
		inv.User = config.Config.User
		if config.Created != nil {
			inv.Created = *config.Created
		}
	}
	inv.DiffIDBroken = brokenChain(img.Layers, layers, config)
	merge(inv, layers)
	if config != nil {
		configFacts(inv, config)
		inv.Secrets = append(inv.Secrets, config.secrets...)
		inv.Base = baseOf(inv, img.Annotations, config.Config.Labels)
	}
	return inv, nil
}

func platform(p ocispec.Platform) string {
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// configFile is what is made of an image's config.
type configFile struct {
	ocispec.Image
	healthcheck bool
	secrets     []Secret
}

// config reads the image's config; nil for a manifest that is an artifact's,
// whose config is not an image config. Its digest is compared all the same.
func (a *Analyzer) config(ctx context.Context, img Image) (*configFile, error) {
	desc := img.Config
	if desc.Size > maxConfig {
		return nil, fmt.Errorf("config %s: larger than %d bytes", desc.Digest, maxConfig)
	}
	b, err := a.readBlob(ctx, img, desc)
	if err != nil {
		return nil, fmt.Errorf("config %s: %w", desc.Digest, err)
	}
	if !isImageConfig(desc.MediaType) {
		if packed(b) {
			return nil, fmt.Errorf("config %s: an archive under the media type %q", desc.Digest, desc.MediaType)
		}
		return nil, nil
	}
	var config configFile
	if err := json.Unmarshal(b, &config.Image); err != nil {
		return nil, fmt.Errorf("config %s: %w", desc.Digest, err)
	}
	if !bytes.HasPrefix(bytes.TrimSpace(b), []byte("{")) {
		return nil, fmt.Errorf("config %s: not a JSON object", desc.Digest)
	}
	config.healthcheck = hasHealthcheck(b)
	if a.secrets != nil {
		config.secrets = a.secrets(b)
	}
	return &config, nil
}

func (a *Analyzer) readBlob(ctx context.Context, img Image, desc ocispec.Descriptor) ([]byte, error) {
	r, err := img.Open(ctx, desc)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, maxConfig+1))
	if err != nil {
		return nil, err
	}
	return b, compare(desc, godigest.FromBytes(b), int64(len(b)))
}

// compare says how bytes differ from their descriptor.
func compare(desc ocispec.Descriptor, dgst godigest.Digest, size int64) error {
	if err := desc.Digest.Validate(); err != nil {
		return err
	}
	switch {
	case desc.Size != size:
		return fmt.Errorf("the descriptor says %d bytes, there are %d", desc.Size, size)
	case desc.Digest != dgst:
		return fmt.Errorf("its bytes have the digest %s", dgst)
	}
	return nil
}

// layer returns what desc's bytes hold, from the cache, from a scan that
// another caller has begun, or from its own.
func (a *Analyzer) layer(ctx context.Context, img Image, desc ocispec.Descriptor) (*Layer, error) {
	if !isLayer(desc.MediaType) {
		return a.content(ctx, img, desc)
	}
	return a.filesystem(ctx, img, desc)
}

// filesystem is layer for a blob that is read as a file system's layer.
func (a *Analyzer) filesystem(ctx context.Context, img Image, desc ocispec.Descriptor) (*Layer, error) {
	if a.cache != nil {
		l, ok, err := a.cache.Layer(ctx, desc.Digest, a.scanner.Revision())
		switch {
		case err != nil && ctx.Err() != nil:
			return nil, ctx.Err()
		case err != nil: // a broken cache costs a scan, not a pull
			a.log.Warn("layer cache unreadable", zap.String("digest", desc.Digest.String()), zap.Error(err))
		case ok && l != nil && l.Digest == desc.Digest:
			return l, compare(desc, l.Digest, l.Size)
		}
	}
	l, err := a.flights.do(ctx, desc.Digest, func(ctx context.Context) (*Layer, error) { return a.scan(ctx, img, desc) })
	if errors.Is(err, ErrElsewhere) {
		return &Layer{Digest: desc.Digest, Size: desc.Size, Incomplete: []Incomplete{{Layer: desc.Digest, Reason: ErrElsewhere.Error()}}}, nil
	}
	if err != nil {
		return nil, err
	}
	return l, compare(desc, l.Digest, l.Size)
}

// scan reads a layer and keeps the result once its digest is proven.
func (a *Analyzer) scan(ctx context.Context, img Image, desc ocispec.Descriptor) (*Layer, error) {
	select {
	case a.slots <- struct{}{}:
		defer func() { <-a.slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	start := time.Now()
	l, err := a.read(ctx, img, desc)
	if err == nil && l.Lost { // once more: it need not be the layer's fault
		l, err = a.read(ctx, img, desc)
	}
	if err != nil {
		return nil, err
	}
	a.log.Debug("layer scanned", zap.String("digest", desc.Digest.String()), zap.Int64("bytes", l.Size),
		zap.Int("packages", len(l.Packages)), zap.Int("incomplete", len(l.Incomplete)), zap.Duration("dur", time.Since(start)))
	if a.cache != nil && !l.Lost {
		if err := a.cache.PutLayer(ctx, a.scanner.Revision(), l); err != nil && ctx.Err() == nil {
			a.log.Warn("layer cache not written", zap.String("digest", desc.Digest.String()), zap.Error(err))
		}
	}
	return l, nil
}

// read scans a layer, and compares its bytes with their descriptor.
func (a *Analyzer) read(ctx context.Context, img Image, desc ocispec.Descriptor) (*Layer, error) {
	r, err := img.Open(ctx, desc)
	if err != nil {
		return nil, err
	}
	l, err := a.scanner.Scan(ctx, r)
	if err := errors.Join(err, r.Close()); err != nil {
		return nil, err
	}
	return l, compare(desc, l.Digest, l.Size)
}

// content compares a blob that does not say that it is a file system's layer
// with its descriptor. One of an artifact that is packed as layers are is read as
// one: what an image would be denied for must not pass under another name.
func (a *Analyzer) content(ctx context.Context, img Image, desc ocispec.Descriptor) (*Layer, error) {
	r, err := img.Open(ctx, desc)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b := bufio.NewReaderSize(r, sniffed)
	if head, err := b.Peek(sniffed); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	} else if artifactType(img) != "" && packed(head) {
		return a.archive(ctx, img, desc)
	}
	h := godigest.Canonical.Digester()
	n, err := io.Copy(h.Hash(), b)
	if err != nil {
		return nil, err
	}
	l := &Layer{Digest: h.Digest(), Size: n}
	if artifactType(img) == "" {
		l.Incomplete = []Incomplete{{Layer: desc.Digest, Reason: fmt.Sprintf("layer of media type %q is not supported", desc.MediaType)}}
	}
	return l, compare(desc, h.Digest(), n)
}

// archive reads a packed blob of an artifact. Where it is no file system there is
// nothing to say, which an artifact need not have; but a document has no reason
// to be packed.
func (a *Analyzer) archive(ctx context.Context, img Image, desc ocispec.Descriptor) (*Layer, error) {
	l, err := a.filesystem(ctx, img, desc)
	if err != nil || l.Lost {
		return l, err
	}
	found := *l
	found.Incomplete = nil
	if isDocument(desc.MediaType) {
		found.Incomplete = []Incomplete{{Layer: desc.Digest, Reason: fmt.Sprintf("an archive under the media type %q", desc.MediaType)}}
	}
	return &found, nil
}

// sniffed is how much of a blob packed wants to see: a block of a tar archive.
const sniffed = 512

// packed knows what is compressed as layers are, and tar archives (POSIX.1,
// pax, "ustar Interchange Format").
func packed(head []byte) bool {
	return compressed(head) || len(head) >= 262 && string(head[257:262]) == "ustar"
}

// artifactType names the kind of an artifact that no container runtime can run:
// a manifest without any file system layer, whose config is not an image config
// (OCI image-spec 1.1, manifest.md, "Guidelines for Artifact Usage"), or that
// holds signatures or documents only, which cosign packs under an image config.
// It is "" for an image, also for one with layers that nobody can read.
func artifactType(img Image) string {
	documents := len(img.Layers) > 0
	for _, l := range img.Layers {
		if isLayer(l.MediaType) {
			return ""
		}
		documents = documents && isDocument(l.MediaType)
	}
	switch {
	case isImageConfig(img.Config.MediaType) && !documents:
		return ""
	case img.ArtifactType != "":
		return img.ArtifactType
	case !isImageConfig(img.Config.MediaType) && img.Config.MediaType != ocispec.MediaTypeEmptyJSON && img.Config.MediaType != "":
		return img.Config.MediaType
	case documents:
		return img.Layers[0].MediaType
	}
	return "unknown"
}

// isDocument knows the media types of signatures, attestations and SBOMs
// (cosign's specifications, in-toto, SPDX, CycloneDX).
func isDocument(mediaType string) bool {
	switch mediaType {
	case "application/vnd.dev.cosign.simplesigning.v1+json", "application/vnd.dsse.envelope.v1+json",
		"application/vnd.in-toto+json", "application/vnd.dev.sigstore.bundle.v0.3+json",
		"text/spdx", "text/spdx+json", "text/spdx+xml", "application/spdx+json",
		"application/vnd.cyclonedx+json", "application/vnd.cyclonedx+xml", "application/vnd.syft+json":
		return true
	}
	return false
}

func isImageConfig(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageConfig || mediaType == "application/vnd.docker.container.image.v1+json"
}

// isLayer knows the media types of tar layers (OCI image-spec, layer.md;
// Docker image manifest v2.2; the foreign and nondistributable ones included).
// The compression that they claim is not looked at: the bytes tell.
func isLayer(mediaType string) bool {
	base, compression, _ := strings.Cut(mediaType, "+")
	switch base {
	case ocispec.MediaTypeImageLayer, "application/vnd.oci.image.layer.nondistributable.v1.tar":
		return slices.Contains([]string{"", "gzip", "zstd"}, compression)
	}
	switch mediaType {
	case "application/vnd.docker.image.rootfs.diff.tar", "application/vnd.docker.image.rootfs.diff.tar.gzip",
		"application/vnd.docker.image.rootfs.diff.tar.zstd", "application/vnd.docker.image.rootfs.foreign.diff.tar",
		"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "application/vnd.docker.image.rootfs.foreign.diff.tar.zstd":
		return true
	}
	return false
}

// brokenChain says why the layers are not those of the config's
// rootfs.diff_ids; "" if they are (OCI image-spec, config.md, "rootfs").
// Layers of unsupported types have no diffID; they are incomplete already.
func brokenChain(descs []ocispec.Descriptor, layers []*Layer, config *configFile) string {
	if config == nil {
		if i := slices.IndexFunc(descs, func(d ocispec.Descriptor) bool { return isLayer(d.MediaType) }); i >= 0 {
			return fmt.Sprintf("layer %d (%s) is a file system, and the config lists no diffIDs since it is not an image config", i, descs[i].Digest)
		}
		return ""
	}
	want := config.RootFS.DiffIDs
	if !slices.ContainsFunc(descs, func(d ocispec.Descriptor) bool { return isLayer(d.MediaType) }) && len(want) == 0 {
		return "" // a signature of cosign's: an image config without a file system
	}
	if len(want) != len(layers) {
		return fmt.Sprintf("the manifest has %d layers, the config lists %d diffIDs", len(layers), len(want))
	}
	for i, l := range layers {
		switch {
		case !isLayer(descs[i].MediaType):
		case l.DiffID == "":
			return fmt.Sprintf("layer %d (%s) was not read to its end, so its diffID is unknown", i, l.Digest)
		case l.DiffID != want[i]:
			return fmt.Sprintf("layer %d (%s) has the diffID %s, the config says %s", i, l.Digest, l.DiffID, want[i])
		}
	}
	return ""
}

// Judge matches an inventory with one state of the advisories. A nil m gives a
// Report without: its Advisories are "", and Findings say nothing.
func Judge(ctx context.Context, inv *Inventory, m Matcher) (*Report, error) {
	r := &Report{Inventory: *inv, Matches: Matches{Findings: []Finding{}}}
	if m == nil {
		return r, nil
	}
	matches, err := m.Match(ctx, inv.Packages)
	if err != nil {
		return nil, fmt.Errorf("judge %s: %w", inv.Manifest, err)
	}
	if matches.Findings == nil {
		matches.Findings = []Finding{}
	}
	r.Matches, r.Advisories, r.Updated = matches, m.Revision(), matches.AsOf
	if r.Updated.IsZero() {
		r.Updated = m.Updated()
	}
	return r, nil
}
