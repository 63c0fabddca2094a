package analyzer

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Docker's media types for what OCI standardised later (distribution,
// "Image Manifest Version 2, Schema 2").
const (
	MediaTypeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	MediaTypeDockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	MediaTypeDockerConfig   = "application/vnd.docker.container.image.v1+json"
)

// Manifest is a parsed image manifest or image index, of OCI or of Docker.
type Manifest struct {
	Descriptor   ocispec.Descriptor // media type, digest and size of the bytes
	Index        bool               // Children are set, else Config and Layers
	Children     []ocispec.Descriptor
	Config       ocispec.Descriptor
	Layers       []ocispec.Descriptor
	Subject      *ocispec.Descriptor
	ArtifactType string
	Annotations  map[string]string
	URLs         []string // external addresses in the descriptors
}

// maxDescriptors bounds the layers or children of one manifest.
const maxDescriptors = 4096

// Descriptors is a list of descriptors in JSON, of at most 4096. A longer one is
// an error before it is read to its end: of small bytes such as null or {} it
// would become many large values.
type Descriptors []ocispec.Descriptor

// UnmarshalJSON implements json.Unmarshaler.
func (l *Descriptors) UnmarshalJSON(b []byte) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	tok, err := dec.Token()
	if err != nil || tok == nil { // null is no list
		*l = nil
		return err
	}
	if tok != json.Delim('[') {
		return fmt.Errorf("not a list of descriptors: %v", tok)
	}
	list := Descriptors{}
	for dec.More() {
		if len(list) == maxDescriptors {
			return fmt.Errorf("more than %d descriptors", maxDescriptors)
		}
		var d ocispec.Descriptor
		if err := dec.Decode(&d); err != nil {
			return err
		}
		list = append(list, d)
	}
	*l = list
	return nil
}

// ParseManifest reads a manifest's bytes. mediaType is what came with them, or
// "" where nothing did; it must not contradict the bytes. A manifest that two
// readers could understand in two ways is an error: both layers and manifests,
// a key twice (also in another case), a media type that does not fit the
// content. Other types than image manifests and indexes of OCI image-spec 1.1
// and Docker schema 2 are errors too.
func ParseManifest(mediaType string, b []byte) (Manifest, error) {
	var doc struct {
		SchemaVersion int                 `json:"schemaVersion"`
		MediaType     string              `json:"mediaType"`
		ArtifactType  string              `json:"artifactType"`
		Config        *ocispec.Descriptor `json:"config"`
		Layers        Descriptors         `json:"layers"`
		Manifests     *Descriptors        `json:"manifests"`
		Subject       *ocispec.Descriptor `json:"subject"`
		Annotations   map[string]string   `json:"annotations"`
		FSLayers      json.RawMessage     `json:"fsLayers"`
	}
	if err := json.Unmarshal(b, &doc); err != nil {
		return Manifest{}, fmt.Errorf("manifest: %w", err)
	}
	if err := uniqueKeys(b); err != nil { // once it is known not to be endlessly deep, which costs a map for each level
		return Manifest{}, fmt.Errorf("manifest: %w", err)
	}
	if doc.SchemaVersion != 2 || doc.FSLayers != nil {
		return Manifest{}, fmt.Errorf("manifest: schema version %d is not supported, only 2", doc.SchemaVersion)
	}
	if doc.Manifests != nil && (doc.Config != nil || doc.Layers != nil) {
		return Manifest{}, fmt.Errorf("manifest: has both manifests and layers")
	}
	if doc.MediaType != "" && mediaType != "" && doc.MediaType != mediaType {
		return Manifest{}, fmt.Errorf("manifest: served as %q, but says that it is %q", mediaType, doc.MediaType)
	}
	if mediaType == "" {
		mediaType = doc.MediaType
	}
	m := Manifest{Index: doc.Manifests != nil, Subject: doc.Subject, ArtifactType: doc.ArtifactType, Annotations: doc.Annotations}
	if mediaType == "" {
		mediaType = ocispec.MediaTypeImageManifest
		if m.Index {
			mediaType = ocispec.MediaTypeImageIndex
		}
	}
	switch mediaType {
	case ocispec.MediaTypeImageIndex, MediaTypeDockerList:
		if !m.Index {
			return Manifest{}, fmt.Errorf("manifest: type %q without manifests", mediaType)
		}
		m.Children = *doc.Manifests
	case ocispec.MediaTypeImageManifest, MediaTypeDockerManifest:
		if m.Index || doc.Config == nil {
			return Manifest{}, fmt.Errorf("manifest: type %q without config", mediaType)
		}
		m.Config, m.Layers = *doc.Config, doc.Layers
	default:
		return Manifest{}, fmt.Errorf("manifest: media type %q is not supported", mediaType)
	}
	m.Descriptor = ocispec.Descriptor{MediaType: mediaType, Digest: godigest.FromBytes(b), Size: int64(len(b))}
	return m, m.checkDescriptors()
}

func (m *Manifest) checkDescriptors() error {
	all := append(append([]ocispec.Descriptor{}, m.Children...), m.Layers...)
	if !m.Index {
		all = append(all, m.Config)
	}
	if len(all) > maxDescriptors {
		return fmt.Errorf("manifest: %d descriptors, more than %d", len(all), maxDescriptors)
	}
	for _, d := range all {
		if err := d.Digest.Validate(); err != nil {
			return fmt.Errorf("manifest: descriptor %q: %w", d.Digest, err)
		}
		if d.Digest.Algorithm() != godigest.SHA256 {
			return fmt.Errorf("manifest: descriptor %s: only sha256 is supported", d.Digest)
		}
		if d.Size < 0 {
			return fmt.Errorf("manifest: descriptor %s: size %d", d.Digest, d.Size)
		}
		m.URLs = append(m.URLs, d.URLs...)
	}
	return nil
}

// Members are the digests that the manifest names: what may be fetched with it.
func (m *Manifest) Members() []godigest.Digest {
	var ds []godigest.Digest
	if !m.Index {
		ds = append(ds, m.Config.Digest)
	}
	for _, d := range m.Layers {
		ds = append(ds, d.Digest)
	}
	for _, d := range m.Children {
		ds = append(ds, d.Digest)
	}
	return ds
}

// Member returns the manifest's own word on one of its members.
func (m *Manifest) Member(d godigest.Digest) (ocispec.Descriptor, bool) {
	if !m.Index && m.Config.Digest == d {
		return m.Config, true
	}
	for _, list := range [][]ocispec.Descriptor{m.Layers, m.Children} {
		for _, desc := range list {
			if desc.Digest == d {
				return desc, true
			}
		}
	}
	return ocispec.Descriptor{}, false
}

// Image returns what the Analyzer needs of the image, whose blobs open gives.
func (m *Manifest) Image(open func(context.Context, ocispec.Descriptor) (io.ReadCloser, error)) Image {
	return Image{Manifest: m.Descriptor, Config: m.Config, Layers: m.Layers, URLs: m.URLs, ArtifactType: m.ArtifactType, Annotations: m.Annotations, Open: open}
}

// uniqueKeys refuses JSON in which an object has a key twice, in any case:
// encoding/json takes the last of them, other readers the first, and it does
// not mind the case, which other readers do.
func uniqueKeys(b []byte) error {
	type object struct {
		keys map[string]bool // nil for an array
		key  bool            // the next string is a key
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	var stack []object
	for {
		tok, err := dec.Token()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		top := len(stack) - 1
		if s, ok := tok.(string); ok && top >= 0 && stack[top].key {
			k := strings.ToLower(strings.ToUpper(s)) // as encoding/json folds it: ſ is an s
			if stack[top].keys[k] {
				return fmt.Errorf("key %q stands twice at byte %d", s, dec.InputOffset())
			}
			stack[top].keys[k] = true
			stack[top].key = false
			continue
		}
		switch tok {
		case json.Delim('{'):
			stack = append(stack, object{keys: make(map[string]bool), key: true})
			continue
		case json.Delim('['):
			stack = append(stack, object{})
			continue
		case json.Delim('}'), json.Delim(']'):
			stack = stack[:top]
			top--
		}
		if top >= 0 && stack[top].keys != nil {
			stack[top].key = true
		}
	}
}
