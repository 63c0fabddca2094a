package advisory

import (
	"strings"
)

// semVersion is a version in the syntax of semver.org 2.0, read leniently in two
// ways that registries are: a leading "v", and any number of numeric components.
type semVersion struct{ core, pre string }

func parseSemVer(s string) (semVersion, error) {
	if len(s) > maxVersion {
		return semVersion{}, errVersion
	}
	core := strings.TrimPrefix(s, "v")
	core, build, hasBuild := strings.Cut(core, "+")
	if hasBuild && !only(build, "-.") {
		return semVersion{}, errVersion
	}
	core, pre, hasPre := strings.Cut(core, "-")
	if hasPre && !only(pre, "-.") {
		return semVersion{}, errVersion
	}
	for rest, more := core, true; more; {
		var part string
		part, rest, more = strings.Cut(rest, ".")
		if !digits(part) {
			return semVersion{}, errVersion
		}
	}
	return semVersion{core, pre}, nil
}

// parseNuGet is SemVer whose pre-release labels ignore case
// (learn.microsoft.com/nuget/concepts/package-versioning).
func parseNuGet(s string) (semVersion, error) {
	v, err := parseSemVer(s)
	v.pre = strings.ToLower(v.pre)
	return v, err
}

func (v semVersion) compare(w semVersion) int {
	for a, b := v.core, w.core; a != "" || b != ""; {
		var x, y string
		x, a, _ = strings.Cut(a, ".")
		y, b, _ = strings.Cut(b, ".")
		if n := compareNumbers(x, y); n != 0 {
			return n
		}
	}
	switch {
	case v.pre == w.pre:
		return 0
	case v.pre == "":
		return 1
	case w.pre == "":
		return -1
	}
	for a, b := v.pre, w.pre; ; {
		switch {
		case a == "" && b == "":
			return 0
		case a == "":
			return -1
		case b == "":
			return 1
		}
		var x, y string
		x, a, _ = strings.Cut(a, ".")
		y, b, _ = strings.Cut(b, ".")
		if n := compareIdentifiers(x, y); n != 0 {
			return n
		}
	}
}

// compareIdentifiers is item 11.4 of semver.org 2.0.
func compareIdentifiers(x, y string) int {
	switch dx, dy := digits(x), digits(y); {
	case dx && dy:
		return compareNumbers(x, y)
	case dx:
		return -1
	case dy:
		return 1
	}
	return strings.Compare(x, y)
}

// validMaven wants a digit: Maven orders any text, but "unknown" and
// "${project.version}" are no versions.
func validMaven(s string) bool { return only(s, ".-_+") && strings.ContainsAny(s, "0123456789") }

// validGem accepts what Gem::Version::VERSION_PATTERN does.
func validGem(s string) bool {
	main, pre, hasPre := strings.Cut(s, "-")
	if hasPre && !only(pre, ".-") {
		return false
	}
	if len(s) > maxVersion || main == "" || !isDigit(main[0]) {
		return false
	}
	for part := range strings.SplitSeq(main, ".") {
		if !only(part, "") {
			return false
		}
	}
	return true
}

// validPackagist refuses branches ("dev-main"), which have no order.
func validPackagist(s string) bool {
	s = strings.TrimPrefix(strings.TrimPrefix(s, "v"), "V")
	return only(s, ".-_+@") && isDigit(s[0])
}

func validDotted(s string) bool { return only(s, ".-+") && isDigit(s[0]) }
