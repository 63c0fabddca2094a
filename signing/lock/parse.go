package lock

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	godigest "github.com/opencontainers/go-digest"
	"go.yaml.in/yaml/v3"
)

const (
	maxFile    = 8 << 20 // bytes of a lock
	maxEntries = 50_000
)

// Problem is one thing wrong with a lock.
type Problem struct {
	File         string
	Line, Column int // 1-based
	Message      string
}

// Problems are all things wrong with a lock, in the order of the file.
type Problems []Problem

// Error has one line for each, "file:line:column: message".
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, one := range p {
		lines[i] = fmt.Sprintf("%s:%d:%d: %s", one.File, one.Line, one.Column, one.Message)
	}
	return strings.Join(lines, "\n")
}

var (
	nameForm     = regexp.MustCompile(`^[a-z0-9]+([._:-][a-z0-9]+)*(/[a-z0-9]+(([._]|__|-+)[a-z0-9]+)*)+$`)
	tagForm      = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
	platformForm = regexp.MustCompile(`^[a-z0-9]+/[a-z0-9_]+(/[a-z0-9._]+)?$`)
	yamlLine     = regexp.MustCompile(`line (\d+): `)
)

// Parse reads a lock in YAML or JSON. The name stands for it in the error, which
// is a Problems with everything that is wrong.
func Parse(name string, data []byte) (*File, error) {
	p := &parser{file: name}
	root := p.document(data)
	if root == nil {
		return nil, p.problems
	}
	v := p.object(root, "the lock", "version", "serial", "expires", "images")
	p.require(root, "the lock", v, "version", "serial", "images")
	f := &File{Version: 1, Expires: p.time(v["expires"], "expires")}
	if n := v["version"]; n != nil && p.text(n, "version") != "1" {
		p.at(n, "version %q is not known to this program", n.Value)
	}
	if n := v["serial"]; n != nil {
		var err error
		if f.Serial, err = strconv.ParseUint(p.text(n, "serial"), 10, 63); err != nil || f.Serial == 0 {
			p.at(n, "serial is a number from 1")
		}
	}
	first := map[string]int{}
	for _, n := range p.list(v["images"], "images") {
		im := p.image(n)
		key := im.Name + ":" + im.Tag
		if at, taken := first[key]; taken && im.Name != "" {
			p.at(n, "%s is there twice, first in line %d", strings.TrimSuffix(key, ":"), at)
		}
		first[key] = n.Line
		if len(f.Images) == maxEntries {
			p.at(n, "the lock has more than %d images", maxEntries)
			break
		}
		f.Images = append(f.Images, im)
	}
	if len(p.problems) > 0 {
		slices.SortStableFunc(p.problems, func(a, b Problem) int {
			return cmp.Or(a.Line-b.Line, a.Column-b.Column, strings.Compare(a.Message, b.Message))
		})
		return nil, p.problems
	}
	return f, nil
}

func (p *parser) image(n *yaml.Node) Image {
	v := p.object(n, "an image", "name", "tag", "digests", "platforms", "diffIDs", "source", "superseded")
	p.require(n, "an image", v, "name")
	im := Image{
		Name: p.form(v["name"], "name", nameForm, "a canonical name with its registry, docker.io/library/debian"),
		Tag:  p.form(v["tag"], "tag", tagForm, "a tag"), Digests: p.digests(v["digests"], "digests"),
		DiffIDs: p.digests(v["diffIDs"], "diffIDs"), Superseded: p.digests(v["superseded"], "superseded"),
		Source: p.origin(v["source"]),
	}
	if n := v["platforms"]; n != nil {
		im.Platforms = map[string][]godigest.Digest{}
		for key, value := range p.pairs(n, "platforms") {
			im.Platforms[p.form(key, "platform", platformForm, "os/arch or os/arch/variant")] = p.digests(value, "platforms")
		}
	}
	all := im.all()
	if v != nil && len(all) == 0 && len(im.Superseded) == 0 {
		p.at(n, "the image has neither digests nor platforms: nothing would be published")
	}
	for _, d := range im.Superseded {
		if all[d] {
			p.at(n, "%s is published and superseded at once", d)
		}
	}
	return im
}

func (p *parser) origin(n *yaml.Node) *Origin {
	if n == nil {
		return nil
	}
	v := p.object(n, "source", "type", "url", "fetched", "sha256", "key")
	p.require(n, "source", v, "type")
	return &Origin{
		Type: SourceType(p.text(v["type"], "type")), URL: p.text(v["url"], "url"), Fetched: p.time(v["fetched"], "fetched"),
		SHA256: p.digest(v["sha256"], "sha256"), Key: p.text(v["key"], "key"),
	}
}

// parser reads nodes and gathers what is wrong with them. A nil node, of a key
// that is not there, gives the zero value.
type parser struct {
	file     string
	problems Problems
}

func (p *parser) at(n *yaml.Node, format string, args ...any) {
	p.add(n.Line, n.Column, format, args...)
}

func (p *parser) add(line, column int, format string, args ...any) {
	p.problems = append(p.problems, Problem{p.file, max(line, 1), max(column, 1), fmt.Sprintf(format, args...)})
}

// document returns the root of the file's one document; nil after a problem.
func (p *parser) document(data []byte) *yaml.Node {
	if len(data) > maxFile {
		p.add(1, 1, "the lock is longer than %d bytes", maxFile)
		return nil
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	err := dec.Decode(&doc)
	if err == nil {
		if err = dec.Decode(&second); err == nil {
			p.at(&second, "the lock has a second document")
			return nil
		}
	} else if errors.Is(err, io.EOF) {
		p.add(1, 1, "the lock is empty")
		return nil
	}
	if errors.Is(err, io.EOF) {
		return doc.Content[0]
	}
	line, text := 1, strings.TrimPrefix(err.Error(), "yaml: ")
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		if i, err := strconv.Atoi(m[1]); err == nil {
			line = i
		}
		text = strings.Replace(text, m[0], "", 1)
	}
	p.add(line, 1, "neither YAML nor JSON: %s", text)
	return nil
}

// pairs returns the keys of a mapping with their values; aliases and keys that
// are there twice are problems.
func (p *parser) pairs(n *yaml.Node, what string) map[*yaml.Node]*yaml.Node {
	out := map[*yaml.Node]*yaml.Node{}
	if n.Kind != yaml.MappingNode {
		p.at(n, "%s is a mapping", what)
		return out
	}
	var seen []string
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		if slices.Contains(seen, k.Value) {
			p.at(k, "%s has the key %q twice", what, clip(k.Value))
			continue
		}
		seen = append(seen, k.Value)
		out[k] = n.Content[i+1]
	}
	return out
}

// object returns the values of a mapping by key, each one of keys; nil for what
// is no mapping.
func (p *parser) object(n *yaml.Node, what string, keys ...string) map[string]*yaml.Node {
	if n.Kind != yaml.MappingNode {
		p.at(n, "%s is a mapping", what)
		return nil
	}
	values := map[string]*yaml.Node{}
	for k, v := range p.pairs(n, what) {
		if !slices.Contains(keys, k.Value) {
			p.at(k, "unknown key %q in %s: it has %s", clip(k.Value), what, strings.Join(keys, ", "))
			continue
		}
		values[k.Value] = v
	}
	return values
}

func (p *parser) require(n *yaml.Node, what string, values map[string]*yaml.Node, keys ...string) {
	for _, k := range keys {
		if values != nil && values[k] == nil {
			p.at(n, "%s has no %s", what, k)
		}
	}
}

func (p *parser) list(n *yaml.Node, what string) []*yaml.Node {
	if n == nil {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		p.at(n, "%s is a list", what)
		return nil
	}
	return n.Content
}

func (p *parser) text(n *yaml.Node, what string) string {
	if n == nil {
		return ""
	}
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" || n.Value == "" {
		p.at(n, "%s is a text", what)
		return ""
	}
	return n.Value
}

func (p *parser) form(n *yaml.Node, what string, form *regexp.Regexp, example string) string {
	s := p.text(n, what)
	if s != "" && (len(s) > 300 || !form.MatchString(s)) {
		p.at(n, "%s is %s, not %q", what, example, clip(s))
		return ""
	}
	return s
}

func (p *parser) digests(n *yaml.Node, what string) []godigest.Digest {
	var out []godigest.Digest
	for _, e := range p.list(n, what) {
		if d := p.digest(e, what); d != "" {
			out = append(out, d)
		}
	}
	return out
}

// digest accepts sha256:<64 lower-case hex digits> only: that is what registries
// and this program know images by.
func (p *parser) digest(n *yaml.Node, what string) godigest.Digest {
	d := godigest.Digest(p.text(n, what))
	if d == "" {
		return ""
	}
	if d.Validate() != nil || d.Algorithm() != godigest.SHA256 {
		p.at(n, "%s: %q is not sha256:<64 lower-case hexadecimal digits>", what, clip(string(d)))
		return ""
	}
	return d
}

func (p *parser) time(n *yaml.Node, what string) time.Time {
	s := p.text(n, what)
	if s == "" {
		return time.Time{}
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil && t.Year() < 9999 {
			return t.UTC()
		}
	}
	p.at(n, "%s is a date (2027-01-31) or a time of RFC 3339, not %q", what, clip(s))
	return time.Time{}
}

// clip keeps a foreign text short in a message.
func clip(s string) string {
	const limit = 80
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}
