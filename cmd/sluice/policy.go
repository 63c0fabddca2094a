package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/policy/policytest"
)

func newPolicy() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Check and test a policy file, and explain what it makes of an image's signatures",
		Example: `  sluice policy check policy.yml
  sluice policy explain ghcr.io/acme/app:1 --policy policy.yml
  sluice policy test tests/*.policytest`,
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "check FILE",
		Short: "Report everything that is wrong with a policy, with line and column",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := loadPolicy(args[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "the policy is valid, its revision is %s\n", p.Revision())
			return err
		},
	})
	cmd.AddCommand(newPolicyTest(), newPolicyExplain())
	return cmd
}

func newPolicyTest() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "test FILE...",
		Short: "Run *.policytest files: what a policy must decide on given evidence",
		Long: `Test judges the evidence in *.policytest files and compares the verdicts with those
that the files want. Nothing else is looked at: no image, no advisories, no clock.

  policy: policy.yml          # beside this file; "default"; or the text of a policy
  clock: 2026-11-23T12:00:00Z
  cases:
    - name: critical with a fix is denied
      report:
        findings: [{advisory: CVE-2026-1, severity: critical, fixed: "2", package: {name: zlib1g, version: "1"}}]
      want:
        decision: deny
        reasons: [{rule: critical-fixable, action: deny}]

Exit codes: 0 all passed, 1 some did not, 2 a file cannot be read.`,
		Example: `  sluice policy test tests/*.policytest
  sluice policy test --policy new.yml tests/*.policytest`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return testPolicies(cmd.OutOrStdout(), file, args) },
	}
	cmd.Flags().StringVar(&file, "policy", "", "policy file to test instead of the one that each file names")
	return cmd
}

// testPolicies runs the cases of files, with the policy in override unless it is "".
func testPolicies(w io.Writer, override string, files []string) error {
	var opts policytest.Options
	if override != "" {
		p, err := loadPolicy(override)
		if err != nil {
			return err
		}
		opts.Policy = p
	}
	passed, failed := 0, 0
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			return usageError(fmt.Errorf("policy test: %w", err))
		}
		opts.Load = func(file string) (*policy.Policy, error) {
			if !filepath.IsAbs(file) {
				file = filepath.Join(filepath.Dir(name), file)
			}
			return loadPolicy(file)
		}
		results, err := policytest.Run(name, data, opts)
		if err != nil {
			return usageError(err)
		}
		for _, r := range results {
			if len(r.Problems) == 0 {
				passed++
				continue
			}
			failed++
			_, _ = fmt.Fprintf(w, "FAIL %s: %s\n", name, printable(r.Name))
			for _, p := range r.Problems {
				_, _ = fmt.Fprintf(w, "  %s\n", printable(p))
			}
		}
	}
	if _, err := fmt.Fprintf(w, "%d passed, %d failed\n", passed, failed); err != nil {
		return err
	}
	if failed > 0 {
		return &exitError{exitDenied, errors.New("the policy does not decide as its tests want")}
	}
	return nil
}

// loadPolicy compiles the policy in file with the keys that it trusts, the
// shipped one for "".
func loadPolicy(file string) (*policy.Policy, error) {
	if file == "" {
		return policy.Default(), nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, usageError(fmt.Errorf("policy: %w", err))
	}
	p, err := policy.Parse(file, data)
	if err != nil {
		return nil, err
	}
	return bindPolicy(p, file)
}
