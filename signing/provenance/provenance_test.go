package provenance

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluiceproxy/sluice/signing"
)

const sha = "0123456789abcdef0123456789abcdef01234567"

func statement(t testing.TB, predicateType, predicate string) *signing.Statement {
	t.Helper()
	st := &signing.Statement{PredicateType: predicateType}
	if err := json.Unmarshal([]byte(predicate), &st.Predicate); err != nil {
		t.Fatal(err)
	}
	return st
}

const (
	github = `{"buildDefinition":{"buildType":"https://actions.github.io/buildtypes/workflow/v1",
		"externalParameters":{"workflow":{"ref":"refs/tags/v1","repository":"https://github.com/acme/app","path":".github/workflows/r.yml"}},
		"resolvedDependencies":[{"uri":"git+https://github.com/acme/other@refs/heads/x","digest":{"gitCommit":"ffff"}},
			{"uri":"git+https://github.com/acme/app@refs/tags/v1","digest":{"gitCommit":"` + sha + `"}}]},
		"runDetails":{"builder":{"id":"https://github.com/actions/runner/github-hosted"}}}`
	generator = `{"builder":{"id":"https://github.com/slsa-framework/g/.github/workflows/g.yml@refs/tags/v2"},"buildType":"g",
		"invocation":{"configSource":{"uri":"git+https://github.com/acme/app@refs/tags/v1","digest":{"sha1":"` + sha + `"},"entryPoint":".github/workflows/r.yml"}},
		"materials":[{"uri":"git+https://github.com/acme/app@refs/tags/v1","digest":{"sha1":"` + sha + `"}}]}`
	buildkit = `{"buildDefinition":{"buildType":"https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md",
		"externalParameters":{"configSource":{"uri":"https://github.com/acme/app.git#refs/tags/v1:sub","digest":{"sha1":"` + sha + `"},"path":"Dockerfile"}},
		"resolvedDependencies":[{"uri":"pkg:docker/alpine@3","digest":{"sha256":"aa"}}]},
		"runDetails":{"builder":{"id":"b"}}}`
)

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		name, kind, predicate string
		want                  signing.Provenance
	}{
		{"GitHub v1", TypeV1, github, signing.Provenance{
			PredicateType: TypeV1, Builder: "https://github.com/actions/runner/github-hosted", BuildType: "https://actions.github.io/buildtypes/workflow/v1",
			Source: "github.com/acme/app", Ref: "refs/tags/v1", Commit: sha, EntryPoint: ".github/workflows/r.yml",
		}},
		{"generator v0.2", TypeV02, generator, signing.Provenance{
			PredicateType: TypeV02, Builder: "https://github.com/slsa-framework/g/.github/workflows/g.yml@refs/tags/v2", BuildType: "g",
			Source: "github.com/acme/app", Ref: "refs/tags/v1", Commit: sha, EntryPoint: ".github/workflows/r.yml",
		}},
		{"BuildKit v1", TypeV1, buildkit, signing.Provenance{
			PredicateType: TypeV1, Builder: "b", BuildType: "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md",
			Source: "github.com/acme/app", Ref: "refs/tags/v1", Commit: sha, EntryPoint: "Dockerfile",
		}},
		{"source as text", TypeV1, `{"buildDefinition":{"externalParameters":{"source":"git+https://h/a/b@main"}},"runDetails":{"builder":{"id":"b"}}}`, signing.Provenance{
			PredicateType: TypeV1, Builder: "b", Source: "h/a/b", Ref: "main",
		}},
		{"no source", TypeV1, `{"runDetails":{"builder":{"id":"b"}}}`, signing.Provenance{PredicateType: TypeV1, Builder: "b"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Parse(statement(t, tt.kind, tt.predicate))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(&tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for _, tt := range []struct{ name, kind, predicate, want string }{
		{"another type", "https://example.com", `{}`, "no SLSA"},
		{"no builder", TypeV1, `{}`, "no builder"},
		{"builder of another type", TypeV1, `{"runDetails":{"builder":"x"}}`, "builder is no object"},
		{"id of another type", TypeV02, `{"builder":{"id":["a"]}}`, "id is no text"},
		{"a second spelling is another key", TypeV02, `{"Builder":{"ID":"x"}}`, "no builder"},
		{"dependencies of another type", TypeV02, `{"builder":{"id":"x"},"materials":{}}`, "materials is no list"},
		{"two commits", TypeV02, strings.Replace(generator, `"digest":{"sha1":"`+sha+`"},"entryPoint"`, `"digest":{"sha1":"ffff"},"entryPoint"`, 1), "two commits"},
		{"a source that is none", TypeV02, strings.ReplaceAll(generator, "git+https://github.com", "file://"), "source"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if p, err := Parse(statement(t, tt.kind, tt.predicate)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%+v, %v, want an error with %q", p, err, tt.want)
			}
		})
	}
}

func TestSource(t *testing.T) {
	for _, tt := range []struct{ in, repo, ref string }{
		{"https://github.com/acme/app", "github.com/acme/app", ""},
		{"https://GitHub.com/acme/app/", "github.com/acme/app", ""},
		{"git+https://github.com/acme/app.git@refs/heads/main", "github.com/acme/app", "refs/heads/main"},
		{"git+https://github.com/acme/app@refs/heads/a@b", "github.com/acme/app", "refs/heads/a@b"},
		{"https://github.com/acme/app.git#refs/heads/main:dir", "github.com/acme/app", "refs/heads/main"},
		{"git@github.com:acme/app.git", "github.com/acme/app", ""},
		{"ssh://git@github.com/acme/app", "github.com/acme/app", ""},
		{"git://host.example/a", "host.example/a", ""},
		{"http://github.com/acme/app", "", ""},
		{"file:///acme/app", "", ""},
		{"github.com/acme/app", "", ""},
		{"https://github.com/acme/../evil/app", "", ""},
		{"https://github.com/acme/%2e%2e/evil", "", ""},
		{"https://github.com//acme/app", "", ""},
		{"https://github.com/", "", ""},
		{"https://user@github.com/acme/app", "", ""},
		{"https://user:pw@github.com/acme/app", "", ""},
		{"https://github.com@evil.example/acme/app", "", ""},
		{"https://github.com/acme/app?x=y", "", ""},
		{"git@github.com", "", ""},
		{"", "", ""},
	} {
		repo, ref, err := Source(tt.in)
		if repo != tt.repo || ref != tt.ref || (err == nil) != (tt.repo != "") {
			t.Errorf("%q: %q, %q, %v", tt.in, repo, ref, err)
		}
	}
}

// TestThreatProvenance: builders, sources and refs that are not the operator's,
// and predicates that say something else than the certificate.
func TestThreatProvenance(t *testing.T) {
	p, err := Parse(statement(t, TypeV1, github))
	if err != nil {
		t.Fatal(err)
	}
	byWorkflow, err := Parse(statement(t, TypeV02, generator))
	if err != nil {
		t.Fatal(err)
	}
	base := signing.SLSARule{Builders: []string{p.Builder, byWorkflow.Builder}, Sources: []string{"github.com/acme/*"}, RefRegExp: "refs/tags/v.*", MatchCertificate: true}
	id := signing.Identity{
		SourceRepository: "https://github.com/acme/app", SourceRef: "refs/tags/v1", SourceDigest: sha, RunnerEnvironment: "github-hosted",
		BuildSigner: byWorkflow.Builder,
	}
	for _, tt := range []struct {
		name string
		p    *signing.Provenance
		rule func(*signing.SLSARule)
		id   func(*signing.Identity)
		want string
	}{
		{name: "good", p: p},
		{name: "good, a workflow as builder", p: byWorkflow},
		{name: "builder by expression", p: p, rule: func(r *signing.SLSARule) { r.Builders, r.BuilderRegExp = nil, `https://github\.com/actions/runner/.*` }},
		{name: "builder by part of an expression", p: p, rule: func(r *signing.SLSARule) { r.Builders, r.BuilderRegExp = nil, `github\.com/actions` }, want: "builder"},
		{name: "another builder", p: p, rule: func(r *signing.SLSARule) { r.Builders = []string{p.Builder + "x"} }, want: "builder"},
		{name: "another owner", p: p, rule: func(r *signing.SLSARule) { r.Sources = []string{"github.com/acm/*"} }, want: "source"},
		{name: "an owner that begins alike", p: p, rule: func(r *signing.SLSARule) { r.Sources = []string{"github.com/ac"} }, want: "source"},
		{name: "another ref", p: p, rule: func(r *signing.SLSARule) { r.RefRegExp = "refs/heads/.*" }, want: "ref"},
		{name: "part of a ref", p: p, rule: func(r *signing.SLSARule) { r.RefRegExp = "tags" }, want: "ref"},
		{name: "another commit", p: p, rule: func(r *signing.SLSARule) { r.Commit = "ffff" }, want: "commit"},
		{name: "certificate: another source", p: p, id: func(i *signing.Identity) { i.SourceRepository = "https://github.com/evil/app" }, want: "certificate"},
		{name: "certificate: another ref", p: p, id: func(i *signing.Identity) { i.SourceRef = "refs/heads/main" }, want: "certificate"},
		{name: "certificate: another commit", p: p, id: func(i *signing.Identity) { i.SourceDigest = "ffff" }, want: "certificate"},
		{name: "certificate: no commit", p: p, id: func(i *signing.Identity) { i.SourceDigest = "" }, want: "certificate"},
		{name: "certificate: self-hosted", p: p, id: func(i *signing.Identity) { i.RunnerEnvironment = "self-hosted" }, want: "runner"},
		{name: "certificate: another workflow", p: byWorkflow, id: func(i *signing.Identity) { i.BuildSigner = "https://github.com/evil/w" }, want: "builder"},
		{name: "by key", p: p, id: func(i *signing.Identity) { *i = signing.Identity{KeyID: "k"} }, want: "matchCertificate needs"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rule, who := base, id
			if tt.rule != nil {
				tt.rule(&rule)
			}
			if tt.id != nil {
				tt.id(&who)
			}
			r, err := NewRule(rule)
			if err != nil {
				t.Fatal(err)
			}
			err = r.Check(tt.p, who)
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func FuzzSource(f *testing.F) {
	for _, s := range []string{"https://github.com/acme/app", "git@github.com:acme/app.git", "git+https://h/a@r#x", "https://a@b/c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		repo, _, err := Source(s)
		if err != nil {
			return
		}
		if strings.ContainsAny(repo, "@#?%") || strings.Contains(repo, "..") || strings.Contains(repo, "//") {
			t.Errorf("%q gives %q", s, repo)
		}
		if again, _, err := Source("https://" + repo); err != nil || again != repo && again != strings.TrimSuffix(repo, ".git") {
			t.Errorf("%q gives %q, which gives %q, %v", s, repo, again, err)
		}
	})
}
