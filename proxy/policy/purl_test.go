package policy

import (
	"testing"

	"github.com/package-url/packageurl-go"
)

func TestPURL(t *testing.T) {
	for _, tt := range []struct {
		pattern, purl string
		want          bool
	}{
		{"pkg:npm/lodash", "pkg:npm/lodash@4.17.20", true},
		{"pkg:npm/lodash", "pkg:npm/lodash", true},
		{"pkg:npm/lodash@4.17.20", "pkg:npm/lodash@4.17.20", true},
		{"pkg:npm/lodash@4.17.20", "pkg:npm/lodash@4.17.21", false},
		{"pkg:npm/lodash@4.17.20", "pkg:npm/lodash", false},
		{"pkg:npm/lodash", "pkg:npm/lodash.merge@4.6.2", false},
		{"pkg:npm/lodash", "pkg:pypi/lodash@1", false},
		{"pkg:npm/%40acme/x", "pkg:npm/%40acme/x@1.0.0", true},
		{"pkg:npm/x", "pkg:npm/%40acme/x@1.0.0", false},
		{"pkg:deb/debian/zlib1g", "pkg:deb/debian/zlib1g@1%3A1.2.13?arch=amd64&distro=bookworm", true},
		{"pkg:deb/debian/zlib1g@1:1.2.13", "pkg:deb/debian/zlib1g@1%3A1.2.13?arch=amd64", true},
		{"pkg:deb/debian/zlib1g?arch=amd64", "pkg:deb/debian/zlib1g@1?arch=amd64&distro=x", true},
		{"pkg:deb/debian/zlib1g?arch=arm64", "pkg:deb/debian/zlib1g@1?arch=amd64", false},
		{"pkg:deb/ubuntu/zlib1g", "pkg:deb/debian/zlib1g@1", false},
		{"pkg:pypi/Foo_Bar", "pkg:pypi/foo-bar@1", true}, // names are normalised
		{"pkg:golang/github.com/acme/x", "pkg:golang/github.com/acme/x@v1.2.3#sub/dir", true},
	} {
		p, err := ParsePURL(tt.pattern)
		if err != nil {
			t.Errorf("%s: %v", tt.pattern, err)
			continue
		}
		if got := p.Match(tt.purl); got != tt.want {
			t.Errorf("%s matches %s: %v", tt.pattern, tt.purl, got)
		}
	}
	for _, bad := range []string{"", "lodash", "pkg:", "pkg:npm", "pkg:npm/", "npm/lodash"} {
		if p, err := ParsePURL(bad); err == nil {
			t.Errorf("%q is taken for %+v", bad, p)
		}
	}
}

// A pattern matches the canonical form of the package that it names.
func FuzzPURL(f *testing.F) {
	f.Add("pkg:npm/%40acme/x@1.0.0")
	f.Add("pkg:deb/debian/zlib1g@1:1.2.13?arch=amd64")
	f.Add("pkg:golang/github.com/acme/x@v1#sub")
	f.Fuzz(func(t *testing.T, s string) {
		pattern, err := ParsePURL(s)
		if err != nil {
			return
		}
		p, err := packageurl.FromString(s)
		if err != nil {
			t.Fatal(err)
		}
		canonical := p.ToString()
		if !pattern.Match(canonical) {
			t.Errorf("%q does not match its own canonical form %q: %+v", s, canonical, pattern)
		}
	})
}
