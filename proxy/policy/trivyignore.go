package policy

import (
	"fmt"
	"path"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// maxIgnored is how many exceptions a .trivyignore file makes at most.
const maxIgnored = 10_000

// ParseTrivyIgnore reads the exceptions of a file in one of Trivy's two forms
// (https://trivy.dev/latest/docs/configuration/filtering/): a list of ids, or
// YAML if the name ends in .yaml or .yml. They become waivers whose owner is the
// name of the file. What has no expiry lasts Forever; an expiry is the start of
// its day in UTC, as Trivy has it. The error is a Problems with everything that
// is wrong: an exception that cannot be read is none.
//
// An id in lower case names a secret by its kind or by what recognised it,
// any other an advisory. Misconfigurations and licences, which are not looked
// for here, are passed over.
func ParseTrivyIgnore(name string, data []byte) ([]Waiver, error) {
	r := &reader{file: name, lines: strings.Split(string(data), "\n")}
	i := ignores{reader: r, owner: path.Base(strings.ReplaceAll(name, `\`, "/"))}
	switch ext := strings.ToLower(path.Ext(name)); {
	case len(data) > maxFile:
		r.at(1, 1, "", "the file is longer than %d bytes", maxFile)
	case ext == ".yaml", ext == ".yml":
		i.yaml(data)
	default:
		i.lines()
	}
	if len(r.problems) > 0 {
		return nil, r.problems.sorted()
	}
	return i.waivers, nil
}

// ignores gathers the exceptions of a file.
type ignores struct {
	*reader
	owner   string
	waivers []Waiver
}

// lines reads the plain form: ID [exp:2026-12-31] [# comment].
func (i *ignores) lines() {
	for n, line := range i.reader.lines {
		text, _, _ := strings.Cut(line, "#")
		fields := strings.Fields(text)
		if len(fields) == 0 {
			continue
		}
		w := Waiver{Reason: "listed in " + i.owner, Expires: Forever}
		w.name(fields[0])
		for _, f := range fields[1:] {
			at := strings.Index(line, f) + 1
			day, ok := strings.CutPrefix(f, "exp:")
			t, err := time.Parse(time.DateOnly, day)
			if !ok || err != nil {
				i.at(n+1, at, "", "%q is not an expiry such as exp:2026-12-31", clip(f))
				continue
			}
			w.Expires = t
		}
		i.add(w, n+1, 1)
	}
}

// name sets what the id of an exception stands for.
func (w *Waiver) name(id string) {
	if c := id[0]; c >= 'a' && c <= 'z' {
		w.Secret = id
	} else {
		w.Advisory = id
	}
}

// add keeps an exception that stands in a line.
func (i *ignores) add(w Waiver, line, column int) {
	w.Owner = i.owner
	switch err := w.Validate(); {
	case err != nil:
		i.at(line, column, "", "%s", err)
	case len(i.waivers) >= maxIgnored:
		if len(i.waivers) == maxIgnored && len(i.problems) == 0 {
			i.at(line, column, "", "more than %d exceptions", maxIgnored)
		}
	default:
		i.waivers = append(i.waivers, w)
	}
}

// yaml reads the YAML form.
func (i *ignores) yaml(data []byte) {
	root := i.document(data)
	if root == nil {
		return
	}
	top := i.mapping(root, "the file", "vulnerabilities", "secrets", "misconfigurations", "licenses")
	for _, n := range i.sequence(top["vulnerabilities"], "vulnerabilities") {
		i.entry(n, "an exception of vulnerabilities", func(w *Waiver, id string) { w.Advisory = id })
	}
	for _, n := range i.sequence(top["secrets"], "secrets") {
		i.entry(n, "an exception of secrets", func(w *Waiver, id string) { w.Secret = id })
	}
}

// entry reads one exception, which is a waiver for each of its paths and purls.
func (i *ignores) entry(n *yaml.Node, what string, name func(*Waiver, string)) {
	before := len(i.problems)
	m := i.mapping(n, what, "id", "paths", "purls", "statement", "expired_at")
	i.require(n, what, m, "id")
	w := Waiver{Reason: "listed in " + i.owner, Expires: Forever}
	if s := oneLine(i.text(m["statement"], "statement")); s != "" {
		w.Reason = s
	}
	name(&w, i.text(m["id"], "id"))
	if s := i.text(m["expired_at"], "expired_at"); s != "" {
		t, err := time.Parse(time.DateOnly, s)
		if err != nil {
			i.problem(m["expired_at"], "", "expired_at is a date such as 2026-12-31, not %q", clip(s))
		}
		w.Expires = t
	}
	paths, purls := []string{""}, []string{""}
	if list := i.sequence(m["paths"], "paths"); len(list) > 0 {
		paths = nil
		for _, p := range list {
			paths = append(paths, globPaths(i.text(p, "a path"))...)
		}
	}
	if list := i.sequence(m["purls"], "purls"); len(list) > 0 {
		purls = nil
		for _, p := range list {
			purls = append(purls, i.text(p, "a purl"))
		}
	}
	if len(i.problems) > before {
		return // an empty path or purl would mean every one
	}
	if n := len(paths) * len(purls); n > maxIgnored {
		i.problem(m["id"], "", "%s", fmt.Sprintf("%d pairs of paths and purls are more than %d", n, maxIgnored))
		return
	}
	for _, p := range paths {
		for _, purl := range purls {
			w.Path, w.Package = p, purl
			i.add(w, n.Line, n.Column)
		}
	}
}

// globPaths are the patterns of ours for one of Trivy's, where **/ also stands
// for no folder at all.
func globPaths(p string) []string {
	p = strings.TrimPrefix(strings.TrimPrefix(p, "./"), "/")
	if rest, ok := strings.CutPrefix(p, "**/"); ok && rest != "" {
		return []string{p, rest}
	}
	return []string{p}
}
