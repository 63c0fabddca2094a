package source

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sluiceproxy/sluice/signing"
	"github.com/sluiceproxy/sluice/signing/lock"
)

// Request asks for the entry of one image.
type Request struct {
	Name     string // canonical
	Tag      string
	Registry signing.Source // the image's repository
	Platform []string       // os/arch[/variant]; those to publish
	Now      time.Time
}

// Web reads published files. Redirects to plain HTTP are not followed.
type Web struct{ Client *http.Client }

// maxPage is the longest published file in bytes.
const maxPage = 16 << 20

// Get returns what the address, https or on this machine, answers with 200.
func (w Web) Get(ctx context.Context, address string) ([]byte, error) {
	if err := safe(address); err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	client := *w.Client
	client.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		if len(via) > 5 {
			return errors.New("more than 5 redirects")
		}
		return safe(req.URL.String())
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", address, resp.Status)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxPage+1))
	if err == nil && len(b) > maxPage {
		err = fmt.Errorf("longer than %d bytes", maxPage)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", address, err)
	}
	return b, nil
}

// safe refuses addresses that anybody on the way could answer.
func safe(address string) error {
	u, err := url.Parse(address)
	if err != nil {
		return err
	}
	if h := u.Hostname(); u.Scheme == "https" || u.Scheme == "http" && (h == "localhost" || h == "127.0.0.1" || h == "::1") {
		return nil
	}
	return fmt.Errorf("%s: only https, or http on this machine", u.Redacted())
}

// maxManifest is the longest manifest or config in bytes.
const maxManifest = 8 << 20

// FirstUse publishes what the registry has now: the digest that the tag names,
// and if that is an index the digests of its images by platform.
func FirstUse(ctx context.Context, r Request) (lock.Image, error) {
	m, index, err := r.top(ctx)
	if err != nil {
		return lock.Image{}, err
	}
	im := lock.Image{
		Name: r.Name, Tag: r.Tag, Digests: []godigest.Digest{m.Digest},
		Source: &lock.Origin{Type: lock.FirstUse, Fetched: r.Now.UTC().Truncate(time.Second)},
	}
	if index != nil {
		im.Platforms = platforms(index)
	}
	return im, nil
}

// top returns what the tag names; index is nil for a manifest.
func (r *Request) top(ctx context.Context) (signing.Manifest, *ocispec.Index, error) {
	m, err := r.Registry.Manifest(ctx, r.Tag)
	if err != nil {
		return m, nil, fmt.Errorf("%s:%s: %w", r.Name, r.Tag, err)
	}
	if m.Digest != godigest.FromBytes(m.Raw) {
		return m, nil, fmt.Errorf("%s:%s: the registry's bytes are not %s", r.Name, r.Tag, m.Digest)
	}
	var both struct {
		ocispec.Index
		Config json.RawMessage `json:"config"`
		Layers json.RawMessage `json:"layers"`
	}
	if err := json.Unmarshal(m.Raw, &both); err != nil {
		return m, nil, fmt.Errorf("%s@%s: %w", r.Name, m.Digest, err)
	}
	switch {
	case both.Manifests != nil && (both.Config != nil || both.Layers != nil):
		return m, nil, fmt.Errorf("%s@%s is a manifest and an index at once", r.Name, m.Digest)
	case both.Manifests != nil:
		return m, &both.Index, nil
	}
	return m, nil, nil
}

// platforms are the images of an index. BuildKit's statements about them are of
// no platform.
func platforms(index *ocispec.Index) map[string][]godigest.Digest {
	out := map[string][]godigest.Digest{}
	for _, d := range index.Manifests {
		if d.Platform == nil || d.Platform.OS == "unknown" || d.Platform.OS == "" || d.Platform.Architecture == "" {
			continue
		}
		p := platform(d.Platform)
		out[p] = append(out[p], d.Digest)
	}
	return out
}

func platform(p *ocispec.Platform) string {
	return strings.TrimSuffix(p.OS+"/"+p.Architecture+"/"+p.Variant, "/")
}

// wanted reports whether the platform is one of those asked for; one without
// variant stands for all of them.
func (r *Request) wanted(p string) bool {
	for _, w := range r.Platform {
		if p == w || strings.HasPrefix(p, w+"/") {
			return true
		}
	}
	return false
}
