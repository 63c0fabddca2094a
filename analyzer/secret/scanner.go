package secret

import (
	"bytes"
	"strings"

	"github.com/sluiceproxy/sluice/analyzer"
)

const (
	reach  = 64 << 10  // the longest stretch of text that a rule looks at, from the start of its match
	before = 2 << 10   // how far a rule looks back
	window = 512 << 10 // bytes held at most, and the unit of work
	// maxFindings bounds what one file may add to a report.
	maxFindings = 100
)

// match is what a rule found at an offset of the window.
type match struct {
	kind, rule, excerpt string
	off                 int
}

// rule finds what starts at the offset of its hint; text reaches from a little
// before to far behind it, or to the file's ends.
type rule struct {
	hint []byte // literal text that every match contains
	at   func(text []byte, hint int) (match, bool)
}

func rules() []rule {
	rs := []rule{{[]byte("-----BEGIN "), pemAt}, {[]byte("github_pat_"), githubPATAt}}
	for _, p := range []string{"ghp_", "gho_", "ghu_", "ghs_", "ghr_"} {
		rs = append(rs, rule{[]byte(p), githubAt})
	}
	for _, p := range []string{"AKIA", "ASIA"} {
		rs = append(rs, rule{[]byte(p), awsAt})
	}
	return rs
}

// Skip reports paths whose keys are published examples: documentation, manual
// pages, and the test suites of the standard libraries of Python and Go.
func Skip(p string) bool {
	for _, dir := range []string{"usr/share/doc/", "usr/share/man/", "usr/local/go/src/crypto/"} {
		if strings.HasPrefix(p, dir) {
			return true
		}
	}
	// The rest are in a directory with the version in its name.
	for _, d := range [...]struct{ before, after string }{
		{"usr/lib/python", "test/"},
		{"usr/local/lib/python", "test/"},
		{"usr/lib/go-", "src/crypto/"},
		{"usr/share/go-", "src/crypto/"},
	} {
		if rest, ok := strings.CutPrefix(p, d.before); ok {
			_, rest, _ = strings.Cut(rest, "/")
			return strings.HasPrefix(rest, d.after)
		}
	}
	return false
}

// Scanner looks for secrets in one file. Reset makes it ready for the next.
type Scanner struct {
	rules []rule
	path  string
	buf   []byte
	done  int // offset in buf up to which matches have been reported
	lines int // newlines before buf
	found []analyzer.Secret
}

// NewScanner returns a Scanner for the file at path.
func NewScanner(path string) *Scanner { return &Scanner{rules: rules(), path: path} }

// Reset makes s ready for the file at path; it keeps the memory.
func (s *Scanner) Reset(path string) {
	s.path, s.buf, s.done, s.lines, s.found = path, s.buf[:0], 0, 0, nil
}

// Write takes the next piece of the file. It never fails.
func (s *Scanner) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		k := min(len(p), window-len(s.buf))
		s.buf = append(s.buf, p[:k]...)
		p = p[k:]
		if len(s.buf) == window {
			s.advance(window - reach)
		}
	}
	return n, nil
}

// Close ends the file and returns what was found, in the order of the file.
func (s *Scanner) Close() []analyzer.Secret {
	s.scan(s.buf, len(s.buf))
	return s.found
}

// Whole scans a file that is in memory already. It must be the only call
// between Reset and the next.
func (s *Scanner) Whole(b []byte) []analyzer.Secret {
	s.scan(b, len(b))
	return s.found
}

// advance reports the matches that start before end and drops what no later
// match can need.
func (s *Scanner) advance(end int) {
	s.scan(s.buf, end)
	drop := end - before
	s.lines += bytes.Count(s.buf[:drop], []byte{'\n'})
	s.buf = s.buf[:copy(s.buf, s.buf[drop:])]
	s.done = before
}

// scan reports the matches whose hint starts in text[s.done:end].
func (s *Scanner) scan(text []byte, end int) {
	var found []match
	for _, r := range s.rules {
		for i := s.done; i < end; {
			k := bytes.Index(text[i:min(len(text), end+len(r.hint)-1)], r.hint)
			if k < 0 {
				break
			}
			hint := i + k
			lo, hi := max(0, hint-before), min(len(text), hint+reach)
			if m, ok := r.at(text[lo:hi], hint-lo); ok {
				m.off += lo
				found = append(found, m)
			}
			i = hint + len(r.hint)
		}
	}
	s.report(text, found)
}

func (s *Scanner) report(text []byte, found []match) {
	// A few matches at most: insertion keeps the file's order.
	for i := range found {
		for j := i; j > 0 && found[j].off < found[j-1].off; j-- {
			found[j], found[j-1] = found[j-1], found[j]
		}
	}
	for _, m := range found {
		if len(s.found) >= maxFindings {
			return
		}
		s.found = append(s.found, analyzer.Secret{
			Kind: m.kind, Rule: m.rule, Path: s.path, Excerpt: m.excerpt,
			Line: 1 + s.lines + bytes.Count(text[:m.off], []byte{'\n'}),
		})
	}
}

// mask keeps the first characters of a value, 8 at most and a quarter of it at most.
func mask(v string) string { return v[:min(8, len(v)/4)] + "…" }
