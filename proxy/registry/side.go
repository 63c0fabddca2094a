package registry

import (
	"net/http"
	"time"

	"github.com/sluiceproxy/sluice/proxy/httpx"
	"github.com/sluiceproxy/sluice/proxy/route"
	"github.com/sluiceproxy/sluice/signing"
)

// KeysPath is where the keys are that verify Sluice's own attestations.
const KeysPath = "/.well-known/sluice/keys"

// keys answers the public keys, the one that signs first.
func (h *Handler) keys(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "the keys can only be read", http.StatusMethodNotAllowed)
		return
	}
	var list []signing.PublicKey
	if h.Attestor != nil {
		list = h.Attestor.Keys()
	}
	if len(list) == 0 {
		http.Error(w, "nothing is signed here (attest.key)", http.StatusNotFound)
		return
	}
	if err := writeJSON(w, map[string]any{"keys": list}); err != nil {
		httpx.WriteOCIError(w, r, err)
	}
}

// side answers what Sluice itself says of the images of a repository.
func (h *Handler) side(c call) error {
	ctx := c.r.Context()
	switch c.rt.Kind {
	case route.Manifest:
		a, err := h.Gate.Side(ctx, c.rt)
		if err != nil {
			return err
		}
		c.w.Header().Set("Content-Type", a.Manifest.Descriptor.MediaType)
		setDigest(c.w.Header(), a.Manifest.Descriptor.Digest.String())
		serveBytes(c.w, c.r, a.Bytes)
		return nil
	case route.Blob:
		b, err := h.Gate.SideBlob(ctx, c.rt)
		if err != nil {
			return err
		}
		defer func() { _ = b.Close() }()
		c.w.Header().Set("Content-Type", "application/octet-stream")
		setDigest(c.w.Header(), c.rt.Digest.String())
		http.ServeContent(c.w, c.r, "", time.Time{}, b.File)
		return nil
	case route.Tags:
		q := c.r.URL.Query()
		n, last, err := page(q)
		if err != nil {
			return err
		}
		if n < 0 || n > maxPage {
			n = maxPage
		}
		tags, more, err := h.Gate.SideTags(ctx, c.rt, last, n)
		if err != nil {
			return err
		}
		if tags == nil {
			tags = []string{}
		}
		if more && len(tags) > 0 {
			nextPage(c.w, "/v2/"+c.rt.Asked+"/tags/list", q, tags[len(tags)-1])
		}
		return writeJSON(c.w, map[string]any{"name": c.rt.Asked, "tags": tags})
	case route.Referrers:
		list, err := h.Gate.SideReferrers(ctx, c.rt)
		if err != nil {
			return err
		}
		return writeReferrers(c, list, c.r.URL.Query().Get("artifactType"))
	}
	return httpx.Unsupported(c.rt.Kind.String() + " is not supported")
}
