//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
)

// metrics are the figures of one Go benchmark by unit.
type metrics map[string]float64

// goBench runs the benchmarks of a package and passes on what they print. A
// benchmark that was skipped for want of data has no metrics.
func (l *lab) goBench(ctx context.Context, pkg, benchtime string) (map[string]metrics, error) {
	cmd := exec.CommandContext(ctx, "go", "test", "-run=^$", "-bench=.", "-benchmem", "-benchtime="+benchtime, "-timeout=30m", pkg)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	fmt.Fprintf(os.Stderr, "%s", out)
	if err != nil {
		return nil, fmt.Errorf("go test -bench %s: %w", pkg, err)
	}
	return parseBench(out), nil
}

// parseBench reads the lines of benchmarks (golang.org/design/14313-benchmark-format).
func parseBench(out []byte) map[string]metrics {
	all := map[string]metrics{}
	for line := range bytes.Lines(out) {
		f := strings.Fields(string(line))
		if len(f) < 4 || !strings.HasPrefix(f[0], "Benchmark") {
			continue
		}
		name := strings.TrimPrefix(f[0], "Benchmark")
		if i := strings.LastIndexByte(name, '-'); i > 0 {
			name = name[:i]
		}
		m := metrics{}
		for i := 2; i+1 < len(f); i += 2 {
			if v, err := strconv.ParseFloat(f[i], 64); err == nil {
				m[f[i+1]] = v
			}
		}
		all[name] = m
	}
	return all
}

// analysis is the benchmark of package analyzer/layer.
func analysis(ctx context.Context, l *lab) ([]row, error) {
	all, err := l.goBench(ctx, "./analyzer/layer", fmt.Sprintf("%dx", l.rounds))
	if err != nil {
		return nil, err
	}
	m := all["ScanDebian"]
	what := "analysis of one layer of 400 MB"
	return []row{
		{
			what: what + " ÷ `gzip -dc \\| sha256sum`", sluice: figure(m["scan-s"]) + " s, the tools " + figure(m["gzip|sha256sum-s"]) + " s",
			value: m["ratio"], unit: "×", goal: most(1.2),
		},
		{what: what + ": peak resident size", sluice: figure(m["peak-MiB"]) + " MiB", value: m["peak-MiB"], unit: " MiB", goal: most(200)},
	}, nil
}

// advisories are the benchmarks of package analyzer/advisory.
func advisories(ctx context.Context, l *lab) ([]row, error) {
	all, err := l.goBench(ctx, "./analyzer/advisory", l.benchtime)
	if err != nil {
		return nil, err
	}
	const of = " an index of 300,000 advisories"
	rows := []row{
		{what: "open" + of, value: all["Open"]["ns/op"] / 1e6, unit: " ms", goal: most(10)},
		{what: "resident size of" + of + ", open and matched once", value: all["Resident"]["matched-MiB"], unit: " MiB", goal: most(50)},
		{what: "compile" + of, value: all["Compile"]["ns/op"] / 1e9, unit: " s", goal: most(60)},
		{what: "compile" + of + ": peak resident size", value: all["Compile"]["peak-MiB"], unit: " MiB", goal: most(500)},
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if kind, ok := strings.CutPrefix(name, "Match/"); ok {
			m := all[name]
			rows = append(rows, row{
				what:  fmt.Sprintf("match an image of %.0f packages (%s), %.0f findings", m["packages"], kind, m["findings"]),
				value: m["ns/op"] / 1e6, unit: " ms", goal: most(2),
			})
		}
	}
	return rows, nil
}
