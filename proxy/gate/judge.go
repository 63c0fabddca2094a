package gate

import (
	"context"
	"errors"
	"fmt"
	"time"

	godigest "github.com/opencontainers/go-digest"
	"go.uber.org/zap"

	"github.com/sluiceproxy/sluice/analyzer"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/route"
)

// judge returns the verdict on e if it serves, and an error in every other
// case. The verdict in memory counts while nothing that it rests on changed. If
// the image must be analysed first, judge waits for hold at most and then
// returns an *analysingError.
func (g *Gate) judge(ctx context.Context, rt route.Route, e *entry, hold time.Duration) (policy.Verdict, error) {
	matcher := g.opts.Advisories.Current()
	in := g.inputs(matcher)
	e.mu.Lock()
	v, fresh := e.verdict, e.fresh(in, rt.Tag, g.now())
	e.mu.Unlock()
	if fresh {
		return v, g.verdictError(v)
	}
	if blocked, err := g.refuse(ctx, rt, e, in); blocked || err != nil {
		return policy.Verdict{}, err
	}
	search, err := g.discover(ctx, rt, e)
	if err != nil {
		return policy.Verdict{}, err
	}
	deadline := g.now().Add(hold)
	inv, failure, err := g.examine(ctx, rt, e, matcher, hold)
	if err != nil {
		return policy.Verdict{}, err
	}
	if err := g.await(ctx, search, e, deadline.Sub(g.now())); err != nil {
		return policy.Verdict{}, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.fresh(in, rt.Tag, g.now()) { // else another request judged while this one waited
		if err := g.decide(ctx, rt, e, inv, failure, search, in, matcher); err != nil {
			return policy.Verdict{}, err
		}
	}
	return e.verdict, g.verdictError(e.verdict)
}

// inputs returns the revisions of now.
func (g *Gate) inputs(m analyzer.Matcher) inputs {
	in := inputs{policy: g.Policy().Revision(), decisions: g.opts.Records.DecisionsRevision()}
	if m != nil {
		in.advisories = m.Revision()
	}
	if v := g.vex.Load(); v != nil {
		in.vex = (*v).Revision()
	}
	return in
}

// fresh reports whether the last verdict still counts. The caller holds e.mu.
func (e *entry) fresh(in inputs, tag string, now time.Time) bool {
	return e.verdict.Decision != policy.Undecided && e.inputs == in && e.namedBy(tag) &&
		(e.verdict.Until.IsZero() || now.Before(e.verdict.Until))
}

// examine returns what the image holds. failure says why it cannot be analysed,
// which is the policy's to judge; an error is somebody else's fault, or a lack
// of time. An index holds nothing itself, and gives neither.
func (g *Gate) examine(ctx context.Context, rt route.Route, e *entry, m analyzer.Matcher, hold time.Duration) (inv *analyzer.Inventory, failure string, err error) {
	switch {
	case e.unread != "":
		return nil, e.unread, nil
	case e.manifest.Index:
		return nil, "", nil
	case m == nil && g.opts.WhenMissing == policy.Pending:
		// Nothing can be decided but a refusal by the blocklist.
		return &analyzer.Inventory{}, "", nil
	}
	inv, err = g.inventory(ctx, rt, e, hold)
	var content *contentError
	if errors.As(err, &content) {
		return nil, content.Error(), nil
	}
	return inv, "", err
}

// decide takes and records a verdict. The caller holds e.mu.
func (g *Gate) decide(ctx context.Context, rt route.Route, e *entry, inv *analyzer.Inventory, failure string, search *discovery, in inputs, m analyzer.Matcher) error {
	now := g.now()
	ev := policy.Evidence{Failure: failure, Now: now}
	var err error
	if ev.Image, err = g.describe(ctx, rt, e); err != nil {
		return err
	}
	if ev.Image.ChainBroken, err = g.chainBroken(ctx, rt, e, &ev.Image); err != nil {
		return err
	}
	if ev.Blocks, err = g.opts.Records.Blocks(ctx); err != nil {
		return err
	}
	if ev.Waivers, err = g.opts.Records.Waivers(ctx); err != nil {
		return err
	}
	if inv != nil {
		if ev.Report, err = analyzer.Judge(ctx, inv, m); err != nil {
			return fmt.Errorf("judge %s: %w", e.key, err)
		}
		if v := g.vex.Load(); v != nil {
			(*v).Mark(ev.Report, analyzer.VEXImage{
				Name: e.key.name, Tags: ev.Image.Tags, Digests: append([]godigest.Digest{e.key.digest}, ev.Image.Parents...),
			})
		}
		if m != nil {
			if err := g.opts.Records.PutFindings(ctx, e.key.digest, ev.Report.Findings); err != nil {
				return err
			}
		}
		if ev.Report.Base, err = g.opts.Records.Base(ctx, inv); err != nil {
			return err
		}
		if ev.Image.Known, err = g.knownSince(ctx, e.key, ev.Report.Findings, now); err != nil {
			return err
		}
	}
	ev.Advisories = policy.Advisories{Missing: m == nil, MaxAge: g.opts.MaxAge, WhenMissing: g.opts.WhenMissing, WhenStale: g.opts.WhenStale}
	if m != nil {
		ev.Advisories.Revision, ev.Advisories.Updated = m.Revision(), m.Updated()
		if ev.Report != nil {
			ev.Advisories.Updated = ev.Report.Updated // of the stalest feed that the image needs
		}
	}
	ev.Lenient = rt.Local && g.mode(e.key.name) == Annotate // modes are of the gated registry: "**" is no upstream's
	p := g.Policy()
	if err := g.judgeTrust(ctx, p, rt, e, search, inv, &ev); err != nil {
		return err
	}
	v := p.Decide(&ev)
	if v.Decision != e.verdict.Decision && v.Decision.Serves() && inv != nil {
		if err := g.opts.Records.PutBase(ctx, inv, named(ev.Image)); err != nil {
			return err
		}
	}
	if err := g.settle(ctx, e, v, in); err != nil {
		return err
	}
	g.offer(rt, e, v, &ev)
	return nil
}

// settle records v as the verdict on e, and tells of a change. The caller holds
// e.mu.
func (g *Gate) settle(ctx context.Context, e *entry, v policy.Verdict, in inputs) error {
	if v.Decision != policy.Pending {
		if err := g.opts.Records.PutVerdict(ctx, v); err != nil {
			return fmt.Errorf("verdict on %s: %w", e.key, err)
		}
	}
	if v.Decision != e.verdict.Decision {
		g.opts.Log.Info("verdict", zap.String("verdict", v.ID), zap.Stringer("decision", v.Decision),
			zap.String("repository", v.Image), zap.Stringer("digest", v.Digest), zap.String("reason", v.Summary()))
	}
	e.verdict, e.inputs = v, in
	return nil
}

// refuse spares an image that was never analysed the download when an operator
// blocks it itself: then it is true, or the error says why nobody may have it.
func (g *Gate) refuse(ctx context.Context, rt route.Route, e *entry, in inputs) (bool, error) {
	blocks, err := g.opts.Records.Blocks(ctx)
	if err != nil || len(blocks) == 0 || e.manifest.Index {
		return false, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	ev := policy.Evidence{Blocks: blocks, Now: g.now()}
	ev.Advisories.Revision = in.advisories
	if ev.Image, err = g.describe(ctx, rt, e); err != nil {
		return false, err
	}
	v, blocked := g.Policy().Blocked(&ev)
	if !blocked {
		return false, nil
	}
	if _, analysed, err := g.opts.Records.Inventory(ctx, e.key.digest, g.opts.Analyzer.Revision()); analysed || err != nil {
		return false, err // the verdict shall tell all that is wrong with it
	}
	if err := g.settle(ctx, e, v, in); err != nil {
		return false, err
	}
	return true, g.verdictError(v)
}

// named is the image's name, with a tag where one is known.
func named(img policy.Image) string {
	if len(img.Tags) == 0 {
		return img.Name
	}
	return img.Name + ":" + img.Tags[0]
}

func (g *Gate) knownSince(ctx context.Context, k key, findings []analyzer.Finding, now time.Time) (map[policy.FindingKey]time.Time, error) {
	if len(findings) == 0 {
		return nil, nil
	}
	keys := make([]policy.FindingKey, len(findings))
	for i, f := range findings {
		keys[i] = policy.FindingKey{Advisory: f.Advisory, Package: f.Package.Name}
	}
	return g.opts.Records.KnownFindings(ctx, k.name, k.digest, keys, now)
}
