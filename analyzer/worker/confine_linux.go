package worker

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// headroom is how much more than its memory limit a process may map: the limit
// is the garbage collector's aim, this is where the kernel says no.
const headroom = 512 << 20

// maxFiles is how many descriptors a process may have. It needs its three pipes,
// the runtime's few, and temporary files.
const maxFiles = 64

// attributes are those that a process starts with. With namespaces it gets a
// user namespace, whose root it is, with no network and no processes but its own.
func attributes(namespaces bool) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true} // so that a Ctrl-C is the parent's to handle
	if namespaces {
		a.Cloneflags = syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS
		a.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		a.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	return a
}

// executable is this program, also after its file was replaced.
func executable() (string, error) {
	const self = "/proc/self/exe"
	if _, err := os.Stat(self); err == nil {
		return self, nil
	}
	return os.Executable()
}

// confine gives up what the work does not need. What cannot be given up is told;
// only a missing bound on memory is an error, since it is the one that protects
// the machine.
func confine(s *setup) *ready {
	r := &ready{}
	did := func(what string, err error) {
		if err != nil {
			r.Degraded = append(r.Degraded, fmt.Sprintf("no %s: %v", what, err))
			return
		}
		r.Confinement = append(r.Confinement, what)
	}
	if os.Getpid() == 1 {
		did("namespaces", nil)
	} else {
		did("namespaces", errors.New("not permitted"))
	}
	did("descriptors", closeInherited())
	if err := limit(s); err != nil {
		r.Error = err.Error()
		return r
	}
	did("rlimits", nil)
	err := unix.Chroot(s.Layer.TempDir)
	if err == nil {
		err = unix.Chdir("/")
		s.Layer.TempDir, s.Layer.Extract.TempDir = "/", "/"
	}
	did("chroot", err)
	did("seccomp", filter())
	return r
}

// closeInherited closes what the parent has inherited itself and passes on
// unknowingly: what is open without FD_CLOEXEC, which all that this process opens has.
func closeInherited() error {
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, entry := range open {
		fd, err := strconv.Atoi(entry.Name())
		if err != nil {
			return err
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); fd > 2 && err == nil && flags&unix.FD_CLOEXEC == 0 {
			_ = unix.Close(fd)
		}
	}
	return nil
}

func limit(s *setup) error {
	for _, l := range []struct {
		name     string
		resource int
		value    uint64
	}{
		{"RLIMIT_DATA", unix.RLIMIT_DATA, uint64(s.Memory) + headroom},
		{"RLIMIT_FSIZE", unix.RLIMIT_FSIZE, uint64(s.Files)},
		{"RLIMIT_NOFILE", unix.RLIMIT_NOFILE, maxFiles},
		{"RLIMIT_CORE", unix.RLIMIT_CORE, 0},
	} {
		if err := unix.Setrlimit(l.resource, &unix.Rlimit{Cur: l.value, Max: l.value}); err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
		}
	}
	return nil
}

// keep locks a directory while the returned file is open: flock(2) ends with the
// program, however that ends.
func keep(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(&os.PathError{Op: "lock", Path: dir, Err: err}, f.Close())
	}
	return f, nil
}

// sweep removes the directories that a program left which was killed: those of
// this user that are not locked, and not so new that they are about to be.
func sweep(in string) {
	old, err := filepath.Glob(filepath.Join(in, dirPrefix+"*"))
	if err != nil {
		return
	}
	for _, dir := range old {
		var st unix.Stat_t
		if unix.Lstat(dir, &st) != nil || st.Uid != uint32(os.Geteuid()) || time.Since(time.Unix(st.Mtim.Unix())) < time.Minute {
			continue
		}
		if f, err := keep(dir); err == nil {
			_ = os.RemoveAll(dir) // somebody may be as quick
			_ = f.Close()
		}
	}
}

// widen makes a pipe larger, which saves switches between the processes. What
// the kernel does not grant costs a little time only.
func widen(pipe *os.File) {
	_, _ = unix.FcntlInt(pipe.Fd(), unix.F_SETPIPE_SZ, 1<<20)
}
