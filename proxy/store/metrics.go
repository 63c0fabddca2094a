package store

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	hits, misses, evicted prometheus.Counter
}

func (s *Store) register(reg prometheus.Registerer, maxBytes int64) error {
	s.metrics = metrics{
		hits:    prometheus.NewCounter(prometheus.CounterOpts{Name: "sluice_cache_hits_total", Help: "Reads of content that the cache had."}),
		misses:  prometheus.NewCounter(prometheus.CounterOpts{Name: "sluice_cache_misses_total", Help: "Reads of content that the cache did not have."}),
		evicted: prometheus.NewCounter(prometheus.CounterOpts{Name: "sluice_cache_evicted_bytes_total", Help: "Bytes of content that were evicted."}),
	}
	size := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "sluice_cache_bytes", Help: "Bytes of content in the cache, with what is reserved for downloads under way.",
	}, func() float64 { return float64(s.index.total()) })
	limit := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "sluice_cache_max_bytes", Help: "Most bytes that the cache may hold; 0 = no bound but the disk.",
	}, func() float64 { return float64(maxBytes) })
	return errors.Join(reg.Register(s.metrics.hits), reg.Register(s.metrics.misses), reg.Register(s.metrics.evicted),
		reg.Register(size), reg.Register(limit))
}
