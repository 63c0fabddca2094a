//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// work is one thing that is measured.
type work struct {
	name string
	run  func(context.Context, *lab) ([]row, error)
}

func works() []work {
	return []work{
		{"warm-manifest", warmManifest},
		{"warm-blob", warmBlob},
		{"cold", cold},
		{"push", pushing},
		{"herd", herd},
		{"memory", memory},
		{"analysis", analysis},
		{"advisories", advisories},
	}
}

// lab is what all works share.
type lab struct {
	scale
	dir      string // scratch; removed at the end
	self     string // this program, for child processes
	sluice   string // the binaries; sluice "" = to be built
	registry string // "" = not installed
	feed     string // the advisories that sluice imports
	seed     string // a data folder of sluice with those advisories compiled
}

// scale is how much is done.
type scale struct {
	rounds    int
	turn      time.Duration // of load on a warm server
	bigBlob   int64         // of the warm work
	cold      shape
	herd      shape
	clients   int // of the herd
	memory    shape
	pulls     int // at once, of the memory work
	benchtime string
}

// shape is the size of an image.
type shape struct {
	layers int
	bytes  int64 // compressed, of one layer
}

func (s shape) String() string {
	return fmt.Sprintf("%d MB, %d layers", int64(s.layers)*s.bytes/1e6, s.layers)
}

func full() scale {
	return scale{
		rounds: 5, turn: 3 * time.Second, bigBlob: 64 << 20, cold: shape{8, 150e6 / 8},
		herd: shape{4, 17e6 / 4}, clients: 100, memory: shape{8, 128e6}, pulls: 200, benchtime: "1s",
	}
}

func quick() scale {
	return scale{
		rounds: 2, turn: time.Second, bigBlob: 16 << 20, cold: shape{8, 4e6},
		herd: shape{4, 1e6}, clients: 20, memory: shape{8, 16e6}, pulls: 20, benchtime: "1x",
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		stop()
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 1 && args[0] == childArgument {
		return child(ctx, os.Stdin, os.Stdout)
	}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	only := flags.String("only", "", "works to do, comma-separated (default: all)")
	small := flags.Bool("quick", false, "small images and few rounds: to see that it runs, not to compare")
	rounds := flags.Int("rounds", 0, "rounds of each comparison (default: 5, quick 2)")
	program := flags.String("sluice", "", "binary to measure (default: built from ./cmd/sluice)")
	write := flags.Bool("write", false, "put the table into docs/benchmarks.md")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *write && (*only != "" || *small || *program != "") {
		return errors.New("-write wants the full set of the tree's own program: no -only, -quick or -sluice")
	}
	chosen, err := choose(*only)
	if err != nil {
		return err
	}
	l := &lab{scale: full(), sluice: *program}
	if *small {
		l.scale = quick()
	}
	if *rounds > 0 {
		l.rounds = *rounds
	}
	if l.dir, err = os.MkdirTemp("", "sluice-bench-"); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(l.dir) }()
	if err := l.prepare(ctx); err != nil {
		return err
	}
	var rows []row
	for _, w := range chosen {
		start := time.Now()
		fmt.Fprintln(os.Stderr, "bench:", w.name)
		done, err := w.run(ctx, l)
		if err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
		rows = append(rows, done...)
		fmt.Fprintf(os.Stderr, "bench: %s took %s\n", w.name, time.Since(start).Round(time.Second))
	}
	out := table(rows) + "\n" + machine(time.Now(), l.registry != "")
	fmt.Print(out)
	if !*write {
		return nil
	}
	return replace(filepath.Join("docs", "benchmarks.md"), out)
}

// choose returns the works that are named, in the order of works.
func choose(names string) ([]work, error) {
	all := works()
	if names == "" {
		return all, nil
	}
	wanted := strings.Split(names, ",")
	var chosen []work
	var known []string
	for _, w := range all {
		known = append(known, w.name)
		if slices.Contains(wanted, w.name) {
			chosen = append(chosen, w)
		}
	}
	for _, n := range wanted {
		if !slices.Contains(known, n) {
			return nil, fmt.Errorf("-only %s: no such work; there are %s", n, strings.Join(known, ", "))
		}
	}
	return chosen, nil
}
