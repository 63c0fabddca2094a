package target

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	godigest "github.com/opencontainers/go-digest"

	"github.com/sluiceproxy/sluice/analyzer"
)

// Limits of a document.
const (
	maxSBOM       = 256 << 20 // bytes
	maxComponents = 500_000
	maxNesting    = 64 // of components within components
)

// document is what an SBOM says.
type document struct {
	format    string // "CycloneDX 1.6"
	mediaType string
	subject   string          // the image's name; "" if it is none
	digest    godigest.Digest // of the image's manifest, by the document's word
	os        analyzer.OSRelease
	packages  []analyzer.Package
	nameless  []string // software that has no purl, so that no advisory can be held against it
}

// openSBOM reads the packages of a CycloneDX or SPDX document.
func openSBOM(_ context.Context, spec string, want platform, _ Options) (*Target, error) {
	if want.explicit {
		return nil, fmt.Errorf("%w: --platform chooses one of several images; an SBOM is of one", ErrInvalid)
	}
	f, err := os.Open(spec)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	b, err := readAll(f, maxSBOM)
	if err != nil {
		return nil, err
	}
	d, err := parseSBOM(b)
	if err != nil {
		return nil, err
	}
	t := &Target{Digest: d.digest, MediaType: d.mediaType, Inventory: d.inventory()}
	t.Image.Manifest.Digest = godigest.FromBytes(b) // an identity for what names no image
	if d.subject != "" {
		t.named(d.subject)
	}
	return t, nil
}

// parseSBOM recognises a document by its first bytes and reads it.
func parseSBOM(b []byte) (*document, error) {
	b = bytes.TrimSpace(bytes.TrimPrefix(b, []byte("\xef\xbb\xbf")))
	switch {
	case len(b) == 0:
		return nil, errors.New("the file is empty")
	case b[0] == '<':
		return parseCycloneDX(b, false)
	case b[0] != '{':
		if bytes.HasPrefix(b, []byte("SPDXVersion:")) {
			return nil, errors.New("SPDX in tag-value form is not read; convert it to SPDX 2.3 JSON")
		}
		return nil, errors.New("neither JSON nor XML: CycloneDX (JSON or XML) or SPDX 2.3 (JSON) is wanted")
	}
	kind, err := kindOf(b)
	if err != nil {
		return nil, err
	}
	switch kind {
	case kindCycloneDX:
		return parseCycloneDX(b, true)
	case kindSPDX:
		return parseSPDX(b)
	}
	return nil, fmt.Errorf("%s", kind)
}

// inventory is the document in the analyzer's words.
func (d *document) inventory() *analyzer.Inventory {
	var gaps []analyzer.Incomplete
	if n := len(d.nameless); n > 0 {
		some := d.nameless[:min(n, 5)]
		text := strings.Join(some, ", ")
		if n > len(some) {
			text += fmt.Sprintf(" and %d more", n-len(some))
		}
		gaps = append(gaps, analyzer.Incomplete{Reason: fmt.Sprintf("%d components of the SBOM have no package URL, so they cannot be matched: %s", n, text)})
	}
	return analyzer.FromSBOM(d.format, d.mediaType, d.release(), d.packages, gaps)
}

// release is the document's operating system, else that of most of its
// packages.
func (d *document) release() analyzer.OSRelease {
	if d.os.ID != "" {
		return d.os
	}
	count, best := map[analyzer.OSRelease]int{}, analyzer.OSRelease{}
	for i := range d.packages {
		rel := distroOf(&d.packages[i])
		if rel.VersionID == "" && rel.Codename == "" {
			continue
		}
		count[rel]++
		if n := count[rel] - count[best]; n > 0 || n == 0 && rel.ID+rel.VersionID < best.ID+best.VersionID {
			best = rel
		}
	}
	return best
}

// add adds a package, or notes that the named component is not one.
func (d *document) add(c component) error {
	if len(d.packages)+len(d.nameless) >= maxComponents {
		return fmt.Errorf("more than %d components", maxComponents)
	}
	if c.purl == "" {
		d.nameless = append(d.nameless, strings.TrimSpace(c.name+" "+c.version))
		return nil
	}
	p, err := c.pack(d.os)
	if err != nil {
		return err
	}
	d.packages = append(d.packages, p)
	return nil
}

// owners drops owners that are not distribution packages of the document: only
// what is judged itself may take the place of another's judgement.
func (d *document) owners() {
	known := map[string]bool{}
	for i := range d.packages {
		if p := &d.packages[i]; analyzer.IsDistribution(p.Type) {
			known[p.PURL] = true
		}
	}
	for i := range d.packages {
		if p := &d.packages[i]; analyzer.IsDistribution(p.Type) || !known[p.Owner] {
			p.Owner = ""
		}
	}
}
