package advisory

import (
	"regexp"
	"strings"

	"github.com/sluiceproxy/sluice/analyzer"
)

// An rpm distribution builds some packages several times, once for each stream
// of a module (nodejs:18, nodejs:20) beside the plain build. Their versions
// cannot be compared with each other: only an advisory for the same stream says
// something about a package. The release of a module's build carries a mark,
// ".module_el8.5.0+119+9a9ec082" (AlmaLinux) or ".module+el8.5.0+…" (Red Hat,
// Rocky), but not the stream; that stands in the package's modularity label and
// in the advisory's summary ("Important: nodejs:18 security update").

var streamPattern = regexp.MustCompile(`(?:^|[\s(])([A-Za-z][A-Za-z0-9_.+-]*:[A-Za-z0-9][A-Za-z0-9_.+-]*)`)

// moduleStreams returns the streams that an erratum's summary names.
func moduleStreams(summary string) []string {
	var out []string
	for _, m := range streamPattern.FindAllStringSubmatch(summary, -1) {
		out = append(out, strings.TrimRight(m[1], ".+-_"))
	}
	return out
}

// modularVersion reports whether a version is of a module's build, and where
// its mark starts.
func modularVersion(version string) (mark int, ok bool) {
	for _, m := range []string{".module_", ".module+"} {
		if i := strings.LastIndex(version, m); i > 0 {
			return i, true
		}
	}
	return 0, false
}

// platform is a module build's mark up to the build's number: "el8.5.0".
func platform(version string, mark int) string {
	p, _, _ := strings.Cut(version[mark+len(".module_"):], "+")
	return p
}

// streamRelation says whether advisories for the streams speak of a package
// that was built for a module.
type streamRelation uint8

const (
	streamUnknown streamRelation = iota
	streamSame
	streamOther
)

// relateStreams compares a package's modularity label (name:stream:version:context)
// with an advisory's streams. A label without its stream, an advisory without
// streams or for other modules only, says nothing.
func relateStreams(label string, streams []string) streamRelation {
	name, rest, ok := strings.Cut(label, ":")
	stream, _, _ := strings.Cut(rest, ":")
	if !ok || name == "" || stream == "" {
		return streamUnknown
	}
	other := false
	for _, s := range streams {
		n, st, _ := strings.Cut(s, ":")
		switch {
		case n == name && st == stream:
			return streamSame
		case n == name:
			other = true
		}
	}
	if other {
		return streamOther
	}
	return streamUnknown
}

// builtWithFix reports whether an installed rpm version is itself one of the
// builds that an advisory names as fixed, though another of them is newer. An
// erratum lists the builds for several minor releases side by side, and each of
// them holds the fix. A module's build counts also when it is a later build of
// the same sources for the same minor release.
func builtWithFix(installed string, entries []posting) bool {
	mark, modular := modularVersion(installed)
	var buf eventBuffer
	for i := range entries {
		for d := entries[i].rangeDecoder(); d.rest != ""; {
			r := d.events(buf[:0])
			for _, ev := range r {
				if ev.kind != eventFixed {
					continue
				}
				if sameBuild(installed, ev.version) {
					return true
				}
				m, ok := modularVersion(ev.version)
				if !modular || !ok || !sameBuild(installed[:mark], ev.version[:m]) || platform(installed, mark) != platform(ev.version, m) {
					continue
				}
				a, errA := parseRPM(installed)
				b, errB := parseRPM(ev.version)
				if errA == nil && errB == nil && a.compare(b) >= 0 {
					return true
				}
			}
		}
	}
	return false
}

// sameBuild compares two texts of rpm versions; no epoch is epoch 0.
func sameBuild(a, b string) bool {
	return strings.TrimPrefix(a, "0:") == strings.TrimPrefix(b, "0:")
}

func modularPackage(p *analyzer.Package) bool {
	_, marked := modularVersion(p.Version)
	return marked || p.Modularity != ""
}
