package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/sluiceproxy/sluice/proxy/policy"
)

func newPolicy() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "policy",
		Short:   "Check a policy file",
		Example: "  sluice policy check policy.yml",
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
	return cmd
}

// loadPolicy compiles the policy in file, the shipped one for "".
func loadPolicy(file string) (*policy.Policy, error) {
	if file == "" {
		return policy.Default(), nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, usageError(fmt.Errorf("policy: %w", err))
	}
	return policy.Parse(file, data)
}
