package analyzer

import (
	"context"
	"time"
)

// Class says what kind of advisory a finding rests on.
type Class string

// The classes.
const (
	ClassVulnerability Class = "vulnerability"
	ClassMalware       Class = "malware" // advisories MAL-*: the package itself is the attack
)

// Finding is one advisory that applies to one package of an image.
type Finding struct {
	Advisory  string    `json:"advisory"`          // id of the feed's record: DSA-…, GHSA-…, GO-…, ALPINE-CVE-…
	Aliases   []string  `json:"aliases,omitempty"` // CVE and other ids of the same vulnerability, sorted
	Class     Class     `json:"class"`
	Severity  Severity  `json:"severity"`
	Score     float64   `json:"score,omitempty"`   // CVSS base score; 0 where only a word was given
	Vector    string    `json:"vector,omitempty"`  // CVSS vector that gave the score
	RatedBy   string    `json:"ratedBy,omitempty"` // whose rating Severity is: the distribution, the feed's record, NVD; "" where nobody rated it
	KEV       bool      `json:"kev,omitempty"`     // in CISA's known-exploited catalogue
	EPSS      *float64  `json:"epss,omitempty"`    // probability of exploitation within 30 days, 0–1 (FIRST's EPSS); nil = not known
	Fixed     string    `json:"fixed"`             // first version without it; "" = none known
	Summary   string    `json:"summary,omitempty"`
	Published time.Time `json:"published,omitzero"`
	Source    string    `json:"source"` // the feed's ecosystem, "Debian:12", and the range that matched
	Package   Package   `json:"package"`

	// VEX is the latest statement of a trusted VEX document on it, nil = none.
	VEX *VEXStatement `json:"vex,omitempty"`
}

// Undecided is an advisory that names an installed package but could not be
// compared with its version. It is evidence of a gap, not of a clean package.
type Undecided struct {
	Advisory string  `json:"advisory"`
	Package  Package `json:"package"`
	Reason   string  `json:"reason"`

	VEX *VEXStatement `json:"vex,omitempty"` // as in Finding
}

// Matches are the outcome of matching packages with advisories.
type Matches struct {
	Findings  []Finding   `json:"findings"`
	Undecided []Undecided `json:"undecided,omitempty"`
	// AsOf is the instant whose state the advisories of these packages are known
	// to show: that of the stalest feed among those that were needed. Zero = none
	// was needed, or it is not known.
	AsOf time.Time `json:"-"`
}

// Matcher finds the advisories that apply to packages. A Matcher is one
// immutable state of the advisories; Revision names it.
type Matcher interface {
	Match(ctx context.Context, pkgs []Package) (Matches, error)
	Revision() string
	// Updated is when the advisories were published by their feed as far as
	// that is known, else when they were fetched.
	Updated() time.Time
}

// Report is an Inventory judged by one state of the advisories.
type Report struct {
	Inventory
	Matches
	Advisories string    `json:"advisories"`                 // Matcher.Revision; "" = there were none, so Findings say nothing
	Updated    time.Time `json:"advisoriesUpdated,omitzero"` // Matches.AsOf, or Matcher.Updated where that is zero
}
