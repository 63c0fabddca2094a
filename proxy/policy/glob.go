package policy

import (
	"fmt"
	"strings"

	godigest "github.com/opencontainers/go-digest"
)

// maxGlob is the longest pattern in bytes. A repository name has at most 255
// (distribution-spec, "Pulling manifests"), a tag 128, a digest 135.
const maxGlob = 512

// Glob matches images by their canonical name (docker.io/library/nginx), by
// name and tag, or by name and digest: "name", "name:tag", "name@digest". In
// each part * stands for any run of characters without a slash, ** for any run
// at all, everything else for itself. The zero Glob matches nothing.
type Glob struct {
	text              string
	name, tag, digest string
}

// ParseGlob reads a pattern. Its error says what is wrong, without the pattern.
func ParseGlob(s string) (Glob, error) {
	switch {
	case s == "":
		return Glob{}, fmt.Errorf("the pattern is empty")
	case len(s) > maxGlob:
		return Glob{}, fmt.Errorf("the pattern is longer than %d bytes", maxGlob)
	case strings.Contains(s, "***"):
		return Glob{}, fmt.Errorf("*** has no meaning: * stops at /, ** does not")
	}
	for _, r := range s {
		if r <= ' ' || r >= 0x7f || strings.ContainsRune(`?[]{}!\"'`, r) {
			return Glob{}, fmt.Errorf("%q cannot stand in a pattern: only * and ** are special", r)
		}
	}
	g := Glob{text: s, name: s}
	if name, digest, ok := strings.Cut(s, "@"); ok {
		g.name, g.digest = name, digest
		if digest == "" || strings.Contains(digest, "@") {
			return Glob{}, fmt.Errorf("one digest or pattern belongs after @")
		}
	}
	if i := strings.LastIndexByte(g.name, ':'); i > strings.LastIndexByte(g.name, '/') && i >= 0 {
		g.name, g.tag = g.name[:i], g.name[i+1:]
		if g.tag == "" {
			return Glob{}, fmt.Errorf("a tag or pattern belongs after the colon")
		}
		if g.digest != "" {
			return Glob{}, fmt.Errorf("give a tag or a digest, not both")
		}
	}
	if g.name != strings.ToLower(g.name) {
		return Glob{}, fmt.Errorf("names are in lower case")
	}
	if !strings.Contains(g.name, "/") && !strings.Contains(g.name, "**") {
		return Glob{}, fmt.Errorf("canonical names start with the upstream: did you mean %q?", "docker.io/library/"+s)
	}
	return g, nil
}

// String returns the pattern.
func (g Glob) String() string { return g.text }

// Match reports whether g matches the image by its name and, where the pattern
// has one, by its digest or by at least one of its tags.
func (g Glob) Match(name string, tags []string, digest godigest.Digest) bool {
	if !g.matchName(name, digest) {
		return false
	}
	if g.tag == "" {
		return true
	}
	for _, t := range tags {
		if wild(g.tag, t) {
			return true
		}
	}
	return false
}

// matchAll is Match, but a tag pattern must match every tag, and there must be
// one. Excluding an image from a policy wants it: the digest of "dev" may also
// be that of "prod".
func (g Glob) matchAll(name string, tags []string, digest godigest.Digest) bool {
	if !g.matchName(name, digest) {
		return false
	}
	if g.tag == "" {
		return true
	}
	for _, t := range tags {
		if !wild(g.tag, t) {
			return false
		}
	}
	return len(tags) > 0
}

func (g Glob) matchName(name string, digest godigest.Digest) bool {
	return g.text != "" && wild(g.name, name) && (g.digest == "" || wild(g.digest, digest.String()))
}

// Prefix returns the literal text with which every matching name starts.
func (g Glob) Prefix() string {
	prefix, _, _ := strings.Cut(g.name, "*")
	return prefix
}

// wild matches s with a pattern of *, ** and literal bytes. It takes time in
// proportion to len(pattern) × len(s), however many stars there are.
func wild(pattern, s string) bool {
	star := strings.IndexByte(pattern, '*')
	switch {
	case star < 0:
		return pattern == s
	case pattern == "**":
		return true
	case !strings.HasPrefix(s, pattern[:star]):
		return false
	}
	pattern, s = pattern[star:], s[star:]

	// reach[j] tells whether the pattern so far can end at s[:j].
	reach := make([]bool, len(s)+1)
	reach[0] = true
	for i := 0; i < len(pattern); i++ {
		if pattern[i] != '*' {
			for j := len(s); j > 0; j-- {
				reach[j] = reach[j-1] && s[j-1] == pattern[i]
			}
			reach[0] = false
			continue
		}
		deep := i+1 < len(pattern) && pattern[i+1] == '*'
		if deep {
			i++
		}
		for j := 1; j <= len(s); j++ {
			reach[j] = reach[j] || reach[j-1] && (deep || s[j-1] != '/')
		}
	}
	return reach[len(s)]
}
