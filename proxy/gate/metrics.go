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
	reg.MustRegister(m.analyses, m.analysisSeconds, m.pulls)
	return m
}

// pullLog gathers pulls, so that a busy image costs the database one write in
// a while and a pull none.
type pullLog struct {
	mu sync.Mutex
	m  map[key]pull
}

type pull struct {
	client string
	at     time.Time
	count  int64
}

const flushEvery = 2 * time.Second

func (p *pullLog) add(k key, client string, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.m[k] = pull{client, at, p.m[k].count + 1}
}

func (p *pullLog) take() map[key]pull {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.m) == 0 {
		return nil
	}
	m := p.m
	p.m = make(map[key]pull)
	return m
}

// flushPulls writes the gathered pulls until the gate ends.
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
	for k, p := range g.pulls.take() {
		if err := g.opts.Records.Pulled(ctx, k.name, k.digest, p.client, p.at, p.count); err != nil {
			g.opts.Log.Warn("pulls not recorded", zap.Stringer("image", k), zap.Int64("pulls", p.count), zap.Error(err))
		}
	}
}
