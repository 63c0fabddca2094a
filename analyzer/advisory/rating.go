package advisory

import (
	"bytes"
	"encoding/json"
	"math"
	"regexp"
	"strconv"
	"strings"

	gocvss20 "github.com/pandatix/go-cvss/20"
	gocvss30 "github.com/pandatix/go-cvss/30"
	gocvss31 "github.com/pandatix/go-cvss/31"
	gocvss40 "github.com/pandatix/go-cvss/40"

	"github.com/sluiceproxy/sluice/analyzer"
)

// rating is how bad an advisory is, and on what ground. Its rules, first to last:
//
//  1. the word of the distribution, for its own packages: a severity of a type
//     that holds a word (Ubuntu's priority), ecosystem_specific or
//     database_specific "severity" or "urgency" (Debian), or the first word of
//     the summary ("Important: …", AlmaLinux, Rocky). A word that rates nothing
//     ("not yet assigned", "end-of-life") does not count;
//  2. the CVSS vector of the highest CVSS version that can be read, in the
//     affected entry or the record (v4.0, v3.1, v3.0, v2.0);
//  3. a score without a vector (database_specific.cvss_v3_score, RubyGems);
//  4. the feed's word, in the places of rule 1, for packages of languages;
//  5. the worst CVSS rating that another record of the same index gives to one
//     of the record's CVEs;
//  6. the worst that NVD gives to one of them.
//
// Without any of these it is unknown, which is not "none". Who rated it is in
// Finding.RatedBy.
type rating struct {
	severity analyzer.Severity
	score    float64
	vector   string
	distro   bool // by rule 1
}

// cvss is the vector's CVSS version, 0 without one.
func (r rating) cvss() int {
	switch {
	case r.vector == "":
		return 0
	case strings.HasPrefix(r.vector, "CVSS:4"):
		return 4
	case strings.HasPrefix(r.vector, "CVSS:3"):
		return 3
	}
	return 2
}

// better reports whether r rests on better ground than s, or on the same and is worse.
func (r rating) better(s rating) bool {
	if r.distro != s.distro {
		return r.distro
	}
	if r.cvss() != s.cvss() {
		return r.cvss() > s.cvss()
	}
	if r.severity != s.severity {
		return r.severity > s.severity
	}
	return r.score > s.score
}

// rateVector reads a CVSS vector. ok is false for one that cannot be read.
func rateVector(vector string) (r rating, ok bool) {
	vector = strings.TrimSpace(vector)
	if len(vector) > 512 {
		return rating{}, false
	}
	var score float64
	switch {
	case strings.HasPrefix(vector, "CVSS:4.0/"):
		v, err := gocvss40.ParseVector(vector)
		if err != nil {
			return rating{}, false
		}
		score = v.Score()
	case strings.HasPrefix(vector, "CVSS:3.1/"):
		v, err := gocvss31.ParseVector(vector)
		if err != nil {
			return rating{}, false
		}
		score = v.BaseScore()
	case strings.HasPrefix(vector, "CVSS:3.0/"):
		v, err := gocvss30.ParseVector(vector)
		if err != nil {
			return rating{}, false
		}
		score = v.BaseScore()
	default:
		v, err := gocvss20.ParseVector(strings.Trim(vector, "()"))
		if err != nil {
			return rating{}, false
		}
		score = v.BaseScore()
		// NVD's ratings for v2 know no critical: 7.0–10.0 is high.
		return rating{severity: min(analyzer.SeverityOfScore(score), analyzer.SeverityHigh), score: score, vector: vector}, true
	}
	return rating{severity: analyzer.SeverityOfScore(score), score: score, vector: vector}, true
}

// rateEntries returns the best CVSS rating and the worst word of a list of OSV
// "severity" entries.
func rateEntries(entries []osvSeverity) (cvss, word rating) {
	for _, e := range entries {
		if strings.HasPrefix(e.Type, "CVSS_") {
			if r, ok := rateVector(e.Score); ok && r.better(cvss) {
				cvss = r
			}
		} else if s, ok := analyzer.ParseSeverity(e.Score); ok {
			word.severity = max(word.severity, s)
		}
	}
	return cvss, word
}

// rateWord looks for a feed's word in a *_specific object of any shape.
func rateWord(raw json.RawMessage) rating {
	if len(raw) == 0 || !bytes.ContainsAny(raw, "{") {
		return rating{}
	}
	var o struct {
		Severity json.RawMessage `json:"severity"`
		Urgency  json.RawMessage `json:"urgency"`
		Score    json.RawMessage `json:"cvss_v3_score"`
	}
	if json.Unmarshal(raw, &o) != nil {
		return rating{}
	}
	if s, err := strconv.ParseFloat(strings.Trim(string(o.Score), `"`), 64); err == nil && s >= 0 && s <= 10 {
		return rating{severity: analyzer.SeverityOfScore(s), score: math.Round(s*10) / 10}
	}
	for _, w := range []json.RawMessage{o.Severity, o.Urgency} {
		var word string
		if json.Unmarshal(w, &word) != nil {
			continue
		}
		if s, ok := analyzer.ParseSeverity(strings.TrimRight(word, "*")); ok && s != analyzer.SeverityUnknown {
			return rating{severity: s}
		}
	}
	return rating{}
}

// summaryWord is how the errata of rpm distributions tell their severity.
var summaryWord = regexp.MustCompile(`^(Critical|Important|Moderate|Low): `)

func rateSummary(summary string) rating {
	m := summaryWord.FindStringSubmatch(summary)
	if m == nil {
		return rating{}
	}
	s, _ := analyzer.ParseSeverity(m[1])
	return rating{severity: s}
}

// rate returns a record's rating, and for each affected entry one of its own
// where it differs from that (the zero rating where it does not).
func rate(r *osvRecord) (rating, []rating) {
	record, word := rateEntries(r.Severity)
	database, summary := rateWord(r.DatabaseSpecific), rateSummary(r.Summary)
	own := make([]rating, len(r.Affected))
	for i, a := range r.Affected {
		cvss, entry := rateEntries(a.Severity)
		specific := rateWord(a.EcosystemSpecific)
		if distribution(parseEcosystem(a.Package.Ecosystem).base) {
			for _, w := range []rating{entry, specific, word, database, summary} {
				if w.severity != analyzer.SeverityUnknown && w.score == 0 {
					own[i] = rating{severity: w.severity, distro: true}
					break
				}
			}
			if own[i].distro {
				continue
			}
		}
		own[i] = cvss
		if cvss.vector == "" && specific.severity > entry.severity {
			own[i] = specific
		} else if cvss.vector == "" {
			own[i] = entry
		}
		if record.vector == "" && own[i].better(record) {
			record = own[i]
		}
	}
	for _, w := range []rating{word, database, summary} {
		if record.severity == analyzer.SeverityUnknown {
			record = w
		}
	}
	for i := range own {
		if record.severity == analyzer.SeverityUnknown && own[i].better(record) {
			record = own[i]
		}
		if own[i] == record || !own[i].distro && record.cvss() > own[i].cvss() {
			own[i] = rating{}
		}
	}
	return record, own
}
