package gate

import (
	"context"
	"errors"
	"fmt"
	"time"

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
	in := inputs{policy: g.Policy().Revision(), blocks: g.opts.Records.BlocksRevision()}
	if matcher != nil {
		in.advisories = matcher.Revision()
	}
	e.mu.Lock()
	v, fresh := e.verdict, e.fresh(in, rt.Tag, g.now())
	e.mu.Unlock()
	if fresh {
		return v, g.verdictError(v)
	}
	ev := policy.Evidence{Failure: e.unread}
	if !e.manifest.Index && e.unread == "" {
		var err error
		if ev.Report, ev.Failure, err = g.report(ctx, rt, e, matcher, hold); err != nil {
			return policy.Verdict{}, err
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.fresh(in, rt.Tag, g.now()) { // else another request judged while this one waited
		if err := g.decide(ctx, rt, e, ev, in, matcher); err != nil {
			return policy.Verdict{}, err
		}
	}
	return e.verdict, g.verdictError(e.verdict)
}

// fresh reports whether the last verdict still counts. The caller holds e.mu.
func (e *entry) fresh(in inputs, tag string, now time.Time) bool {
	return e.verdict.Decision != policy.Undecided && e.inputs == in && e.namedBy(tag) &&
		(e.verdict.Until.IsZero() || now.Before(e.verdict.Until))
}

// report analyses the image and matches it with the advisories. failure says
// why the image cannot be analysed, which is the policy's to judge; an error is
// somebody else's fault, or a lack of time.
func (g *Gate) report(ctx context.Context, rt route.Route, e *entry, m analyzer.Matcher, hold time.Duration) (rep *analyzer.Report, failure string, err error) {
	if m == nil && g.opts.WhenMissing == policy.Pending {
		// Nothing can be decided but a refusal by the blocklist.
		return &analyzer.Report{}, "", nil
	}
	inv, err := g.inventory(ctx, rt, e, hold)
	var content *contentError
	switch {
	case errors.As(err, &content):
		return nil, content.Error(), nil
	case err != nil:
		return nil, "", err
	}
	rep, err = analyzer.Judge(ctx, inv, m)
	if err != nil {
		return nil, "", fmt.Errorf("judge %s: %w", e.key, err)
	}
	return rep, "", nil
}

// decide takes and records a verdict. The caller holds e.mu.
func (g *Gate) decide(ctx context.Context, rt route.Route, e *entry, ev policy.Evidence, in inputs, m analyzer.Matcher) error {
	now := g.now()
	var err error
	if ev.Image, err = g.describe(ctx, rt, e); err != nil {
		return err
	}
	if ev.Blocks, err = g.opts.Records.Blocks(ctx); err != nil {
		return err
	}
	if ev.Report != nil {
		if ev.Image.Known, err = g.knownSince(ctx, e.key, ev.Report.Findings, now); err != nil {
			return err
		}
	}
	ev.Now = now
	ev.Advisories = policy.Advisories{Missing: m == nil, MaxAge: g.opts.MaxAge, WhenMissing: g.opts.WhenMissing}
	if m != nil {
		ev.Advisories.Revision, ev.Advisories.Updated = m.Revision(), m.Updated()
	}
	v := g.Policy().Decide(&ev)
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
