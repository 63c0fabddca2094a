package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/sluiceproxy/sluice/analyzer/worker"
)

// workerCommand is how the program starts itself as a process that analyses
// layers.
const workerCommand = "worker"

func newWorker() *cobra.Command {
	return &cobra.Command{
		Use:    workerCommand,
		Short:  "Analyse layers for the process that started this one",
		Long:   "Analyse layers that come over standard input. Sluice starts this itself; it is of no use to people.",
		Args:   cobra.NoArgs,
		Hidden: true,
		RunE: func(*cobra.Command, []string) error {
			return worker.Serve(os.Stdin, os.Stdout)
		},
	}
}
