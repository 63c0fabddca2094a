package policytest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sluiceproxy/sluice/analyzer"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/signing"
)

// Options of a run.
type Options struct {
	// Policy is tested instead of the one that the file names. Nil = that one.
	Policy *policy.Policy
	// Load returns the policy in a file, by the name that stands in the test.
	Load func(file string) (*policy.Policy, error)
}

// Result is the outcome of one case.
type Result struct {
	Name    string
	Verdict policy.Verdict
	// Problems are the differences between what was wanted and the verdict, each
	// in a sentence; none for a case that passed.
	Problems []string
}

// spec is a file.
type spec struct {
	Policy string    `json:"policy"`
	Clock  time.Time `json:"clock"`
	Cases  []Case    `json:"cases"`
}

// Case is one case of a file.
type Case struct {
	Name       string          `json:"name"`
	Image      json.RawMessage `json:"image"`
	Report     json.RawMessage `json:"report"`
	NoReport   bool            `json:"noReport"`
	Failure    string          `json:"failure"`
	Advisories json.RawMessage `json:"advisories"`
	Known      []struct {
		Advisory string    `json:"advisory"`
		Package  string    `json:"package"`
		Since    time.Time `json:"since"`
	} `json:"known"`
	Blocks  []policy.Block       `json:"blocks"`
	Waivers []policy.Waiver      `json:"waivers"`
	VEX     []policy.AttachedVEX `json:"vex"`
	// Trust is what the signatures come to for policies that demand some.
	Trust []struct {
		Policy  string          `json:"policy"`
		Outcome signing.Outcome `json:"outcome"`
		Signed  bool            `json:"signed"` // by somebody, which does not count
		Error   string          `json:"error"`  // why they could not be looked at
	} `json:"trust"`
	Want struct {
		Decision policy.Decision  `json:"decision"`
		Until    time.Time        `json:"until"`
		Reasons  *[]policy.Reason `json:"reasons"` // nil: any
	} `json:"want"`
}

// Run runs the cases of a file, whose name stands for it in errors. The error
// says what is wrong with the file itself.
func Run(name string, data []byte, opts Options) ([]Result, error) {
	results, err := run(name, data, opts)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return results, nil
}

func run(name string, data []byte, opts Options) ([]Result, error) {
	var loose any
	if err := yaml.Unmarshal(data, &loose); err != nil {
		return nil, err
	}
	asJSON, err := json.Marshal(loose)
	if err != nil {
		return nil, err
	}
	var s spec
	if err := strict(asJSON, &s); err != nil {
		return nil, err
	}
	switch {
	case s.Clock.IsZero():
		return nil, errors.New("clock: missing; a policy sees no other")
	case len(s.Cases) == 0:
		return nil, errors.New("cases: there are none")
	}
	p, err := s.load(name, opts)
	if err != nil {
		return nil, err
	}
	results := make([]Result, len(s.Cases))
	for i := range s.Cases {
		c := &s.Cases[i]
		e, err := c.Evidence(s.Clock)
		if err != nil {
			return nil, fmt.Errorf("case %q: %w", c.Name, err)
		}
		if c.Want.Decision == policy.Undecided {
			return nil, fmt.Errorf("case %q: want.decision: one of allow, annotate, pending and deny", c.Name)
		}
		v := p.Decide(e)
		results[i] = Result{Name: c.Name, Verdict: v, Problems: c.compare(&v)}
	}
	return results, nil
}

// load returns the policy to test.
func (s *spec) load(name string, opts Options) (*policy.Policy, error) {
	text := strings.TrimSpace(s.Policy)
	switch {
	case opts.Policy != nil:
		return opts.Policy, nil
	case text == "":
		return nil, errors.New(`policy: missing; a file, "default", or the text of a policy`)
	case text == "default":
		return policy.Default(), nil
	case strings.Contains(text, "\n"):
		return policy.Parse(name, []byte(s.Policy))
	case opts.Load == nil:
		return nil, fmt.Errorf("policy: %q: files are not read here", text)
	}
	return opts.Load(text)
}

// strict decodes JSON into v; an unknown key is an error.
func strict(b []byte, v any) error {
	if len(b) == 0 {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	return d.Decode(v)
}

// Evidence is that of a clean image at the clock, with the case's changes.
func (c *Case) Evidence(clock time.Time) (*policy.Evidence, error) {
	e := &policy.Evidence{
		Image: policy.Image{
			Name: "docker.io/library/app", Upstream: "docker.io", Repository: "library/app", Tags: []string{"1"},
			Digest: "sha256:7d5d2d3e6b8c2ab7a1d2d5c5b5c1c0b5d1a0c9d8e7f6a5b4c3d2e1f0a9b8c7d6", FirstSeen: clock,
		},
		Report:     &analyzer.Report{Advisories: "r1", Updated: clock, Inventory: analyzer.Inventory{User: "app", Created: clock}},
		Advisories: policy.Advisories{Revision: "r1", Updated: clock},
		Failure:    c.Failure, Blocks: c.Blocks, Waivers: c.Waivers, VEX: c.VEX, Now: clock,
	}
	for _, t := range c.Trust {
		r := policy.TrustResult{Policy: t.Policy, Err: t.Error, Result: signing.Result{Outcome: t.Outcome, Reason: "as the test says"}}
		if t.Signed {
			r.Result.Authorities = []signing.AuthorityResult{{Refused: []signing.Refusal{{Reason: r.Result.Reason}}}}
		}
		e.Trust = append(e.Trust, r)
	}
	for _, part := range []struct {
		name string
		text json.RawMessage
		into any
	}{{"image", c.Image, &e.Image}, {"report", c.Report, e.Report}, {"advisories", c.Advisories, &e.Advisories}} {
		if err := strict(part.text, part.into); err != nil {
			return nil, fmt.Errorf("%s: %w", part.name, err)
		}
	}
	if c.NoReport {
		e.Report = nil
	}
	e.Image.Known = map[policy.FindingKey]time.Time{}
	for _, k := range c.Known {
		e.Image.Known[policy.FindingKey{Advisory: k.Advisory, Package: k.Package}] = k.Since
	}
	return e, nil
}

// compare says how v is not what is wanted.
func (c *Case) compare(v *policy.Verdict) []string {
	var problems []string
	add := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	if v.Decision != c.Want.Decision {
		add("decision %s, want %s: %s", v.Decision, c.Want.Decision, v.Summary())
	}
	if !c.Want.Until.IsZero() && !v.Until.Equal(c.Want.Until) {
		add("until %s, want %s", stamp(v.Until), stamp(c.Want.Until))
	}
	if c.Want.Reasons == nil {
		return problems
	}
	want := *c.Want.Reasons
	for i := range max(len(want), len(v.Reasons)) {
		switch {
		case i >= len(want):
			add("reason %d is %s, want no more", i+1, outline(&v.Reasons[i], &policy.Reason{}))
		case i >= len(v.Reasons):
			add("reason %d is missing: %s", i+1, outline(&want[i], &want[i]))
		default:
			if got, wanted := outline(&v.Reasons[i], &want[i]), outline(&want[i], &want[i]); got != wanted {
				add("reason %d is %s, want %s", i+1, got, wanted)
			}
		}
	}
	return problems
}

// outline is a reason in one line: what is always compared, and what like has.
func outline(r, like *policy.Reason) string {
	parts := []string{r.Action.String() + " by " + r.Rule}
	add := func(name, value string, compared bool) {
		if compared && value != "" {
			parts = append(parts, name+" "+value)
		}
	}
	add("waived:", r.Waived, true)
	add("denied from", stamp(r.GraceUntil), true)
	for _, f := range []struct{ name, value, like string }{
		{"message", r.Message, like.Message},
		{"policy", r.Policy, like.Policy},
		{"block", r.Block, like.Block},
		{"advisory", r.Advisory, like.Advisory},
		{"severity", r.Severity, like.Severity},
		{"package", r.Package, like.Package},
		{"purl", r.PURL, like.PURL},
		{"version", r.Version, like.Version},
		{"fixed", r.Fixed, like.Fixed},
		{"path", r.Path, like.Path},
		{"layer", r.Layer, like.Layer},
	} {
		add(f.name, f.value, f.like != "")
	}
	return strings.Join(parts, ", ")
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}
