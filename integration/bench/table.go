//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// row is one line of the table.
type row struct {
	what   string
	sluice string // its figure, with the unit
	peer   string // distribution's; "" = no other side, or not installed
	value  float64
	unit   string // of value: × for a ratio
	goal   goal   // for value
	remark string
}

// goal is a bound. The zero goal is none.
type goal struct {
	least bool // else it is an upper bound
	limit float64
}

func least(v float64) goal { return goal{true, v} }
func most(v float64) goal  { return goal{false, v} }

func (g goal) met(v float64) bool {
	if g.least {
		return v >= g.limit
	}
	return v <= g.limit
}

// table renders rows as Markdown.
func table(rows []row) string {
	var b strings.Builder
	b.WriteString("| work | sluice | distribution " + peerVersion + " | result | goal | met | |\n|---|---|---|---|---|---|---|\n")
	for _, r := range rows {
		result, bound, met := "", "", ""
		switch {
		case r.value == 0: // the other side is missing
			result = "not measured"
		default:
			result = figure(r.value) + r.unit
		}
		if r.goal != (goal{}) {
			sign := "≤ "
			if r.goal.least {
				sign = "≥ "
			}
			bound = sign + figure(r.goal.limit) + r.unit
			if met = "**no**"; r.value != 0 && r.goal.met(r.value) {
				met = "yes"
			}
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s |\n", r.what, r.sluice, r.peer, result, bound, met, r.remark)
	}
	return b.String()
}

// figure writes v with three digits that count.
func figure(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return strings.TrimSuffix(fmt.Sprintf("%.2f", v), ".00")
}

// median is the middle of v, the mean of the two middle ones of an even number.
func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(v))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// each returns f of each element.
func each[T any](v []T, f func(T) float64) []float64 {
	out := make([]float64, len(v))
	for i, x := range v {
		out[i] = f(x)
	}
	return out
}

// ratio is the median of the rounds' ratios a/b; 0 if b was not measured.
func ratio(a, b []float64) float64 {
	if len(a) != len(b) {
		return 0
	}
	r := make([]float64, len(a))
	for i := range a {
		r[i] = a[i] / b[i]
	}
	return median(r)
}

// turns runs each side once in each round and returns their results. The order
// turns from round to round.
func turns[T any](rounds, sides int, turn func(side int) (T, error)) ([][]T, error) {
	out := make([][]T, sides)
	for r := range rounds {
		for k := range sides {
			side := (r + k) % sides
			v, err := turn(side)
			if err != nil {
				return nil, err
			}
			out[side] = append(out[side], v)
		}
	}
	return out, nil
}

// machine tells where and when the figures were taken.
func machine(now time.Time, peer bool) string {
	model := "unknown CPU"
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
				model = strings.TrimSpace(v)
				break
			}
		}
	}
	busy := "unknown"
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		busy = strings.Join(strings.Fields(string(b))[:3], " ")
	}
	s := fmt.Sprintf("%s, %d cores shared by the servers, the clients and the upstream; %s %s/%s; %s; load average at the end %s.\n",
		model, runtime.NumCPU(), runtime.Version(), runtime.GOOS, runtime.GOARCH, now.UTC().Format("2006-01-02 15:04 MST"), busy)
	if !peer {
		s += "\ndistribution could not be installed: no ratios.\n"
	}
	return s
}

// The table's place in a Markdown file.
const (
	begin = "<!-- bench: written by `go run ./integration/bench -write` -->\n"
	end   = "<!-- /bench -->\n"
)

// replace puts text between the marks of a file.
func replace(path, text string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	head, rest, ok := bytes.Cut(b, []byte(begin))
	_, tail, ok2 := bytes.Cut(rest, []byte(end))
	if !ok || !ok2 {
		return errors.New(path + " has no marks to write between")
	}
	return os.WriteFile(path, slices.Concat(head, []byte(begin), []byte(text), []byte(end), tail), 0o644)
}
