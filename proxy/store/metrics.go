package store

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	hits, misses, evicted prometheus.Counter
}

func (s *Store) register(reg prometheus.Registerer, name string, maxBytes int64) error {
	s.metrics = metrics{
		hits:    prometheus.NewCounter(prometheus.CounterOpts{Name: "sluice_" + name + "_hits_total", Help: "Reads of content that was there."}),
		misses:  prometheus.NewCounter(prometheus.CounterOpts{Name: "sluice_" + name + "_misses_total", Help: "Reads of content that was not there."}),
		evicted: prometheus.NewCounter(prometheus.CounterOpts{Name: "sluice_" + name + "_evicted_bytes_total", Help: "Bytes of content that were evicted."}),
	}
	size := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "sluice_" + name + "_bytes", Help: "Bytes of content, with what is reserved for downloads under way.",
	}, func() float64 { return float64(s.index.total()) })
	limit := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "sluice_" + name + "_max_bytes", Help: "Most bytes that may be held; 0 = no bound but the disk.",
	}, func() float64 { return float64(maxBytes) })
	return errors.Join(reg.Register(s.metrics.hits), reg.Register(s.metrics.misses), reg.Register(s.metrics.evicted),
		reg.Register(size), reg.Register(limit))
}
