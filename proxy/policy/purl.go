package policy

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/package-url/packageurl-go"
)

// PURL names packages by a purl (https://github.com/package-url/purl-spec):
// without a version every version, without qualifiers every qualifier. The zero
// PURL matches nothing.
type PURL struct {
	base       string // pkg:type/namespace/name, unescaped
	version    string
	qualifiers map[string]string
}

// ParsePURL reads a pattern; it must be a whole purl with a type and a name. Its
// error does not repeat the pattern.
func ParsePURL(s string) (PURL, error) {
	if !strings.HasPrefix(s, "pkg:") {
		return PURL{}, fmt.Errorf("a package is named by its purl, such as pkg:npm/lodash")
	}
	p, err := packageurl.FromString(s)
	if err != nil {
		return PURL{}, fmt.Errorf("not a purl: %w", err)
	}
	base := "pkg:" + p.Type + "/"
	if p.Namespace != "" {
		base += p.Namespace + "/"
	}
	return PURL{base: base + p.Name, version: p.Version, qualifiers: p.Qualifiers.Map()}, nil
}

// Base is the purl without version and qualifiers, unescaped.
func (p PURL) Base() string { return p.base }

// SplitPURL returns the base of a purl in its canonical form, as PURL.Base has
// it, and its version and qualifiers as they stand.
func SplitPURL(purl string) (base, version, query string) {
	purl, _, _ = strings.Cut(purl, "#")
	purl, query, _ = strings.Cut(purl, "?")
	// A canonical purl has no other @: a namespace's is written %40.
	if i := strings.LastIndexByte(purl, '@'); i > strings.LastIndexByte(purl, '/') {
		return unescape(purl[:i]), purl[i+1:], query
	}
	return unescape(purl), "", query
}

// Match reports whether purl, in its canonical form, names such a package.
func (p PURL) Match(purl string) bool {
	base, version, query := SplitPURL(purl)
	if p.base == "" || base != p.base || p.version != "" && unescape(version) != p.version {
		return false
	}
	if len(p.qualifiers) == 0 {
		return true
	}
	have := make(map[string]string, len(p.qualifiers))
	for pair := range strings.SplitSeq(query, "&") {
		k, v, _ := strings.Cut(pair, "=")
		have[strings.ToLower(k)] = unescape(v)
	}
	for k, v := range p.qualifiers {
		if have[k] != v {
			return false
		}
	}
	return true
}

// unescape undoes percent-encoding; what is not one stays as it is.
func unescape(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	if u, err := url.PathUnescape(s); err == nil {
		return u
	}
	return s
}
