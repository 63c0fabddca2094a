package policy

import (
	"regexp"
	"strings"
	"testing"
	"time"

	godigest "github.com/opencontainers/go-digest"
)

func TestGlob(t *testing.T) {
	const name = "docker.io/library/nginx"
	digest := godigest.FromString("x")
	for _, tt := range []struct {
		pattern string
		tags    []string
		want    bool
	}{
		{"**", nil, true},
		{"docker.io/library/nginx", nil, true},
		{"docker.io/library/ngin", nil, false},
		{"docker.io/*/nginx", nil, true},
		{"docker.io/*", nil, false}, // * stops at /
		{"docker.io/**", nil, true},
		{"**/nginx", nil, true},
		{"**nginx", nil, true},
		{"*/*/*", nil, true},
		{"*/*", nil, false},
		{"docker.io/library/nginx*", nil, true},
		{"docker.io/l*y/n*x", nil, true},
		{"docker.io/library/nginx:*", []string{"1.25"}, true},
		{"docker.io/library/nginx:*", nil, false},
		{"docker.io/library/nginx:1.*", []string{"latest", "1.25"}, true},
		{"docker.io/library/nginx:1.*", []string{"latest"}, false},
		{"docker.io/library/nginx@" + digest.String(), nil, true},
		{"docker.io/library/nginx@sha256:*", nil, true},
		{"docker.io/library/nginx@sha256:00*", nil, false},
		{"localhost:5000/**", nil, false},
	} {
		g, err := ParseGlob(tt.pattern)
		if err != nil {
			t.Errorf("%s: %v", tt.pattern, err)
			continue
		}
		if got := g.Match(name, tt.tags, digest); got != tt.want {
			t.Errorf("%s matches with tags %v: %v", tt.pattern, tt.tags, got)
		}
	}
	port, err := ParseGlob("localhost:5000/a:1")
	if err != nil || !port.Match("localhost:5000/a", []string{"1"}, digest) {
		t.Errorf("a port was taken for a tag: %v", err)
	}
	if (Glob{}).Match("", nil, "") {
		t.Error("the zero Glob matches")
	}
}

func TestParseGlobRefuses(t *testing.T) {
	for pattern, want := range map[string]string{
		"":                              "empty",
		"a/***":                         "***",
		"docker.io/[a-z]*":              "only * and **",
		"docker.io/a b":                 "only * and **",
		"docker.io/Nginx":               "lower case",
		"nginx":                         "docker.io/library/nginx",
		"nginx:1.25":                    "docker.io/library/nginx:1.25",
		"docker.io/a:":                  "after the colon",
		"docker.io/a@":                  "after @",
		"docker.io/a:1@sha256:00":       "not both",
		"a/" + strings.Repeat("x", 600): "longer than",
	} {
		if _, err := ParseGlob(pattern); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", pattern, err, want)
		}
	}
}

// A pattern that makes backtracking matchers explode ends at once.
func TestWildIsBounded(t *testing.T) {
	start := time.Now()
	if wild(strings.Repeat("**a", 150)+"b", strings.Repeat("a", 10000)) {
		t.Error("matches")
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("took %s", took)
	}
}

func FuzzGlob(f *testing.F) {
	f.Add("docker.io/*/n**x", "docker.io/library/nginx")
	f.Add("**:1.*", "a/b")
	f.Add("*a*b**c", "aabb/c")
	f.Fuzz(func(t *testing.T, pattern, s string) {
		g, err := ParseGlob(pattern)
		if err != nil || len(s) > 4096 {
			return
		}
		if g.String() != pattern {
			t.Errorf("String of %q is %q", pattern, g.String())
		}
		// The matcher agrees with the regular expression of the same meaning.
		expr := regexp.QuoteMeta(g.name)
		expr = strings.ReplaceAll(expr, `\*\*`, `(?s:.*)`)
		expr = strings.ReplaceAll(expr, `\*`, `[^/]*`)
		if want := regexp.MustCompile(`\A(?:` + expr + `)\z`).MatchString(s); want != wild(g.name, s) && isASCII(s) {
			t.Errorf("wild(%q, %q) = %v", g.name, s, !want)
		}
		if wild(g.name, s) && !strings.HasPrefix(s, g.Prefix()) {
			t.Errorf("%q matches %q without its prefix %q", s, pattern, g.Prefix())
		}
	})
}

// isASCII keeps the comparison to texts whose bytes and characters are one:
// the regular expressions see broken UTF-8 as something else.
func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= 0x80 })
}
