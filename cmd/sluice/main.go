// Command sluice is a scanning proxy in front of container registries, and the
// tools around it: one file per subcommand, listed in root.go.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() { os.Exit(run(os.Args[1:])) }

// run executes the command line and returns the exit code.
func run(args []string) int {
	ctx, stop := interruptible(context.Background())
	defer stop()
	root := newRoot()
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	code := exitCode(ctx, err)
	if msg := message(err); msg != "" && code != exitInterrupted {
		fmt.Fprintf(os.Stderr, "sluice: %s\n", msg)
		var e *exitError
		if !errors.As(err, &e) { // cobra's own: unknown command, flag or number of arguments
			fmt.Fprintf(os.Stderr, "See '%s --help'.\n", cmd.CommandPath())
		}
	}
	return code
}

// errInterrupted is the cause of the context after a signal.
var errInterrupted = errors.New("interrupted")

// interruptible returns a context that the first SIGINT or SIGTERM cancels
// with errInterrupted. The second one ends the program at once.
func interruptible(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		select {
		case <-signals:
			cancel(errInterrupted)
		case <-done:
			return
		}
		select {
		case <-signals:
			os.Exit(exitInterrupted)
		case <-done:
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(done)
		cancel(nil)
	}
}
