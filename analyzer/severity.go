package analyzer

import (
	"fmt"
	"strings"
)

// Severity is a qualitative rating, ordered: a higher value is worse. The
// names from Low to Critical are those of the CVSS v3.1 specification,
// section 5. The zero value means that nobody rated it, which is not "none".
type Severity uint8

// The ratings.
const (
	SeverityUnknown  Severity = iota // no rating that we can read
	SeverityNone                     // rated as having no impact (CVSS 0.0, "negligible", "unimportant")
	SeverityLow                      // CVSS 0.1–3.9
	SeverityMedium                   // CVSS 4.0–6.9, "moderate"
	SeverityHigh                     // CVSS 7.0–8.9, "important"
	SeverityCritical                 // CVSS 9.0–10.0
)

var severityNames = [...]string{"unknown", "none", "low", "medium", "high", "critical"}

// String returns the lower-case name of s.
func (s Severity) String() string {
	if int(s) < len(severityNames) {
		return severityNames[s]
	}
	return fmt.Sprintf("severity(%d)", uint8(s))
}

// MarshalText writes the lower-case name.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (s *Severity) UnmarshalText(b []byte) error {
	v, ok := ParseSeverity(string(b))
	if !ok {
		return fmt.Errorf("unknown severity %q", b)
	}
	*s = v
	return nil
}

// ParseSeverity reads a rating's name in any case, and the words that feeds use
// for the same thing: "negligible" and "unimportant" are none, "moderate" is
// medium, "important" is high, "urgent" is critical.
func ParseSeverity(name string) (Severity, bool) {
	switch strings.ToLower(strings.TrimSpace(name)) {
	case "unknown":
		return SeverityUnknown, true
	case "none", "negligible", "unimportant":
		return SeverityNone, true
	case "low", "minor":
		return SeverityLow, true
	case "medium", "moderate":
		return SeverityMedium, true
	case "high", "important":
		return SeverityHigh, true
	case "critical", "urgent":
		return SeverityCritical, true
	}
	return SeverityUnknown, false
}

// SeverityOfScore returns the rating of a CVSS v3 or v4 base score (0.0–10.0).
func SeverityOfScore(score float64) Severity {
	switch {
	case score >= 9:
		return SeverityCritical
	case score >= 7:
		return SeverityHigh
	case score >= 4:
		return SeverityMedium
	case score > 0:
		return SeverityLow
	}
	return SeverityNone
}
