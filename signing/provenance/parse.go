package provenance

import (
	"fmt"

	"github.com/sluiceproxy/sluice/signing"
)

// Predicate types that Parse reads.
const (
	TypeV1  = "https://slsa.dev/provenance/v1"
	TypeV02 = "https://slsa.dev/provenance/v0.2"
)

// Known reports whether Parse reads the predicate type.
func Known(predicateType string) bool { return predicateType == TypeV1 || predicateType == TypeV02 }

// Parse returns what the predicate says of the build. A predicate without a
// builder, or with a field of another type than specified, is an error; one
// without a source has none.
func Parse(st *signing.Statement) (*signing.Provenance, error) {
	p := &signing.Provenance{PredicateType: st.PredicateType}
	var r reader
	var source string
	var materials []any
	switch st.PredicateType {
	case TypeV1:
		def := r.object(st.Predicate, "buildDefinition")
		p.Builder = r.text(r.object(r.object(st.Predicate, "runDetails"), "builder"), "id")
		p.BuildType = r.text(def, "buildType")
		source = r.external(r.object(def, "externalParameters"), p)
		materials = r.list(def, "resolvedDependencies")
	case TypeV02:
		p.Builder = r.text(r.object(st.Predicate, "builder"), "id")
		p.BuildType = r.text(st.Predicate, "buildType")
		c := r.object(r.object(st.Predicate, "invocation"), "configSource")
		source = r.text(c, "uri")
		p.EntryPoint = r.text(c, "entryPoint")
		p.Commit = r.commit(c)
		materials = r.list(st.Predicate, "materials")
	default:
		return nil, fmt.Errorf("%q is no SLSA provenance that is known", st.PredicateType)
	}
	deps := r.dependencies(materials)
	switch {
	case r.err != nil:
		return nil, fmt.Errorf("provenance: %w", r.err)
	case p.Builder == "":
		return nil, fmt.Errorf("the provenance names no builder")
	case source == "":
		return p, nil
	}
	repo, ref, err := Source(source)
	if err != nil {
		return nil, err
	}
	p.Source = repo
	if p.Ref == "" {
		p.Ref = ref
	}
	if err := findCommit(p, deps); err != nil {
		return nil, err
	}
	return p, nil
}

// findCommit takes the commit from the dependencies of the same repository. One
// that contradicts another, or the source's own, is an error.
func findCommit(p *signing.Provenance, deps []dependency) error {
	for _, d := range deps {
		repo, _, err := Source(d.uri)
		if err != nil || repo != p.Source || d.commit == "" {
			continue // other materials: packages, base images
		}
		if p.Commit != "" && p.Commit != d.commit {
			return fmt.Errorf("the provenance names two commits of %s: %s and %s", p.Source, p.Commit, d.commit)
		}
		p.Commit = d.commit
	}
	return nil
}

type dependency struct{ uri, commit string }

// reader reads fields of JSON objects; what is absent is empty. It keeps the
// first field of a wrong type as err.
type reader struct{ err error }

func (r *reader) wrong(key, want string) {
	if r.err == nil {
		r.err = fmt.Errorf("%s is no %s", key, want)
	}
}

func (r *reader) object(m map[string]any, key string) map[string]any {
	o, ok := m[key].(map[string]any)
	if !ok && m[key] != nil {
		r.wrong(key, "object")
	}
	return o
}

func (r *reader) list(m map[string]any, key string) []any {
	l, ok := m[key].([]any)
	if !ok && m[key] != nil {
		r.wrong(key, "list")
	}
	return l
}

func (r *reader) text(m map[string]any, key string) string {
	t, ok := m[key].(string)
	if !ok && m[key] != nil {
		r.wrong(key, "text")
	}
	return t
}

// commit returns the commit in the digest of m, a resource descriptor: gitCommit
// in in-toto's registry of algorithms, sha1 before that.
func (r *reader) commit(m map[string]any) string {
	d := r.object(m, "digest")
	if c := r.text(d, "gitCommit"); c != "" {
		return c
	}
	return r.text(d, "sha1")
}

func (r *reader) dependencies(list []any) []dependency {
	var out []dependency
	for _, e := range list {
		m, ok := e.(map[string]any)
		if !ok {
			r.wrong("a dependency", "object")
			continue
		}
		out = append(out, dependency{uri: r.text(m, "uri"), commit: r.commit(m)})
	}
	return out
}

// external reads what the caller gave a v1 build, in the ways of GitHub's
// workflow build type (https://actions.github.io/buildtypes/workflow/v1),
// BuildKit's, and those that follow the example of the specification.
func (r *reader) external(params map[string]any, p *signing.Provenance) (source string) {
	switch {
	case params["workflow"] != nil:
		w := r.object(params, "workflow")
		p.Ref, p.EntryPoint = r.text(w, "ref"), r.text(w, "path")
		return r.text(w, "repository")
	case params["configSource"] != nil:
		c := r.object(params, "configSource")
		p.EntryPoint, p.Commit = r.text(c, "path"), r.commit(c)
		return r.text(c, "uri")
	}
	if text, ok := params["source"].(string); ok {
		return text
	}
	c := r.object(params, "source")
	p.Commit = r.commit(c)
	return r.text(c, "uri")
}
