package secret

import (
	"math"
	"strings"
)

// random reports whether v could be the output of a random generator: neither
// an example, nor a sequence, nor one of few different characters. A true value
// fails with a chance below one in 10,000.
func random(v string) bool {
	if placeholder(v) {
		return false
	}
	var counts [256]int
	steps := 0
	for i := range len(v) {
		counts[v[i]]++
		if i > 0 && (v[i] == v[i-1]+1 || v[i] == v[i-1]) {
			steps++
		}
	}
	if steps > len(v)/2 {
		return false // 0123456789abcdef, aaaa
	}
	entropy := 0.0
	for _, n := range counts {
		if n > 0 {
			p := float64(n) / float64(len(v))
			entropy -= p * math.Log2(p)
		}
	}
	// Short values cannot have many different characters.
	return entropy >= min(3, 0.7*math.Log2(float64(len(v))))
}

// placeholder reports values that stand for one to be put in their place.
func placeholder(v string) bool {
	l := strings.ToLower(strings.Trim(v, `"'`))
	for _, word := range []string{
		"example", "changeme", "change_me", "change-me", "placeholder", "yourtoken", "your_", "your-", "yourpass", "xxxx", "****",
		"dummy", "sample", "redacted", "insert", "replace", "notreal", "deadbeef", "abcdefgh", "12345678", "todo", "fixme",
	} {
		if strings.Contains(l, word) {
			return true
		}
	}
	return strings.ContainsAny(l, "<>{}") || strings.HasPrefix(l, "$") || strings.HasPrefix(l, "%(") || strings.HasSuffix(l, "...")
}

// password reports a value that a person or a generator could have set as one.
// Words that stand for "none" or name a file, an algorithm or a place are none.
func password(v string) bool {
	v = strings.Trim(v, `"'`)
	l := strings.ToLower(v)
	switch l {
	case "password", "passwd", "secret", "token", "none", "null", "true", "false", "disabled", "enabled", "required", "optional", "undefined":
		return false
	}
	return len(v) >= 6 && !placeholder(v) && !strings.ContainsAny(v, " \t") &&
		!strings.HasPrefix(v, "/") && !strings.HasPrefix(v, "./") && !strings.HasPrefix(v, "~/") &&
		!strings.Contains(v, "://") && !strings.Contains(v, "(") && strings.Trim(v, "*x.-_") != ""
}

// alphabet says which characters a token is made of.
type alphabet func(byte) bool

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
func isUpper(c byte) bool { return 'A' <= c && c <= 'Z' }
func isLower(c byte) bool { return 'a' <= c && c <= 'z' }

func isAlnum(c byte) bool     { return isDigit(c) || isUpper(c) || isLower(c) }
func isHex(c byte) bool       { return isDigit(c) || 'a' <= c && c <= 'f' }
func isWord(c byte) bool      { return isAlnum(c) || c == '_' }
func isURLSafe(c byte) bool   { return isWord(c) || c == '-' }
func isBase64(c byte) bool    { return isAlnum(c) || c == '+' || c == '/' }
func isDotted(c byte) bool    { return isURLSafe(c) || c == '.' }
func isUpperNum(c byte) bool  { return isUpper(c) || isDigit(c) }
func isLowerNum(c byte) bool  { return isLower(c) || isDigit(c) }
func isDashedNum(c byte) bool { return isAlnum(c) || c == '-' }

// run returns how many characters of a begin text.
func run(text []byte, a alphabet) int {
	n := 0
	for n < len(text) && a(text[n]) {
		n++
	}
	return n
}

// runBack returns how many characters of a end text.
func runBack(text []byte, a alphabet) int {
	n := 0
	for n < len(text) && a(text[len(text)-1-n]) {
		n++
	}
	return n
}
