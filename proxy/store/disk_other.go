//go:build !linux && !darwin

package store

import "errors"

// freeBytes is not known here; only Options.MaxBytes bounds the store.
func freeBytes(string) (avail, total int64, err error) { return 0, 0, errors.ErrUnsupported }
