package signing

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	godigest "github.com/opencontainers/go-digest"
	"go.yaml.in/yaml/v3"
)

// Problem is one thing wrong with the trust part of a policy file.
type Problem struct {
	Line, Column int // 1-based
	Message      string
}

// parser reads YAML nodes and gathers what is wrong with them. Its methods take
// a nil node for a key that is not there and return the zero value.
type parser struct{ problems []Problem }

func (p *parser) problem(n *yaml.Node, format string, args ...any) {
	p.problems = append(p.problems, Problem{n.Line, n.Column, fmt.Sprintf(format, args...)})
}

// object returns the values of a mapping by key. Every key must be one of keys,
// and there once.
func (p *parser) object(n *yaml.Node, what string, keys ...string) map[string]*yaml.Node {
	values := map[string]*yaml.Node{}
	if n == nil {
		return values
	}
	n = resolve(n)
	if n.Kind != yaml.MappingNode {
		p.problem(n, "%s is a mapping with the keys %s", what, strings.Join(keys, ", "))
		return values
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		switch {
		case !slices.Contains(keys, k.Value):
			p.problem(k, "unknown key %q in %s: it has %s", k.Value, what, strings.Join(keys, ", "))
		case values[k.Value] != nil:
			p.problem(k, "%s has the key %q twice", what, k.Value)
		default:
			values[k.Value] = n.Content[i+1]
		}
	}
	return values
}

// list returns the elements of a sequence.
func (p *parser) list(n *yaml.Node, what string) []*yaml.Node {
	if n == nil {
		return nil
	}
	n = resolve(n)
	if n.Kind != yaml.SequenceNode {
		p.problem(n, "%s is a list", what)
		return nil
	}
	return n.Content
}

// text returns a scalar that is not empty.
func (p *parser) text(n *yaml.Node, what string) string {
	if n == nil {
		return ""
	}
	n = resolve(n)
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" || strings.TrimSpace(n.Value) == "" {
		p.problem(n, "%s is a text", what)
		return ""
	}
	return n.Value
}

// texts returns a text or a list of texts.
func (p *parser) texts(n *yaml.Node, what string) []string {
	if n == nil {
		return nil
	}
	if resolve(n).Kind == yaml.ScalarNode {
		if s := p.text(n, what); s != "" {
			return []string{s}
		}
		return nil
	}
	var out []string
	for _, e := range p.list(n, what) {
		if s := p.text(e, what); s != "" {
			out = append(out, s)
		}
	}
	return out
}

// number returns an integer of at least 0, or the default.
func (p *parser) number(n *yaml.Node, what string, unset int) int {
	if n == nil {
		return unset
	}
	i, err := strconv.Atoi(resolve(n).Value)
	if err != nil || i < 0 || i > 1000 {
		p.problem(n, "%s is a number from 0 to 1000", what)
		return unset
	}
	return i
}

// flag returns true or false, or the default.
func (p *parser) flag(n *yaml.Node, what string, unset bool) bool {
	if n == nil {
		return unset
	}
	switch resolve(n).Value {
	case "true":
		return true
	case "false":
		return false
	}
	p.problem(n, "%s is true or false", what)
	return unset
}

// time returns a time of RFC 3339, or a date: its begin, or its end in UTC.
func (p *parser) time(n *yaml.Node, what string, end bool) time.Time {
	s := p.text(n, what)
	if s == "" {
		return time.Time{}
	}
	if t, err := time.Parse(time.DateOnly, s); err == nil {
		if end {
			return t.AddDate(0, 0, 1).Add(-time.Second)
		}
		return t
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		p.problem(n, "%s is a date (2027-01-31) or a time of RFC 3339, not %q", what, s)
	}
	return t
}

// duration returns a positive duration of Go's syntax (72h) or of days (180d).
func (p *parser) duration(n *yaml.Node, what string) time.Duration {
	s := p.text(n, what)
	if s == "" {
		return 0
	}
	d, err := time.ParseDuration(s)
	if days, ok := strings.CutSuffix(s, "d"); ok {
		var i int
		i, err = strconv.Atoi(days)
		if i > 36500 {
			i = 0
		}
		d = time.Duration(i) * 24 * time.Hour
	}
	if err != nil || d <= 0 {
		p.problem(n, "%s is a duration in hours or days (72h, 180d), not %q", what, s)
		return 0
	}
	return d
}

// digest returns a sha256, with or without its name before it.
func (p *parser) digest(n *yaml.Node, what string) godigest.Digest {
	s := p.text(n, what)
	if s == "" {
		return ""
	}
	d := godigest.Digest("sha256:" + strings.TrimPrefix(s, "sha256:"))
	if d.Validate() != nil {
		p.problem(n, "%s is a sha256 of 64 hexadecimal digits, not %q", what, s)
		return ""
	}
	return d
}

// require reports the keys of an object that are not there.
func (p *parser) require(n *yaml.Node, what string, values map[string]*yaml.Node, keys ...string) {
	for _, k := range keys {
		if values[k] == nil {
			p.problem(n, "%s has no %s", what, k)
		}
	}
}

// resolve follows an alias to the node that it stands for.
func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		return n.Alias
	}
	return n
}
