package policy

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluiceproxy/sluice/analyzer"
	"github.com/sluiceproxy/sluice/signing"
)

const trustText = `version: 1
keys:
  - {name: release, any: [{file: release.pub}]}
  - {name: old, any: [{data: "PEM", notAfter: 2025-01-31}]}
policies:
  - name: apps
    images: ["up/**"]
    exclude: ["up/sandbox/**"]
    rules: []
    trust:
      authorities:
        - {name: ci, key: {ref: release}}
`

var bindTime = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// fixed is a verifier that the package must not call.
type fixed struct {
	signing.Verifier
	revision string
}

func (f fixed) Revision() string { return f.revision }

// bindAll takes every trust as it is, with files that hold content.
func bindAll(content string) Binder {
	return Binder{
		Now:  bindTime,
		Read: func(string) ([]byte, error) { return []byte(content), nil },
		Compile: func(t signing.Trust) (signing.Verifier, error) {
			rev, err := t.Revision()
			return fixed{revision: rev}, err
		},
	}
}

func mustBind(t *testing.T, text string, b Binder) *Policy {
	t.Helper()
	p, err := Parse("p.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if p, err = p.Bind(b); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestTrustProblems: everything that is wrong is told with its place.
func TestTrustProblems(t *testing.T) {
	missing := Binder{Now: bindTime, Read: func(name string) ([]byte, error) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}}
	picky := bindAll("PEM")
	picky.Compile = func(signing.Trust) (signing.Verifier, error) {
		return nil, errors.New("authority \"ci\": it is not PEM")
	}
	for _, tt := range []struct {
		name, old, new string
		bind           Binder
		want           string
	}{
		{"unknown key of a trust", "authorities:", "authorites:", bindAll(""), `p.yaml:11:7: unknown key "authorites" in trust`},
		{"unknown key of an authority", "key: {ref: release}", "keyy: {ref: release}", bindAll(""), "p.yaml:12:22: unknown key \"keyy\""},
		{"unknown action", "authorities:", "action: refuse\n      authorities:", bindAll(""), "p.yaml:11:15: action is one of annotate, pending, deny"},
		{"unknown onError", "authorities:", "onError: allow\n      authorities:", bindAll(""), "p.yaml:11:16: onError is one of pending, deny"},
		{"unknown name of a key", "ref: release", "ref: releas", bindAll(""), "p.yaml:12:33: there is no key \"releas\""},
		{"name twice", "name: old", "name: release", bindAll(""), "the key \"release\" is there twice"},
		{"missing file", "", "", missing, "p.yaml:3:34: trust: authority ci: open release.pub: file does not exist"},
		{"no key in it", "", "", picky, "p.yaml:12:11: authority \"ci\": it is not PEM"},
		{"expired keys only", "ref: release", "ref: old", bindAll(""), "p.yaml:12:11: authority \"ci\": all of its keys have expired"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := Parse("p.yaml", []byte(strings.Replace(trustText, tt.old, tt.new, 1)))
			if err == nil {
				p, err = p.Bind(tt.bind)
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) || p != nil {
				t.Errorf("%v, want %s", err, tt.want)
			}
			var problems Problems
			if !errors.As(err, &problems) {
				t.Errorf("the error is a %T", err)
			}
		})
	}
}

// TestTrustRevision: what the files hold is part of the revision.
func TestTrustRevision(t *testing.T) {
	one, same, two := mustBind(t, trustText, bindAll("1")), mustBind(t, trustText, bindAll("1")), mustBind(t, trustText, bindAll("2"))
	if one.Revision() != same.Revision() || one.Revision() == two.Revision() {
		t.Errorf("revisions %s, %s and %s", one.Revision(), same.Revision(), two.Revision())
	}
	if n := len(one.Trusts("up/app", "")); n != 1 {
		t.Errorf("%d trusts cover the image", n)
	}
	if n := len(one.Trusts("up/sandbox/app", "")) + len(one.Trusts("down/app", "")); n != 0 {
		t.Errorf("%d trusts cover what is excluded", n)
	}
}

func TestTrustDecide(t *testing.T) {
	failed := func(reason string, signatures ...signing.Signature) signing.Result {
		a := signing.AuthorityResult{Name: "ci", Outcome: signing.Fail}
		if len(signatures) > 0 {
			a.Refused = []signing.Refusal{{Reason: reason}}
		}
		return signing.Result{Outcome: signing.Fail, Reason: reason, Authorities: []signing.AuthorityResult{a}}
	}
	passed := signing.Result{Outcome: signing.Pass, Authorities: []signing.AuthorityResult{
		{Name: "ci", Outcome: signing.Pass, Signatures: []signing.Signature{{Manifest: "sha256:aa"}}},
	}}
	later := bindTime.Add(time.Minute)
	one := func(r TrustResult) []TrustResult {
		r.Policy = "apps"
		return []TrustResult{r}
	}
	for _, tt := range []struct {
		name     string
		settings string
		change   func(*Evidence)
		trust    []TrustResult
		want     Decision
		rule     string
	}{
		{"signed", "", nil, one(TrustResult{Result: passed}), Allow, ""},
		{"nothing found", "", nil, one(TrustResult{Result: failed("no signature found"), Until: later}), Deny, RuleUnsigned},
		{"nothing found, annotate", "action: annotate", nil, one(TrustResult{Result: failed("no signature found")}), Annotate, RuleUnsigned},
		{"found and refused", "", nil, one(TrustResult{Result: failed("the key is revoked", signing.Signature{})}), Deny, RuleTrustFailed},
		{"zero result", "", nil, one(TrustResult{}), Pending, RuleTrustError},
		{"undecided", "", nil, one(TrustResult{Result: signing.Result{Reason: "too many"}}), Pending, RuleTrustError},
		{"undecided, annotate is no way round", "action: annotate", nil, one(TrustResult{Result: signing.Result{Reason: "too many"}}), Pending, RuleTrustError},
		{"error", "", nil, one(TrustResult{Err: "429"}), Pending, RuleTrustError},
		{"error beside a pass", "", nil, one(TrustResult{Err: "429", Result: passed}), Pending, RuleTrustError},
		{"error, deny", "onError: deny", nil, one(TrustResult{Err: "429"}), Deny, RuleTrustError},
		{"no result", "", nil, nil, Pending, RuleTrustError},
		{"result of another policy", "", nil, []TrustResult{{Policy: "other", Result: passed}}, Pending, RuleTrustError},
		{"index", "", func(e *Evidence) { e.Image.Index, e.Report = true, nil }, one(TrustResult{Result: failed("no signature found")}), Annotate, RuleUnsigned},
		{"a signature itself", "", func(e *Evidence) { e.Image.Evidential = true }, nil, Allow, ""},
		{"a file", "", func(e *Evidence) { e.NoRegistry = true }, nil, Annotate, RuleUnsigned},
		{"the analysis failed too", "", func(e *Evidence) { e.Report, e.Failure = nil, "bomb" }, one(TrustResult{Result: passed}), Deny, RuleAnalysisFailed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := mustBind(t, strings.Replace(trustText, "authorities:", tt.settings+"\n      authorities:", 1), bindAll(""))
			e := &Evidence{
				Image: Image{Name: "up/app", Digest: "sha256:11"}, Trust: tt.trust, Now: bindTime,
				Report:     &analyzer.Report{Inventory: analyzer.Inventory{}, Advisories: "a"},
				Advisories: Advisories{Revision: "a", Updated: bindTime},
			}
			if tt.change != nil {
				tt.change(e)
			}
			v := p.Decide(e)
			rule := ""
			if len(v.Reasons) > 0 {
				rule = v.Reasons[0].Rule
			}
			if v.Decision != tt.want || rule != tt.rule {
				t.Fatalf("%s by %q (%s), want %s by %q", v.Decision, rule, v.Summary(), tt.want, tt.rule)
			}
			if len(tt.trust) == 1 && !v.Until.Equal(tt.trust[0].Until) && tt.trust[0].Policy == "apps" {
				t.Errorf("until %s, want %s", v.Until, tt.trust[0].Until)
			}
			if tt.name == "signed" {
				want := []TrustVerdict{{Policy: "apps", Outcome: signing.Pass, Passed: []string{"ci"}, Evidence: v.Trust[0].Evidence}}
				if diff := cmp.Diff(want, v.Trust); diff != "" || len(v.Trust[0].Evidence) != 1 {
					t.Error(diff)
				}
			}
		})
	}
}

// TestTrustUnbound: a policy whose files nobody read lets nothing pass.
func TestTrustUnbound(t *testing.T) {
	p, err := Parse("p.yaml", []byte(trustText))
	if err != nil {
		t.Fatal(err)
	}
	if ts := p.Trusts("up/app", ""); len(ts) != 1 || ts[0].Verifier != nil {
		t.Fatalf("trusts %+v", ts)
	}
	v := p.Decide(&Evidence{Image: Image{Name: "up/app"}, Report: &analyzer.Report{Advisories: "a"}, Now: bindTime})
	if v.Decision.Serves() {
		t.Errorf("decision %s", v.Decision)
	}
}
