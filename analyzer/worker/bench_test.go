package worker

import (
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/sluiceproxy/sluice/analyzer"
	"github.com/sluiceproxy/sluice/analyzer/layer"
)

// BenchmarkIsolation scans the layer that BenchmarkScanDebian of package layer
// has made, in turns in a process and here, and reports the ratios of their wall
// and CPU times.
func BenchmarkIsolation(b *testing.B) {
	file := filepath.Join(os.TempDir(), "sluice-bench-layer.tar.gz")
	if _, err := os.Stat(file); err != nil {
		b.Skip("run 'go test -bench ScanDebian ./analyzer/layer' before: ", err)
	}
	here, err := layer.New(layer.Options{})
	if err != nil {
		b.Fatal(err)
	}
	const scans = 3 // in a row: a process is kept
	var wall, cpu [2]time.Duration
	for b.Loop() {
		for i, open := range []func() (analyzer.LayerScanner, func() error){
			func() (analyzer.LayerScanner, func() error) { return here, func() error { return nil } },
			func() (analyzer.LayerScanner, func() error) {
				s := newScanner(b, nil)
				return s, s.Close // so that its processes' times are counted
			},
		} {
			s, stop := open()
			before, start := times(b), time.Now()
			for range scans {
				f, err := os.Open(file)
				if err != nil {
					b.Fatal(err)
				}
				if l, err := s.Scan(b.Context(), struct{ io.Reader }{f}); err != nil || l.Lost {
					b.Fatalf("%+v, %v", l, err)
				}
				f.Close()
			}
			wall[i] += time.Since(start)
			if err := stop(); err != nil {
				b.Fatal(err)
			}
			cpu[i] += times(b) - before
		}
	}
	n := float64(b.N * scans)
	b.ReportMetric(wall[0].Seconds()/n, "here-s")
	b.ReportMetric(wall[1].Seconds()/n, "process-s")
	b.ReportMetric(wall[1].Seconds()/wall[0].Seconds(), "wall-ratio")
	b.ReportMetric(cpu[0].Seconds()/n, "here-cpu-s")
	b.ReportMetric(cpu[1].Seconds()/n, "process-cpu-s")
	b.ReportMetric(cpu[1].Seconds()/cpu[0].Seconds(), "cpu-ratio")
	b.ReportMetric(0, "ns/op")
}

// times is the CPU time of this process and of those that have ended.
func times(b *testing.B) time.Duration {
	var sum time.Duration
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if err := syscall.Getrusage(who, &u); err != nil {
			b.Fatal(err)
		}
		sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	return sum
}
