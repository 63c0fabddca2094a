package configs

import (
	_ "embed"
	"encoding"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

//go:embed default.yaml
var defaultYAML []byte

// DefaultYAML returns default.yaml: every key with its default and what it means.
func DefaultYAML() []byte { return slices.Clone(defaultYAML) }

// Print writes c as YAML with the comments of default.yaml, secrets redacted.
// Keys of an upstream that are not set are left out, except for the first one.
func (c *Config) Print(w io.Writer) error {
	var doc yaml.Node
	if err := yaml.Unmarshal(defaultYAML, &doc); err != nil {
		return fmt.Errorf("default.yaml: %w", err)
	}
	p := printer{comments: map[string]string{}}
	p.collect(doc.Content[0], "")
	root := p.node(structValue(c.Redacted()), "")
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	if err := enc.Encode(&yaml.Node{Kind: yaml.DocumentNode, HeadComment: doc.HeadComment, Content: []*yaml.Node{root}}); err != nil {
		return fmt.Errorf("print configuration: %w", err)
	}
	return enc.Close()
}

// printer makes YAML nodes of values.
type printer struct {
	comments map[string]string // by path, upstreams' names as *
	full     bool              // one upstream has been printed with all keys
}

// collect reads the comments of the mapping n.
func (p *printer) collect(n *yaml.Node, path string) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, val := n.Content[i], n.Content[i+1]
		at := join(path, key.Value)
		if path == "upstreams" {
			at = "upstreams.*"
		}
		if p.comments[at] == "" {
			p.comments[at] = key.HeadComment
		}
		if val.Kind == yaml.MappingNode {
			p.collect(val, at)
		}
	}
}

func (p *printer) node(v reflect.Value, path string) *yaml.Node {
	switch v.Kind() {
	case reflect.Struct:
		return p.structure(v, path)
	case reflect.Map:
		if path != "upstreams" {
			return p.table(v, path)
		}
		n := &yaml.Node{Kind: yaml.MappingNode}
		upstreams := map[string]reflect.Value{}
		for k, u := range v.Seq2() {
			upstreams[k.String()] = u
		}
		for _, name := range slices.Sorted(maps.Keys(upstreams)) {
			key := scalar(name)
			if !p.full {
				key.HeadComment = p.comments["upstreams.*"]
			}
			n.Content = append(n.Content, key, p.node(upstreams[name], "upstreams.*"))
			p.full = true
		}
		return n
	case reflect.Slice:
		n := &yaml.Node{Kind: yaml.SequenceNode}
		if v.Len() == 0 {
			n.Style = yaml.FlowStyle
		}
		for i := range v.Len() {
			n.Content = append(n.Content, p.node(v.Index(i), path))
		}
		return n
	}
	if m, ok := v.Interface().(encoding.TextMarshaler); ok {
		text, err := m.MarshalText()
		if err == nil {
			return scalar(string(text))
		}
	}
	return scalar(fmt.Sprint(v.Interface()))
}

// table makes a mapping of a map of plain values.
func (p *printer) table(v reflect.Value, path string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode}
	if v.Len() == 0 {
		n.Style = yaml.FlowStyle
	}
	values := map[string]reflect.Value{}
	for k, e := range v.Seq2() {
		values[k.String()] = e
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		n.Content = append(n.Content, scalar(name), p.node(values[name], path))
	}
	return n
}

// structure makes a mapping of a struct. A value that is not set is left out
// in all upstreams but the first, and so are the explanations of the keys.
func (p *printer) structure(v reflect.Value, path string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode}
	short := path == "upstreams.*" && p.full
	tags, index := keys(v.Type())
	for _, tag := range tags {
		f := v.Field(index[tag])
		if short && (f.IsZero() || f.Kind() == reflect.Slice && f.Len() == 0) {
			continue
		}
		key := scalar(tag)
		if !short {
			key.HeadComment = p.comments[join(path, tag)]
		}
		n.Content = append(n.Content, key, p.node(f, join(path, tag)))
	}
	return n
}

// scalar quotes what YAML would not read back as the same text.
func scalar(s string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.ScalarNode, Value: s}
	if s == "" || strings.ContainsAny(s, "\n") {
		n.Style = yaml.DoubleQuotedStyle
	}
	return n
}
