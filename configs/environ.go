package configs

import (
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

const envPrefix = "SLUICE_"

// foreign matches variables that begin like ours and are not: what Kubernetes
// sets for each service whose name begins with "sluice" (Kubernetes,
// "Discovering services"), and those of the project's own tests and CI.
var foreign = regexp.MustCompile(`^SLUICE_(TEST_.*|CI)$|^SLUICE_(\w+_)?(SERVICE_HOST|SERVICE_PORT\w*|PORT(_\d+_\w+)?)$`)

// variable returns the environment variable of the key at path.
func variable(path string) string {
	return envPrefix + strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, path)
}

// environ overrides the configuration with the variables in env. Those of
// upstreams can change one that the file or the defaults have, not add one: a
// name cannot be read back from a variable.
func (d *decoder) environ(env []string) {
	paths, names := d.variables()
	for _, kv := range slices.Sorted(slices.Values(env)) {
		name, value, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(name, envPrefix) || foreign.MatchString(name) {
			continue
		}
		d.source = name
		switch found := paths[name]; len(found) {
		case 0:
			hint := ""
			if n := nearest(name, names); n != "" {
				hint = fmt.Sprintf("; did you mean %s?", n)
			}
			d.problem(0, "", "no such configuration key%s", hint)
		case 1:
			d.set(found[0], value)
		default:
			d.problem(0, "", "this variable means %s at once; use the file", strings.Join(found, " and "))
		}
	}
}

// variables returns the paths of each variable, and the variables in order.
func (d *decoder) variables() (paths map[string][]string, names []string) {
	paths = map[string][]string{}
	var walk func(t reflect.Type, path string)
	walk = func(t reflect.Type, path string) {
		tags, index := keys(t)
		for _, tag := range tags {
			switch f := t.Field(index[tag]).Type; {
			case f.Kind() == reflect.Struct:
				walk(f, join(path, tag))
			case f.Kind() == reflect.Slice && f.Elem().Kind() == reflect.Struct, f.Kind() == reflect.Map && path+tag != "upstreams":
				// Only the file can say what stands in a list or under a name.
			case f.Kind() == reflect.Map:
				for _, name := range slices.Sorted(maps.Keys(d.config.Upstreams)) {
					walk(f.Elem(), join(join(path, tag), name))
				}
			default:
				v := variable(join(path, tag))
				paths[v] = append(paths[v], join(path, tag))
			}
		}
	}
	walk(reflect.TypeFor[Config](), "")
	return paths, slices.Sorted(maps.Keys(paths))
}

// set gives the key at path, which exists, the value of a variable.
func (d *decoder) set(path, value string) {
	d.config.origin[path] = origin{source: d.source}
	if name, ok := strings.CutPrefix(path, "upstreams."); ok {
		at := strings.LastIndexByte(name, '.')
		name, key := name[:at], name[at+1:]
		u := d.config.Upstreams[name]
		_, index := keys(reflect.TypeFor[Upstream]())
		d.fromVariable(value, reflect.ValueOf(&u).Elem().Field(index[key]), path)
		d.config.Upstreams[name], d.named[name] = u, true
		return
	}
	v := structValue(d.config)
	for _, key := range strings.Split(path, ".") {
		_, index := keys(v.Type())
		v = v.Field(index[key])
	}
	d.fromVariable(value, v, path)
}

func (d *decoder) fromVariable(value string, v reflect.Value, path string) {
	if v.Kind() != reflect.Slice {
		d.text(0, value, v, path)
		return
	}
	out := []string{}
	for s := range strings.SplitSeq(value, ",") {
		if s = strings.TrimSpace(s); s != "" {
			out = append(out, s)
		}
	}
	v.Set(reflect.ValueOf(out))
}
