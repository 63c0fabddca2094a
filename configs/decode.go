package configs

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// decoder sets the fields of a Config from YAML nodes and from text, strictly,
// and goes on after a problem so that all of them are found.
type decoder struct {
	config   *Config
	source   string          // file or variable that is being read
	named    map[string]bool // upstreams that the file or the environment names
	problems Problems
}

func structValue(c *Config) reflect.Value { return reflect.ValueOf(c).Elem() }

func (d *decoder) problem(line int, path, format string, args ...any) {
	d.problems = append(d.problems, Problem{Source: d.source, Line: line, Path: path, Message: fmt.Sprintf(format, args...)})
}

// join appends key to a path.
func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// keys returns the YAML names of the fields of t and their indices, in order.
func keys(t reflect.Type) (names []string, index map[string]int) {
	index = map[string]int{}
	for i := range t.NumField() {
		if tag := t.Field(i).Tag.Get("yaml"); tag != "" {
			names = append(names, tag)
			index[tag] = i
		}
	}
	return names, index
}

// value decodes n into v.
func (d *decoder) value(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	d.config.origin[path] = origin{d.source, n.Line}
	switch {
	case v.Type() == reflect.TypeFor[Secret]():
		if n.Kind == yaml.ScalarNode && n.Value == "" {
			return
		}
		d.problem(n.Line, path, "a secret does not belong in the file: use %sFile or the variable %s", path, variable(path))
	case v.Kind() == reflect.Struct, v.Kind() == reflect.Map:
		if n.Tag != "!!null" { // "ops:" with nothing below keeps the defaults
			d.mapping(n, v, path)
		}
	case v.Kind() == reflect.Slice:
		d.list(n, v, path)
	case n.Kind != yaml.ScalarNode || n.Tag == "!!null":
		d.problem(n.Line, path, "%s is wanted here", want(v))
	default:
		d.text(n.Line, n.Value, v, path)
	}
}

// mapping decodes the mapping n into the struct or map v.
func (d *decoder) mapping(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.problem(n.Line, path, "a mapping of keys to values is wanted here")
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, val := n.Content[i], n.Content[i+1]
		if line, ok := seen[key.Value]; ok {
			d.problem(key.Line, join(path, key.Value), "this key stands already in line %d", line)
			continue
		}
		seen[key.Value] = key.Line
		if v.Kind() == reflect.Map {
			d.entry(key, val, v, path)
			continue
		}
		names, index := keys(v.Type())
		if at, ok := index[key.Value]; ok {
			d.value(val, v.Field(at), join(path, key.Value))
		} else {
			d.unknown(key, path, names)
		}
	}
}

// entry decodes one entry of a map over what it held before.
func (d *decoder) entry(key, val *yaml.Node, m reflect.Value, path string) {
	u := reflect.New(m.Type().Elem()).Elem()
	name := reflect.ValueOf(key.Value)
	if old := m.MapIndex(name); old.IsValid() {
		u.Set(old)
	}
	if path == "upstreams" {
		d.named[key.Value] = true
	}
	d.value(val, u, join(path, key.Value))
	if m.IsNil() {
		m.Set(reflect.MakeMap(m.Type()))
	}
	m.SetMapIndex(name, u)
}

func (d *decoder) unknown(key *yaml.Node, path string, names []string) {
	hint := "; valid keys are " + strings.Join(names, ", ")
	if n := nearest(key.Value, names); n != "" {
		hint = fmt.Sprintf("; did you mean %q?", n)
	}
	d.problem(key.Line, join(path, key.Value), "unknown key%s", hint)
}

// list decodes a sequence of strings or of mappings.
func (d *decoder) list(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.SequenceNode {
		d.problem(n.Line, path, "%s is wanted here", want(v))
		return
	}
	if v.Type().Elem().Kind() == reflect.Struct {
		out := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
		for i, item := range n.Content {
			d.value(item, out.Index(i), join(path, strconv.Itoa(i)))
		}
		v.Set(out)
		return
	}
	out := make([]string, 0, len(n.Content))
	for i, item := range n.Content {
		if item.Kind != yaml.ScalarNode || item.Tag == "!!null" {
			d.problem(item.Line, join(path, strconv.Itoa(i)), "a string is wanted here")
			continue
		}
		out = append(out, item.Value)
	}
	v.Set(reflect.ValueOf(slices.Clip(out)))
}

// text sets the scalar v from its text.
func (d *decoder) text(line int, text string, v reflect.Value, path string) {
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		if err := u.UnmarshalText([]byte(text)); err != nil {
			d.problem(line, path, "%v", err)
		}
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil || text != "true" && text != "false" {
			d.problem(line, path, "%q is not true or false", text)
			return
		}
		v.SetBool(b)
	case reflect.Int:
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil {
			d.problem(line, path, "%q is not a whole number below 2147483648", text)
			return
		}
		v.SetInt(n)
	default:
		v.SetString(text)
	}
}

// want names the kind of value that v holds.
func want(v reflect.Value) string {
	switch {
	case v.Type() == reflect.TypeFor[Duration]():
		return "a duration such as 20s, 5m or 120h"
	case v.Type() == reflect.TypeFor[Size]():
		return "a size such as 64KiB or 10GiB"
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct:
		return "a list of mappings"
	case v.Kind() == reflect.Slice:
		return "a list of strings"
	case v.Kind() == reflect.Bool:
		return "true or false"
	case v.Kind() == reflect.Int:
		return "a whole number"
	}
	return "a string"
}
