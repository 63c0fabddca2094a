//go:build linux && !amd64 && !arm64

package worker

import (
	"errors"
	"runtime"
)

func filter() error { return errors.New("not written for " + runtime.GOARCH) }
