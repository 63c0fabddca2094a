package registry

import (
	"bytes"
	"fmt"
	"net/http"
	"net/textproto"
	"strings"
	"time"

	"github.com/sluiceproxy/sluice/proxy/gate"
	"github.com/sluiceproxy/sluice/proxy/httpx"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/route"
	"github.com/sluiceproxy/sluice/proxy/upstream"
)

// Handler serves /v2/. It is safe for concurrent use.
type Handler struct {
	table     *route.Table
	gate      *gate.Gate
	upstreams *upstream.Client
	trickle   time.Duration
}

// New returns a handler that names images by table and asks g for all content.
// While the end of a blob is withheld, a few bytes leave every trickle.
func New(table *route.Table, g *gate.Gate, ups *upstream.Client, trickle time.Duration) *Handler {
	return &Handler{table: table, gate: g, upstreams: ups, trickle: trickle}
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	rt, err := h.table.Parse(r.URL)
	if err == nil {
		err = h.serve(w, r, rt)
	}
	if err != nil {
		httpx.WriteOCIError(w, r, err)
	}
}

// serve answers a routed request, or returns an error before it has written.
func (h *Handler) serve(w http.ResponseWriter, r *http.Request, rt route.Route) error {
	read := r.Method == http.MethodGet || r.Method == http.MethodHead
	switch {
	case rt.Local:
		return httpx.Unsupported("the gated registry under " + rt.Name + " is not supported yet; only pulls through upstreams are")
	case !read:
		return httpx.Unsupported(fmt.Sprintf("%s is not supported: upstream repositories are read-only here", r.Method))
	}
	switch rt.Kind {
	case route.Base:
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte("{}"))
		return nil
	case route.Manifest:
		return h.manifest(w, r, rt)
	case route.Blob:
		return h.blob(w, r, rt)
	case route.Tags:
		return h.tags(w, r, rt)
	case route.Referrers:
		return h.referrers(w, r, rt)
	case route.Upload, route.Catalog:
	}
	return httpx.Unsupported(rt.Kind.String() + " is not supported for upstream repositories")
}

func (h *Handler) manifest(w http.ResponseWriter, r *http.Request, rt route.Route) error {
	a, err := h.gate.Manifest(r.Context(), rt)
	if err != nil {
		return err
	}
	head := w.Header()
	head.Set("Content-Type", a.Manifest.Descriptor.MediaType)
	setDigest(head, a.Manifest.Descriptor.Digest.String())
	if a.Stale {
		head.Add("Warning", `110 - "the upstream failed; the tag is answered from memory"`)
	}
	switch a.Verdict.Decision {
	case policy.Annotate:
		head.Add("Warning", warning(a.Verdict))
		head.Set("Sluice-Verdict", "annotate; id="+a.Verdict.ID)
	case policy.Undecided:
		head.Set("Sluice-Verdict", "pending")
	case policy.Allow, policy.Pending, policy.Deny:
	}
	if r.Method == http.MethodGet {
		h.gate.Pulled(a, httpx.ClientIP(r))
	}
	// Without ReadFrom the header and these few bytes leave in one write.
	http.ServeContent(struct{ http.ResponseWriter }{w}, r, "", time.Time{}, bytes.NewReader(a.Bytes))
	return nil
}

func setDigest(head http.Header, digest string) {
	head.Set("Docker-Content-Digest", digest)
	head.Set("ETag", `"`+digest+`"`)
}

// maxWarning bounds the header (OCI distribution 1.1, "Warnings": 4096 bytes
// in all).
const maxWarning = 1024

// warning is a warning header's value: code 299, no agent, the text quoted
// (RFC 7234, section 5.5).
func warning(v policy.Verdict) string {
	text := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return ' '
		}
		return r
	}, v.Summary())
	if len(text) > maxWarning {
		text = text[:maxWarning] + "..."
	}
	text = strings.ReplaceAll(strings.ReplaceAll(text, `\`, `\\`), `"`, `\"`)
	return `299 - "` + textproto.TrimString(text) + `"`
}
