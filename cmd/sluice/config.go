package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sluiceproxy/sluice/configs"
)

func newConfig() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Check or print the configuration",
		Example: `  sluice config check sluice.yml
  sluice config print > sluice.yml     # every key with its default, explained`,
	}
	cmd.AddCommand(newConfigCheck(), newConfigPrint())
	return cmd
}

func newConfigCheck() *cobra.Command {
	return &cobra.Command{
		Use:   "check [FILE]",
		Short: "Report everything that is wrong with the configuration",
		Long: `Check loads FILE and the SLUICE_ variables of the environment as serve does and
reports all problems at once, each with its line and path. What works and is
likely not meant so is a warning and does not change the exit code.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := loadFrom(cmd, args)
			if err != nil {
				return err
			}
			for _, w := range c.Warnings() {
				_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "warning: %s\n", w)
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), "the configuration is valid")
			return err
		},
	}
}

func newConfigPrint() *cobra.Command {
	return &cobra.Command{
		Use:   "print [FILE]",
		Short: "Print the configuration in force as YAML, secrets hidden",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := loadFrom(cmd, args)
			if err != nil {
				return err
			}
			return c.Print(cmd.OutOrStdout())
		},
	}
}

func loadFrom(cmd *cobra.Command, args []string) (*configs.Config, error) {
	file := ""
	if len(args) == 1 {
		file = args[0]
	}
	return loadConfig(cmd, file)
}
