package main

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/sluiceproxy/sluice/proxy/api"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

func newPromote() *cobra.Command {
	c := &client{patience: longPatience}
	cmd := &cobra.Command{
		Use:   "promote FROM TO",
		Short: "Take an image of the gated registry into another repository of it",
		Long: `Promote gives an image that was pushed to one repository to another one, without
moving bytes: the manifest, for an index its children, and what refers to them
(signatures, SBOMs). The policy of the target judges it, as it would a push.

The exit code is that of the verdict: 0 allow or annotate, 1 deny (also where
the target keeps denied images in quarantine), 3 undecided or no answer.`,
		Example: `  sluice promote local/staging/app@sha256:… local/prod/app:1.2
  sluice promote local/staging/app:main local/prod/app:1.2 --format json`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			var p api.Promotion
			if err := c.do(cmd.Context(), http.MethodPost, "/promotions", nil, map[string]string{"from": args[0], "to": args[1]}, &p); err != nil {
				return refused(rejected(err))
			}
			if c.format == "json" {
				if err := writeIndented(cmd.OutOrStdout(), p); err != nil {
					return err
				}
				return decided(p.Verdict.Decision)
			}
			said := fmt.Sprintf("%s is %s: %s", p.To, p.Digest, p.Verdict.Summary)
			if p.Verdict.Decision == policy.Deny {
				said = fmt.Sprintf("%s is %s, in quarantine: %s", p.To, p.Digest, p.Verdict.Summary)
			}
			if _, err := fmt.Fprintln(cmd.OutOrStdout(), printable(said)); err != nil {
				return err
			}
			return decided(p.Verdict.Decision)
		},
	}
	c.register(cmd)
	return cmd
}

// refused gives an answer that names the verdict which refuses the code of a
// denial.
func refused(err error) error {
	var p *api.Problem
	if errors.As(err, &p) && p.Status == http.StatusForbidden && p.Verdict != "" {
		return &exitError{exitDenied, err}
	}
	return err
}
