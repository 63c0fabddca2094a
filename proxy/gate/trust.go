package gate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	godigest "github.com/opencontainers/go-digest"
	"go.uber.org/zap"

	"github.com/sluiceproxy/sluice/analyzer"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/route"
	"github.com/sluiceproxy/sluice/signing"
)

const (
	discoveryTimeout = 30 * time.Second // longest search for one image's signatures
	// unsignedTTL is how long an image without the signatures that it needs is not
	// asked for them again: it may have been signed a moment ago.
	unsignedTTL = time.Minute
	// failedTTL is that after a search that failed.
	failedTTL = 10 * time.Second
	// exemptionsTTL is how long VEX attestations are not looked for again.
	exemptionsTTL = 5 * time.Minute

	maxTrusts  = 1 << 14 // results in memory; past it all are dropped and read again
	maxParents = 4       // indexes whose signatures are looked at for what they list: package signing's limit
)

// trustKey names the result of one policy's trust on an image.
type trustKey struct {
	key
	policy string
}

// trustCache remembers results on signatures until they may change.
type trustCache struct {
	mu sync.Mutex
	m  map[trustKey]trusted
}

// trusted is a result with what it rests on besides the image.
type trusted struct {
	basis  string
	result policy.TrustResult
}

func (c *trustCache) get(k trustKey, basis string, now time.Time) (policy.TrustResult, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t, ok := c.m[k]
	return t.result, ok && t.basis == basis && (t.result.Until.IsZero() || now.Before(t.result.Until))
}

func (c *trustCache) put(k trustKey, t trusted) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil || len(c.m) >= maxTrusts {
		c.m = make(map[trustKey]trusted)
	}
	c.m[k] = t
}

// forget drops what is known of an image's signatures.
func (c *trustCache) forget(k key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for t := range c.m {
		if t.key == k {
			delete(c.m, t)
		}
	}
}

// discovery is a search for an image's signatures, under way or done. ev and err
// are set before done is closed.
type discovery struct {
	done chan struct{}
	ev   signing.Evidence
	err  error
}

// discoveries are those under way, by image: a crowd searches once.
type discoveries struct {
	mu sync.Mutex
	m  map[key]*discovery
}

// discover starts the search for the image's signatures beside its analysis. It
// returns nil where no policy wants to know, or what it wants is known.
func (g *Gate) discover(ctx context.Context, rt route.Route, e *entry) (*discovery, error) {
	if e.unread != "" || e.evidential() {
		return nil, nil
	}
	now := g.now()
	var wanted []*policy.Trust
	for _, t := range g.Policy().Trusts(e.key.name, e.key.digest) {
		if t.Verifier == nil || !searches(t) {
			continue
		}
		_, ok, err := g.known(ctx, t, e, "", now)
		if err != nil {
			return nil, err
		}
		if !ok {
			wanted = append(wanted, t)
		}
	}
	if len(wanted) == 0 {
		return nil, nil
	}
	return g.startDiscovery(rt, e, wanted), nil //nolint:contextcheck // many wait for it: it lives on the gate's context
}

// startDiscovery joins the search for the image's signatures, or starts one. It
// returns nil if one that ended a moment ago has settled what is wanted; with
// nothing wanted in particular it always searches.
func (g *Gate) startDiscovery(rt route.Route, e *entry, wanted []*policy.Trust) *discovery {
	g.discoveries.mu.Lock()
	defer g.discoveries.mu.Unlock()
	if d, ok := g.discoveries.m[e.key]; ok {
		return d
	}
	unsettled := func(t *policy.Trust) bool {
		_, ok := g.trusts.get(trustKey{e.key, t.Policy}, basisOf(t, ""), g.now())
		return !ok || byLock(t)
	}
	if len(wanted) > 0 && !slices.ContainsFunc(wanted, unsettled) {
		return nil
	}
	d := &discovery{done: make(chan struct{})}
	if g.discoveries.m == nil {
		g.discoveries.m = make(map[key]*discovery)
	}
	g.discoveries.m[e.key] = d
	g.running.Go(func() {
		d.ev, d.err = g.collect(rt, e)
		// Who comes after the search has ended must find its outcome, or would
		// search again.
		for _, t := range g.Policy().Trusts(e.key.name, e.key.digest) {
			if t.Verifier == nil || byLock(t) || !searches(t) {
				continue
			}
			if _, err := g.conclude(g.ctx, t, e, d.ev, d.err, "", g.now()); err != nil {
				g.opts.Log.Warn("signatures' outcome not kept", zap.Stringer("image", e.key), zap.Error(err))
			}
		}
		g.discoveries.mu.Lock()
		delete(g.discoveries.m, e.key)
		g.discoveries.mu.Unlock()
		close(d.done)
	})
	return d
}

// collect searches, on the server's life.
func (g *Gate) collect(rt route.Route, e *entry) (signing.Evidence, error) {
	ctx, cancel := context.WithTimeoutCause(g.ctx, discoveryTimeout, fmt.Errorf("the search took longer than %s", discoveryTimeout))
	defer cancel()
	s := signing.Subject{Name: e.key.name, Desc: e.manifest.Descriptor}
	var err error
	if s.Parents, err = g.parents(ctx, rt, e); err != nil {
		return signing.Evidence{}, err
	}
	src, err := g.source(rt)
	if err != nil {
		return signing.Evidence{}, err
	}
	g.metrics.searches.Inc()
	ev, err := signing.Collect(ctx, src, s)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return ev, err
}

// source is where signatures of rt's images are.
func (g *Gate) source(rt route.Route) (signing.Source, error) {
	if rt.Local {
		return localSource{g.opts.Local, rt.Name}, nil
	}
	up, err := g.opts.Upstreams.Upstream(rt.Upstream)
	if err != nil {
		return nil, err
	}
	return NewSource(up, rt.Repository, g.opts.Store), nil
}

// parents returns the indexes of the repository that list the image as it is.
// Of more than package signing looks at, those that became known last count.
func (g *Gate) parents(ctx context.Context, rt route.Route, e *entry) ([]signing.Parent, error) {
	if e.manifest.Index {
		return nil, nil
	}
	ds, err := g.members.of(ctx, g.opts.Records, e.key)
	if err != nil {
		return nil, err
	}
	var out []signing.Parent
	for _, d := range slices.Backward(ds) {
		if len(out) == maxParents {
			break
		}
		p, err := g.entry(ctx, byDigest(rt, d), d)
		switch {
		case missing(err), errors.Is(err, ErrManifestUnknown): // deleted since it was pulled: nobody can pull by it
			continue
		case err != nil:
			return nil, err
		}
		m, ok := p.manifest.Member(e.key.digest)
		if !p.manifest.Index || !ok || m.MediaType != e.manifest.Descriptor.MediaType || m.Size != e.manifest.Descriptor.Size {
			continue
		}
		out = append(out, signing.Parent{Desc: p.manifest.Descriptor, Raw: p.bytes})
	}
	return out, nil
}

// await waits for the search at most for hold and then returns an
// *analysingError, while it goes on.
func (g *Gate) await(ctx context.Context, d *discovery, e *entry, hold time.Duration) error {
	if d == nil {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, hold, errHold)
	defer cancel()
	select {
	case <-d.done:
		return nil
	case <-ctx.Done():
	}
	select {
	case <-d.done: // both at once
		return nil
	default:
	}
	if errors.Is(context.Cause(ctx), errHold) {
		return &analysingError{&PendingError{
			Reason:     fmt.Sprintf("the signatures of %s are being looked for; the verdict is not in yet, pull again in a moment", e.key),
			RetryAfter: pendingRetry,
		}}
	}
	return context.Cause(ctx)
}

// searches reports whether the trust can depend on what is in the registry.
func searches(t *policy.Trust) bool {
	return len(t.Issuers) > 0 || slices.ContainsFunc(t.Authorities, func(a signing.Authority) bool { return a.Hash == nil })
}

// byLock reports whether the trust can depend on the tag.
func byLock(t *policy.Trust) bool {
	return slices.ContainsFunc(t.Authorities, func(a signing.Authority) bool { return a.Hash != nil })
}

// known returns a result that still holds, from memory, or a pass from the
// records: a pass rests on bytes that were verified, and no registry need be
// asked for them again, but for VEX attestations that came since.
func (g *Gate) known(ctx context.Context, t *policy.Trust, e *entry, asked string, now time.Time) (policy.TrustResult, bool, error) {
	if byLock(t) && asked == "" {
		return policy.TrustResult{}, false, nil
	}
	k, basis := trustKey{e.key, t.Policy}, basisOf(t, asked)
	if r, ok := g.trusts.get(k, basis, now); ok {
		return r, true, nil
	}
	res, at, ok, err := g.passed(ctx, k, basis, now)
	if err != nil || !ok || t.Believes() && now.Sub(at) >= exemptionsTTL {
		return policy.TrustResult{}, false, err
	}
	r := policy.TrustResult{Policy: t.Policy, Result: res, Until: until(t, &res, at)}
	g.trusts.put(k, trusted{basis, r})
	return r, true, nil
}

// passed returns a pass of the records that time has not ended.
func (g *Gate) passed(ctx context.Context, k trustKey, basis string, now time.Time) (signing.Result, time.Time, bool, error) {
	res, at, ok, err := g.opts.Records.Trust(ctx, k.name, k.digest, k.policy, basis)
	return res, at, ok && (res.Until.IsZero() || now.Before(res.Until)), err
}

// basisOf names what a result rests on besides the image's signatures.
func basisOf(t *policy.Trust, asked string) string {
	if byLock(t) {
		return t.Verifier.Revision() + " " + asked
	}
	return t.Verifier.Revision()
}

// until is when to look at the signatures again.
func until(t *policy.Trust, r *signing.Result, now time.Time) time.Time {
	at := r.Until
	sooner := func(d time.Duration) {
		if s := now.Add(d); at.IsZero() || s.Before(at) {
			at = s
		}
	}
	switch {
	case r.Outcome != signing.Pass:
		sooner(unsignedTTL)
	case t.Believes():
		sooner(exemptionsTTL)
	}
	return at
}

// judgeTrust adds what the policies make of the image's signatures to ev, with
// the VEX attestations that they trust. d is the search, if there was one. The
// caller holds e.mu.
func (g *Gate) judgeTrust(ctx context.Context, p *policy.Policy, rt route.Route, e *entry, d *discovery, inv *analyzer.Inventory, ev *policy.Evidence) error {
	ev.Image.Evidential = e.evidential()
	if e.unread != "" || ev.Image.Evidential {
		return nil
	}
	for _, t := range p.Trusts(e.key.name, e.key.digest) {
		if t.Verifier == nil || !t.Covers(&ev.Image) {
			continue
		}
		s := signing.Subject{Name: e.key.name, Desc: e.manifest.Descriptor, Tags: asked(rt, &ev.Image)}
		if inv != nil {
			s.Platform = inv.Platform
			for _, l := range inv.Layers {
				s.DiffIDs = append(s.DiffIDs, l.DiffID)
			}
		}
		r, err := g.trust(ctx, t, rt, e, d, s, ev.Now)
		if err != nil {
			return err
		}
		ev.Trust = append(ev.Trust, r)
		if ev.Report != nil {
			ev.VEX = append(ev.VEX, g.exemptions(&r.Result, ev)...)
		}
	}
	return nil
}

// asked are the tags by which the image is asked for: that of the request, else
// all by which it is known.
func asked(rt route.Route, img *policy.Image) []string {
	if rt.Tag != "" {
		return []string{rt.Tag}
	}
	return img.Tags
}

// trust judges by one policy's trust. Every failure to look is a result with an
// Err; an error is of the records.
func (g *Gate) trust(ctx context.Context, t *policy.Trust, rt route.Route, e *entry, d *discovery, s signing.Subject, now time.Time) (policy.TrustResult, error) {
	byTags := fmt.Sprintf("%q %q %q", s.Tags, s.Platform, s.DiffIDs)
	r, ok, err := g.known(ctx, t, e, byTags, now)
	if err != nil || ok {
		return r, err
	}
	ev := signing.Evidence{Subject: s}
	if searches(t) {
		if d == nil { // what was known when the image was asked for ended meanwhile
			d = g.startDiscovery(rt, e, nil) //nolint:contextcheck // many wait for it: it lives on the gate's context
		}
		if err := g.await(ctx, d, e, discoveryTimeout); err != nil {
			return policy.TrustResult{}, err
		}
		if d.err == nil {
			ev = d.ev
			s.Parents = ev.Subject.Parents
			ev.Subject = s
		}
		return g.conclude(ctx, t, e, ev, d.err, byTags, now)
	}
	ev.Subject.Parents, err = g.parents(ctx, rt, e) // a lock may list the index only
	return g.conclude(ctx, t, e, ev, err, byTags, now)
}

// conclude judges what a search found, or what is left if it failed, and
// remembers the result.
func (g *Gate) conclude(ctx context.Context, t *policy.Trust, e *entry, ev signing.Evidence, failure error, byTags string, now time.Time) (policy.TrustResult, error) {
	k, basis := trustKey{e.key, t.Policy}, basisOf(t, byTags)
	r := policy.TrustResult{Policy: t.Policy}
	var err error
	if failure == nil {
		g.metrics.trusts.Inc()
		r.Result, failure = t.Verifier.Judge(ctx, ev, now)
	}
	switch {
	case failure != nil:
		g.opts.Log.Warn("signatures not looked at", zap.String("repository", k.name), zap.Stringer("digest", k.digest), zap.Error(failure))
		r.Until = now.Add(failedTTL)
		// What passed by this trust stays so, also while the upstream is down.
		var ok bool
		if r.Result, _, ok, err = g.passed(ctx, k, basis, now); err != nil {
			return policy.TrustResult{}, err
		}
		if !ok {
			r.Result, r.Err = signing.Result{}, failure.Error()
		}
	default:
		r.Until = until(t, &r.Result, now)
		if r.Result.Outcome == signing.Pass {
			err = g.opts.Records.PutTrust(ctx, k.name, k.digest, t.Policy, basis, keepable(r.Result), now)
		}
	}
	g.trusts.put(k, trusted{basis, r})
	return r, err
}

// keepable is the result without what only its reader at the time wants.
func keepable(r signing.Result) signing.Result {
	r.Attestations = slices.Clone(r.Attestations)
	for i := range r.Attestations {
		if r.Attestations[i].Use != signing.UseExemptions {
			r.Attestations[i].Predicate = nil
		}
	}
	return r
}

// exemptions reads the VEX documents that the policy lets suppress findings, and
// returns what they say of those of the image. One that cannot be read says
// nothing, which only makes the verdict stricter.
func (g *Gate) exemptions(r *signing.Result, ev *policy.Evidence) []policy.AttachedVEX {
	var out []policy.AttachedVEX
	for i := range r.Attestations {
		a := &r.Attestations[i]
		if a.Use != signing.UseExemptions || g.opts.ParseVEX == nil {
			continue
		}
		name := fmt.Sprintf("attestation by %s, %s", a.Authority, a.Manifest)
		doc, err := g.opts.ParseVEX(name, a.Predicate)
		if err != nil {
			g.opts.Log.Warn("VEX attestation not obeyed", zap.String("repository", ev.Image.Name), zap.Stringer("digest", ev.Image.Digest), zap.Error(err))
			continue
		}
		out = append(out, Attached(doc, ev.Report, &ev.Image)...)
	}
	return out
}

// Attached returns what a VEX document of a trusted issuer says of the report's
// findings. The report stays as it is.
func Attached(doc analyzer.VEX, rep *analyzer.Report, img *policy.Image) []policy.AttachedVEX {
	marked := *rep
	marked.Findings, marked.Undecided = slices.Clone(rep.Findings), slices.Clone(rep.Undecided)
	doc.Mark(&marked, analyzer.VEXImage{Name: img.Name, Tags: img.Tags, Digests: append([]godigest.Digest{img.Digest}, img.Parents...)})
	var out []policy.AttachedVEX
	for _, f := range marked.Findings {
		if f.VEX != nil {
			out = append(out, policy.AttachedVEX{Advisory: f.Advisory, PURL: f.Package.PURL, Statement: *f.VEX, Trusted: true})
		}
	}
	for _, u := range marked.Undecided {
		if u.VEX != nil {
			out = append(out, policy.AttachedVEX{Advisory: u.Advisory, PURL: u.Package.PURL, Statement: *u.VEX, Trusted: true})
		}
	}
	return out
}

// evidential reports whether the manifest holds signatures and reports only.
func (e *entry) evidential() bool { return Evidential(&e.manifest) }

// Evidential is signing.Evidential for a manifest.
func Evidential(m *analyzer.Manifest) bool {
	if m.Index {
		return false
	}
	types := make([]string, len(m.Layers))
	for i, l := range m.Layers {
		types[i] = l.MediaType
	}
	return signing.Evidential(m.ArtifactType, m.Config.MediaType, types)
}

// forgetTrust makes the next request look at k's signatures again, and judge it.
func (g *Gate) forgetTrust(k key) {
	g.trusts.forget(k)
	g.forgetVerdict(k)
}

// signedBy returns the digest that a tag of cosign's is about, and "" for other
// tags.
func signedBy(tag string) godigest.Digest {
	hex, ok := strings.CutPrefix(tag, "sha256-")
	if !ok {
		return ""
	}
	hex, _, _ = strings.Cut(hex, ".")
	d := godigest.NewDigestFromEncoded(godigest.SHA256, hex)
	if d.Validate() != nil {
		return ""
	}
	return d
}
