package advisory

import (
	"strings"
)

// pypiVersion is a version of PEP 440. The "legacy" versions that came before
// it have no defined order and are refused.
type pypiVersion struct {
	epoch, release string
	pre            byte // 'a', 'b', 'r' (candidate), 0 = none
	post, dev      bool
	preN, postN    string
	devN           string
	local          string
}

// parsePyPI follows the pattern of PEP 440, appendix B.
func parsePyPI(s string) (pypiVersion, error) {
	var v pypiVersion
	if plainRelease(s) {
		v.release = s
		return v, nil
	}
	s = strings.ToLower(strings.TrimSpace(s))
	if !only(s, "!.+-_") {
		return v, errVersion
	}
	s = strings.TrimPrefix(s, "v")
	if epoch, rest, ok := strings.Cut(s, "!"); ok {
		if !digits(epoch) {
			return v, errVersion
		}
		v.epoch, s = epoch, rest
	}
	if main, local, ok := strings.Cut(s, "+"); ok {
		if !validLocal(local) {
			return v, errVersion
		}
		s, v.local = main, local
	}
	n := leadDigits(s)
	if n == 0 {
		return v, errVersion
	}
	for len(s) > n+1 && s[n] == '.' && isDigit(s[n+1]) {
		n += 1 + leadDigits(s[n+1:])
	}
	v.release, s = s[:n], s[n:]

	var label string
	if label, v.preN, s = cutLabel(s, "alpha", "a", "beta", "b", "preview", "pre", "rc", "c"); label != "" {
		switch v.pre = label[0]; v.pre {
		case 'p', 'c':
			v.pre = 'r'
		}
	}
	if len(s) > 1 && s[0] == '-' && isDigit(s[1]) { // implicit post release
		n = 1 + leadDigits(s[1:])
		v.post, v.postN, s = true, s[1:n], s[n:]
	} else if label, v.postN, s = cutLabel(s, "post", "rev", "r"); label != "" {
		v.post = true
	}
	if label, v.devN, s = cutLabel(s, "dev"); label != "" {
		v.dev = true
	}
	if s != "" {
		return v, errVersion
	}
	return v, nil
}

// plainRelease accepts numbers with dots between them, as most versions are.
func plainRelease(s string) bool {
	if len(s) > maxVersion {
		return false
	}
	number := false
	for i := range len(s) {
		switch c := s[i]; {
		case isDigit(c):
			number = true
		case c == '.' && number:
			number = false
		default:
			return false
		}
	}
	return number
}

// validLocal accepts letters and digits in parts that ".", "-" or "_" part.
func validLocal(s string) bool {
	if !only(s, "._-") {
		return false
	}
	for {
		i := strings.IndexAny(s, "._-")
		if i < 0 {
			return s != ""
		}
		if i == 0 {
			return false
		}
		s = s[i+1:]
	}
}

// cutLabel takes "[-_.]?label[-_.]?digits?" from the front of s. Without a
// label it takes nothing.
func cutLabel(s string, labels ...string) (label, number, rest string) {
	text := s
	if text != "" && strings.IndexByte("-_.", text[0]) >= 0 {
		text = text[1:]
	}
	for _, l := range labels {
		after, ok := strings.CutPrefix(text, l)
		if !ok {
			continue
		}
		if len(after) > 1 && strings.IndexByte("-_.", after[0]) >= 0 && isDigit(after[1]) {
			after = after[1:]
		}
		n := leadDigits(after)
		return l, after[:n], after[n:]
	}
	return "", "", s
}

// compare orders by epoch, release, pre-release, post-release, development
// release and local version, as PEP 440 and its reference implementation do.
func (v pypiVersion) compare(w pypiVersion) int {
	if n := compareNumbers(v.epoch, w.epoch); n != 0 {
		return n
	}
	for a, b := v.release, w.release; a != "" || b != ""; {
		var x, y string
		x, a, _ = strings.Cut(a, ".")
		y, b, _ = strings.Cut(b, ".")
		if n := compareNumbers(x, y); n != 0 {
			return n
		}
	}
	if n := v.preRank() - w.preRank(); n != 0 {
		return sign(n)
	}
	if n := compareNumbers(v.preN, w.preN); n != 0 {
		return n
	}
	if v.post != w.post { // no post-release comes first
		if w.post {
			return -1
		}
		return 1
	}
	if n := compareNumbers(v.postN, w.postN); n != 0 {
		return n
	}
	if v.dev != w.dev { // a development release comes first
		if v.dev {
			return -1
		}
		return 1
	}
	if n := compareNumbers(v.devN, w.devN); n != 0 {
		return n
	}
	return compareLocal(v.local, w.local)
}

// preRank puts a development release of the release itself before its
// pre-releases, and those before the release.
func (v pypiVersion) preRank() int {
	switch {
	case v.pre == 0 && !v.post && v.dev:
		return 0
	case v.pre == 0:
		return 256
	}
	return int(v.pre)
}

// compareLocal compares part by part: none is first, then text, then numbers.
func compareLocal(a, b string) int {
	for a != "" || b != "" {
		switch {
		case a == "":
			return -1
		case b == "":
			return 1
		}
		i, j := span(a, isAlphanumeric), span(b, isAlphanumeric)
		x, y := a[:i], b[:j]
		a, b = a[min(i+1, len(a)):], b[min(j+1, len(b)):]
		n := 0
		switch dx, dy := digits(x), digits(y); {
		case dx && dy:
			n = compareNumbers(x, y)
		case dx:
			n = 1
		case dy:
			n = -1
		default:
			n = strings.Compare(x, y)
		}
		if n != 0 {
			return n
		}
	}
	return 0
}
