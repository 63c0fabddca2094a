package report

import (
	"cmp"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/sluiceproxy/sluice/analyzer"
)

// maxSARIFResults is how many results GitHub takes in one run; of those it
// keeps the worst 5,000 (GitHub, "SARIF results exceed one or more limits").
const maxSARIFResults = 25_000

// maxSARIFText is how much of a rule's descriptions GitHub shows, in bytes.
const maxSARIFText = 1024

// The objects of SARIF 2.1.0 (OASIS, 2020) that are written.
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool        sarifTool         `json:"tool"`
		Automation  sarifID           `json:"automationDetails"`
		Invocations []sarifInvocation `json:"invocations"`
		Results     []sarifResult     `json:"results"`
		Properties  map[string]any    `json:"properties"`
	}
	sarifID struct {
		ID string `json:"id"`
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct {
		Name    string      `json:"name"`
		Version string      `json:"version"`
		URI     string      `json:"informationUri"`
		Rules   []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID       string         `json:"id"`
		Name     string         `json:"name"`
		Short    sarifText      `json:"shortDescription"`
		Full     sarifText      `json:"fullDescription"`
		Help     sarifText      `json:"help"`
		HelpURI  string         `json:"helpUri,omitempty"`
		Default  sarifLevel     `json:"defaultConfiguration"`
		Property map[string]any `json:"properties"`

		score float64
	}
	sarifText struct {
		Text     string `json:"text"`
		Markdown string `json:"markdown,omitempty"`
	}
	sarifLevel struct {
		Level string `json:"level"`
	}
	sarifInvocation struct {
		Successful    bool                `json:"executionSuccessful"`
		End           string              `json:"endTimeUtc"`
		Notifications []sarifNotification `json:"toolExecutionNotifications,omitempty"`
	}
	sarifNotification struct {
		Level   string    `json:"level"`
		Message sarifText `json:"message"`
	}
	sarifResult struct {
		RuleID       string             `json:"ruleId"`
		RuleIndex    int                `json:"ruleIndex"`
		Level        string             `json:"level"`
		Message      sarifText          `json:"message"`
		Locations    []sarifLocation    `json:"locations"`
		Fingerprints map[string]string  `json:"partialFingerprints"`
		Suppressions []sarifSuppression `json:"suppressions,omitempty"`
		Properties   map[string]any     `json:"properties,omitempty"`
	}
	sarifLocation struct {
		Physical sarifPhysical  `json:"physicalLocation"`
		Logical  []sarifLogical `json:"logicalLocations"`
		Message  sarifText      `json:"message"`
	}
	sarifPhysical struct {
		Artifact sarifArtifact `json:"artifactLocation"`
		Region   sarifRegion   `json:"region"`
	}
	sarifArtifact struct {
		URI string `json:"uri"`
	}
	sarifRegion struct {
		StartLine int `json:"startLine"`
	}
	sarifLogical struct {
		Name string `json:"fullyQualifiedName"`
		Kind string `json:"kind"`
	}
	sarifSuppression struct {
		Kind          string `json:"kind"`
		Status        string `json:"status"`
		Justification string `json:"justification"`
	}
)

// WriteSARIF writes r as a SARIF 2.1.0 log of one run: a result for each
// finding, each secret, and each reason about the image as a whole. Its rules
// are the advisories, "secret/RULE" and "policy/RULE". Every result has a place:
// the package's file in the image, else the image. Findings that do not count
// are suppressed. What was not analysed is told in the run's notifications.
//
// GitHub recognises a result again by partialFingerprints, which depends on the
// advisory, the package and its file, not on versions or the image's digest.
func WriteSARIF(w io.Writer, r Result, o Options) error {
	s := &sarif{result: &r, rules: []sarifRule{}, index: map[string]int{}, results: []sarifResult{}}
	for i := range r.Findings {
		s.finding(&r.Findings[i])
	}
	for i := range r.Secrets {
		s.secret(&r.Secrets[i])
	}
	for _, reason := range r.ofImage() {
		s.reason(&reason)
	}
	run := sarifRun{
		Tool:        sarifTool{sarifDriver{Name: toolName, Version: o.version(), URI: toolURL, Rules: s.finish()}},
		Automation:  sarifID{"sluice/" + cmp.Or(r.Verdict.Image, r.Image) + "/"}, // without the tag, or every build would be another analysis to GitHub
		Invocations: []sarifInvocation{{Successful: r.Facts.Complete, End: o.timestamp(), Notifications: s.notes()}},
		Results:     s.results,
		Properties: map[string]any{
			"image": r.Image, "digest": r.Digest, "verdict": r.Verdict.ID, "decision": r.Verdict.Decision,
			"platform": r.Facts.Platform, "os": r.Facts.OS, "user": r.Facts.User, "advisories": r.Facts.Advisories,
		},
	}
	if r.Facts.SBOM != "" {
		run.Properties["sbom"] = r.Facts.SBOM
	}
	return writeJSON(w, sarifLog{
		Schema:  "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
		Version: "2.1.0", Runs: []sarifRun{run},
	})
}

// sarif is a run in the making.
type sarif struct {
	result  *Result
	rules   []sarifRule
	index   map[string]int // of rules, by id
	results []sarifResult
	dropped int
}

// rule returns the index of the rule id, which build makes at its first use.
func (s *sarif) rule(id string, score float64, build func() sarifRule) int {
	i, ok := s.index[id]
	if !ok {
		i = len(s.rules)
		s.index[id] = i
		s.rules = append(s.rules, build())
		s.rules[i].ID, s.rules[i].score = id, score
	}
	s.rules[i].score = max(s.rules[i].score, score)
	return i
}

// finish puts the worst score into each rule. A score below 0 is not known.
func (s *sarif) finish() []sarifRule {
	for i := range s.rules {
		if rule := &s.rules[i]; rule.score >= 0 {
			rule.Property["security-severity"] = strconv.FormatFloat(rule.score, 'f', 1, 64)
		}
	}
	return s.rules
}

func (s *sarif) add(res sarifResult) {
	if len(s.results) == maxSARIFResults {
		s.dropped++
		return
	}
	s.results = append(s.results, res)
}

func (s *sarif) finding(f *Finding) {
	level, score := sarifSeverity(f)
	rule := s.rule(f.Advisory, score, func() sarifRule {
		title := join(": ", shown(f), f.Summary)
		help := join("\n", title, "Aliases: "+orDash(strings.Join(f.Aliases, ", ")), "Affected: "+f.Source, link(f.Advisory))
		return sarifRule{
			Name: string(f.Class), Short: sarifText{Text: cutBytes(title, maxSARIFText)}, Full: sarifText{Text: cutBytes(title, maxSARIFText)},
			Help: sarifText{Text: help, Markdown: strings.ReplaceAll(help, "\n", "\n\n")}, HelpURI: link(f.Advisory), Default: sarifLevel{level},
			Property: map[string]any{"precision": "very-high", "tags": []string{"security", string(f.Class), f.Type}},
		}
	})
	text := headline(f)
	if rules := why(f); rules != "" {
		text += " (" + rules + ")"
	}
	properties := map[string]any{"purl": f.PURL, "installed": f.Version, "fixed": f.Fixed, "layer": f.Layer, "kev": f.KEV, "severity": f.Severity, "source": f.Source}
	if f.EPSS != nil {
		properties["epss"] = *f.EPSS
	}
	if f.Owner != "" {
		properties["owner"] = f.Owner
	}
	s.add(sarifResult{
		RuleID: f.Advisory, RuleIndex: rule, Level: level, Message: sarifText{Text: text},
		Locations:    s.at(f.Path, 1, f.location(), join(" ", f.Type, f.Package, f.Version), "package"),
		Fingerprints: marks(f.Advisory, f.Type, f.Package, f.Path, f.Inner),
		Suppressions: suppressed(!f.Open(), f.because()), Properties: properties,
	})
}

func (s *sarif) secret(secret *Secret) {
	id := "secret/" + secret.Rule
	level, score := "warning", 5.5
	if secret.Stops() {
		level, score = "error", 9
	}
	rule := s.rule(id, score, func() sarifRule {
		text := "In the image is a secret (" + strings.ReplaceAll(secret.Kind, "-", " ") + "): whoever can pull it has it"
		return sarifRule{
			Name: secret.Kind, Short: sarifText{Text: text}, Full: sarifText{Text: text}, Default: sarifLevel{level},
			Help:     sarifText{Text: text + ". Revoke it, and build the image without it: a later layer that deletes the file does not take it away."},
			Property: map[string]any{"tags": []string{"security", "secret", secret.Kind}},
		}
	})
	s.add(sarifResult{
		RuleID: id, RuleIndex: rule, Level: level, Message: sarifText{Text: secret.headline()},
		Locations:    s.at(secret.Path, max(1, secret.Line), secret.Path, secret.Path, "member"),
		Fingerprints: marks(id, secret.Path, strconv.Itoa(secret.Line)),
		Suppressions: suppressed(secret.Waived != "", secret.Waived),
		Properties:   map[string]any{"layer": secret.Layer, "deleted": secret.Deleted},
	})
}

func (s *sarif) reason(reason *Reason) {
	id, level := "policy/"+reason.Rule, "warning"
	if reason.rule().Stops() {
		level = "error"
	}
	rule := s.rule(id, -1, func() sarifRule {
		text := "The policy's rule " + reason.Rule
		return sarifRule{
			Name: reason.Rule, Short: sarifText{Text: text}, Full: sarifText{Text: text}, Default: sarifLevel{level},
			Help: sarifText{Text: text + " fired on the image as a whole."}, Property: map[string]any{"tags": []string{"policy"}},
		}
	})
	s.add(sarifResult{
		RuleID: id, RuleIndex: rule, Level: level, Message: sarifText{Text: reason.Message},
		Locations:    s.at("", 1, "", "", "module"),
		Fingerprints: marks(id), Suppressions: suppressed(reason.Waived != "", reason.Waived),
	})
}

// at is a place in the image; an empty path means the image.
func (s *sarif) at(path string, line int, shown, within, kind string) []sarifLocation {
	image := s.result.name()
	if path == "" {
		path = strings.Map(func(r rune) rune {
			if r == ':' || r == '@' {
				return '/'
			}
			return r
		}, image)
	}
	return []sarifLocation{{
		Physical: sarifPhysical{sarifArtifact{(&url.URL{Path: strings.TrimLeft(path, "/")}).String()}, sarifRegion{line}},
		Logical:  []sarifLogical{{join(": ", image, within), kind}},
		Message:  sarifText{Text: join(": ", image, shown)},
	}}
}

// notes are what the scan could not see or compare.
func (s *sarif) notes() []sarifNotification {
	var out []sarifNotification
	note := func(level, text string) { out = append(out, sarifNotification{level, sarifText{Text: text}}) }
	f := &s.result.Facts
	for _, g := range f.Incomplete {
		note("error", "not analysed: "+join(": ", g.Path, g.Reason))
	}
	for _, u := range f.Undecided {
		note("warning", "not compared: "+join(": ", join(" ", u.Advisory, u.Package, u.Version), u.Reason))
	}
	if f.SBOM != "" {
		note("note", "from an SBOM ("+f.SBOM+"): files were not looked at")
	}
	if s.dropped > 0 {
		note("warning", fmt.Sprintf("%d results of the least severity are left out: GitHub takes %d", s.dropped, maxSARIFResults))
	}
	return out
}

// sarifSeverity maps a severity to a level, and to the score that GitHub shows;
// below 0 for none.
func sarifSeverity(f *Finding) (level string, score float64) {
	if f.Class == analyzer.ClassMalware {
		return "error", 10
	}
	switch f.Severity {
	case analyzer.SeverityCritical:
		level, score = "error", 9.5
	case analyzer.SeverityHigh:
		level, score = "error", 8
	case analyzer.SeverityMedium:
		level, score = "warning", 5.5
	case analyzer.SeverityLow:
		level, score = "note", 2
	case analyzer.SeverityNone:
		level, score = "note", 0
	case analyzer.SeverityUnknown:
		return "warning", -1
	}
	if f.Score > 0 && analyzer.SeverityOfScore(f.Score) == f.Severity {
		score = f.Score
	}
	return level, score
}

// marks are the fingerprints of a result. GitHub looks at the first key only,
// whose value ends in a count of equal lines.
func marks(texts ...string) map[string]string {
	mark := fingerprint(texts...)
	return map[string]string{"primaryLocationLineHash": mark + ":1", "sluice/v1": mark}
}

func suppressed(is bool, why string) []sarifSuppression {
	if !is {
		return nil
	}
	return []sarifSuppression{{Kind: "external", Status: "accepted", Justification: why}}
}

// cutBytes shortens s to most bytes at a letter's end.
func cutBytes(s string, most int) string {
	if len(s) <= most {
		return s
	}
	r := []rune(s[:most-len("…")])
	return strings.TrimRight(string(slices.DeleteFunc(r, func(r rune) bool { return r == '\uFFFD' })), " ") + "…"
}
