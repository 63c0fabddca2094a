package main

import (
	"github.com/spf13/cobra"
)

// newRoot returns the command line: every command of the program is named here.
func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "sluice",
		Short: "A scanning proxy in front of container registries",
		Long: `Sluice stands between the machines that run containers and the registries that
they pull from, and judges every image before it lets it through.

Exit codes: 0 pass, 1 denied by policy, 2 usage or configuration, 3 could not
decide, 130 interrupted.`,
		Example: `  sluice demo                        # a tour, offline
  sluice serve                       # the proxy, with defaults
  sluice scan nginx:1.27             # the same judgement in a shell or in CI
  sluice blocklist add --advisory CVE-2021-44228 --reason log4shell`,
		SilenceErrors: true, // main prints them
		SilenceUsage:  true,
	}
	root.PersistentFlags().String("data", "", "directory of content, records and the advisory index (default ./sluice-data)")
	root.AddCommand(
		newServe(),
		newDemo(),
		newScan(),
		newDB(),
		newVerdict(),
		newBlocklist(),
		newWaiver(),
		newImages(),
		newCheck(),
		newPromote(),
		newRobot(),
		newGC(),
		newPolicy(),
		newLock(),
		newConfig(),
		newVersion(),
		newWorker(),
	)
	codeErrors(root)
	return root
}

// codeErrors makes the errors of all commands below cmd carry an exit code.
func codeErrors(cmd *cobra.Command) {
	if inner := cmd.RunE; inner != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error { return coded(inner(cmd, args)) }
	}
	for _, c := range cmd.Commands() {
		codeErrors(c)
	}
	if cmd.HasSubCommands() && cmd.RunE == nil && cmd.HasParent() {
		cmd.Args = cobra.NoArgs // so that "db updat" is an error and not the help
		cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	}
}
