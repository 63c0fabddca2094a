package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sluiceproxy/sluice/analyzer"
	"github.com/sluiceproxy/sluice/analyzer/report"
)

// failOn is what --fail-on adds to the policy.
type failOn struct {
	severity analyzer.Severity // this or worse; 0 = none
	kinds    []string
}

var failKinds = []string{"kev", "malware", "secret", "incomplete"}

func parseFailOn(words []string) (failOn, error) {
	var f failOn
	for _, w := range words {
		w = strings.ToLower(strings.TrimSpace(w))
		s, ok := analyzer.ParseSeverity(w)
		switch {
		case slices.Contains(failKinds, w):
			f.kinds = append(f.kinds, w)
		case ok && s >= analyzer.SeverityLow:
			if f.severity == 0 || s < f.severity {
				f.severity = s
			}
		default:
			return f, oneOf("--fail-on", w, append([]string{"critical", "high", "medium", "low"}, failKinds...)...)
		}
	}
	return f, nil
}

// failed says which of the conditions r meets, "" for none. Findings that a
// waiver set aside under a rule do not count.
func (f failOn) failed(r report.Result) string {
	waived := map[string]bool{}
	for _, reason := range r.Verdict.Reasons {
		if reason.Waived != "" {
			waived[reason.Advisory] = true
		}
	}
	counts := map[string]int{"secret": len(r.Secrets), "incomplete": len(r.Facts.Incomplete)}
	severe := 0
	for _, finding := range r.Findings {
		if waived[finding.Advisory] {
			continue
		}
		if f.severity > 0 && finding.Severity >= f.severity {
			severe++
		}
		if finding.KEV {
			counts["kev"]++
		}
		if finding.Class == analyzer.ClassMalware {
			counts["malware"]++
		}
	}
	var why []string
	if severe > 0 {
		why = append(why, fmt.Sprintf("%d of severity %s or worse", severe, f.severity))
	}
	for _, kind := range f.kinds {
		if n := counts[kind]; n > 0 {
			why = append(why, fmt.Sprintf("%d %s", n, kind))
		}
	}
	return strings.Join(why, ", ")
}
