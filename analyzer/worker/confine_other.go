//go:build !linux

package worker

import (
	"os"
	"runtime"
	"syscall"
)

func attributes(bool) *syscall.SysProcAttr { return nil }

func executable() (string, error) { return os.Executable() }

// confine has nothing but the garbage collector's memory limit on this system.
func confine(*setup) *ready {
	return &ready{Degraded: []string{"no namespaces, chroot, rlimits and seccomp on " + runtime.GOOS}}
}

func keep(string) (*os.File, error) { return nil, nil } //nolint:nilnil // there is nothing to hold

func sweep(string) {}

func widen(*os.File) {}
