package main

import (
	"context"
	"errors"

	"github.com/sluiceproxy/sluice/configs"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// The exit codes, which scripts rely on.
const (
	exitPass        = 0
	exitDenied      = 1   // the policy denies
	exitUsage       = 2   // a wrong command line, configuration or policy file
	exitUndecided   = 3   // anything else that kept the command from its answer
	exitInterrupted = 130 // a signal, as shells count it
)

// exitError ends the program with a code. err is nil when all has been said.
type exitError struct {
	code int
	err  error
}

// Error returns the message for standard error.
func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

// Unwrap returns the cause.
func (e *exitError) Unwrap() error { return e.err }

func usageError(err error) error { return &exitError{exitUsage, err} }

// exitCode returns the code of err. Errors of cobra itself are about usage;
// those of commands have been given a code by coded.
func exitCode(ctx context.Context, err error) int {
	var e *exitError
	switch {
	case err == nil:
		return exitPass
	case errors.Is(err, context.Canceled) && errors.Is(context.Cause(ctx), errInterrupted), errors.Is(err, errInterrupted):
		return exitInterrupted
	case errors.As(err, &e):
		return e.code
	}
	return exitUsage
}

// coded gives an error of a command its exit code, unless it has one.
func coded(err error) error {
	var (
		e        *exitError
		config   configs.Problems
		problems policy.Problems
	)
	switch {
	case err == nil, errors.As(err, &e):
		return err
	case errors.As(err, &config), errors.As(err, &problems):
		return usageError(err)
	}
	return &exitError{exitUndecided, err}
}

func message(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
