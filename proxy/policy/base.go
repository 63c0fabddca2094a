package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sluiceproxy/sluice/analyzer"
)

// baseRule is a policy's base section.
type baseRule struct {
	required bool
	trusted  []Glob // none = every known image
	maxAge   time.Duration
	action   Decision
}

// base reads the section of a policy.
func (r *reader) base(n *yaml.Node) *baseRule {
	if n == nil {
		return nil
	}
	m := r.mapping(n, "base", "required", "trusted", "maxAge", "action")
	b := &baseRule{trusted: r.globs(m["trusted"], "trusted"), maxAge: r.duration(m["maxAge"], "maxAge"), action: Deny}
	if req := m["required"]; req != nil {
		switch r.text(req, "required") {
		case "true":
			b.required = true
		case "false", "":
		default:
			r.problem(req, "", "required is true or false")
		}
	}
	if a := m["action"]; a != nil {
		b.action = r.decision(a, "action", Annotate, Deny)
	}
	if m != nil && !b.required && m["trusted"] == nil && m["maxAge"] == nil {
		r.problem(n, "required: true", "base demands nothing: it has required, trusted and maxAge")
	}
	return b
}

// chain denies what is not what an index or the config promises. No policy can
// switch that off. A waiver can set aside that layers are not the config's: it
// names the rule, and ends.
func (d *decision) chain() {
	if why := d.Image.ChainBroken; why != "" {
		d.add(Reason{Rule: RuleDigestChain, Action: Deny, Message: "broken digest chain: " + why})
	}
	if why := d.report().DiffIDBroken; why != "" {
		r := Reason{Rule: RuleDigestChain, Action: Deny, Message: "broken digest chain: " + why}
		d.waive(&r, &subject{Evidence: d.Evidence})
		d.add(r)
	}
}

// bases holds the images that are known to be below this one against the base
// sections of the covering policies.
func (d *decision) bases(covering []*ruleset) {
	if d.Image.Evidential || d.report().ArtifactType != "" || d.report().SBOM != "" {
		return // no image of layers, or none that was looked into
	}
	for _, s := range covering {
		if s.base == nil {
			continue
		}
		if r, ok := s.base.judge(d); ok {
			r.Policy, r.Action = s.name, s.base.action
			d.waive(&r, &subject{Evidence: d.Evidence})
			d.add(r)
		}
	}
}

// judge returns what is wrong with the image's base, if something is. An image
// that matches trusted is a base itself.
func (b *baseRule) judge(d *decision) (Reason, bool) {
	if slices.ContainsFunc(b.trusted, func(g Glob) bool { return g.Match(d.Image.Name, d.Image.Tags, d.Image.Digest) }) {
		return Reason{}, false
	}
	known := d.report().Base.Known()
	if len(known) == 0 {
		if !b.required {
			return Reason{}, false
		}
		d.recheck(d.Now.Add(coarse)) // its base may be pulled in the meantime
		return Reason{Rule: RuleBaseUnknown, Message: "the image is not built on an image that is known here" + b.wanted()}, true
	}
	trusted := known
	if len(b.trusted) > 0 {
		trusted = slices.DeleteFunc(slices.Clone(known), func(p analyzer.ProvenBase) bool { return !b.trusts(&p) })
	}
	if len(trusted) == 0 {
		d.recheck(d.Now.Add(coarse))
		return Reason{Rule: RuleBaseUntrusted, Message: fmt.Sprintf("the image is built on %s@%s, which is not trusted%s", known[0].Name, known[0].Digest, b.wanted())}, true
	}
	base := trusted[0]
	if b.maxAge == 0 {
		return Reason{}, false
	}
	if ageOf(base.Created, d.Now) <= b.maxAge {
		d.recheck(base.Created.Add(b.maxAge + 1))
		return Reason{}, false
	}
	built := "nothing says when that was built"
	if !base.Created.IsZero() {
		built = "built " + day(base.Created)
	}
	return Reason{Rule: RuleBaseTooOld, Message: fmt.Sprintf("the image is built on %s@%s, %s; at most %s old is allowed: build it again on a current base",
		base.Name, base.Digest, built, sayDuration(b.maxAge))}, true
}

// trusts reports whether a base is one of the trusted.
func (b *baseRule) trusts(p *analyzer.ProvenBase) bool {
	name, tags := p.Name, []string(nil)
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		name, tags = name[:i], []string{name[i+1:]}
	}
	return slices.ContainsFunc(b.trusted, func(g Glob) bool { return g.Match(name, tags, p.Digest) })
}

// wanted names the trusted bases.
func (b *baseRule) wanted() string {
	if len(b.trusted) == 0 {
		return ""
	}
	names := make([]string, len(b.trusted))
	for i, g := range b.trusted {
		names[i] = g.String()
	}
	return "; trusted are " + some(names)
}

// sayDuration is "90 days" where that is exact, else as Go writes it.
func sayDuration(d time.Duration) string {
	if days := d / (24 * time.Hour); days > 1 && d%(24*time.Hour) == 0 {
		return fmt.Sprintf("%d days", days)
	}
	return d.String()
}
