package gate

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/zap"

	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/records"
	"github.com/sluiceproxy/sluice/proxy/route"
	"github.com/sluiceproxy/sluice/signing"
)

// follow returns what is served for the tag, now that the upstream names to: that
// digest, or the one that was served before with a warning, or a refusal.
func (g *Gate) follow(ctx context.Context, rt route.Route, known tagged, to ocispec.Descriptor) (tagged, error) {
	t := tagged{digest: to.Digest, at: g.now(), saved: known.saved}
	p := g.Policy()
	m := policy.Move{
		Image: policy.Image{
			Name: rt.Name, Upstream: rt.Upstream, Repository: rt.Repository, Digest: to.Digest,
			MediaType: to.MediaType, Tags: []string{rt.Tag},
		},
		From: known.digest, Now: t.at,
	}
	watched := p.Watches(&m.Image)
	if to.Digest == known.digest && !watched {
		return t, g.opts.Records.EndMove(ctx, rt.Name, rt.Tag)
	}
	if err := g.investigate(ctx, rt, &m, watched); err != nil {
		return tagged{}, err
	}
	moved := p.Move(&m)
	if watched {
		t.rules = g.tagRules()
	}
	reason := moved.Message
	switch moved.Action {
	case policy.TagHold:
		t.digest, t.warning = known.digest, warningText(reason)
	case policy.TagDeny:
		t.digest, t.refused = known.digest, &moved.Verdict
		reason = moved.Verdict.Summary() // with its id, for who asks for it
	case policy.TagFollow:
		if to.Digest == known.digest {
			return t, g.opts.Records.EndMove(ctx, rt.Name, rt.Tag)
		}
		if known.digest == "" {
			return t, nil
		}
	}
	since, err := g.opts.Records.NoteMove(ctx, records.TagChange{
		Name: rt.Name, Tag: rt.Tag, Digest: to.Digest, Previous: known.digest,
		Class: string(moved.Class), Action: moved.Action.String(), Reason: reason, At: t.at,
	})
	if err != nil {
		return tagged{}, err
	}
	if since.Equal(t.at) { // news
		g.metrics.moves.WithLabelValues(string(moved.Class), moved.Action.String()).Inc()
		level := zap.InfoLevel
		if watched && (moved.Class == policy.MoveUnknown || moved.Class == policy.MoveRollback) {
			level = zap.WarnLevel
		}
		g.opts.Log.Log(level, "tag moved", zap.String("repository", rt.Name), zap.String("reference", rt.Tag), zap.Stringer("digest", to.Digest),
			zap.Stringer("previous", known.digest), zap.String("class", string(moved.Class)), zap.Stringer("action", moved.Action),
			zap.String("reason", reason))
	}
	return t, nil
}

// tagRules names what a decision on a tag's move rests on besides the move.
func (g *Gate) tagRules() string {
	return fmt.Sprintf("%s %d", g.Policy().Revision(), g.opts.Records.DecisionsRevision())
}

// settled reports whether what is remembered of a tag still holds.
func (g *Gate) settled(t tagged) bool { return t.rules == "" || t.rules == g.tagRules() }

// outcome is t, or the error that clients get for it.
func (g *Gate) outcome(t tagged) (tagged, error) {
	switch {
	case t.missing != nil:
		return t, t.missing
	case t.refused != nil:
		return t, g.verdictError(*t.refused)
	}
	return t, nil
}

// investigate finds out what the policy wants to know of a move. What costs a
// request is asked for only where a policy watches the tag.
func (g *Gate) investigate(ctx context.Context, rt route.Route, m *policy.Move, watched bool) error {
	var err error
	if m.Seen, err = g.opts.Records.Moving(ctx, rt.Name, rt.Tag, m.Image.Digest); err != nil {
		return err
	}
	if m.Seen.IsZero() {
		m.Seen = m.Now
	}
	if m.From == "" || m.From == m.Image.Digest {
		return nil
	}
	if at, before, err := g.opts.Records.ServedAs(ctx, rt.Name, rt.Tag, m.Image.Digest); err != nil {
		return err
	} else if before {
		m.Older = "it was served for the tag before, from " + at.UTC().Format("2006-01-02 15:04 UTC")
	}
	if !watched {
		return nil
	}
	if m.Waivers, err = g.opts.Records.Waivers(ctx); err != nil {
		return err
	}
	if m.Older != "" {
		return nil
	}
	is, was := g.created(ctx, rt, m.Image.Digest), g.created(ctx, rt, m.From)
	if !is.IsZero() && is.Before(was) {
		m.Older = fmt.Sprintf("it was built %s, the one before %s", is.UTC().Format(time.DateOnly), was.UTC().Format(time.DateOnly))
		return nil
	}
	m.Signed, err = g.signedAlike(ctx, rt, m)
	return err
}

// signedAlike reports whether an authority that passed on the digest before
// passes on the new one, too.
func (g *Gate) signedAlike(ctx context.Context, rt route.Route, m *policy.Move) (bool, error) {
	trusts := g.Policy().Trusts(rt.Name, m.Image.Digest)
	before, ok, err := g.opts.Records.Verdict(ctx, rt.Name, m.From)
	if err != nil || !ok || len(trusts) == 0 || len(before.Trust) == 0 {
		return false, err
	}
	e, err := g.entry(ctx, byDigest(rt, m.Image.Digest), m.Image.Digest)
	if err != nil {
		return false, err
	}
	for _, t := range trusts {
		i := slices.IndexFunc(before.Trust, func(v policy.TrustVerdict) bool { return v.Policy == t.Policy && v.Outcome == signing.Pass })
		if i < 0 || t.Verifier == nil || !searches(t) {
			continue
		}
		s := signing.Subject{Name: e.key.name, Desc: e.manifest.Descriptor, Tags: m.Image.Tags}
		r, err := g.trust(ctx, t, byDigest(rt, m.Image.Digest), e, nil, s, m.Now)
		if err != nil {
			return false, err
		}
		if r.Err != "" || r.Result.Outcome != signing.Pass {
			continue
		}
		for _, a := range r.Result.Authorities {
			signed := len(a.Signatures) > 0 || slices.ContainsFunc(r.Result.Attestations, func(att signing.Attestation) bool { return att.Authority == a.Name })
			if a.Outcome == signing.Pass && signed && slices.Contains(before.Trust[i].Passed, a.Name) {
				return true, nil
			}
		}
	}
	return false, nil
}

// maxConfig is the longest config that is read for its date, in bytes.
const maxConfig = 8 << 20

// created is when the image says that it was built: its config, or for an index
// the newest of its own annotations (org.opencontainers.image.created) and of
// its descriptors'; zero where nothing says so. It is a claim, and used only
// against the image.
func (g *Gate) created(ctx context.Context, rt route.Route, d godigest.Digest) time.Time {
	rt = byDigest(rt, d)
	e, err := g.entry(ctx, rt, d)
	if err != nil || e.unread != "" {
		return time.Time{}
	}
	if !e.manifest.Index {
		return g.configCreated(ctx, rt, e)
	}
	newest := annotated(e.manifest.Annotations)
	for _, c := range e.manifest.Children {
		if at := annotated(c.Annotations); at.After(newest) {
			newest = at
		}
	}
	return newest
}

func annotated(annotations map[string]string) time.Time {
	at, err := time.Parse(time.RFC3339, annotations[ocispec.AnnotationCreated])
	if err != nil {
		return time.Time{}
	}
	return at
}

func (g *Gate) configCreated(ctx context.Context, rt route.Route, e *entry) time.Time {
	if inv, ok, err := g.opts.Records.Inventory(ctx, e.key.digest, g.opts.Analyzer.Revision()); err == nil && ok {
		return inv.Created
	}
	body, err := g.openUnjudged(ctx, rt, e.manifest.Config)
	if err != nil {
		return time.Time{}
	}
	b, err := io.ReadAll(io.LimitReader(body, maxConfig))
	if cerr := body.Close(); err != nil || cerr != nil { // a download's Close tells whether the bytes were right
		return time.Time{}
	}
	var config struct {
		Created time.Time `json:"created"`
	}
	if json.Unmarshal(b, &config) != nil {
		return time.Time{}
	}
	return config.Created
}
