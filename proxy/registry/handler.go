package registry

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/sluiceproxy/sluice/proxy/auth"
	"github.com/sluiceproxy/sluice/proxy/gate"
	"github.com/sluiceproxy/sluice/proxy/httpx"
	"github.com/sluiceproxy/sluice/proxy/local"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/route"
	"github.com/sluiceproxy/sluice/proxy/upload"
	"github.com/sluiceproxy/sluice/proxy/upstream"
	"github.com/sluiceproxy/sluice/signing"
)

// Options of a Handler. All fields are required unless they say otherwise.
type Options struct {
	Table     *route.Table
	Gate      *gate.Gate
	Upstreams *upstream.Client
	Auth      *auth.Controller
	// While the end of a blob is withheld, a few bytes leave every Trickle.
	Trickle time.Duration

	Local    *local.Registry  // the gated registry; nil = there is none
	Uploads  *upload.Manager  // of Local
	Attestor signing.Attestor // whose keys are published; nil = there is none
	// Immutable tells tags that must not move; nil = all may.
	Immutable func(name, tag string) bool
}

// Handler serves /v2/ and the token endpoint. It is safe for concurrent use.
type Handler struct{ Options }

// New returns a handler.
func New(opts Options) *Handler { return &Handler{opts} }

// call is one request with what was found out about it.
type call struct {
	w  http.ResponseWriter
	r  *http.Request
	rt route.Route
	id auth.Identity
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case auth.TokenPath:
		h.Auth.TokenHandler(w, r)
		return
	case KeysPath:
		h.keys(w, r)
		return
	}
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	if err := h.serve(w, r); err != nil { //nolint:contextcheck // each call carries its request, and with it the context
		httpx.WriteOCIError(w, r, err)
	}
}

// serve answers a request to the registry API, or returns an error before it has
// written.
func (h *Handler) serve(w http.ResponseWriter, r *http.Request) error {
	rt, err := h.Table.Parse(r.URL)
	if errors.Is(err, route.ErrTagInvalid) && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
		// To ask for what cannot be there is no mistake (the conformance suite of 1.1).
		return &httpx.OCIError{Status: http.StatusNotFound, Code: "MANIFEST_UNKNOWN", Message: err.Error()}
	}
	if err != nil {
		return err
	}
	id, err := h.Auth.Identify(r)
	if err != nil {
		return err
	}
	c := call{w, r, rt, id}
	switch rt.Kind {
	case route.Base:
		if err := h.Auth.Ping(r, id); err != nil {
			return err
		}
		return writeJSON(w, struct{}{})
	case route.Catalog:
		if !c.reads() {
			return httpx.Unsupported(r.Method + " is not supported for the catalog")
		}
		return h.catalog(c)
	}
	if rt.Side && !c.reads() {
		return httpx.Unsupported("only Sluice itself writes to " + rt.Asked)
	}
	if rt.Local && h.Local == nil {
		return httpx.Unsupported("there is no gated registry under " + rt.Name + ": it is switched off (registry.enabled)")
	}
	if !rt.Local && !c.reads() {
		return httpx.Unsupported(r.Method + " is not supported: upstream repositories are read-only here; push to a name under the local prefix")
	}
	if err := h.Auth.Authorize(r, id, c.action(), rt.Name, rt.Asked); err != nil {
		return err
	}
	if rt.Side {
		return h.side(c)
	}
	if rt.Local {
		return h.local(c)
	}
	return h.read(c)
}

// local answers requests to the gated registry.
func (h *Handler) local(c call) error {
	switch k := c.rt.Kind; {
	case k == route.Upload:
		return h.upload(c)
	case k == route.Manifest && c.r.Method == http.MethodPut:
		return h.putManifest(c)
	case c.r.Method == http.MethodDelete && (k == route.Manifest || k == route.Blob):
		return h.delete(c)
	case !c.reads():
		return httpx.Unsupported(fmt.Sprintf("%s of a %s is not supported", c.r.Method, k))
	}
	return h.read(c)
}

// read answers GET and HEAD.
func (h *Handler) read(c call) error {
	switch c.rt.Kind {
	case route.Manifest:
		return h.manifest(c)
	case route.Blob:
		return h.blob(c)
	case route.Tags:
		return h.tags(c)
	case route.Referrers:
		return h.referrers(c)
	}
	return httpx.Unsupported(c.rt.Kind.String() + " is not supported here")
}

func (c call) reads() bool { return c.r.Method == http.MethodGet || c.r.Method == http.MethodHead }

// action is what the request wants to do to the repository.
func (c call) action() auth.Action {
	switch {
	case c.rt.Kind == route.Upload:
		return auth.Push
	case c.reads():
		return auth.Pull
	case c.r.Method == http.MethodDelete:
		return auth.Delete
	}
	return auth.Push
}

// may reports whether the caller may do a at rt, which need not be the request's
// own route.
func (h *Handler) may(c call, a auth.Action, rt route.Route) bool {
	return h.Auth.Authorize(c.r, c.id, a, rt.Name, rt.Asked) == nil
}

// insider reports whether the caller sees what is in quarantine here. The scopes
// of a token do not count: who pulls has one that is for pulling.
func (h *Handler) insider(c call) bool {
	return c.rt.Local && (h.Auth.Allowed(c.id, auth.Push, c.rt.Name) || h.operator(c))
}

func (h *Handler) operator(c call) bool { return h.Auth.Allowed(c.id, auth.Operate, c.rt.Name) }

// blocked reports whether the verdict keeps the content from those who may push
// too: an operator blocked it, and they want more than to know that it is there.
func (h *Handler) blocked(c call, v policy.Verdict) bool {
	return c.r.Method != http.MethodHead && !h.operator(c) && v.Decision == policy.Deny &&
		slices.ContainsFunc(v.Reasons, func(r policy.Reason) bool { return r.Rule == policy.RuleBlocklist })
}

func (h *Handler) manifest(c call) error {
	w, r := c.w, c.r
	admit := h.Gate.Manifest
	if h.insider(c) {
		admit = h.Gate.Inspect
	}
	a, err := admit(r.Context(), c.rt)
	if err != nil {
		return err
	}
	if h.blocked(c, a.Verdict) {
		return &policy.DeniedError{Verdict: a.Verdict}
	}
	head := w.Header()
	head.Set("Content-Type", a.Manifest.Descriptor.MediaType)
	setDigest(head, a.Manifest.Descriptor.Digest.String())
	if a.Stale {
		head.Add("Warning", `110 - "the upstream failed; the tag is answered from memory"`)
	}
	switch a.Verdict.Decision {
	case policy.Annotate:
		head.Add("Warning", a.Warning)
		head.Set("Sluice-Verdict", "annotate; id="+a.Verdict.ID)
	case policy.Undecided:
		head.Set("Sluice-Verdict", "pending")
	case policy.Deny:
		head.Add("Warning", a.Warning)
		head.Set("Sluice-Verdict", "deny; id="+a.Verdict.ID)
	case policy.Allow, policy.Pending:
	}
	if r.Method == http.MethodGet {
		h.Gate.Pulled(a, httpx.ClientIP(r))
	}
	serveBytes(w, r, a.Bytes)
	return nil
}

// serveBytes answers with a body that lies in memory. What http.ServeContent
// does about conditions and ranges is for the few who ask for it.
func serveBytes(w http.ResponseWriter, r *http.Request, body []byte) {
	if conditional(r.Header) {
		http.ServeContent(struct{ http.ResponseWriter }{w}, r, "", time.Time{}, bytes.NewReader(body)) // without ReadFrom it is one write
		return
	}
	head := w.Header()
	head.Set("Accept-Ranges", "bytes")
	head.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // the client is gone
	}
}

// conditional reports whether a request may get another answer than the whole
// (RFC 9110, sections 13.1 and 14.2).
func conditional(head http.Header) bool {
	for _, name := range [...]string{"Range", "If-None-Match", "If-Match", "If-Modified-Since", "If-Unmodified-Since"} {
		if _, ok := head[name]; ok {
			return true
		}
	}
	return false
}

func setDigest(head http.Header, digest string) {
	head.Set("Docker-Content-Digest", digest)
	head.Set("ETag", `"`+digest+`"`)
}
