package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sluiceproxy/sluice/analyzer"
	"github.com/sluiceproxy/sluice/analyzer/advisory"
	"github.com/sluiceproxy/sluice/analyzer/report"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// failOn is what --fail-on adds to the policy.
type failOn struct {
	severity analyzer.Severity // this or worse; 0 = none
	epss     float64           // this or more; 0 = none
	kinds    []string
}

var failKinds = []string{"kev", "malware", "secret", "incomplete"}

// failWords are the values of --fail-on, for help and completion.
func failWords() []string {
	return append([]string{"critical", "high", "medium", "low", "epss>=0.5"}, failKinds...)
}

func parseFailOn(words []string) (failOn, error) {
	var f failOn
	for _, w := range words {
		w = strings.ToLower(strings.ReplaceAll(w, " ", ""))
		s, ok := analyzer.ParseSeverity(w)
		text, isEPSS := strings.CutPrefix(w, "epss>=")
		switch {
		case slices.Contains(failKinds, w):
			f.kinds = append(f.kinds, w)
		case ok && s >= analyzer.SeverityLow:
			if f.severity == 0 || s < f.severity {
				f.severity = s
			}
		case isEPSS:
			p, err := strconv.ParseFloat(text, 64)
			if err != nil || !(p > 0 && p <= 1) {
				return f, usageError(fmt.Errorf("--fail-on %q: EPSS is a probability, above 0 and up to 1: epss>=0.5", w))
			}
			f.epss = p
		default:
			return f, oneOf("--fail-on", w, failWords()...)
		}
	}
	return f, nil
}

// blind says why a condition could not be seen if it were met; nil if none is
// so. What is not known must not pass for what is not there.
func (f failOn) blind(index *advisory.Index, r *report.Result) error {
	asks := func(kind string) bool { return slices.Contains(f.kinds, kind) }
	if asks("secret") && r.Facts.SBOM != "" {
		return errors.New("--fail-on secret: only an SBOM is known, files were not looked at")
	}
	if index == nil {
		return nil // the verdict says so
	}
	switch stats := index.Stats(); {
	case asks("kev") && stats.KEV == 0:
		return errors.New("--fail-on kev: the advisories have no catalogue of known-exploited vulnerabilities; 'sluice db update --kev URL|FILE' adds it")
	case f.epss > 0 && stats.EPSS == 0:
		return errors.New("--fail-on epss: the advisories have no EPSS scores; 'sluice db update --epss URL|FILE' adds them")
	}
	return nil
}

// failRule is what --fail-on is in the result.
func failRule() report.Rule { return report.Rule{ID: "--fail-on", Action: policy.Deny.String()} }

// failed says which of the conditions r meets, "" for none, and notes that at
// the findings and secrets that meet them. What is waived does not count, and an
// unknown EPSS is none.
func (f failOn) failed(r *report.Result) string {
	counts := map[string]int{"incomplete": len(r.Facts.Incomplete)}
	for i := range r.Findings {
		finding := &r.Findings[i]
		if !finding.Open() {
			continue
		}
		meets := false
		count := func(kind string, is bool) {
			if is {
				counts[kind]++
				meets = meets || kind == "severity" || kind == "epss" || slices.Contains(f.kinds, kind)
			}
		}
		count("severity", f.severity > 0 && finding.Severity >= f.severity)
		count("epss", f.epss > 0 && finding.EPSS != nil && *finding.EPSS >= f.epss)
		count("kev", finding.KEV)
		count("malware", finding.Class == analyzer.ClassMalware)
		if meets {
			finding.Rules = append(finding.Rules, failRule())
		}
	}
	for i := range r.Secrets {
		if s := &r.Secrets[i]; s.Waived == "" {
			counts["secret"]++
			if slices.Contains(f.kinds, "secret") {
				s.Rules = append(s.Rules, failRule())
			}
		}
	}
	var why []string
	if n := counts["severity"]; n > 0 {
		why = append(why, fmt.Sprintf("%d of severity %s or worse", n, f.severity))
	}
	if n := counts["epss"]; n > 0 {
		why = append(why, fmt.Sprintf("%d of EPSS %g or more", n, f.epss))
	}
	for _, kind := range f.kinds {
		if n := counts[kind]; n > 0 {
			why = append(why, fmt.Sprintf("%d %s", n, kind))
		}
	}
	return strings.Join(why, ", ")
}
