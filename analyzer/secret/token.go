package secret

import (
	"bytes"
	"hash/crc32"
	"strings"
)

// The kinds and rules of tokens.
const (
	kindGit   = "git-token"
	kindCloud = "cloud-token"
	ruleGH    = "github-token"
	ruleGHPAT = "github-fine-grained-token"
	ruleAWS   = "aws-access-key"
)

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// githubAt recognises GitHub's classic tokens: a prefix of four, 30 random
// characters, and their CRC-32 in base 62, six characters ("Behind GitHub's new
// authentication token formats", github.blog, April 2021).
func githubAt(text []byte, hint int) (match, bool) {
	const random, sum = 30, 6
	token, ok := word(text, hint, 4+random+sum)
	if !ok {
		return match{}, false
	}
	crc := crc32.ChecksumIEEE([]byte(token[4 : 4+random]))
	want := [sum]byte{}
	for i := sum - 1; i >= 0; i-- {
		want[i] = base62[crc%62]
		crc /= 62
	}
	if token[4+random:] != string(want[:]) {
		return match{}, false
	}
	return match{kind: kindGit, rule: ruleGH, off: hint, excerpt: mask(token)}, true
}

// githubPATAt recognises fine-grained tokens: github_pat_, 22 characters, an
// underscore, 59 characters.
func githubPATAt(text []byte, hint int) (match, bool) {
	const prefix = len("github_pat_")
	token, ok := word(text, hint, prefix+22+1+59)
	if !ok || token[prefix+22] != '_' || strings.Count(token[prefix:], "_") != 1 || monotone(token[prefix:]) {
		return match{}, false
	}
	return match{kind: kindGit, rule: ruleGHPAT, off: hint, excerpt: mask(token)}, true
}

// word returns the n letters, digits and underscores at hint, if there are
// exactly that many and none before.
func word(text []byte, hint, n int) (string, bool) {
	if hint+n > len(text) || hint > 0 && isWord(text[hint-1]) || hint+n < len(text) && isWord(text[hint+n]) {
		return "", false
	}
	w := text[hint : hint+n]
	for _, c := range w {
		if !isWord(c) {
			return "", false
		}
	}
	return string(w), true
}

func isWord(c byte) bool {
	return c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// awsReach is how far from its id a secret key is looked for, in bytes.
const awsReach = 512

// awsAt recognises an access key id (AKIA or ASIA and 16 of base 32) that has a
// secret access key, 40 characters of base 64, close by ("IAM identifiers" and
// "Managing access keys", AWS documentation).
func awsAt(text []byte, hint int) (match, bool) {
	id, ok := word(text, hint, 20)
	if !ok || strings.HasSuffix(id, "EXAMPLE") || strings.Trim(id[4:], "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") != "" || monotone(id[4:]) {
		return match{}, false
	}
	near := text[max(0, hint-awsReach):min(len(text), hint+20+awsReach)]
	for i := 0; i < len(near); {
		n := 0
		for i+n < len(near) && isBase64(near[i+n]) {
			n++
		}
		if n == 40 && isAWSSecret(near[i:i+n]) {
			return match{kind: kindCloud, rule: ruleAWS, off: hint, excerpt: mask(id)}, true
		}
		i += n + 1
	}
	return match{}, false
}

func isBase64(c byte) bool { return c == '/' || c == '+' || c != '_' && isWord(c) }

// isAWSSecret tells a secret from other words of 40 characters: a SHA-1, a
// path, a name, Amazon's example.
func isAWSSecret(b []byte) bool {
	if bytes.HasSuffix(b, []byte("EXAMPLEKEY")) {
		return false
	}
	var upper, lower, digit int
	seen := map[byte]bool{}
	for _, c := range b {
		seen[c] = true
		switch {
		case 'A' <= c && c <= 'Z':
			upper++
		case 'a' <= c && c <= 'z':
			lower++
		case '0' <= c && c <= '9':
			digit++
		}
	}
	return upper >= 4 && lower >= 4 && digit >= 2 && len(seen) >= 18
}

// monotone reports placeholders: hardly any different characters.
func monotone(s string) bool {
	seen := map[rune]bool{}
	for _, c := range s {
		seen[c] = true
	}
	return len(seen) < 6
}
