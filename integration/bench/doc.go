//go:build linux

// Command bench measures the built program beside distribution's registry, in
// one run on one machine, and prints a Markdown table of ratios:
//
//	go run ./integration/bench -only warm-manifest,cold -quick
//	go run ./integration/bench -write     # all works, into docs/benchmarks.md
//
// It builds sluice, installs registry v3.1.2 with `go install` (kept in the
// user's cache folder), serves images that it makes from its own process as the
// upstream, and starts every server on the loopback interface:
//
//	load (child process) ──▶ sluice serve | registry ──▶ upstream (this process)
//
// Rules of measuring: sides take turns within a round, and the order turns from
// round to round. A figure is the median of the rounds; a ratio is the median
// of the rounds' ratios, so that what else the machine does weighs less. CPU is
// that of the server's process and of those that it starts; the load comes from a child process of
// its own. Each work checks that the sides did the job: every status and length,
// digests where a client would, one analysis for one image.
//
// A work is one function in warm.go, cold.go, pushing.go, herd.go, memory.go or
// gobench.go. Each stops the servers that it starts.
package main
