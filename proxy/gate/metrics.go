package gate

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

type metrics struct {
	analyses        prometheus.Counter
	analysisSeconds prometheus.Histogram
	pulls           *prometheus.CounterVec
	searches        prometheus.Counter
	trusts          prometheus.Counter
	moves           *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) metrics {
	m := metrics{
		analyses: prometheus.NewCounter(prometheus.CounterOpts{Name: "sluice_analyses_total", Help: "Analyses of images that were started."}),
		analysisSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "sluice_analysis_duration_seconds", Help: "Time from the start of an analysis to its inventory, downloads included.",
			Buckets: []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 20, 60, 180, 600},
		}),
		pulls: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_pulls_total", Help: "Manifests asked for, by what was decided."}, []string{"decision"}),
	}
	m.searches = prometheus.NewCounter(prometheus.CounterOpts{Name: "sluice_signature_searches_total", Help: "Searches of repositories for the signatures of an image."})
	m.trusts = prometheus.NewCounter(prometheus.CounterOpts{Name: "sluice_signature_judgements_total", Help: "Times that the signatures of an image were verified for a policy."})
	m.moves = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_tag_moves_total", Help: "Tags that the upstream let name another digest, by who vouched for it and what was done."}, []string{"class", "action"})
	reg.MustRegister(m.analyses, m.analysisSeconds, m.pulls, m.searches, m.trusts, m.moves)
	return m
}

// pullLog gathers pulls and confirmed tags, so that a busy image costs the
// database one write in a while and a pull none.
type pullLog struct {
	mu   sync.Mutex
	m    map[pullKey]pull
	tags map[tagKey]time.Time // when the upstream last said so
}

// tagKey says what a tag names.
type tagKey struct {
	key
	tag string
}

// pullKey says who pulled what.
type pullKey struct {
	key
	client string
}

type pull struct {
	at    time.Time
	count int64
}

const flushEvery = 2 * time.Second

func (p *pullLog) add(k key, client string, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	by := pullKey{k, client}
	p.m[by] = pull{at, p.m[by].count + 1}
}

func (p *pullLog) confirm(k tagKey, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tags[k] = at
}

func (p *pullLog) take() (map[pullKey]pull, map[tagKey]time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var (
		m    map[pullKey]pull // nil rather than the empty one, which others go on writing
		tags map[tagKey]time.Time
	)
	if len(p.m) > 0 {
		m, p.m = p.m, make(map[pullKey]pull)
	}
	if len(p.tags) > 0 {
		tags, p.tags = p.tags, make(map[tagKey]time.Time)
	}
	return m, tags
}

// FlushPulls writes what was gathered of pulls into the records now.
func (g *Gate) FlushPulls(ctx context.Context) { g.writePulls(ctx) }

// flushPulls writes what was gathered until the gate ends.
func (g *Gate) flushPulls() {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			g.writePulls(g.ctx)
		case <-g.ctx.Done():
			ctx, cancel := context.WithTimeout(context.WithoutCancel(g.ctx), flushEvery)
			g.writePulls(ctx)
			cancel()
			return
		}
	}
}

func (g *Gate) writePulls(ctx context.Context) {
	pulls, tags := g.pulls.take()
	for k, p := range pulls {
		if err := g.opts.Records.Pulled(ctx, k.name, k.digest, k.client, p.at, p.count); err != nil {
			g.opts.Log.Warn("pulls not recorded", zap.Stringer("image", k), zap.Int64("pulls", p.count), zap.Error(err))
		}
	}
	for k, at := range tags {
		if err := g.opts.Records.ConfirmTag(ctx, k.name, k.tag, k.digest, at); err != nil {
			g.opts.Log.Warn("tag not confirmed in the records", zap.Stringer("image", k), zap.String("tag", k.tag), zap.Error(err))
		}
	}
}
