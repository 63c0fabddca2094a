package secret

import (
	"bytes"
	"slices"
	"time"

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
	notAfter            time.Time
}

// rule finds what stands around its keyword; text reaches from a little before
// to far behind it, or to the file's ends.
type rule struct {
	keyword string // literal text that every match contains, at most maxKeyword bytes
	strong  bool   // proves what it finds, which is what Proven asks for
	at      func(text []byte, hint int) (match, bool)
}

// maxKeyword is the length of the longest keyword.
const maxKeyword = 32

func rules() []rule {
	rs := []rule{
		{"-----BEGIN ", true, pemAt},
		{"PuTTY-User-Key-File-", true, puttyAt},
		{`"kty"`, false, jwkAt},
		{"AKIA", false, awsAt},
		{"ASIA", false, awsAt},
		{"T3BlbkFJ", false, openAIAt},
		{".atlasv1.", false, terraformAt},
		{"wilio", false, twilioAt},
		{"WILIO", false, twilioAt},
		{"eyJ", false, jwtAt},
		{"hooks.slack.com/services/T", false, slackHookAt},
	}
	for _, p := range []string{":AAE", ":AAF", ":AAG", ":AAH"} {
		rs = append(rs, rule{p, false, telegramAt})
	}
	for _, t := range tokens() {
		rs = append(rs, rule{t.prefix, t.proof, t.at})
	}
	return rs
}

// Scanner looks for secrets in one file. Reset makes it ready for the next.
type Scanner struct {
	filter *filter
	files  []fileRule

	path  string
	depth Depth
	buf   []byte
	done  int  // offset in buf up to which matches have been reported
	lines int  // newlines before buf
	begun bool // the beginning of the file has been looked at as a file
	found []analyzer.Secret
	cert  *analyzer.Secret // the file's first certificate
	certs int              // how many there are
}

// NewScanner returns a Scanner.
func NewScanner() *Scanner { return &Scanner{filter: newFilter(rules()), files: fileRules()} }

// Reset makes s ready for the file at path; it keeps the memory.
func (s *Scanner) Reset(path string, depth Depth) {
	s.path, s.depth, s.buf, s.done, s.lines, s.begun, s.found = path, depth, s.buf[:0], 0, 0, false, nil
	s.cert, s.certs = nil, 0
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
	return s.result()
}

// Whole scans a file that is in memory already. It must be the only call
// between Reset and the next.
func (s *Scanner) Whole(b []byte) []analyzer.Secret {
	s.scan(b, len(b))
	return s.result()
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

// scan reports the matches whose keyword starts in text[s.done:end].
func (s *Scanner) scan(text []byte, end int) {
	var found []match
	s.filter.find(text, s.done, end, func(r *rule, at int) {
		if s.depth < Everything && !r.strong || len(found) >= maxFindings {
			return
		}
		lo, hi := max(0, at-before), min(len(text), at+reach)
		m, ok := r.at(text[lo:hi], at-lo)
		switch {
		case !ok:
		case m.kind == kindCertificate:
			s.certificate(text, at, hi)
		default:
			m.off += lo
			found = append(found, m)
		}
	})
	if !s.begun {
		s.begun = true
		found = append(found, s.file(text[:min(len(text), window)])...)
	}
	slices.SortStableFunc(found, func(a, b match) int { return a.off - b.off })
	for _, m := range found {
		if len(s.found) >= maxFindings {
			return
		}
		f := analyzer.Secret{
			Kind: m.kind, Rule: m.rule, Path: s.path, Excerpt: m.excerpt, NotAfter: m.notAfter,
			Line: 1 + s.lines + bytes.Count(text[:m.off], []byte{'\n'}),
		}
		if f.Kind == kindKey && library(s.path) {
			f.Kind = kindPublishedKey
		}
		if !slices.Contains(s.found, f) { // two keywords can lead to one value
			s.found = append(s.found, f)
		}
	}
}

// mask keeps the first characters of a value, 8 at most and a quarter of it at most.
func mask(v string) string { return v[:min(8, len(v)/4)] + "…" }
