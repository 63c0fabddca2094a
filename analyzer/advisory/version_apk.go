package advisory

import (
	"strings"
)

// apkVersion is a version of Alpine and its relatives:
//
//	digits{.digits}[letter]{_suffix[digits]}[~hash][-rN]
//
// The hash of a commit has no order and is left out.
type apkVersion string

// The kinds of tokens, in apk-tools' order: of two versions that are equal so
// far, the one whose next token is of the later kind is older (src/version.c).
const (
	apkDigitOrZero = iota
	apkDigit
	apkLetter
	apkSuffix
	apkSuffixNumber
	apkRevision
	apkEnd
)

// apkSuffixValue returns the rank of a suffix. Those with negative ranks come before the version without a suffix.
func apkSuffixValue(s string) (int64, bool) {
	switch s {
	case "alpha":
		return -4, true
	case "beta":
		return -3, true
	case "pre":
		return -2, true
	case "rc":
		return -1, true
	case "cvs":
		return 0, true
	case "svn":
		return 1, true
	case "git":
		return 2, true
	case "hg":
		return 3, true
	case "p":
		return 4, true
	}
	return 0, false
}

func parseAPK(s string) (apkVersion, error) {
	if len(s) > maxVersion {
		return "", errVersion
	}
	rest := s
	for {
		n := leadDigits(rest)
		if n == 0 || n > 17 {
			return "", errVersion
		}
		rest = rest[n:]
		if rest == "" || rest[0] != '.' {
			break
		}
		rest = rest[1:]
	}
	if rest != "" && isLower(rest[0]) {
		rest = rest[1:]
	}
	for rest != "" && rest[0] == '_' {
		n := 1 + span(rest[1:], isLower)
		if _, ok := apkSuffixValue(rest[1:n]); !ok {
			return "", errVersion
		}
		rest = rest[n:]
		if n = leadDigits(rest); n > 17 {
			return "", errVersion
		}
		rest = rest[n:]
	}
	hash := len(s) - len(rest)
	if rest != "" && rest[0] == '~' {
		n := 1 + span(rest[1:], func(c byte) bool { return isDigit(c) || 'a' <= c && c <= 'f' })
		if n == 1 {
			return "", errVersion
		}
		rest = rest[n:]
	}
	if rest != "" {
		number, ok := strings.CutPrefix(rest, "-r")
		if !ok || !digits(number) || len(number) > 17 {
			return "", errVersion
		}
	}
	if len(s)-len(rest) == hash {
		return apkVersion(s), nil
	}
	return apkVersion(s[:hash] + rest), nil
}

func (v apkVersion) compare(w apkVersion) int {
	a, b := apkScanner{string(v), apkDigit}, apkScanner{string(w), apkDigit}
	for a.kind == b.kind && a.kind != apkEnd {
		x, y := a.next(), b.next()
		if x != y {
			if x < y {
				return -1
			}
			return 1
		}
	}
	switch {
	case a.kind == b.kind:
		return 0
	case a.kind == apkSuffix && a.next() < 0:
		return -1
	case b.kind == apkSuffix && b.next() < 0:
		return 1
	}
	return sign(b.kind - a.kind)
}

// apkScanner reads the tokens of a valid version; kind is that of the next one.
type apkScanner struct {
	rest string
	kind int
}

// next returns the next token's value and moves on.
func (s *apkScanner) next() int64 {
	var v int64
	switch s.kind {
	case apkDigitOrZero, apkDigit, apkSuffixNumber, apkRevision:
		if s.kind == apkDigitOrZero && s.rest[0] == '0' {
			// More leading zeros are older; the digits after them, even none,
			// are a token of their own.
			n := span(s.rest, func(c byte) bool { return c == '0' })
			s.rest, s.kind = s.rest[n:], apkDigit
			if s.rest == "" {
				s.kind = apkEnd
			}
			return int64(-n)
		}
		n := leadDigits(s.rest)
		for _, c := range []byte(s.rest[:n]) {
			v = v*10 + int64(c-'0')
		}
		s.rest = s.rest[n:]
	case apkLetter:
		v, s.rest = int64(s.rest[0]), s.rest[1:]
	case apkSuffix:
		n := span(s.rest, isLower)
		v, _ = apkSuffixValue(s.rest[:n])
		s.rest = s.rest[n:]
		if s.rest != "" && isDigit(s.rest[0]) {
			s.kind = apkSuffixNumber
			return v
		}
	}
	s.advance()
	return v
}

// advance sets kind from what follows, and drops its mark.
func (s *apkScanner) advance() {
	switch {
	case s.rest == "":
		s.kind = apkEnd
	case s.rest[0] == '.':
		s.kind, s.rest = apkDigitOrZero, s.rest[1:]
	case s.rest[0] == '_':
		s.kind, s.rest = apkSuffix, s.rest[1:]
	case s.rest[0] == '-':
		s.kind, s.rest = apkRevision, s.rest[2:]
	default:
		s.kind = apkLetter
	}
}
