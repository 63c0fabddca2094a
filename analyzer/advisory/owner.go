package advisory

import (
	"strings"

	"github.com/sluiceproxy/sluice/analyzer"
)

// owners returns the purls of the distribution packages among pkgs that the
// index has advisories for. What such a package installed is judged by the
// distribution's advisories alone: its maintainers fix python3-django 3.2.19-1
// without the version that the language's database asks for, so the second
// opinion would be a false alarm. Where the index has nothing for the
// distribution's release nobody else judges, and the language's database does.
func (x *Index) owners(pkgs []analyzer.Package) map[string]bool {
	out := map[string]bool{}
	for i := range pkgs {
		p := &pkgs[i]
		if !osType(p.Type) || p.PURL == "" {
			continue
		}
		if e := parseEcosystem(p.Ecosystem); e.base != "" && x.covered[e].whole {
			out[p.PURL] = true
		}
	}
	return out
}

// kernelHeaders reports a package of the kernel's source that holds headers,
// build scripts or documentation only: a container runs its host's kernel, and
// the hundreds of advisories for the source package linux say nothing about
// files to compile against. Tools (bpftool, perf, cpupower) do not count.
func kernelHeaders(p *analyzer.Package) bool {
	switch p.Type {
	case "deb":
		source := p.Source
		if source == "" {
			source = p.Name
		}
		if source != "linux" && !strings.HasPrefix(source, "linux-") {
			return false
		}
		for _, prefix := range []string{"linux-libc-dev", "linux-headers-", "linux-kbuild-", "linux-doc", "linux-compiler-"} {
			if strings.HasPrefix(p.Name, prefix) {
				return true
			}
		}
	case "rpm":
		switch p.Name {
		case "kernel-headers", "kernel-devel", "kernel-doc", "kernel-abi-stablelists", "kernel-abi-whitelists", "kernel-rpm-macros", "kernel-srpm-macros":
			return true
		}
	}
	return false
}
