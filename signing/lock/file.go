package lock

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	godigest "github.com/opencontainers/go-digest"
	"go.yaml.in/yaml/v3"
)

// File is the content of an images.lock.
type File struct {
	Version int       `yaml:"version"`
	Serial  uint64    `yaml:"serial"`
	Expires time.Time `yaml:"expires,omitempty"` // zero: never
	Images  []Image   `yaml:"images"`
}

// Image is what is published of one name and tag.
type Image struct {
	Name       string                       `yaml:"name"`                 // canonical: docker.io/library/debian
	Tag        string                       `yaml:"tag,omitempty"`        // "" is every tag
	Digests    []godigest.Digest            `yaml:"digests,omitempty"`    // of indexes or manifests, any of which it may be
	Platforms  map[string][]godigest.Digest `yaml:"platforms,omitempty"`  // of manifests, by os/arch[/variant]
	DiffIDs    []godigest.Digest            `yaml:"diffIDs,omitempty"`    // of the first layers
	Source     *Origin                      `yaml:"source,omitempty"`     // who says so
	Superseded []godigest.Digest            `yaml:"superseded,omitempty"` // old digests, which must not come back
}

// Origin is where an entry was read.
type Origin struct {
	Type    SourceType      `yaml:"type"`
	URL     string          `yaml:"url,omitempty"`
	Fetched time.Time       `yaml:"fetched,omitempty"`
	SHA256  godigest.Digest `yaml:"sha256,omitempty"` // of what URL answered
	Key     string          `yaml:"key,omitempty"`    // fingerprint of the OpenPGP key that signed it
}

// SourceType says what sort of publication an entry rests on.
type SourceType string

// Source types.
const (
	DebianArtifacts SourceType = "debian-artifacts" // OCI index of debuerreotype/docker-debian-artifacts
	SHA256Sums      SourceType = "sha256sums"       // SHA256SUMS with an OpenPGP signature
	Checksums       SourceType = "checksums"        // sha512 or sha256 sums of a root file system's archive
	FirstUse        SourceType = "tofu"             // what the registry had when it was first asked
	Manual          SourceType = "manual"           // written by hand
)

// Marshal writes f in its canonical form, sorted by name and tag.
func (f *File) Marshal() ([]byte, error) {
	c := *f
	c.Images = slices.Clone(f.Images)
	for i := range c.Images {
		im := &c.Images[i]
		im.Digests, im.Superseded = sorted(im.Digests), sorted(im.Superseded)
		platforms := maps.Clone(im.Platforms)
		for p := range platforms {
			platforms[p] = sorted(platforms[p])
		}
		im.Platforms = platforms
	}
	slices.SortFunc(c.Images, func(a, b Image) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Tag, b.Tag)) })
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(&c); err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if err := enc.Close(); err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if _, err := Parse("the written lock", out.Bytes()); err != nil {
		return nil, err // what could not be read back must not be written
	}
	return out.Bytes(), nil
}

func sorted(ds []godigest.Digest) []godigest.Digest {
	ds = slices.Clone(ds)
	slices.Sort(ds)
	return slices.Compact(ds)
}

// Find returns the entry of a name and tag, nil if there is none.
func (f *File) Find(name, tag string) *Image {
	for i := range f.Images {
		if f.Images[i].Name == name && f.Images[i].Tag == tag {
			return &f.Images[i]
		}
	}
	return nil
}

// Update puts a new entry in the place of the one of its name and tag, and
// reports whether that changed anything but the time at which it was fetched.
// Digests that the old entry had and the new one has not are superseded; a
// digest that comes back is superseded no more.
func (f *File) Update(im Image) bool {
	old := f.Find(im.Name, im.Tag)
	if old == nil {
		f.Images = append(f.Images, im)
		return true
	}
	current := im.all()
	gone := slices.Concat(old.Superseded, im.Superseded)
	for d := range old.all() {
		gone = append(gone, d)
	}
	im.Superseded = slices.DeleteFunc(sorted(gone), func(d godigest.Digest) bool { return current[d] })
	same := slices.Equal(sorted(old.Digests), sorted(im.Digests)) && slices.Equal(sorted(old.Superseded), im.Superseded) &&
		slices.Equal(old.DiffIDs, im.DiffIDs) && maps.EqualFunc(old.Platforms, im.Platforms, func(a, b []godigest.Digest) bool {
		return slices.Equal(sorted(a), sorted(b))
	})
	if !same {
		*old = im
	}
	return !same
}

// all are the digests that im publishes.
func (im *Image) all() map[godigest.Digest]bool {
	all := map[godigest.Digest]bool{}
	for _, d := range im.Digests {
		all[d] = true
	}
	for _, ds := range im.Platforms {
		for _, d := range ds {
			all[d] = true
		}
	}
	return all
}
