package policy

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/package-url/packageurl-go"
)

// purlPattern names packages by a purl (https://github.com/package-url/purl-spec):
// without a version every version, without qualifiers every qualifier.
type purlPattern struct {
	base       string // pkg:type/namespace/name, unescaped
	version    string
	qualifiers map[string]string
}

// parsePURL reads a pattern; it must be a whole purl with a type and a name.
func parsePURL(s string) (purlPattern, error) {
	if !strings.HasPrefix(s, "pkg:") {
		return purlPattern{}, fmt.Errorf("a package is named by its purl, such as pkg:npm/lodash")
	}
	p, err := packageurl.FromString(s)
	if err != nil {
		return purlPattern{}, fmt.Errorf("not a purl: %w", err)
	}
	base := "pkg:" + p.Type + "/"
	if p.Namespace != "" {
		base += p.Namespace + "/"
	}
	return purlPattern{base: base + p.Name, version: p.Version, qualifiers: p.Qualifiers.Map()}, nil
}

// match reports whether purl, in its canonical form, names such a package.
func (p purlPattern) match(purl string) bool {
	purl, _, _ = strings.Cut(purl, "#")
	purl, query, _ := strings.Cut(purl, "?")
	base, version := purl, ""
	// A canonical purl has no other @: a namespace's is written %40.
	if i := strings.LastIndexByte(purl, '@'); i > strings.LastIndexByte(purl, '/') {
		base, version = purl[:i], purl[i+1:]
	}
	if unescape(base) != p.base || p.version != "" && unescape(version) != p.version {
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
