package report

import (
	"fmt"
	"io"
	"strings"

	"github.com/sluiceproxy/sluice/analyzer"
)

// gitlabSchema is the version of GitLab's report format that is written
// (security-report-schemas, container-scanning-report-format.json). All
// releases of GitLab since 15.0 take it.
const gitlabSchema = "15.0.7"

// Bounds of that schema.
const (
	maxGitLabName     = 255
	maxGitLabSolution = 7000
)

// gitlabTime is how the schema wants times: UTC without a zone.
const gitlabTime = "2006-01-02T15:04:05"

type (
	gitlabReport struct {
		Schema          string       `json:"schema"`
		Version         string       `json:"version"`
		Scan            gitlabScan   `json:"scan"`
		Vulnerabilities []gitlabVuln `json:"vulnerabilities"`
		Remediations    []struct{}   `json:"remediations"`
	}
	gitlabScan struct {
		Analyzer gitlabTool      `json:"analyzer"`
		Scanner  gitlabTool      `json:"scanner"`
		Start    string          `json:"start_time"`
		End      string          `json:"end_time"`
		Status   string          `json:"status"`
		Type     string          `json:"type"`
		Messages []gitlabMessage `json:"messages,omitempty"`
	}
	gitlabTool struct {
		ID      string     `json:"id"`
		Name    string     `json:"name"`
		URL     string     `json:"url"`
		Version string     `json:"version"`
		Vendor  gitlabName `json:"vendor"`
	}
	gitlabName struct {
		Name string `json:"name"`
	}
	gitlabMessage struct {
		Level string `json:"level"`
		Value string `json:"value"`
	}
	gitlabVuln struct {
		ID          string                  `json:"id"`
		Name        string                  `json:"name"`
		Description string                  `json:"description,omitempty"`
		Severity    string                  `json:"severity"`
		Solution    string                  `json:"solution,omitempty"`
		Identifiers []gitlabIdentifier      `json:"identifiers"`
		Links       []gitlabLink            `json:"links,omitempty"`
		Details     map[string]gitlabDetail `json:"details,omitempty"`
		Location    gitlabLocation          `json:"location"`
	}
	gitlabIdentifier struct {
		Type  string `json:"type"`
		Name  string `json:"name"`
		Value string `json:"value"`
		URL   string `json:"url,omitempty"`
	}
	gitlabLink struct {
		Name string `json:"name"`
		URL  string `json:"url"`
	}
	gitlabDetail struct {
		Name  string `json:"name"`
		Type  string `json:"type"`
		Value string `json:"value"`
	}
	gitlabLocation struct {
		Dependency gitlabDependency `json:"dependency"`
		OS         string           `json:"operating_system"`
		Image      string           `json:"image"`
	}
	gitlabDependency struct {
		Package gitlabName `json:"package"`
		Version string     `json:"version"`
	}
)

// WriteGitLab writes r as a container scanning report of GitLab's: the findings
// that count, with the worst first. The format has no place for anything else,
// so secrets, reasons about the image and what was not analysed are messages of
// the scan, and so is the number of findings that do not count.
func WriteGitLab(w io.Writer, r Result, o Options) error {
	at := o.Time.UTC().Format(gitlabTime)
	tool := gitlabTool{ID: "sluice", Name: toolName, URL: toolURL, Version: o.version(), Vendor: gitlabName{toolName}}
	out := gitlabReport{
		Schema:  "https://gitlab.com/gitlab-org/security-products/security-report-schemas/-/raw/v" + gitlabSchema + "/dist/container-scanning-report-format.json",
		Version: gitlabSchema,
		Scan: gitlabScan{
			Analyzer: tool, Scanner: tool, Start: at, End: at, Status: "success", Type: "container_scanning", Messages: gitlabMessages(&r),
		},
		Vulnerabilities: []gitlabVuln{}, Remediations: []struct{}{},
	}
	if !r.Facts.Complete || r.Facts.Advisories == "" {
		out.Scan.Status = "failure"
	}
	for i := range r.Findings {
		if f := &r.Findings[i]; f.Open() {
			out.Vulnerabilities = append(out.Vulnerabilities, gitlabVulnerability(&r, f))
		}
	}
	return writeJSON(w, out)
}

func gitlabVulnerability(r *Result, f *Finding) gitlabVuln {
	v := gitlabVuln{
		ID:   uuid(f.Advisory, f.ref),
		Name: cutBytes(join(": ", shown(f), f.Summary), maxGitLabName), Description: headline(f), Severity: gitlabSeverity(f),
		Location: gitlabLocation{
			Dependency: gitlabDependency{gitlabName{f.Package}, f.Version}, OS: r.Facts.OS, Image: r.name(),
		},
		Details: map[string]gitlabDetail{},
	}
	if v.Location.OS == "" {
		v.Location.OS = "unknown"
	}
	if v.Location.Image == "" {
		v.Location.Image = "unknown"
	}
	if f.Fixed != "" {
		v.Solution = cutBytes(fmt.Sprintf("Upgrade %s to %s", f.Package, f.Fixed), maxGitLabSolution)
	}
	// The first identifier is by which GitLab knows the vulnerability again.
	ids := appendNew([]string{shown(f)}, f.Advisory)
	for _, id := range f.Aliases {
		ids = appendNew(ids, id)
	}
	for _, id := range ids {
		v.identify(id)
	}
	detail := func(key, name, value string) {
		if value != "" {
			v.Details[key] = gitlabDetail{name, "text", value}
		}
	}
	detail("path", "Path", f.location())
	detail("layer", "Layer", f.Layer.String())
	detail("package", "Package URL", f.PURL)
	detail("source", "Source", f.Source)
	detail("vector", "CVSS", f.Vector)
	if f.KEV {
		detail("kev", "Known exploited", "yes (CISA)")
	}
	if f.EPSS != nil {
		detail("epss", "EPSS", percent(f.EPSS))
	}
	detail("why", "Policy", why(f))
	return v
}

// identify adds an id, and a link where one is known.
func (v *gitlabVuln) identify(id string) {
	kind, _, _ := strings.Cut(strings.ToLower(id), "-")
	v.Identifiers = append(v.Identifiers, gitlabIdentifier{Type: kind, Name: id, Value: id, URL: link(id)})
	if url := link(id); url != "" {
		v.Links = append(v.Links, gitlabLink{id, url})
	}
}

func gitlabSeverity(f *Finding) string {
	if f.Class == analyzer.ClassMalware {
		return "Critical"
	}
	switch f.Severity {
	case analyzer.SeverityCritical:
		return "Critical"
	case analyzer.SeverityHigh:
		return "High"
	case analyzer.SeverityMedium:
		return "Medium"
	case analyzer.SeverityLow:
		return "Low"
	case analyzer.SeverityNone:
		return "Info"
	case analyzer.SeverityUnknown:
	}
	return "Unknown"
}

func gitlabMessages(r *Result) []gitlabMessage {
	var out []gitlabMessage
	say := func(level, text string) { out = append(out, gitlabMessage{level, text}) }
	say("info", "verdict "+join(" ", r.Verdict.ID, orDash(r.Verdict.Decision)))
	for i := range r.Secrets {
		s := &r.Secrets[i]
		if s.Waived == "" {
			say("warn", s.headline())
		}
	}
	for _, reason := range r.ofImage() {
		if reason.Waived == "" {
			say("warn", reason.Rule+": "+reason.Message)
		}
	}
	for _, g := range r.Facts.Incomplete {
		say("warn", "not analysed: "+join(": ", g.Path, g.Reason))
	}
	for _, u := range r.Facts.Undecided {
		say("warn", "not compared: "+join(": ", join(" ", u.Advisory, u.Package, u.Version), u.Reason))
	}
	if r.Facts.SBOM != "" {
		say("info", "from an SBOM ("+r.Facts.SBOM+"): files were not looked at")
	}
	if n := r.aside(); n > 0 {
		say("info", plural(n, "finding")+" waived or not affected left out")
	}
	return out
}
