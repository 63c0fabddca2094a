package worker

import (
	"os"

	"golang.org/x/sys/unix"
)

// newRing makes the memory through which a process gets a blob's bytes: it is
// mapped here, and sealed, so that who gets the file can map it for reading only,
// and can neither write to it nor change its size (memfd_create(2), fcntl(2),
// "File Sealing"). What is hashed here is what is in it. Kernels before 5.1 have
// no such seal: then there is none, and the bytes go through the pipe.
func newRing() (*os.File, []byte, error) {
	fd, err := unix.MemfdCreate("sluice-blob", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "sluice-blob")
	mem, err := seal(fd)
	if err != nil {
		_ = f.Close()
		return nil, nil, err
	}
	return f, mem, nil
}

func seal(fd int) ([]byte, error) {
	if err := unix.Ftruncate(fd, ringSize); err != nil {
		return nil, os.NewSyscallError("ftruncate", err)
	}
	mem, err := unix.Mmap(fd, 0, ringSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_FUTURE_WRITE | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		_ = unix.Munmap(mem)
		return nil, os.NewSyscallError("fcntl", err)
	}
	return mem, nil
}

// attachRing maps the parent's ring, which is the file behind descriptor fd, and
// closes that.
func attachRing(fd int) ([]byte, error) {
	mem, err := unix.Mmap(fd, 0, ringSize, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	return mem, os.NewSyscallError("close", unix.Close(fd))
}

func freeRing(mem []byte) {
	if mem != nil {
		_ = unix.Munmap(mem)
	}
}
