package advisory

import (
	"errors"
	"fmt"
	"strings"

	"github.com/google/osv-scalibr/semantic"
)

// errVersion marks a version that its ecosystem's rules cannot read.
var errVersion = errors.New("version cannot be read")

// comparison returns the sign of an installed version, which it has parsed
// once, relative to another version.
type comparison func(other string) (int, error)

// order is the version order of an ecosystem: it parses an installed version.
type order func(installed string) (comparison, error)

// orderOf returns the order of the ecosystem with the given base name (its name
// without a release), or nil if none is known. Debian, rpm, apk, PEP 440 and
// SemVer are compared here, strictly and without allocation, because images hold hundreds
// of such packages; the rest by osv-scalibr, behind a check of the syntax, since
// its parsers take any text for a version.
func orderOf(base string) order {
	switch base {
	case "Debian", "Ubuntu", "Echo":
		return ordered(parseDeb, debVersion.compare)
	case "AlmaLinux", "Rocky Linux", "Red Hat", "SUSE", "openSUSE", "openEuler", "Mageia", "Azure Linux", "Fedora", "Amazon Linux", "Oracle Linux", "Photon OS":
		return ordered(parseRPM, rpmVersion.compare)
	case "Alpine", "Wolfi", "Chainguard", "MinimOS", "Alpaquita", "BellSoft Hardened Containers":
		return ordered(parseAPK, apkVersion.compare)
	case "npm", "Go", "crates.io", "Hex", "SwiftURL", "Julia", "GHC", "Bioconductor", "ConanCenter", "GitHub Actions":
		return ordered(parseSemVer, semVersion.compare)
	case "NuGet":
		return ordered(parseNuGet, semVersion.compare)
	case "Bitnami":
		return ordered(parseSemVer, semVersion.compare)
	case "PyPI":
		return ordered(parsePyPI, pypiVersion.compare)
	case "Maven":
		return scalibr(base, validMaven)
	case "RubyGems":
		return scalibr(base, validGem)
	case "Packagist":
		return scalibr(base, validPackagist)
	case "Pub", "CRAN", "Hackage":
		return scalibr(base, validDotted)
	}
	return nil
}

// installedVersion adapts the version that a package manager reports to the
// syntax of the ecosystem's feed.
func installedVersion(base, name, version string) string {
	switch base {
	case "Go":
		if name == "stdlib" || name == "toolchain" {
			return goRelease(version)
		}
	case "Bitnami":
		// "1.2.3-4" is the fourth build of 1.2.3; the feed names upstream
		// versions only (github.com/bitnami/vulndb, README).
		if i := strings.LastIndexByte(version, '-'); i > 0 && digits(version[i+1:]) {
			return version[:i]
		}
	}
	return version
}

// goRelease writes a Go release in SemVer, as the Go vulnerability database
// does: "go1.22rc1" is 1.22.0-rc.1 (go.dev/doc/security/vuln/database). What
// follows a space, such as enabled experiments, is left out.
func goRelease(v string) string {
	v, _, _ = strings.Cut(strings.TrimPrefix(strings.TrimSpace(v), "go"), " ")
	i := strings.IndexAny(v, "rb") // rc1, beta1
	if i <= 0 || strings.ContainsAny(v[:i], "-+") {
		return v
	}
	core, pre := v[:i], v[i:]
	j := strings.IndexAny(pre, "0123456789")
	if j <= 0 || !digits(pre[j:]) {
		return v
	}
	if word := pre[:j]; word != "rc" && word != "beta" {
		return v
	}
	if strings.Count(core, ".") == 1 {
		core += ".0"
	}
	return core + "-" + pre[:j] + "." + pre[j:]
}

func ordered[V any](parse func(string) (V, error), compare func(a, b V) int) order {
	return func(installed string) (comparison, error) {
		a, err := parse(installed)
		if err != nil {
			return nil, fmt.Errorf("%w: %q", err, installed)
		}
		return func(other string) (int, error) {
			b, err := parse(other)
			if err != nil {
				return 0, fmt.Errorf("%w: %q", err, other)
			}
			return compare(a, b), nil
		}, nil
	}
}

func scalibr(base string, valid func(string) bool) order {
	return func(installed string) (comparison, error) {
		if !valid(installed) {
			return nil, fmt.Errorf("%w: %q", errVersion, installed)
		}
		a, err := semantic.Parse(installed, base)
		if err != nil {
			return nil, fmt.Errorf("%w: %q", errVersion, installed)
		}
		return func(other string) (int, error) {
			if !valid(other) {
				return 0, fmt.Errorf("%w: %q", errVersion, other)
			}
			n, err := a.CompareStr(other)
			if err != nil {
				return 0, fmt.Errorf("%w: %q", errVersion, other)
			}
			return n, nil
		}, nil
	}
}

func isDigit(c byte) bool        { return c-'0' < 10 }
func isLower(c byte) bool        { return c-'a' < 26 }
func isAlpha(c byte) bool        { return (c|0x20)-'a' < 26 }
func isAlphanumeric(c byte) bool { return isDigit(c) || isAlpha(c) }

// leadDigits is the number of digits at the front of s.
func leadDigits(s string) int {
	n := 0
	for n < len(s) && isDigit(s[n]) {
		n++
	}
	return n
}

// leadLetters is the number of letters at the front of s.
func leadLetters(s string) int {
	n := 0
	for n < len(s) && isAlpha(s[n]) {
		n++
	}
	return n
}

// span is the number of bytes of a class at the front of s.
func span(s string, class func(byte) bool) int {
	n := 0
	for n < len(s) && class(s[n]) {
		n++
	}
	return n
}

// digits reports whether s is one or more decimal digits.
func digits(s string) bool {
	for i := range len(s) {
		if !isDigit(s[i]) {
			return false
		}
	}
	return s != ""
}

// only reports whether s is not empty, not longer than any sane version, and
// made of ASCII letters, digits and the given extra characters.
func only(s, extra string) bool {
	if s == "" || len(s) > maxVersion {
		return false
	}
next:
	for i := range len(s) {
		c := s[i]
		if isDigit(c) || isAlpha(c) {
			continue
		}
		for j := range len(extra) { // so few that a call costs more
			if extra[j] == c {
				continue next
			}
		}
		return false
	}
	return true
}

// maxVersion bounds the versions that are compared, because some orders are
// quadratic in their length.
const maxVersion = 512

// compareNumbers compares two runs of digits of any length.
func compareNumbers(a, b string) int {
	for a != "" && a[0] == '0' {
		a = a[1:]
	}
	for b != "" && b[0] == '0' {
		b = b[1:]
	}
	if len(a) != len(b) {
		return sign(len(a) - len(b))
	}
	return strings.Compare(a, b)
}

func sign(n int) int {
	switch {
	case n < 0:
		return -1
	case n > 0:
		return 1
	}
	return 0
}
