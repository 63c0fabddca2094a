package gate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	godigest "github.com/opencontainers/go-digest"
	"go.uber.org/zap"

	"github.com/sluiceproxy/sluice/analyzer"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/records"
	"github.com/sluiceproxy/sluice/proxy/route"
	"github.com/sluiceproxy/sluice/signing"
)

// Attest says how the gate attests what it let pass.
type Attest struct {
	Attestor signing.Attestor
	// Documents are the scan's result and the CycloneDX document of an image, in
	// JSON.
	Documents func(v policy.Verdict, rep *analyzer.Report) (scan json.RawMessage, sbom []byte, err error)
	// Every is the least time between two attestations of the same image; 0 =
	// each time that what they rest on changes.
	Every time.Duration
}

const (
	maxApprovals  = 4096 // waiting to be attested; what comes past it waits for its next verdict
	attestTimeout = 2 * time.Minute
	attestRetry   = time.Minute // after a failure, of a KMS say

	annVerdict = "dev.sluiceproxy.verdict" // as package attest writes it

	attestPusher = "sluice"
)

// sideName is the repository of the gated registry that holds what Sluice says
// of the images of another. No client can push there.
func sideName(name string) string { return route.SidePrefix + "/" + name }

// approvals are the images whose attestations are due.
type approvals struct {
	mu   sync.Mutex
	m    map[key]approval
	wake chan struct{} // holds one when there may be something to do
}

// approval is a verdict to write down, or with one that does not serve to
// withdraw.
type approval struct {
	route   route.Route
	verdict policy.Verdict
	entry   *entry
	due     time.Time
}

// offer has the verdict attested off the pull path. The caller holds e.mu.
func (g *Gate) offer(rt route.Route, e *entry, v policy.Verdict, ev *policy.Evidence) {
	at := g.opts.Attest
	if at == nil || g.opts.Local == nil || ev.Image.Evidential || e.unread != "" {
		return
	}
	switch v.Decision {
	case policy.Deny:
	case policy.Allow, policy.Annotate:
		// Where denials are only warnings, serving says nothing good.
		if ev.Lenient || !at.Attestor.Signs() && (v.Decision == policy.Allow || ev.Report == nil) {
			return
		}
	case policy.Pending, policy.Undecided:
		return
	}
	g.approvals.add(approval{route: byDigest(rt, e.key.digest), verdict: v, entry: e, due: g.now()}, g.opts.Log)
}

func (a *approvals) add(job approval, log *zap.Logger) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.m == nil {
		a.m = make(map[key]approval)
	}
	if _, ok := a.m[job.entry.key]; !ok && len(a.m) >= maxApprovals {
		log.Warn("not attested: too many are waiting", zap.Stringer("image", job.entry.key))
		return
	}
	a.m[job.entry.key] = job
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// next takes the job that is due first, and returns how long until then if it is
// to come, forever where there is none.
func (a *approvals) next(now time.Time) (job approval, in time.Duration, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	in = forever
	var first *approval
	for _, j := range a.m {
		if first == nil || j.due.Before(first.due) {
			first = &j
		}
	}
	if first == nil {
		return job, in, false
	}
	if in = first.due.Sub(now); in > 0 {
		return job, in, false
	}
	delete(a.m, first.entry.key)
	return *first, 0, true
}

// attestAll attests one image after the other until the gate's end.
func (g *Gate) attestAll() {
	for {
		job, in, ok := g.approvals.next(g.now())
		if ok {
			g.attestOne(job)
			if g.ctx.Err() != nil {
				return
			}
			continue
		}
		timer := time.NewTimer(in)
		select {
		case <-g.ctx.Done():
			timer.Stop()
			return
		case <-g.approvals.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// attestOne does one job, and has it done again where it failed or came too
// early.
func (g *Gate) attestOne(job approval) {
	ctx, cancel := context.WithTimeout(g.ctx, attestTimeout)
	defer cancel()
	wait, err := g.attest(ctx, job)
	if err == nil {
		err = g.offerParents(ctx, job)
	}
	if err != nil && g.ctx.Err() == nil {
		g.opts.Log.Warn("not attested", zap.String("repository", job.entry.key.name), zap.Stringer("digest", job.entry.key.digest), zap.Error(err))
		wait = attestRetry
	}
	if wait <= 0 {
		return
	}
	job.due = g.now().Add(wait)
	g.approvals.mu.Lock()
	defer g.approvals.mu.Unlock()
	if _, newer := g.approvals.m[job.entry.key]; !newer && g.ctx.Err() == nil {
		g.approvals.m[job.entry.key] = job
	}
}

// attest writes the verdict down, or withdraws what was written for one that
// denies. wait is how long until that may be done.
func (g *Gate) attest(ctx context.Context, job approval) (wait time.Duration, err error) {
	k := job.entry.key
	if g.Policy().Revision() != job.verdict.Policy {
		return 0, nil // the next verdict is by another, and will be attested
	}
	side := sideName(k.name)
	old, err := g.own(ctx, side, k.digest)
	if err != nil {
		return 0, err
	}
	if !job.verdict.Decision.Serves() {
		return 0, g.withdraw(ctx, side, old, nil)
	}
	if ok, err := g.childrenServe(ctx, job); err != nil || !ok {
		return 0, errors.Join(err, g.withdraw(ctx, side, old, nil))
	}
	for _, m := range old {
		if m.Annotations[annVerdict] == job.verdict.ID { // it names the image, the policy and the advisories
			return 0, nil
		}
		if since := g.now().Sub(m.Pushed); len(m.Annotations) > 0 && since < g.opts.Attest.Every {
			return g.opts.Attest.Every - since, nil
		}
	}
	a, err := g.approve(ctx, job)
	if err != nil {
		return 0, err
	}
	artifacts, err := g.opts.Attest.Attestor.Attest(ctx, a)
	if err != nil {
		return 0, err
	}
	kept := make(map[godigest.Digest]bool, len(artifacts))
	for i := range artifacts {
		if err := g.putOwn(ctx, side, &artifacts[i]); err != nil {
			return 0, err
		}
		kept[artifacts[i].Digest] = true
	}
	// The old ones go last: a client that looks meanwhile finds one or the other.
	if err := g.withdraw(ctx, side, old, kept); err != nil {
		return 0, err
	}
	// The verdict may have become a denial while this was written.
	job.entry.mu.Lock()
	now := job.entry.verdict
	job.entry.mu.Unlock()
	if now.Decision == policy.Deny {
		mine, err := g.own(ctx, side, k.digest)
		if err != nil {
			return 0, err
		}
		return 0, g.withdraw(ctx, side, mine, nil)
	}
	g.opts.Log.Debug("attested", zap.String("repository", k.name), zap.Stringer("digest", k.digest),
		zap.String("verdict", job.verdict.ID), zap.Int("artifacts", len(artifacts)))
	return 0, nil
}

// childrenServe reports whether every image that an index lists was judged by
// the policy in force and serves: who trusts the index runs any of them. For an
// image it is true.
func (g *Gate) childrenServe(ctx context.Context, job approval) (bool, error) {
	for _, c := range job.entry.manifest.Children {
		if c.Platform != nil && c.Platform.OS == "unknown" { // BuildKit's statements about the others ("Attestation storage")
			continue
		}
		v, ok, err := g.opts.Records.Verdict(ctx, job.entry.key.name, c.Digest)
		if err != nil || !ok || !v.Decision.Serves() || v.Policy != g.Policy().Revision() {
			return false, err
		}
	}
	return true, nil
}

// offerParents has the indexes attested anew that list the image.
func (g *Gate) offerParents(ctx context.Context, job approval) error {
	if job.entry.manifest.Index || !g.opts.Attest.Attestor.Signs() {
		return nil
	}
	parents, err := g.members.of(ctx, g.opts.Records, job.entry.key)
	if err != nil {
		return err
	}
	for _, d := range parents {
		rt := byDigest(job.route, d)
		e, err := g.entry(ctx, rt, d)
		if err != nil || !e.manifest.Index {
			continue // one that is gone has no attestations to keep, and the next pull of another offers it
		}
		v, ok, err := g.opts.Records.Verdict(ctx, e.key.name, d)
		if err != nil {
			return err
		}
		if ok {
			g.approvals.add(approval{route: rt, verdict: v, entry: e, due: g.now()}, g.opts.Log)
		}
	}
	return nil
}

// approve gathers what is said of the image, from its stored inventory.
func (g *Gate) approve(ctx context.Context, job approval) (signing.Approval, error) {
	e, v := job.entry, job.verdict
	a := signing.Approval{
		Name: e.key.name, Subject: e.manifest.Descriptor, Time: v.At, Verdict: v.ID,
		Policy: v.Policy, PolicyDigest: godigest.FromBytes(g.Policy().Text()),
		Advisories: v.Advisories,
	}
	a.Subject.Digest = e.key.digest
	for _, t := range v.Trust {
		a.Evidence = append(a.Evidence, t.Evidence...)
	}
	slices.Sort(a.Evidence)
	a.Evidence = slices.Compact(a.Evidence)
	if e.manifest.Index {
		return a, nil
	}
	inv, ok, err := g.opts.Records.Inventory(ctx, e.key.digest, g.opts.Analyzer.Revision())
	if err != nil || !ok {
		return a, errors.Join(err, fmt.Errorf("%s: its inventory is not there any more", e.key))
	}
	m := g.opts.Advisories.Current()
	rep, err := analyzer.Judge(ctx, inv, m)
	if err != nil {
		return a, err
	}
	if s := g.vex.Load(); s != nil {
		(*s).Mark(rep, analyzer.VEXImage{Name: e.key.name, Tags: v.Tags, Digests: []godigest.Digest{e.key.digest}})
	}
	a.Advisories, a.AdvisoriesUpdated = rep.Advisories, rep.Updated
	a.Scan, a.SBOM, err = g.opts.Attest.Documents(v, rep)
	return a, err
}

// own returns the manifests that Sluice attached to the digest: what cosign's
// tags name, and the referrers.
func (g *Gate) own(ctx context.Context, side string, d godigest.Digest) ([]records.LocalManifest, error) {
	var list []records.LocalManifest
	for _, suffix := range []string{".sig", ".att"} {
		t, _, ok, err := g.opts.Records.Tag(ctx, side, d.Algorithm().String()+"-"+d.Encoded()+suffix)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		m, ok, err := g.opts.Records.LocalManifest(ctx, side, t)
		if err != nil {
			return nil, err
		}
		if ok {
			list = append(list, m)
		}
	}
	referrers, err := g.opts.Records.LocalReferrers(ctx, side, d)
	return append(list, referrers...), err
}

// withdraw removes manifests but those in keep.
func (g *Gate) withdraw(ctx context.Context, side string, list []records.LocalManifest, keep map[godigest.Digest]bool) error {
	for _, m := range list {
		if keep[m.Digest] {
			continue
		}
		if err := g.opts.Records.DeleteLocalManifest(ctx, side, m.Digest, g.now(), nil); err != nil && !errors.Is(err, records.ErrNotFound) {
			return err
		}
	}
	return nil
}

// putOwn stores an artifact of Sluice's own.
func (g *Gate) putOwn(ctx context.Context, side string, a *signing.Artifact) error {
	for _, b := range a.Blobs {
		if err := g.opts.Local.PutBlob(ctx, side, b); err != nil {
			return err
		}
	}
	p := records.Push{Manifest: records.LocalManifest{
		Name: side, Digest: a.Digest, MediaType: a.Manifest.MediaType, Size: int64(len(a.Raw)),
		ArtifactType: a.Manifest.ArtifactType, Annotations: a.Manifest.Annotations, Pusher: attestPusher,
	}}
	if p.Manifest.ArtifactType == "" {
		p.Manifest.ArtifactType = a.Manifest.Config.MediaType // OCI distribution 1.1, "Listing Referrers"
	}
	if s := a.Manifest.Subject; s != nil {
		p.Manifest.Subject = s.Digest
	}
	p.Blobs = append(p.Blobs, a.Manifest.Config.Digest)
	for _, l := range a.Manifest.Layers {
		p.Blobs = append(p.Blobs, l.Digest)
	}
	if a.Tag != "" {
		p.Tags = []records.PushedTag{{Name: a.Tag}}
	}
	return g.opts.Local.Put(ctx, p, a.Raw)
}
