package policytest

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sluiceproxy/sluice/proxy/policy"
)

// TestPolicy runs the specifications of package policy.
func TestPolicy(t *testing.T) {
	files, err := filepath.Glob("../testdata/*.policytest")
	if err != nil || len(files) < 4 {
		t.Fatalf("%d specifications: %v", len(files), err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		first, err := Run(name, text, Options{})
		if err != nil {
			t.Fatal(err)
		}
		again, err := Run(name, text, Options{})
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range first {
			t.Run(filepath.Base(name)+"/"+r.Name, func(t *testing.T) {
				for _, p := range r.Problems {
					t.Error(p)
				}
				if again[i].Verdict.ID != r.Verdict.ID {
					t.Errorf("the same evidence gave %s, then %s", r.Verdict.ID, again[i].Verdict.ID)
				}
			})
		}
	}
}

const head = "clock: 2026-11-23T12:00:00Z\npolicy: default\n"

func TestProblems(t *testing.T) {
	text := head + `cases:
  - name: right
    want: {decision: allow}
  - name: wrong decision
    want: {decision: deny}
  - name: other reasons
    report: {user: root, incomplete: [{reason: gap}]}
    want: {decision: deny, reasons: [{rule: incomplete, action: annotate}, {rule: root-user, action: annotate, message: x}, {rule: more, action: deny}]}
  - name: too many reasons
    report: {user: root}
    want: {decision: annotate, reasons: []}
`
	results, err := Run("x.policytest", []byte(text), Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := [][]string{
		nil,
		{"decision allow, want deny: no findings (verdict "},
		{"reason 1 is deny by incomplete, want annotate by incomplete", "reason 2 is annotate by root-user, message set USER", "reason 3 is missing: deny by more"},
		{"reason 1 is annotate by root-user, want no more"},
	}
	for i, r := range results {
		if !slices.EqualFunc(r.Problems, want[i], strings.HasPrefix) {
			t.Errorf("%s: %q, want %q", r.Name, r.Problems, want[i])
		}
	}
}

func TestRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                          "clock",
		"policy: [":                 "yaml",
		head:                        "cases: there are none",
		head + "cases: [{name: a}]": "want.decision",
		head + "cases: [{want: {decision: yes}}]":                      "decision",
		head + "cases: [{image: {tgas: []}, want: {decision: allow}}]": "tgas",
		head + "case: []": `"case"`,
		"clock: 2026-11-23T12:00:00Z\ncases: [{want: {decision: allow}}]":                                  "policy: missing",
		"clock: 2026-11-23T12:00:00Z\npolicy: none.yaml\ncases: [{want: {decision: allow}}]":               "no none.yaml",
		"clock: 2026-11-23T12:00:00Z\npolicy: |\n  version: 2\n  x: 1\ncases: [{want: {decision: allow}}]": "version 2",
	} {
		_, err := Run("x.policytest", []byte(text), Options{Load: func(file string) (*policy.Policy, error) { return nil, errors.New("no " + file) }})
		if err == nil || !strings.HasPrefix(err.Error(), "x.policytest: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

// TestPolicyOption tests another policy than the file names.
func TestPolicyOption(t *testing.T) {
	lax, err := policy.Parse("lax.yaml", []byte("version: 1\npolicies: [{name: lax, images: ['**'], rules: []}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	text := head + "cases: [{name: a, report: {user: root}, want: {decision: allow}}]"
	for p, passes := range map[*policy.Policy]bool{lax: true, nil: false} {
		results, err := Run("x.policytest", []byte(text), Options{Policy: p})
		if err != nil || len(results[0].Problems) == 0 != passes {
			t.Errorf("%v, %v, want a pass: %v", results, err, passes)
		}
	}
}
