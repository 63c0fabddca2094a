package extract

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/sluiceproxy/sluice/analyzer"
)

// maxRelease bounds a release file, in bytes.
const maxRelease = 64 << 10

// releaseFiles say which distribution this is, the best first. The last two
// are the version files of Alpine and Debian, for images without os-release(5).
var releaseFiles = [...]string{"etc/os-release", "usr/lib/os-release", "etc/alpine-release", "etc/debian_version"}

// isRelease also accepts other files with os-release in their name: the two
// standard names may be links to one.
func isRelease(p string) bool {
	for _, r := range releaseFiles {
		if p == r {
			return true
		}
	}
	return strings.Contains(path.Base(p), "os-release") && (strings.HasPrefix(p, "usr/") || strings.HasPrefix(p, "etc/"))
}

// releases are the release files of a layer and the links that stand for them.
type releases struct {
	content map[string][]byte
	links   map[string]string
}

func (r *releases) add(p string, c Content) error {
	b, err := io.ReadAll(io.NewSectionReader(c, 0, min(c.Size, maxRelease)))
	if err != nil {
		return fmt.Errorf("read %s: %w", p, err)
	}
	if r.content == nil {
		r.content = map[string][]byte{}
	}
	if len(r.content) < 64 || r.content[p] != nil {
		r.content[p] = b
	}
	delete(r.links, p)
	return nil
}

func (r *releases) link(p, target string) {
	if p != releaseFiles[0] && p != releaseFiles[1] {
		return
	}
	if !strings.HasPrefix(target, "/") {
		target = path.Join("/", path.Dir(p), target)
	}
	if r.links == nil {
		r.links = map[string]string{}
	}
	r.links[p] = strings.TrimPrefix(path.Clean(target), "/")
	delete(r.content, p)
}

func (r *releases) best() *analyzer.OSRelease {
	for _, p := range releaseFiles {
		at := p
		for range 4 { // as many hops as anyone needs; a loop ends as well
			to, ok := r.links[at]
			if !ok {
				break
			}
			at = to
		}
		b, ok := r.content[at]
		if !ok {
			continue
		}
		if rel := parseRelease(p, b); rel != nil {
			return rel
		}
	}
	return nil
}

// parseRelease reads one release file; nil where it names no distribution.
func parseRelease(p string, b []byte) *analyzer.OSRelease {
	b = bytes.ToValidUTF8(b, []byte("\uFFFD"))
	if !strings.Contains(path.Base(p), "os-release") {
		v, _, _ := strings.Cut(strings.TrimSpace(string(b)), "\n")
		if v = strings.TrimSpace(v); v == "" {
			return nil
		}
		if p == "etc/alpine-release" {
			return &analyzer.OSRelease{ID: "alpine", VersionID: v, Name: "Alpine Linux " + v, Path: p}
		}
		rel := &analyzer.OSRelease{ID: "debian", Name: "Debian " + v, Path: p}
		if v[0] >= '0' && v[0] <= '9' {
			rel.VersionID, _, _ = strings.Cut(v, ".") // as os-release has it
		} else {
			rel.Codename, _, _ = strings.Cut(v, "/") // trixie/sid
		}
		return rel
	}
	m := map[string]string{}
	sc := bufio.NewScanner(bytes.NewReader(b))
	for sc.Scan() {
		k, v, ok := strings.Cut(strings.TrimSpace(sc.Text()), "=")
		if ok && !strings.HasPrefix(k, "#") {
			m[k] = unquote(v)
		}
	}
	if m["ID"] == "" {
		return nil
	}
	name := m["PRETTY_NAME"]
	if name == "" {
		name = m["NAME"]
	}
	return &analyzer.OSRelease{ID: m["ID"], VersionID: m["VERSION_ID"], Codename: m["VERSION_CODENAME"], Name: name, CPE: m["CPE_NAME"], Path: p}
}

// unquote undoes the shell quoting that os-release(5) allows: no expansion.
func unquote(v string) string {
	if n := len(v); n >= 2 && v[0] == v[n-1] && (v[0] == '"' || v[0] == '\'') {
		q := v[0]
		v = v[1 : n-1]
		if q == '"' {
			for _, c := range []string{`"`, `$`, "`", `\`} {
				v = strings.ReplaceAll(v, `\`+c, c)
			}
		}
	}
	return v
}
