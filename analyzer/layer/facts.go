package layer

import (
	"archive/tar"
	"maps"
	"path"
	"slices"

	"github.com/sluiceproxy/sluice/analyzer"
)

// minSize is the size from which a file counts for wasted bytes: the many small
// ones add little to the sum and much to the record.
const minSize = 64 << 10

// facts are what the headers of the entries say of hardening. The last of two
// entries with one path wins.
type facts struct {
	writable map[string]struct{}
	sizes    map[string]int64
	programs map[string]role
}

// role is what a program is for.
type role uint8

const (
	shell role = iota + 1
	packageManager
	sshServer
)

// entry takes notice of a directory, a file or a link at p.
func (f *facts) entry(p string, h *tar.Header) {
	if f.writable == nil {
		f.writable, f.sizes, f.programs = map[string]struct{}{}, map[string]int64{}, map[string]role{}
	}
	if h.Typeflag == tar.TypeDir {
		f.set(p+"/", h.Mode&0o002 != 0 && h.Mode&0o1000 == 0)
		return
	}
	regular := h.Typeflag == tar.TypeReg || h.Typeflag == tar.TypeGNUSparse || h.Typeflag == tar.TypeCont
	f.set(p, regular && h.Mode&0o002 != 0)
	if regular && h.Size >= minSize {
		f.sizes[p] = h.Size
	} else {
		delete(f.sizes, p)
	}
	if r := programRole(p); r != 0 {
		f.programs[p] = r
	}
}

func (f *facts) set(p string, writable bool) {
	if writable {
		f.writable[p] = struct{}{}
	} else {
		delete(f.writable, p)
	}
}

// programRole knows programs by their name, in the directories in which they
// are found by their name alone.
func programRole(p string) role {
	switch path.Dir(p) {
	case "bin", "sbin", "usr/bin", "usr/sbin", "usr/local/bin", "usr/local/sbin", "busybox":
	default:
		return 0
	}
	switch path.Base(p) {
	case "sh", "bash", "dash", "ash", "zsh", "ksh", "mksh", "csh", "tcsh", "fish", "busybox":
		return shell
	case "apt", "apt-get", "dpkg", "apk", "rpm", "yum", "dnf", "dnf5", "microdnf", "tdnf", "zypper", "pacman", "opkg", "emerge", "xbps-install":
		return packageManager
	case "sshd", "dropbear":
		return sshServer
	}
	return 0
}

// layer returns the facts, sorted.
func (f *facts) layer() analyzer.LayerFacts {
	out := analyzer.LayerFacts{WorldWritable: slices.Sorted(maps.Keys(f.writable))}
	if len(f.sizes) > 0 {
		out.Sizes = f.sizes
	}
	for _, p := range slices.Sorted(maps.Keys(f.programs)) {
		switch f.programs[p] {
		case shell:
			out.Shells = append(out.Shells, p)
		case packageManager:
			out.PackageManagers = append(out.PackageManagers, p)
		case sshServer:
			out.SSH = append(out.SSH, p)
		}
	}
	return out
}
