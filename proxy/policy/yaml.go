package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// reader reads a policy file's nodes and gathers what is wrong with them. None
// of its methods stops at a problem: they return what could be read.
type reader struct {
	file     string
	lines    []string // of the file, to place what stands inside a scalar
	problems Problems
}

func (r *reader) problem(n *yaml.Node, suggestion, format string, args ...any) {
	r.at(n.Line, n.Column, suggestion, format, args...)
}

func (r *reader) at(line, column int, suggestion, format string, args ...any) {
	r.problems = append(r.problems, Problem{
		File: r.file, Line: max(line, 1), Column: max(column, 1),
		Message: fmt.Sprintf(format, args...), Suggestion: suggestion,
	})
}

// mapping returns the values of the mapping n by key, nil if it is none. A key
// that is not in known, and one that is there twice, is a problem.
func (r *reader) mapping(n *yaml.Node, what string, known ...string) map[string]*yaml.Node {
	n = resolve(n)
	if n.Kind != yaml.MappingNode {
		r.problem(n, "", "%s is a mapping with the keys %s", what, strings.Join(known, ", "))
		return nil
	}
	values := map[string]*yaml.Node{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		switch {
		case !slices.Contains(known, key.Value):
			r.problem(key, nearest(key.Value, known), "unknown key %q in %s", clip(key.Value), what)
		case values[key.Value] != nil:
			r.problem(key, "", "%s has the key %q twice, first in line %d", what, key.Value, values[key.Value].Line)
		default:
			values[key.Value] = value
		}
	}
	return values
}

// require reports the keys without a value, unless n is not a mapping at all.
func (r *reader) require(n *yaml.Node, what string, values map[string]*yaml.Node, keys ...string) {
	if values == nil {
		return
	}
	for _, k := range keys {
		if values[k] == nil {
			r.problem(n, "", "%s has no %s", what, k)
		}
	}
}

// sequence returns the elements of n; none if n is nil.
func (r *reader) sequence(n *yaml.Node, what string) []*yaml.Node {
	if n == nil {
		return nil
	}
	n = resolve(n)
	if n.Kind != yaml.SequenceNode {
		r.problem(n, "", "%s is a list", what)
		return nil
	}
	return n.Content
}

// text returns the scalar n, "" if it is nil, empty or not a scalar; the last
// two are problems.
func (r *reader) text(n *yaml.Node, what string) string {
	if n == nil {
		return ""
	}
	n = resolve(n)
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" || strings.TrimSpace(n.Value) == "" {
		r.problem(n, "", "%s is a text", what)
		return ""
	}
	return n.Value
}

// duration returns n in Go's syntax ("72h"); it must be positive.
func (r *reader) duration(n *yaml.Node, what string) time.Duration {
	s := r.text(n, what)
	if s == "" {
		return 0
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		r.problem(n, hours(s), "%s is a positive duration in hours, minutes or seconds, not %q", what, clip(s))
		return 0
	}
	return d
}

// expiry returns a date, which lasts to the end of its day in UTC, or a time.
func (r *reader) expiry(n *yaml.Node, what string) time.Time {
	s := r.text(n, what)
	if s == "" {
		return time.Time{}
	}
	if t, err := time.Parse(time.DateOnly, s); err == nil {
		return endOfDay(t)
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		r.problem(n, "", "%s is a date (2027-01-31) or a time of RFC 3339, not %q", what, clip(s))
	}
	return t
}

// globs returns the patterns of the list n.
func (r *reader) globs(n *yaml.Node, what string) []Glob {
	var globs []Glob
	for _, e := range r.sequence(n, what) {
		s := r.text(e, "a pattern in "+what)
		if s == "" {
			continue
		}
		g, err := ParseGlob(s)
		if err != nil {
			r.problem(e, "", "pattern %q: %s", clip(s), err)
			continue
		}
		globs = append(globs, g)
	}
	return globs
}

// inside returns where in the file the character of a scalar is that stands in
// the value's line (1-based) and column (0-based). Where YAML folds lines that
// cannot be told: it is the scalar's start.
func (r *reader) inside(n *yaml.Node, line, column int) (fileLine, fileColumn int) {
	n = resolve(n)
	source := func(l int) []rune {
		if l < 1 || l > len(r.lines) {
			return nil
		}
		return []rune(r.lines[l-1])
	}
	switch {
	case n.Style&yaml.LiteralStyle != 0:
		for l := n.Line + 1; l <= len(r.lines); l++ { // the first line that is not blank sets the indentation
			if s := r.lines[l-1]; strings.TrimSpace(s) != "" {
				indent := len(s) - len(strings.TrimLeft(s, " "))
				return n.Line + line, indent + column + 1
			}
		}
	case n.Style&yaml.FoldedStyle != 0 || line != 1 || strings.Contains(n.Value, "\n"):
	case n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0:
		text, at := source(n.Line), n.Column // the first character after the quote
		for ; column > 0 && at < len(text); column-- {
			if next := text[at:]; len(next) > 1 && (next[0] == '\\' || next[0] == '\'' && next[1] == '\'') && n.Style&escapes(next[0]) != 0 {
				at++ // two characters stand for one
			}
			at++
		}
		return n.Line, at + 1
	default:
		if start := source(n.Line); n.Column+column <= len(start) {
			return n.Line, n.Column + column
		}
	}
	return n.Line, n.Column
}

// escapes is the style of quoting in which c starts an escape.
func escapes(c rune) yaml.Style {
	if c == '\\' {
		return yaml.DoubleQuotedStyle
	}
	return yaml.SingleQuotedStyle
}

// resolve follows an alias to the node that it stands for.
func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		return n.Alias
	}
	return n
}

// clip keeps a foreign text short in a message.
func clip(s string) string {
	const limit = 80
	if len(s) <= limit {
		return s
	}
	cut := limit
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}

// hours turns a number of days ("3d") into what Go's durations know; "" for
// anything else.
func hours(s string) string {
	var days int
	if n, err := fmt.Sscanf(s, "%dd", &days); n == 1 && err == nil && s == fmt.Sprintf("%dd", days) && days > 0 && days < 1e5 {
		return fmt.Sprintf("%dh", days*24)
	}
	return ""
}
