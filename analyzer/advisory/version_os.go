package advisory

import (
	"strings"
)

// debVersion is a version of Debian and its derivatives (deb-version(7)).
type debVersion struct{ epoch, upstream, revision string }

func parseDeb(s string) (debVersion, error) {
	if !only(s, ".-+:~") {
		return debVersion{}, errVersion
	}
	var v debVersion
	if epoch, rest, ok := strings.Cut(s, ":"); ok {
		if !digits(epoch) {
			return debVersion{}, errVersion
		}
		v.epoch, s = epoch, rest
	}
	v.upstream = s
	if i := strings.LastIndexByte(s, '-'); i >= 0 {
		v.upstream, v.revision = s[:i], s[i+1:]
		if v.revision == "" {
			return debVersion{}, errVersion
		}
	}
	if v.upstream == "" || !isDigit(v.upstream[0]) {
		return debVersion{}, errVersion
	}
	return v, nil
}

func (v debVersion) compare(w debVersion) int {
	if n := compareNumbers(v.epoch, w.epoch); n != 0 {
		return n
	}
	if n := compareDebPart(v.upstream, w.upstream); n != 0 {
		return n
	}
	return compareDebPart(v.revision, w.revision)
}

// compareDebPart alternates between text, in which a tilde sorts before the end
// and letters before the rest, and numbers.
func compareDebPart(a, b string) int {
	for a != "" || b != "" {
		for (a != "" && !isDigit(a[0])) || (b != "" && !isDigit(b[0])) {
			if n := debWeight(a) - debWeight(b); n != 0 {
				return sign(n)
			}
			a, b = a[1:], b[1:]
		}
		i, j := leadDigits(a), leadDigits(b)
		if n := compareNumbers(a[:i], b[:j]); n != 0 {
			return n
		}
		a, b = a[i:], b[j:]
	}
	return 0
}

func debWeight(s string) int {
	switch {
	case s == "" || isDigit(s[0]):
		return 0
	case s[0] == '~':
		return -1
	case isAlpha(s[0]):
		return int(s[0])
	}
	return int(s[0]) + 256
}

// rpmVersion is epoch:version-release. No epoch means 0; a missing release
// equals every release, as in rpm's own dependencies.
type rpmVersion struct{ epoch, version, release string }

func parseRPM(s string) (rpmVersion, error) {
	if !only(s, ".-:_+~^%{}") {
		return rpmVersion{}, errVersion
	}
	var v rpmVersion
	if epoch, rest, ok := strings.Cut(s, ":"); ok {
		if !digits(epoch) {
			return rpmVersion{}, errVersion
		}
		v.epoch, s = epoch, rest
	}
	v.version = s
	if i := strings.LastIndexByte(s, '-'); i >= 0 {
		v.version, v.release = s[:i], s[i+1:]
		if v.release == "" {
			return rpmVersion{}, errVersion
		}
	}
	if v.version == "" || !strings.ContainsAny(v.version, "0123456789") {
		return rpmVersion{}, errVersion
	}
	return v, nil
}

func (v rpmVersion) compare(w rpmVersion) int {
	if n := compareNumbers(v.epoch, w.epoch); n != 0 {
		return n
	}
	if n := compareRPMPart(v.version, w.version); n != 0 {
		return n
	}
	if v.release == "" || w.release == "" {
		return 0
	}
	return compareRPMPart(v.release, w.release)
}

// compareRPMPart is rpm's rpmvercmp (rpmio/rpmvercmp.c).
func compareRPMPart(a, b string) int {
	for a != "" || b != "" {
		a, b = trimRPMSeparators(a), trimRPMSeparators(b)
		if n, decided, skip := rpmMark(a, b, '~', -1); decided {
			return n
		} else if skip {
			a, b = a[1:], b[1:]
			continue
		}
		if n, decided, skip := rpmMark(a, b, '^', 1); decided {
			return n
		} else if skip {
			a, b = a[1:], b[1:]
			continue
		}
		if a == "" || b == "" {
			break
		}
		var i, j, n int
		if isDigit(a[0]) {
			if i, j = leadDigits(a), leadDigits(b); j == 0 {
				return 1 // a number is newer than a word
			}
			n = compareNumbers(a[:i], b[:j])
		} else {
			if i, j = leadLetters(a), leadLetters(b); j == 0 {
				return -1
			}
			n = strings.Compare(a[:i], b[:j])
		}
		if n != 0 {
			return n
		}
		a, b = a[i:], b[j:]
	}
	return sign(len(a) - len(b))
}

// rpmMark handles a tilde (older than the end) or a caret (newer than the end,
// older than anything else) at the front of a or b.
func rpmMark(a, b string, mark byte, end int) (n int, decided, skip bool) {
	x, y := a != "" && a[0] == mark, b != "" && b[0] == mark
	switch {
	case x && y:
		return 0, false, true
	case x && mark == '^' && b == "", y && mark == '~':
		return 1, true, false
	case y && mark == '^' && a == "", x && mark == '~':
		return -1, true, false
	case x:
		return -end, true, false
	case y:
		return end, true, false
	}
	return 0, false, false
}

func trimRPMSeparators(s string) string {
	for s != "" && !isDigit(s[0]) && !isAlpha(s[0]) && s[0] != '~' && s[0] != '^' {
		s = s[1:]
	}
	return s
}
