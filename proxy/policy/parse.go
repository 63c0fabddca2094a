package policy

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sluiceproxy/sluice/signing"
)

// maxFile is the longest policy file in bytes.
const maxFile = 1 << 20

var identifier = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$`)

// Parse reads a policy file (DESIGN.md §5) and compiles it. The name stands
// for it in problems. The error is a Problems with everything that is wrong.
//
//	version: 1
//	policies:
//	  - name, images [globs], exclude [globs], rules, messages {rule: text}
//	    rules: id, for (finding, secret, undecided, image), when (CEL), action
//	    (annotate, pending, deny), grace (of a finding's deny)
//	    trust: see signing.ParseTrust, with action (annotate, pending, deny) and
//	    onError (pending, deny)
//	    tags: onMove (alert, hold, deny), holdFor, onRollback (alert, hold, deny)
//	    base: required, trusted [globs], maxAge, action (annotate, deny)
//	keys, roots, stores, locks: what trust names, see signing.ParseMaterials
//	waivers:
//	  - advisory, package (purl), rule, secret, path (glob), images [globs],
//	    owner, reason, expires
func Parse(name string, data []byte) (*Policy, error) {
	r := &reader{file: name, lines: strings.Split(string(data), "\n")}
	root := r.document(data)
	if root == nil {
		return nil, r.problems
	}
	c, err := newCompiler()
	if err != nil {
		return nil, fmt.Errorf("policy %s: %w", name, err)
	}
	p := &Policy{name: name, text: bytes.Clone(data), revision: revisionOf(data), files: map[string]pos{}}
	top := r.mapping(root, "the policy file", "version", "policies", "waivers", "keys", "roots", "stores", "locks")
	r.require(root, "the policy file", top, "version", "policies")
	if n := top["version"]; n != nil {
		if v := r.text(n, "version"); v != "" && v != "1" {
			r.problem(n, "1", "version %s is not known to this program", clip(v))
		}
	}
	material, problems := signing.ParseMaterials(top["keys"], top["roots"], top["stores"], top["locks"])
	r.add(problems)
	p.lockFiles = material.Locks()
	for _, k := range []string{"keys", "roots", "stores", "locks"} {
		places(top[k], p.files)
	}
	lines := map[string]int{} // of the policies' names
	for _, n := range r.sequence(top["policies"], "policies") {
		s := r.policy(n, c, material)
		if first, ok := lines[s.name]; ok && s.name != "" {
			r.problem(n, "", "policy %q is there twice, first in line %d", s.name, first)
		}
		lines[s.name] = n.Line
		p.sets = append(p.sets, s)
	}
	if n := top["policies"]; n != nil && len(p.sets) == 0 {
		r.problem(n, "", "policies is empty: no image would be covered")
	}
	for _, n := range r.sequence(top["waivers"], "waivers") {
		if w, ok := r.waiver(n, p); ok {
			p.waivers = append(p.waivers, w)
		}
	}
	if len(r.problems) > 0 {
		return nil, r.problems.sorted()
	}
	return p, nil
}

// revisionOf names a file's text with what else the policy rests on.
func revisionOf(text []byte, more ...string) string {
	h := sha256.New()
	h.Write(text) // a hash never returns an error
	for _, m := range more {
		h.Write([]byte("\x00" + m))
	}
	return "p-" + hex.EncodeToString(h.Sum(nil))[:12]
}

var yamlLine = regexp.MustCompile(`line (\d+): `)

// document returns the root of the file's one document; nil after a problem.
func (r *reader) document(data []byte) *yaml.Node {
	if len(data) > maxFile {
		r.at(1, 1, "", "the file is longer than %d bytes", maxFile)
		return nil
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	switch err := decoder.Decode(&doc); {
	case errors.Is(err, io.EOF):
		r.at(1, 1, "", "the file is empty")
		return nil
	case err != nil:
		r.syntax(err)
		return nil
	}
	switch err := decoder.Decode(&second); {
	case err == nil:
		r.problem(&second, "", "the file has a second document")
		return nil
	case !errors.Is(err, io.EOF):
		r.syntax(err)
		return nil
	}
	return doc.Content[0]
}

func (r *reader) syntax(err error) {
	line, message := 1, strings.TrimPrefix(err.Error(), "yaml: ")
	if m := yamlLine.FindStringSubmatch(message); m != nil {
		if n, err := strconv.Atoi(m[1]); err == nil {
			line = n
		}
		message = strings.Replace(message, m[0], "", 1)
	}
	r.at(line, 1, "", "not YAML: %s", message)
}

// policy reads one element of policies.
func (r *reader) policy(n *yaml.Node, c *compiler, material *signing.Materials) *ruleset {
	const what = "a policy"
	m := r.mapping(n, what, "name", "images", "exclude", "rules", "messages", "trust", "tags", "base")
	r.require(n, what, m, "name", "images")
	s := &ruleset{
		name:    r.identifier(m["name"], "a policy's name"),
		images:  r.globs(m["images"], "images"),
		exclude: r.globs(m["exclude"], "exclude"),
	}
	if images := m["images"]; images != nil && len(resolve(images).Content) == 0 {
		r.problem(images, `["**"]`, "images is empty: the policy would cover none")
	}
	if s.trust = r.trust(m["trust"], s.name, material); s.trust != nil {
		s.trust.set = s
	}
	s.tags, s.base = r.tags(m["tags"]), r.base(m["base"])
	if m != nil && m["rules"] == nil && m["trust"] == nil && m["tags"] == nil && m["base"] == nil {
		r.problem(n, "rules: []", "the policy has no rules: whatever it covers would be allowed; if that is meant, say so")
	}
	for _, e := range r.sequence(m["rules"], "rules") {
		added := r.rule(e, c)
		if added.id != "" && slices.ContainsFunc(s.rules, func(o *rule) bool { return o.id == added.id }) {
			r.problem(e, "", "rule %q is there twice in policy %q", added.id, s.name)
		}
		s.rules = append(s.rules, added)
	}
	r.messages(m["messages"], s)
	return s
}

// messages reads the texts that replace rules' default sentences.
func (r *reader) messages(n *yaml.Node, s *ruleset) {
	if n == nil {
		return
	}
	n = resolve(n)
	if n.Kind != yaml.MappingNode {
		r.problem(n, "", "messages is a mapping of rules' ids to texts")
		return
	}
	ids := make([]string, len(s.rules))
	for i, rule := range s.rules {
		ids[i] = rule.id
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		at := slices.Index(ids, key.Value)
		switch {
		case at < 0:
			r.problem(key, nearest(key.Value, ids), "messages names no rule of the policy: %q", clip(key.Value))
		case s.rules[at].message != "":
			r.problem(key, "", "messages has the key %q twice", key.Value)
		default:
			s.rules[at].message = oneLine(r.text(value, "a message"))
		}
	}
}

// rule reads one element of rules.
func (r *reader) rule(n *yaml.Node, c *compiler) *rule {
	const what = "a rule"
	m := r.mapping(n, what, "id", "for", "when", "action", "grace")
	r.require(n, what, m, "id", "for", "when", "action")
	out := &rule{id: r.identifier(m["id"], "a rule's id")}
	if slices.Contains(builtIn, out.id) {
		r.problem(m["id"], "", "%q is the name of a built-in rule", out.id)
	}
	out.kind = kind(r.choice(m["for"], "for", kinds))
	switch r.choice(m["action"], "action", []string{"annotate", "pending", "deny"}) {
	case "annotate":
		out.action = Annotate
	case "pending":
		out.action = Pending
	case "deny":
		out.action = Deny
	}
	if out.grace = r.duration(m["grace"], "grace"); out.grace > 0 && (out.kind != "" && out.kind != forFinding || out.action != Deny && out.action != Undecided) {
		r.problem(m["grace"], "", "grace is for a rule that denies a finding: it counts from when the finding became known")
	}
	if when := r.text(m["when"], "when"); when != "" && out.kind != "" {
		var faults []fault
		out.when, faults = c.compile(out.kind, when)
		for _, f := range faults {
			line, column := r.inside(m["when"], f.line, f.column)
			r.at(line, column, f.suggestion, "when: %s", f.message)
		}
	}
	return out
}

// choice reads a word that must be one of words; "" after a problem.
func (r *reader) choice(n *yaml.Node, what string, words []string) string {
	s := r.text(n, what)
	switch {
	case s == "" || slices.Contains(words, s):
		return s
	case what == "action" && s == "allow":
		r.problem(n, "", "a rule cannot allow: what no rule stops is allowed; use exclude or a waiver for an exception")
	default:
		r.problem(n, nearest(s, words), "%s is one of %s, not %q", what, strings.Join(words, ", "), clip(s))
	}
	return ""
}

// identifier reads a name of lower-case letters, digits and hyphens.
func (r *reader) identifier(n *yaml.Node, what string) string {
	s := r.text(n, what)
	if s != "" && !identifier.MatchString(s) {
		r.problem(n, "", "%s has at most 64 lower-case letters, digits and hyphens, not %q", what, clip(s))
		return ""
	}
	return s
}

// waiver reads one element of waivers, of the policies in p.
func (r *reader) waiver(n *yaml.Node, p *Policy) (waiver, bool) {
	const what = "a waiver"
	before := len(r.problems)
	m := r.mapping(n, what, "advisory", "images", "package", "rule", "secret", "path", "owner", "reason", "expires")
	r.require(n, what, m, "owner", "reason", "expires")
	if m != nil && m["advisory"] == nil && m["package"] == nil && m["rule"] == nil && m["secret"] == nil {
		r.problem(n, "", "a waiver needs at least one of advisory, package, rule and secret")
	}
	w := Waiver{
		Advisory: r.text(m["advisory"], "advisory"),
		Package:  r.text(m["package"], "package"),
		Rule:     r.text(m["rule"], "rule"),
		Secret:   r.text(m["secret"], "secret"),
		Path:     r.text(m["path"], "path"),
		Owner:    oneLine(r.text(m["owner"], "owner")),
		Reason:   oneLine(r.text(m["reason"], "reason")),
		Expires:  r.expiry(m["expires"], "expires"),
	}
	for _, g := range r.globs(m["images"], "images") {
		w.Images = append(w.Images, g.String())
	}
	if images := m["images"]; images != nil && len(resolve(images).Content) == 0 {
		r.problem(images, "", "images is empty: leave it out to mean every image")
	}
	if w.Package != "" {
		if _, err := ParsePURL(w.Package); err != nil {
			r.problem(m["package"], "", "package %q: %s", clip(w.Package), err)
		}
	}
	if rules := p.ruleIDs(); w.Rule != "" && !slices.Contains(rules, w.Rule) && !slices.Contains(builtIn, w.Rule) {
		r.problem(m["rule"], nearest(w.Rule, rules), "no policy has a rule %q", clip(w.Rule))
	}
	if len(r.problems) > before {
		return waiver{}, false
	}
	c, err := compileWaiver(w)
	if err != nil {
		r.problem(n, "", "%s", err)
		return waiver{}, false
	}
	return c, true
}

// ruleIDs are the ids of all rules.
func (p *Policy) ruleIDs() []string {
	var ids []string
	for _, s := range p.sets {
		for _, rule := range s.rules {
			ids = append(ids, rule.id)
		}
	}
	return ids
}

// oneLine replaces line breaks and other white space by single spaces: reasons
// end in HTTP headers.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
