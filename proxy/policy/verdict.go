package policy

import (
	"fmt"
	"time"

	godigest "github.com/opencontainers/go-digest"

	"github.com/sluiceproxy/sluice/analyzer"
)

// Decision is the outcome of judging an image. The zero value is Undecided,
// which is never an allow.
type Decision uint8

// The decisions, from the mildest to the strictest after Undecided.
const (
	Undecided Decision = iota // nobody has judged; content stays shut
	Allow                     // serve
	Annotate                  // serve, and say what was found
	Pending                   // not now: ask again later
	Deny                      // refuse, with the reason
)

var decisionNames = [...]string{"undecided", "allow", "annotate", "pending", "deny"}

// String returns the lower-case name of d.
func (d Decision) String() string {
	if int(d) < len(decisionNames) {
		return decisionNames[d]
	}
	return fmt.Sprintf("decision(%d)", uint8(d))
}

// MarshalText writes the lower-case name.
func (d Decision) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (d *Decision) UnmarshalText(b []byte) error {
	for i, n := range decisionNames {
		if n == string(b) {
			*d = Decision(i)
			return nil
		}
	}
	return fmt.Errorf("unknown decision %q", b)
}

// Serves reports whether content may leave under d.
func (d Decision) Serves() bool { return d == Allow || d == Annotate }

// Reason is one thing that shaped a verdict: a rule that fired on a piece of
// evidence, or a blocklist entry.
type Reason struct {
	Rule     string   `json:"rule"`             // rule id, "blocklist", or a built-in such as "analysis-failed"
	Policy   string   `json:"policy,omitempty"` // name of the policy that holds the rule
	Action   Decision `json:"action"`           // what it asked for
	Message  string   `json:"message"`          // one sentence without a final stop, complete on its own
	Advisory string   `json:"advisory,omitempty"`
	Aliases  []string `json:"aliases,omitempty"`
	Severity string   `json:"severity,omitempty"`
	Package  string   `json:"package,omitempty"` // name
	PURL     string   `json:"purl,omitempty"`
	Version  string   `json:"version,omitempty"`
	Fixed    string   `json:"fixed,omitempty"`
	Path     string   `json:"path,omitempty"`
	Layer    string   `json:"layer,omitempty"`
	Block    string   `json:"block,omitempty"` // id of the blocklist entry
	// Waived says who set the reason aside, why and until when; such a reason
	// does not count. Either Waiver or VEX has the whole story.
	Waived string  `json:"waived,omitempty"`
	Waiver *Waiver `json:"waiver,omitempty"`
	// VEX is what a trusted VEX document says of the finding. It sets the reason
	// aside if it suppresses it.
	VEX *analyzer.VEXStatement `json:"vex,omitempty"`
	// GraceUntil is set on a reason that will deny from then on; until then it annotates.
	GraceUntil time.Time `json:"graceUntil,omitzero"`
}

// Verdict is a policy's judgement of one digest under one image name.
type Verdict struct {
	ID         string          `json:"id"` // short and the same for the same image, digest and inputs: see Decide
	Decision   Decision        `json:"decision"`
	Image      string          `json:"image"` // canonical repository: docker.io/library/nginx
	Digest     godigest.Digest `json:"digest"`
	Tags       []string        `json:"tags,omitempty"`
	Reasons    []Reason        `json:"reasons,omitempty"` // the strictest first, then by severity
	Trust      []TrustVerdict  `json:"trust,omitempty"`   // of each covering policy that demands signatures
	Policy     string          `json:"policy"`            // revision of the policy
	Advisories string          `json:"advisories"`        // revision of the advisories
	At         time.Time       `json:"at"`
	// Until is when the verdict must be taken again though no input changed: the
	// end of a grace, of a waiver or of a blocklist entry, or an age that a rule
	// looks at. Zero means never.
	Until time.Time `json:"until,omitzero"`
}

// DeniedError refuses content by a verdict. It is what gate.Admit returns for
// decisions that do not serve.
type DeniedError struct{ Verdict Verdict }

// Error is the one sentence that the client sees.
func (e *DeniedError) Error() string { return e.Verdict.Summary() }

// Block is a blocklist entry. Exactly one of Digest, Image, Layer, Package and
// Advisory is set.
type Block struct {
	ID       string          `json:"id"`
	Digest   godigest.Digest `json:"digest,omitempty"`   // a manifest, index or config digest
	Image    string          `json:"image,omitempty"`    // glob over name, name:tag or name@digest; * stops at /, ** does not
	Layer    godigest.Digest `json:"layer,omitempty"`    // diffID
	Package  string          `json:"package,omitempty"`  // purl; without a version every version
	Advisory string          `json:"advisory,omitempty"` // advisory id or alias (CVE-…)
	Reason   string          `json:"reason"`
	Owner    string          `json:"owner"`
	Created  time.Time       `json:"created"`
	Expires  time.Time       `json:"expires,omitzero"` // zero = never
}

// Summary is the verdict in one sentence: its first counting reason, how many
// more there are, and the id under which the log, the API and the console know it.
func (v Verdict) Summary() string {
	first, more, aside := "no rule allows this image", 0, 0
	found := false
	for _, r := range v.Reasons {
		if r.Waived != "" {
			aside++
		}
		if r.Waived != "" || r.Action != v.Decision {
			continue
		}
		if found {
			more++
			continue
		}
		first, found = r.Message, true
	}
	if v.Decision.Serves() && !found {
		first = "no findings"
		if aside > 0 {
			first = fmt.Sprintf("no findings but %d that are waived", aside)
		}
	}
	if more > 0 {
		first = fmt.Sprintf("%s, and %d more", first, more)
	}
	return fmt.Sprintf("%s (verdict %s)", first, v.ID)
}
