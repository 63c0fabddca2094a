package policy

import (
	"time"

	godigest "github.com/opencontainers/go-digest"

	"github.com/sluiceproxy/sluice/analyzer"
)

// Evidence is all that is known of a digest at a time. Decide looks at nothing
// else: no clock, no network, no store.
type Evidence struct {
	Image Image

	// Report is the analysis. Nil with an empty Failure is allowed for an index
	// only; in every other case a nil Report is denied as "analysis-failed".
	Report *analyzer.Report
	// Failure says why there is no Report.
	Failure string

	Advisories Advisories
	Blocks     []Block  // in force and expired ones; Decide looks at Expires
	Waivers    []Waiver // beside those of the policy file
	Now        time.Time
}

// report returns the analysis, an empty one for an index.
func (e *Evidence) report() *analyzer.Report {
	if e.Report == nil {
		return &analyzer.Report{}
	}
	return e.Report
}

// unadvised reports whether findings say nothing for want of advisories.
func (e *Evidence) unadvised() bool { return e.Advisories.Missing || e.report().Advisories == "" }

// Image is what is known of an image besides its content.
type Image struct {
	Name       string // canonical repository: docker.io/library/nginx
	Upstream   string // docker.io
	Repository string // library/nginx
	Digest     godigest.Digest
	Tags       []string // the tags that are known to name the digest here
	MediaType  string
	// Index marks an image index. It is judged by the blocklist and its own
	// descriptors only; its children are judged when they are pulled.
	Index bool
	URLs  []string // descriptors' external addresses, of an index too
	// Parents are the indexes that are known to hold the digest here. Blocking
	// one of them blocks it, too.
	Parents []godigest.Digest

	FirstSeen    time.Time // first time that this digest was asked for under this name
	AllowedSince time.Time // zero = never allowed before: no grace
	// Known says since when a finding is known for this digest; a missing key
	// means since Evidence.Now.
	Known map[FindingKey]time.Time
}

// FindingKey names a finding of one digest over time.
type FindingKey struct {
	Advisory string
	Package  string // name
}

// Advisories is the state of the advisories at the time of the evidence.
type Advisories struct {
	Missing bool // there is no index: Report.Findings say nothing
	// WhenMissing is what missing advisories lead to (advisories.whenMissing):
	// Pending, Deny or Annotate. The zero value and Allow mean Pending.
	WhenMissing Decision

	Revision string
	Updated  time.Time
	MaxAge   time.Duration // advisories.maxAge of the configuration; 0 = none
}
