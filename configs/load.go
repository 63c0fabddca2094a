package configs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// origin tells where a value was set.
type origin struct {
	source string
	line   int
}

// Load returns Default overridden by the file at path ("" = no file), by the
// SLUICE_ variables of environ (as of os.Environ) and by overrides in their
// order, which is where flags go. The error is Problems with everything that
// is wrong, or that of reading the file.
func Load(path string, environ []string, overrides ...func(*Config)) (*Config, error) {
	d := decoder{config: Default(), named: map[string]bool{}}
	d.config.origin = map[string]origin{}
	if path != "" {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("configuration: %w", err)
		}
		d.file(path, data)
	}
	d.environ(environ)
	if !d.config.UpstreamDefaults {
		maps.DeleteFunc(d.config.Upstreams, func(name string, _ Upstream) bool { return !d.named[name] })
	}
	before := values(d.config)
	for _, set := range overrides {
		set(d.config)
	}
	for path, now := range values(d.config) {
		if before[path] != now {
			delete(d.config.origin, path)
		}
	}
	problems := append(d.problems, d.config.problems()...)
	slices.SortStableFunc(problems, func(a, b Problem) int { return a.Line - b.Line })
	if err := problems.err(); err != nil {
		return nil, err
	}
	return d.config, nil
}

// values returns the text of each key's value by its path.
func values(c *Config) map[string]string {
	out := map[string]string{}
	var walk func(v reflect.Value, path string)
	walk = func(v reflect.Value, path string) {
		names, index := keys(v.Type())
		for _, name := range names {
			switch f := v.Field(index[name]); {
			case f.Kind() == reflect.Struct:
				walk(f, join(path, name))
			case path+name == "upstreams":
				for name, u := range c.Upstreams {
					walk(reflect.ValueOf(u), join("upstreams", name))
				}
			default:
				out[join(path, name)] = fmt.Sprint(f.Interface())
			}
		}
	}
	walk(structValue(c), "")
	return out
}

// file overrides the configuration with a YAML document.
func (d *decoder) file(name string, data []byte) {
	d.source = name
	var doc, second yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(data))
	err := dec.Decode(&doc)
	if err == nil {
		if err = dec.Decode(&second); err == nil {
			d.problem(second.Line, "", "a second document starts here; one is wanted")
		}
	}
	if !errors.Is(err, io.EOF) && err != nil {
		d.syntax(err)
		return
	}
	if len(doc.Content) == 0 {
		return // an empty file, or comments only
	}
	d.mapping(doc.Content[0], structValue(d.config), "")
}

var syntaxLine = regexp.MustCompile(`^yaml: line (\d+): `)

// syntax reports an error of the YAML parser, which has its line in the text.
func (d *decoder) syntax(err error) {
	text, line := err.Error(), 0
	if m := syntaxLine.FindStringSubmatch(text); m != nil {
		text = text[len(m[0]):]
		line, _ = strconv.Atoi(m[1]) // digits only
	}
	d.problem(line, "", "not YAML: %s", strings.TrimPrefix(text, "yaml: "))
}
