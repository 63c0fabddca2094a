//go:build !linux

package worker

import (
	"errors"
	"os"
)

func newRing() (*os.File, []byte, error) { return nil, nil, errors.ErrUnsupported }

func attachRing(int) ([]byte, error) { return nil, errors.ErrUnsupported }

func freeRing([]byte) {}
