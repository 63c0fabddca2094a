package report

import (
	"encoding/xml"
	"fmt"
	"io"
)

type (
	junitSuites struct {
		XMLName  xml.Name     `xml:"testsuites"`
		Name     string       `xml:"name,attr"`
		Tests    int          `xml:"tests,attr"`
		Failures int          `xml:"failures,attr"`
		Errors   int          `xml:"errors,attr"`
		Skipped  int          `xml:"skipped,attr"`
		Suites   []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name       string      `xml:"name,attr"`
		Tests      int         `xml:"tests,attr"`
		Failures   int         `xml:"failures,attr"`
		Errors     int         `xml:"errors,attr"`
		Skipped    int         `xml:"skipped,attr"`
		Timestamp  string      `xml:"timestamp,attr"`
		Properties *junitList  `xml:"properties"`
		Cases      []junitCase `xml:"testcase"`
	}
	junitList struct {
		Properties []junitProperty `xml:"property"`
	}
	junitProperty struct {
		Name  string `xml:"name,attr"`
		Value string `xml:"value,attr"`
	}
	junitCase struct {
		Class   string       `xml:"classname,attr"`
		Name    string       `xml:"name,attr"`
		Failure *junitResult `xml:"failure"`
		Error   *junitResult `xml:"error"`
		Skipped *junitResult `xml:"skipped"`
		Out     string       `xml:"system-out,omitempty"`
	}
	junitResult struct {
		Message string `xml:"message,attr"`
		Type    string `xml:"type,attr,omitempty"`
		Text    string `xml:",chardata"`
	}
)

// WriteJUnit writes r as JUnit XML, of the dialect that Jenkins' JUnit plugin
// and GitLab read (junit-10.xsd of jenkinsci/xunit-plugin). A test case fails
// where the policy or --fail-on keeps the image from passing, is skipped where a
// waiver or a VEX statement sets it aside, and passes where the policy only
// annotates. What was not analysed is an error.
func WriteJUnit(w io.Writer, r Result, o Options) error {
	name := r.name()
	suites := junitSuites{Name: "sluice", Suites: []junitSuite{
		{Name: name + ": policy", Cases: junitPolicy(&r, name)},
		{Name: name + ": vulnerabilities"},
		{Name: name + ": secrets"},
	}}
	about := &junitList{[]junitProperty{
		{"image", r.Image},
		{"digest", r.Digest.String()},
		{"platform", r.Facts.Platform},
		{"os", r.Facts.OS},
		{"verdict", r.Verdict.ID},
		{"advisories", r.Facts.Advisories},
	}}
	if r.Facts.SBOM != "" {
		about.Properties = append(about.Properties, junitProperty{"sbom", r.Facts.SBOM + ": files were not looked at"})
	}
	suites.Suites[0].Properties = about
	for i := range r.Findings {
		f := &r.Findings[i]
		c := junitCase{Class: join(" ", f.Type, f.Package, f.Version), Name: join(" ", shown(f), "("+f.Severity.String()+")", f.location())}
		aside := ""
		if !f.Open() {
			aside = f.because()
		}
		c.settle(f.Stops(), aside, f.Severity.String(), headline(f), join("\n", f.Summary, f.Source, why(f), link(f.Advisory)))
		suites.Suites[1].Cases = append(suites.Suites[1].Cases, c)
	}
	for i := range r.Secrets {
		s := &r.Secrets[i]
		c := junitCase{Class: s.Kind, Name: fmt.Sprintf("%s %s:%d", s.Rule, s.Path, s.Line)}
		c.settle(s.Stops(), s.Waived, s.Kind, s.headline(), s.Layer.String())
		suites.Suites[2].Cases = append(suites.Suites[2].Cases, c)
	}
	for i := range suites.Suites {
		s := &suites.Suites[i]
		s.Timestamp = o.Time.UTC().Format("2006-01-02T15:04:05")
		s.count()
		suites.Tests, suites.Failures, suites.Errors, suites.Skipped = suites.Tests+s.Tests, suites.Failures+s.Failures, suites.Errors+s.Errors, suites.Skipped+s.Skipped
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	enc := xml.NewEncoder(w)
	enc.Indent("", "  ")
	if err := enc.Encode(suites); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	if _, err := io.WriteString(w, "\n"); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// junitPolicy are the cases about the image as a whole.
func junitPolicy(r *Result, name string) []junitCase {
	verdict := junitCase{Class: name, Name: "verdict"}
	decision := Rule{Action: r.Verdict.Decision}
	verdict.settle(decision.Stops(), "", "verdict", join(" ", orDash(r.Verdict.Decision), r.Verdict.ID), "")
	cases := []junitCase{verdict}
	for _, reason := range r.ofImage() {
		c := junitCase{Class: name, Name: reason.Rule}
		c.settle(reason.rule().Stops(), reason.Waived, reason.Action, reason.Message, "")
		cases = append(cases, c)
	}
	for _, g := range r.Facts.Incomplete {
		text := join(": ", g.Path, g.Reason)
		cases = append(cases, junitCase{Class: name, Name: "not analysed: " + text, Error: &junitResult{Message: text, Type: "incomplete"}})
	}
	return cases
}

// settle gives a case its outcome. aside says why it is skipped, "" = it is not.
func (c *junitCase) settle(fails bool, aside, kind, message, text string) {
	switch {
	case aside != "":
		c.Skipped, c.Out = &junitResult{Message: aside}, join("\n", message, text)
	case fails:
		c.Failure = &junitResult{Message: message, Type: kind, Text: text}
	default:
		c.Out = join("\n", message, text)
	}
}

func (s *junitSuite) count() {
	s.Tests = len(s.Cases)
	for i := range s.Cases {
		switch c := &s.Cases[i]; {
		case c.Failure != nil:
			s.Failures++
		case c.Error != nil:
			s.Errors++
		case c.Skipped != nil:
			s.Skipped++
		}
	}
}
