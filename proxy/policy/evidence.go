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
	// VEX are the statements of documents that are attached to the image. Those
	// of the operator's own documents stand in the Report.
	VEX []AttachedVEX
	// Trust is what the policies' demands on signatures come to, for each of
	// Policy.Trusts. A covering policy whose result is missing makes an error.
	Trust []TrustResult
	// NoRegistry says that the image is in a file or folder: nobody could have
	// attached a signature there.
	NoRegistry bool
	Now        time.Time

	// Lenient makes the rules' denials annotations, for a repository whose owner
	// wants to be told only. The blocklist, and what could not be analysed, still
	// deny.
	Lenient bool
}

// AttachedVEX is what a VEX document that is attached to the image (an OCI
// referrer) says of one finding.
type AttachedVEX struct {
	Advisory  string // of the finding
	PURL      string // of its package
	Statement analyzer.VEXStatement
	// Trusted says that an issuer whom the policy trusts has signed the document.
	// Without it nothing is obeyed: anyone can attach a document.
	Trusted bool
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
	// ChainBroken says how the manifest differs from what an index that lists it
	// says of it; "" = it does not.
	ChainBroken string
	// Evidential marks a manifest that holds nothing but signatures, attestations
	// and reports (signing.Evidential). It need not be signed.
	Evidential bool
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
	// WhenStale is what advisories older than MaxAge, or of an unknown age, lead
	// to beside the rules (advisories.whenStale): Pending, which only annotates an
	// image that was allowed before, or Deny. Every other value leaves it to the
	// rules.
	WhenStale Decision
}
