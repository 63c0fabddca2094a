package gate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	godigest "github.com/opencontainers/go-digest"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/sync/singleflight"

	"github.com/sluiceproxy/sluice/analyzer"
	"github.com/sluiceproxy/sluice/proxy/fetch"
	"github.com/sluiceproxy/sluice/proxy/local"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/records"
	"github.com/sluiceproxy/sluice/proxy/route"
	"github.com/sluiceproxy/sluice/proxy/store"
	"github.com/sluiceproxy/sluice/proxy/upstream"
)

// Advisories is the state of the advisories, which changes while the program
// runs.
type Advisories interface {
	// Current returns the newest advisories, nil while there are none.
	Current() analyzer.Matcher
	// Status says in a phrase what is done about missing advisories, and what
	// the operator can do.
	Status() string
}

// Options of a Gate. All fields are required unless they say otherwise.
type Options struct {
	Hold            time.Duration // longest wait of a request for a verdict
	Stream          bool          // past Hold: let the image stream with the end of each blob withheld, instead of a refusal
	AnalysisTimeout time.Duration // longest analysis; past it the image is not analysable
	TagTTL          time.Duration // how long a tag's digest is believed; 0 = ask each time
	StaleIfError    time.Duration // how much longer it is while the upstream fails, give or take 10 minutes after a restart; 0 = not at all
	MaxAge          time.Duration // advisories older than this are stale, a fact for the policy; 0 = never
	WhenMissing     policy.Decision
	WhenStale       policy.Decision // see policy.Advisories

	Local    *local.Registry        // the gated registry; nil = there is none, and no route is Local
	Mode     func(name string) Mode // of a repository of the gated registry; nil = Reject
	PushHold time.Duration          // longest wait of a push for its verdict

	// ParseVEX reads a VEX document that an issuer whom the policy trusts has
	// attached to an image; nil = none is obeyed.
	ParseVEX func(name string, data []byte) (analyzer.VEX, error)

	Attest *Attest // nil = nothing is attested

	Advisories Advisories
	Analyzer   *analyzer.Analyzer
	Upstreams  *upstream.Client
	Store      *store.Store
	Fetch      *fetch.Manager
	Records    *records.DB
	Metrics    prometheus.Registerer
	Log        *zap.Logger
	Now        func() time.Time // nil = time.Now
}

// Gate judges images and hands out their content. It is safe for concurrent use.
type Gate struct {
	ctx     context.Context //nolint:containedctx // the life of analyses, which many requests share
	opts    Options
	policy  atomic.Pointer[policy.Policy]
	vex     atomic.Pointer[analyzer.VEX]
	now     func() time.Time
	metrics metrics

	entries   *lru // of *entry by key
	tags      tagCache
	members   memberCache
	referrers referrerCache
	manifests singleflight.Group // by key
	analyses  flights
	trusts    trustCache
	pulls     pullLog

	discoveries discoveries
	approvals   approvals
	running     sync.WaitGroup
}

// key names a manifest in a repository.
type key struct {
	name   string
	digest godigest.Digest
}

func (k key) String() string { return k.name + "@" + k.digest.String() }

// ErrBlobUnknown says that no manifest known in the repository names the blob.
var ErrBlobUnknown = errors.New("blob unknown: no manifest that was pulled from this repository names it")

// errHold is the cause of a wait that took too long.
var errHold = errors.New("no verdict yet")

// PendingError says that there is no verdict yet. The work goes on.
type PendingError struct {
	Reason     string
	RetryAfter time.Duration
}

// Error is what the client is told.
func (e *PendingError) Error() string { return e.Reason }

// analysingError is the PendingError of an image whose analysis goes on.
type analysingError struct{ pending *PendingError }

func (e *analysingError) Error() string { return e.pending.Error() }
func (e *analysingError) Unwrap() error { return e.pending }

// New returns a gate that judges with p. Analyses end with ctx.
func New(ctx context.Context, p *policy.Policy, opts Options) *Gate {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	g := &Gate{ctx: ctx, opts: opts, now: opts.Now, metrics: newMetrics(opts.Metrics), entries: newLRU(maxEntryBytes)}
	g.tags.m = make(map[string]tagged)
	g.members.m = make(map[key][]godigest.Digest)
	g.referrers.m = make(map[key]referrerList)
	g.analyses.m = make(map[godigest.Digest]*flight)
	g.pulls.m, g.pulls.tags = make(map[pullKey]pull), make(map[tagKey]time.Time)
	g.policy.Store(p)
	g.approvals.wake = make(chan struct{}, 1)
	g.running.Go(g.flushPulls)
	if g.attests() {
		g.running.Go(g.attestAll)
	}
	return g
}

// Policy returns the policy in force.
func (g *Gate) Policy() *policy.Policy { return g.policy.Load() }

// SetPolicy swaps the policy. The next request is judged by it.
func (g *Gate) SetPolicy(p *policy.Policy) { g.policy.Store(p) }

// SetVEX swaps the VEX documents that are obeyed. The next request is judged
// with them.
func (g *Gate) SetVEX(v analyzer.VEX) { g.vex.Store(&v) }

// Wait returns when all analyses have ended, after the context of New has.
func (g *Gate) Wait() { g.running.Wait() }

// Admission is a manifest that may leave.
type Admission struct {
	Name     string // canonical repository
	Manifest analyzer.Manifest
	Bytes    []byte
	// Verdict serves, or is Undecided for an image that is still being analysed
	// and streams meanwhile, with the ends of its blobs withheld.
	Verdict policy.Verdict
	Warning string // of an annotated Verdict, as a Warning header's value
	Stale   bool   // the tag's digest is remembered, since the upstream failed just now
}

// Manifest returns the manifest that rt asks for if the policy lets it leave.
// When no verdict is in after Options.Hold and Options.Stream is set, it is
// returned all the same: then the blobs do not leave whole before the verdict.
// Every other outcome is an error: *policy.DeniedError, *PendingError, or what
// the upstream answered.
func (g *Gate) Manifest(ctx context.Context, rt route.Route) (Admission, error) {
	if a, ok, err := g.beside(ctx, rt); ok || err != nil {
		return a, err
	}
	at := tagged{digest: rt.Digest}
	if rt.Tag != "" {
		var err error
		if at, err = g.resolve(ctx, rt); err != nil {
			return Admission{}, err
		}
	}
	e, err := g.entry(ctx, rt, at.digest)
	if err != nil {
		return Admission{}, err
	}
	v, err := g.judge(ctx, rt, e, g.opts.Hold)
	var analysing *analysingError
	if errors.As(err, &analysing) && g.opts.Stream {
		v, err = policy.Verdict{}, nil
	}
	if err != nil {
		return Admission{}, err
	}
	a := Admission{Name: rt.Name, Manifest: e.manifest, Bytes: e.bytes, Verdict: v, Stale: at.stale}
	if v.Decision == policy.Annotate {
		a.Warning = e.warn(v)
	}
	if at.warning != "" { // a header of two values
		a.Warning = strings.TrimSuffix(at.warning+", "+a.Warning, ", ")
	}
	return a, nil
}

// Pulled notes that a client got the manifest. It does not wait for the record.
func (g *Gate) Pulled(a Admission, client string) {
	g.metrics.pulls.WithLabelValues(a.Verdict.Decision.String()).Inc()
	g.pulls.add(key{a.Name, a.Manifest.Descriptor.Digest}, client, g.now())
}

// verdictError is nil for a verdict that serves.
func (g *Gate) verdictError(v policy.Verdict) error {
	switch v.Decision {
	case policy.Allow, policy.Annotate:
		return nil
	case policy.Pending:
		reason := v.Summary()
		for _, r := range v.Reasons {
			if r.Rule == policy.RuleAdvisoriesMissing {
				reason = fmt.Sprintf("there are no advisories to judge by yet: %s (verdict %s)", g.opts.Advisories.Status(), v.ID)
			}
		}
		return &PendingError{Reason: reason, RetryAfter: pendingRetry}
	case policy.Deny, policy.Undecided:
	}
	g.metrics.pulls.WithLabelValues(v.Decision.String()).Inc()
	return &policy.DeniedError{Verdict: v}
}

// pendingRetry is what clients are told to wait; those that read Retry-After
// are few (reference: clients.md), so it is short.
const pendingRetry = 10 * time.Second
