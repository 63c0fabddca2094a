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
	inv, failure, err := g.examine(ctx, rt, e, matcher, hold)
	if err != nil {
		return policy.Verdict{}, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.fresh(in, rt.Tag, g.now()) { // else another request judged while this one waited
		if err := g.decide(ctx, rt, e, inv, failure, in, matcher); err != nil {
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
func (g *Gate) decide(ctx context.Context, rt route.Route, e *entry, inv *analyzer.Inventory, failure string, in inputs, m analyzer.Matcher) error {
	now := g.now()
	ev := policy.Evidence{Failure: failure, Now: now}
	var err error
	if ev.Image, err = g.describe(ctx, rt, e); err != nil {
		return err
	}
	if ev.Blocks, err = g.opts.Records.Blocks(ctx); err != nil {
		return err
	}
	if inv != nil {
		if ev.Report, err = analyzer.Judge(ctx, inv, m); err != nil {
			return fmt.Errorf("judge %s: %w", e.key, err)
		}
		if ev.Image.Known, err = g.knownSince(ctx, e.key, ev.Report.Findings, now); err != nil {
			return err
		}
	}
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
