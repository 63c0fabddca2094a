package signing

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// What Collect looks at. Beyond a limit there is a gap, not an answer.
const (
	maxSignature   = 1 << 20  // bytes of a signature
	maxAttestation = 16 << 20 // bytes of an attestation
	maxTotal       = 32 << 20 // bytes of all items of a subject
	maxItems       = 64       // signatures and attestations of a subject, its parents included
	maxManifests   = 64       // artifacts read for one manifest
	maxLayers      = 1000     // of one artifact; cosign's own limit
	maxParents     = 4
	maxGaps        = 64
	maxClaim       = 1 << 20 // bytes of a claim that are read to show it
	maxShown       = 8       // requests to show what an index claims

	concurrency = 4 // requests at a time
)

// Collect gathers what src has to say about s and, for a platform's manifest,
// about its parents: by referrers, and by cosign's tags sha256-<hex>.sig, .att
// and .sbom. Nothing of it is verified yet but digests.
//
// The error is src's, unless that is ErrNotFound: a registry that throttles,
// fails or does not answer in time must not look like one without signatures.
// More than 64 artifacts or 64 signatures, a signature of more than 1 MiB, an
// attestation of more than 16 MiB and what is listed but missing are Gaps.
func Collect(ctx context.Context, src Source, s Subject) (Evidence, error) {
	if err := s.Desc.Digest.Validate(); err != nil {
		return Evidence{}, fmt.Errorf("subject %q: %w", s.Desc.Digest, err)
	}
	if len(s.Parents) > maxParents {
		return Evidence{}, fmt.Errorf("%s has %d parents, more than %d", s.Desc.Digest, len(s.Parents), maxParents)
	}
	if err := s.checkParents(); err != nil {
		return Evidence{}, err
	}
	c := &collector{src: src, ev: Evidence{Subject: s}, seen: map[seen]bool{}}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(concurrency)
	about := []ocispec.Descriptor{s.Desc}
	for _, p := range s.Parents {
		about = append(about, p.Desc)
	}
	for _, d := range about {
		g.Go(func() error { return c.referrers(gctx, d) })
		for _, suffix := range []string{"sig", "att", "sbom"} {
			g.Go(func() error { return c.tag(gctx, d, suffix) })
		}
	}
	for _, p := range s.Parents {
		g.Go(func() error { return c.buildKit(gctx, p) })
	}
	if err := g.Wait(); err != nil {
		return Evidence{}, fmt.Errorf("signatures of %s@%s: %w", s.Name, s.Desc.Digest, err)
	}
	c.ev.sort()
	return c.ev, nil
}

// collector gathers for one subject; its methods run at the same time.
type collector struct {
	src Source

	mu    sync.Mutex
	ev    Evidence
	seen  map[seen]bool
	items int   // taken, also those still being read
	bytes int64 // of those
}

// seen is an item's place; the same one is found by tag and as a referrer. It is
// not its digest: two legacy signatures by cosign of one image are two layers with
// the same bytes, which differ in their annotations.
type seen struct {
	about, manifest godigest.Digest
	layer           int
}

func (c *collector) gap(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.addGap(fmt.Sprintf(format, args...))
}

// addGap is gap for who holds mu. That there are gaps matters, not how many.
func (c *collector) addGap(why string) {
	if len(c.ev.Gaps) < maxGaps {
		c.ev.Gaps = append(c.ev.Gaps, why)
	}
}

func (c *collector) claim(cl Claim) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.ev.Claims) < maxItems {
		c.ev.Claims = append(c.ev.Claims, cl)
	}
}

func (c *collector) referrers(ctx context.Context, about ocispec.Descriptor) error {
	list, err := c.src.Referrers(ctx, about.Digest)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("referrers of %s: %w", about.Digest, err)
	}
	var fetch []ocispec.Descriptor
	for _, d := range list {
		if reports[d.ArtifactType] {
			c.claim(Claim{Format: FormatSBOM, About: about.Digest, Digest: d.Digest, MediaType: d.ArtifactType})
			continue
		}
		fetch = append(fetch, d)
	}
	slices.SortStableFunc(fetch, func(a, b ocispec.Descriptor) int { return hint(a.ArtifactType) - hint(b.ArtifactType) })
	if more := len(fetch) - maxManifests; more > 0 {
		c.gap("%d referrers of %s beyond the first %d", more, about.Digest, maxManifests)
		fetch = fetch[:maxManifests]
	}
	for _, d := range fetch {
		if err := c.referrer(ctx, about, d.Digest); err != nil {
			return err
		}
	}
	return nil
}

// referrer reads one artifact of the list. The list is not trusted: the
// artifact itself must name its subject.
func (c *collector) referrer(ctx context.Context, about ocispec.Descriptor, d godigest.Digest) error {
	if err := d.Validate(); err != nil {
		c.gap("a referrer of %s has the digest %q", about.Digest, d)
		return nil
	}
	m, err := c.src.Manifest(ctx, d.String())
	switch {
	case errors.Is(err, ErrNotFound):
		c.gap("referrer %s of %s is listed but missing", d, about.Digest)
		return nil
	case err != nil:
		return fmt.Errorf("referrer %s: %w", d, err)
	case d.Algorithm().FromBytes(m.Raw) != d:
		return fmt.Errorf("referrer %s: the registry answered other bytes", d)
	}
	a, err := parseArtifact(m.Raw)
	if err != nil {
		c.gap("referrer %s of %s: %s", d, about.Digest, err)
		return nil
	}
	if a.Subject == nil || a.Subject.Digest != about.Digest {
		return nil // it is about something else: no evidence for this subject
	}
	return c.layers(ctx, about, d, a)
}

// tag reads what cosign's tag for the digest names, if it is there.
func (c *collector) tag(ctx context.Context, about ocispec.Descriptor, suffix string) error {
	name := strings.Replace(about.Digest.String(), ":", "-", 1) + "." + suffix
	m, err := c.src.Manifest(ctx, name)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil
	case err != nil:
		return fmt.Errorf("tag %s: %w", name, err)
	}
	a, err := parseArtifact(m.Raw)
	if err != nil {
		c.gap("tag %s: %s", name, err)
		return nil
	}
	return c.layers(ctx, about, godigest.FromBytes(m.Raw), a)
}

// layers takes the signatures and attestations among the artifact's layers.
func (c *collector) layers(ctx context.Context, about ocispec.Descriptor, manifest godigest.Digest, a artifact) error {
	if more := len(a.Layers) - maxLayers; more > 0 {
		c.gap("%d layers of %s beyond the first %d", more, manifest, maxLayers)
		a.Layers = a.Layers[:maxLayers]
	}
	for i, l := range a.Layers {
		format := a.format(l.MediaType)
		switch format {
		case "":
			continue
		case FormatStatement, FormatSBOM:
			c.claim(Claim{Format: format, About: about.Digest, Digest: l.Digest, MediaType: l.MediaType, PredicateType: l.Annotations[buildKitPredicate]})
			continue
		}
		limit := int64(maxAttestation)
		if format == FormatCosignSignature || format == FormatNotation {
			limit = maxSignature
		}
		if ok := c.take(seen{about.Digest, manifest, i}, format, l, limit); !ok {
			continue
		}
		data, err := c.read(ctx, l)
		switch {
		case errors.Is(err, ErrNotFound):
			c.gap("%s %s of %s is listed but missing", format, l.Digest, about.Digest)
			continue
		case err != nil:
			return fmt.Errorf("%s %s: %w", format, l.Digest, err)
		}
		c.mu.Lock()
		c.ev.Items = append(c.ev.Items, Item{
			Format: format, About: about, Manifest: manifest, Digest: l.Digest,
			MediaType: l.MediaType, Annotations: l.Annotations, Data: data,
		})
		c.mu.Unlock()
	}
	return nil
}

// take reports whether the item is to be read: not taken before, and within
// every limit. A limit leaves a gap.
func (c *collector) take(key seen, format Format, l ocispec.Descriptor, limit int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen[key] {
		return false
	}
	c.seen[key] = true
	why := ""
	switch {
	case l.Digest.Validate() != nil || l.Size < 0:
		why = fmt.Sprintf("it has the digest %q and the size %d", l.Digest, l.Size)
	case l.Size > limit:
		why = fmt.Sprintf("it has %d bytes, more than %d", l.Size, limit)
	case c.items >= maxItems:
		why = fmt.Sprintf("there are more than %d", maxItems)
	case c.bytes+l.Size > maxTotal:
		why = fmt.Sprintf("together they have more than %d bytes", maxTotal)
	}
	if why != "" {
		c.addGap(fmt.Sprintf("%s %s of %s was not read: %s", format, l.Digest, key.about, why))
		return false
	}
	c.items++
	c.bytes += l.Size
	return true
}

// read returns the blob's bytes if they are those of its descriptor.
func (c *collector) read(ctx context.Context, d ocispec.Descriptor) ([]byte, error) {
	rc, err := c.src.Blob(ctx, d)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	data, err := io.ReadAll(io.LimitReader(rc, d.Size+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) != d.Size || d.Digest.Algorithm().FromBytes(data) != d.Digest {
		return nil, fmt.Errorf("the registry answered other bytes than its descriptor's")
	}
	return data, nil
}

// buildKit shows what BuildKit stored in the index about the subject. It is a
// claim: nobody signed it. So what cannot be read is left out.
func (c *collector) buildKit(ctx context.Context, p Parent) error {
	index, err := parseArtifact(p.Raw)
	if err != nil {
		return err
	}
	budget := maxShown
	for _, d := range index.Manifests {
		if d.Annotations[buildKitKind] != buildKitManifest || d.Annotations[buildKitAbout] != c.ev.Subject.Desc.Digest.String() || d.Digest.Validate() != nil {
			continue
		}
		if budget--; budget < 0 {
			break
		}
		m, err := c.src.Manifest(ctx, d.Digest.String())
		if err != nil || d.Digest.Algorithm().FromBytes(m.Raw) != d.Digest {
			return ctx.Err()
		}
		a, err := parseArtifact(m.Raw)
		if err != nil {
			return ctx.Err()
		}
		for _, l := range a.Layers {
			if a.format(l.MediaType) != FormatStatement || l.Digest.Validate() != nil {
				continue
			}
			cl := Claim{Format: FormatBuildKit, About: p.Desc.Digest, Digest: l.Digest, MediaType: l.MediaType, PredicateType: l.Annotations[buildKitPredicate]}
			if l.Size >= 0 && l.Size <= maxClaim && budget > 0 {
				budget--
				if cl.Data, err = c.read(ctx, l); err != nil {
					cl.Data = nil
				}
			}
			c.claim(cl)
		}
	}
	return ctx.Err()
}
