package policy

import (
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing wrong with a policy file.
type Problem struct {
	File       string `json:"file"`
	Line       int    `json:"line"`   // 1-based
	Column     int    `json:"column"` // 1-based, in characters
	Message    string `json:"message"`
	Suggestion string `json:"suggestion,omitempty"` // the nearest valid name, or what to write instead
}

// String is "file:line:column: message (did you mean …?)".
func (p Problem) String() string {
	s := fmt.Sprintf("%s:%d:%d: %s", p.File, p.Line, p.Column, p.Message)
	if p.Suggestion != "" {
		s += fmt.Sprintf(" (did you mean %s?)", p.Suggestion)
	}
	return s
}

// Problems are all that is wrong with a policy file, in the order of its
// lines. It is the type of the error that Parse returns.
type Problems []Problem

// Error is one line for each problem.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

func (ps Problems) sorted() Problems {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
	return ps
}

// nearest returns the one of names that differs least from name, by at most
// two letters or a third of them, never all; "" when none is that close.
func nearest(name string, names []string) string {
	if len(name) > 64 {
		return ""
	}
	best, least := "", min(max(2, len(name)/3), len(name)-1)+1
	for _, n := range names {
		if d := distance(strings.ToLower(name), strings.ToLower(n)); d < least {
			best, least = n, d
		}
	}
	return best
}

// distance is the number of letters to insert, delete or replace (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(diagonal+cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
