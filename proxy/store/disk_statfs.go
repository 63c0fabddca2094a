//go:build linux || darwin

package store

import (
	"math"

	"golang.org/x/sys/unix"
)

// freeBytes returns how many bytes of the disk that holds dir this process may
// still write, and how many it has.
func freeBytes(dir string) (avail, total int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0, err
	}
	return blocks(st.Bavail, uint64(st.Bsize)), blocks(st.Blocks, uint64(st.Bsize)), nil
}

// blocks is n blocks in bytes, which network disks may announce too many of.
func blocks(n, size uint64) int64 {
	if size > 0 && n > math.MaxInt64/size {
		return math.MaxInt64
	}
	return int64(n * size)
}
