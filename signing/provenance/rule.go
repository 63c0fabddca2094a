package provenance

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/sluiceproxy/sluice/signing"
)

// Rule is a signing.SLSARule that was compiled. It is safe for concurrent use.
type Rule struct {
	signing.SLSARule
	builder, ref *regexp.Regexp // nil if not asked for
	sources      []*regexp.Regexp
}

// NewRule compiles the rule. A rule that names no builder, an expression that is
// wrong and one that matches everything are errors.
func NewRule(r signing.SLSARule) (*Rule, error) {
	c := &Rule{SLSARule: r}
	var err error
	if len(r.Builders) == 0 && r.BuilderRegExp == "" {
		return nil, errors.New("slsa names no builder: anybody can write provenance")
	}
	if r.BuilderRegExp != "" {
		if c.builder, err = signing.WholeRegExp(r.BuilderRegExp); err != nil {
			return nil, fmt.Errorf("builderRegExp: %w", err)
		}
	}
	if r.RefRegExp != "" {
		if c.ref, err = regexp.Compile(`^(?:` + r.RefRegExp + `)$`); err != nil {
			return nil, fmt.Errorf("refRegExp: %w", err)
		}
	}
	for _, g := range r.Sources {
		re, err := signing.NameGlob(g)
		if err != nil {
			return nil, fmt.Errorf("source %q: %w", g, err)
		}
		c.sources = append(c.sources, re)
	}
	return c, nil
}

// Check returns nil if the rule trusts the build, else why not. id is who signed
// the provenance.
func (r *Rule) Check(p *signing.Provenance, id signing.Identity) error {
	if !slices.Contains(r.Builders, p.Builder) && (r.builder == nil || !r.builder.MatchString(p.Builder)) {
		return fmt.Errorf("the builder %q is not one of the rule's", p.Builder)
	}
	if len(r.BuildTypes) > 0 && !slices.Contains(r.BuildTypes, p.BuildType) {
		return fmt.Errorf("the build type %q is not one of the rule's", p.BuildType)
	}
	if len(r.sources) > 0 && !slices.ContainsFunc(r.sources, func(re *regexp.Regexp) bool { return p.Source != "" && re.MatchString(p.Source) }) {
		return fmt.Errorf("the source %q is not one of the rule's", p.Source)
	}
	if r.ref != nil && !r.ref.MatchString(p.Ref) {
		return fmt.Errorf("the ref %q is not one of the rule's", p.Ref)
	}
	if r.Commit != "" && r.Commit != p.Commit {
		return fmt.Errorf("the commit is %q, not %s", p.Commit, r.Commit)
	}
	if r.MatchCertificate {
		return agree(p, id)
	}
	return nil
}

// agree compares the predicate with the certificate. The certificate must name
// the source, its ref and its commit; the builder is compared with the workflow
// that signed, or, where it is GitHub's runner, with the runner's environment.
func agree(p *signing.Provenance, id signing.Identity) error {
	if id.SourceRepository == "" {
		return errors.New("the certificate names no source repository to compare with: matchCertificate needs a workflow's keyless signature")
	}
	repo, _, err := Source(id.SourceRepository)
	if err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	for _, f := range []struct{ what, predicate, certificate string }{
		{"source", p.Source, repo},
		{"ref", p.Ref, id.SourceRef},
		{"commit", p.Commit, id.SourceDigest},
	} {
		if f.predicate == "" || f.predicate != f.certificate {
			return fmt.Errorf("the provenance says the %s is %q, the certificate %q", f.what, f.predicate, f.certificate)
		}
	}
	const runner = "https://github.com/actions/runner/"
	switch {
	case strings.HasPrefix(p.Builder, runner):
		if kind := strings.TrimPrefix(p.Builder, runner); kind != id.RunnerEnvironment {
			return fmt.Errorf("the provenance says the runner is %q, the certificate %q", kind, id.RunnerEnvironment)
		}
	case p.Builder != id.BuildSigner:
		return fmt.Errorf("the provenance says the builder is %q, the certificate %q", p.Builder, id.BuildSigner)
	}
	return nil
}
