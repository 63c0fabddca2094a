package analyzer

import (
	"time"

	godigest "github.com/opencontainers/go-digest"
)

// VEXStatus is what a statement says of a vulnerability in a product (CISA,
// "Minimum Requirements for VEX", 2023; the words are OpenVEX's).
type VEXStatus string

// The statuses.
const (
	VEXNotAffected        VEXStatus = "not_affected"
	VEXAffected           VEXStatus = "affected"
	VEXFixed              VEXStatus = "fixed"
	VEXUnderInvestigation VEXStatus = "under_investigation"
)

// VEXStatement is what a VEX document says of one finding, with what a reader
// needs to know why and by whom.
type VEXStatement struct {
	Status        VEXStatus `json:"status"`
	Vulnerability string    `json:"vulnerability"`           // as the document names it
	Justification string    `json:"justification,omitempty"` // a label: vulnerable_code_not_in_execute_path
	Impact        string    `json:"impact,omitempty"`        // why it is not affected, in words
	Action        string    `json:"action,omitempty"`        // what to do, where it is affected
	Author        string    `json:"author"`                  // as the document names itself; who proves it is another matter
	Document      string    `json:"document,omitempty"`      // its id
	Source        string    `json:"source"`                  // the file and the place in it: vex.json: statements[3]
	Time          time.Time `json:"time,omitzero"`           // when it was made; of several the latest counts
}

// Suppresses reports whether the statement says that the vulnerability cannot
// do harm. A nil statement does not.
func (s *VEXStatement) Suppresses() bool {
	return s != nil && (s.Status == VEXNotAffected || s.Status == VEXFixed)
}

// VEXImage is an image as VEX documents name one.
type VEXImage struct {
	Name    string            // canonical repository: docker.io/library/nginx
	Tags    []string          // that name it
	Digests []godigest.Digest // of its manifest and of the indexes that hold it
}

// VEX is an immutable state of the VEX documents that an operator trusts;
// Revision names it.
type VEX interface {
	// Mark sets Finding.VEX and Undecided.VEX in rep, which is of img, to the
	// latest statement on each, nil where there is none.
	Mark(rep *Report, img VEXImage)
	Revision() string
}
