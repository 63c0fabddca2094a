package report

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	godigest "github.com/opencontainers/go-digest"

	"github.com/sluiceproxy/sluice/analyzer"
)

// Result is what one scan found.
type Result struct {
	Image    string             `json:"image"`  // as the user named it
	Digest   godigest.Digest    `json:"digest"` // of the manifest; "" for a directory
	Verdict  Verdict            `json:"verdict"`
	Findings []Finding          `json:"findings"` // the worst first
	Secrets  []Secret           `json:"secrets"`
	Facts    Facts              `json:"facts"`
	Packages []analyzer.Package `json:"packages"`
	// Removed are packages of lower layers that the final file system does not
	// have. They are told of on request only, and nothing judges them.
	Removed []analyzer.Package `json:"removed,omitempty"`
}

// Verdict is what the policy says of the image.
type Verdict struct {
	Decision string   `json:"decision"` // allow, annotate, deny or pending
	ID       string   `json:"id"`
	Image    string   `json:"image"` // canonical repository that it was judged as: docker.io/library/nginx
	Tags     []string `json:"tags"`
	Policy   string   `json:"policy"` // revision
	Reasons  []Reason `json:"reasons"`
}

// Reason is one cause of a verdict. A reason about a package or a file names it.
type Reason struct {
	Rule     string `json:"rule"`
	Action   string `json:"action"`
	Message  string `json:"message"`
	Advisory string `json:"advisory,omitempty"`
	Package  string `json:"package,omitempty"` // name
	Version  string `json:"version,omitempty"`
	PURL     string `json:"purl,omitempty"`
	Path     string `json:"path,omitempty"`
	Layer    string `json:"layer,omitempty"`
	Waived   string `json:"waived,omitempty"` // why it does not count
	// Waiver and VEX are what Waived tells of.
	Waiver *Waiver                `json:"waiver,omitempty"`
	VEX    *analyzer.VEXStatement `json:"vex,omitempty"`
}

// Waiver is an operator's decision to set findings aside.
type Waiver struct {
	ID      string    `json:"id,omitempty"` // "" for one of a file
	Owner   string    `json:"owner"`
	Reason  string    `json:"reason"`
	Expires time.Time `json:"expires"`
}

// ofImage reports whether r is about the image as a whole.
func (r *Reason) ofImage() bool {
	return r.Rule == ruleBlocklist || r.Advisory == "" && r.Package == "" && r.Path == ""
}

// ruleBlocklist is the rule of an operator's entry (proxy/policy, RuleBlocklist).
const ruleBlocklist = "blocklist"

// Rule is a policy's rule that fired on a piece of evidence.
type Rule struct {
	ID     string `json:"id"`               // "--fail-on" for the flag of that name
	Action string `json:"action"`           // what it asks for
	Waived string `json:"waived,omitempty"` // why that does not count
}

// Stops reports whether the rule keeps an image from being served.
func (r Rule) Stops() bool { return r.Waived == "" && r.Action != "allow" && r.Action != "annotate" }

// waived says why none of rules counts; "" if one does, or if there are none.
func waived(rules []Rule) string {
	if len(rules) == 0 || slices.ContainsFunc(rules, func(r Rule) bool { return r.Waived == "" }) {
		return ""
	}
	return rules[0].Waived
}

// Status says whether a finding counts.
type Status string

// The statuses of findings.
const (
	StatusOpen        Status = "open"         // it counts
	StatusWaived      Status = "waived"       // an operator's waiver sets it aside
	StatusNotAffected Status = "not_affected" // by a VEX statement
	StatusFixed       Status = "fixed"        // by a VEX statement: fixed where the version does not show it
)

// Finding is one advisory that applies to one package.
type Finding struct {
	Advisory  string            `json:"advisory"`
	Aliases   []string          `json:"aliases"`
	Package   string            `json:"package"` // name
	Version   string            `json:"version"`
	Fixed     string            `json:"fixed"` // "" = no fix is known
	Severity  analyzer.Severity `json:"severity"`
	KEV       bool              `json:"kev"`
	EPSS      *float64          `json:"epss"` // probability, 0–1; null = unknown
	Class     analyzer.Class    `json:"class"`
	Path      string            `json:"path"`
	Layer     godigest.Digest   `json:"layer"`  // diffID
	Source    string            `json:"source"` // the feed and the range that matched
	Type      string            `json:"type"`   // purl type
	PURL      string            `json:"purl"`
	Inner     string            `json:"inner,omitempty"` // in the archive at Path
	Owner     string            `json:"owner,omitempty"` // purl of the distribution package that the file belongs to
	Score     float64           `json:"score,omitempty"` // CVSS base score
	Vector    string            `json:"vector,omitempty"`
	RatedBy   string            `json:"ratedBy,omitempty"`
	Summary   string            `json:"summary,omitempty"`
	Published time.Time         `json:"published,omitzero"`
	Status    Status            `json:"status"`
	Waived    string            `json:"waived,omitempty"` // the waiver: owner, reason, expiry
	// VEX is the statement that gives the status, or one that changes nothing:
	// affected, or under investigation.
	VEX   *analyzer.VEXStatement `json:"vex,omitempty"`
	Rules []Rule                 `json:"rules"` // of the policy that fired on it

	ref string // of its package
}

// Open reports whether f counts.
func (f *Finding) Open() bool { return f.Status == StatusOpen }

// because says why f does not count, or what a VEX statement says of one that
// does; "" where there is nothing to say.
func (f *Finding) because() string {
	switch {
	case f.Status == StatusWaived:
		return "waived: " + f.Waived
	case f.VEX == nil:
		return ""
	}
	v := f.VEX
	says := strings.ReplaceAll(string(v.Status), "_", " ")
	for _, more := range []string{v.Justification, v.Impact, v.Action} {
		if more != "" {
			says += ", " + more
		}
	}
	return says + " (VEX of " + v.Author + ", " + v.Source + ")"
}

// Stops reports whether f keeps the image from being served.
func (f *Finding) Stops() bool { return f.Open() && slices.ContainsFunc(f.Rules, Rule.Stops) }

// Secret is a secret in the image, and what the policy says of it.
type Secret struct {
	analyzer.Secret
	Waived string `json:"waived,omitempty"` // why it does not count
	Rules  []Rule `json:"rules"`
}

// Stops reports whether s keeps the image from being served.
func (s *Secret) Stops() bool { return slices.ContainsFunc(s.Rules, Rule.Stops) }

// headline tells of s in one printable line, without its value.
func (s *Secret) headline() string {
	text := strings.ReplaceAll(s.Kind, "-", " ") + " in " + s.Path
	if s.Line > 1 {
		text += ":" + strconv.Itoa(s.Line)
	}
	if s.Deleted {
		text += " (deleted by a later layer)"
	}
	return clean(text)
}

// Facts are what is known of the image besides findings and secrets.
type Facts struct {
	Platform      string                `json:"platform"`
	SBOM          string                `json:"sbom,omitempty"` // the format of the document that the packages are from; set: nobody looked at files
	OS            string                `json:"os"`             // os-release ID and VERSION_ID: "debian 12"
	OSName        string                `json:"osName"`
	EndOfLife     time.Time             `json:"endOfLife,omitzero"` // of the distribution's release
	User          string                `json:"user"`
	Created       time.Time             `json:"created,omitzero"`
	Layers        int                   `json:"layers"`
	Size          int64                 `json:"size"`         // bytes of the layers as stored
	Uncompressed  int64                 `json:"uncompressed"` // bytes
	PackagesCount int                   `json:"packages"`
	Setuid        []string              `json:"setuid"`
	Hardening     analyzer.Hardening    `json:"hardening"`
	Base          analyzer.Base         `json:"base"`
	URLs          []string              `json:"urls"`             // addresses outside of the registry
	DigestChain   string                `json:"digestChain"`      // "" = intact, else what is wrong
	Complete      bool                  `json:"analysisComplete"` // nothing in Incomplete
	Incomplete    []analyzer.Incomplete `json:"incomplete"`
	Undecided     []Undecided           `json:"undecided"`
	Analyzer      string                `json:"analyzer"`          // revision
	Advisories    string                `json:"advisories"`        // revision; "" = there were none
	Updated       time.Time             `json:"advisoriesUpdated"` // zero = unknown
}

// Undecided is an advisory that could not be compared with a package, or a
// release that there are no advisories for.
type Undecided struct {
	Advisory string `json:"advisory"`
	Package  string `json:"package"`
	Version  string `json:"version"`
	Reason   string `json:"reason"`

	VEX *analyzer.VEXStatement `json:"vex,omitempty"`
}

// New returns the Result of rep and v. image is what the user asked for.
func New(image string, v Verdict, rep *analyzer.Report) Result {
	v.Tags, v.Reasons = append([]string{}, v.Tags...), append([]Reason{}, v.Reasons...)
	r := Result{
		Image: image, Digest: rep.Manifest, Verdict: v,
		Findings: make([]Finding, 0, len(rep.Findings)),
		Secrets:  make([]Secret, 0, len(rep.Secrets)),
		Packages: append([]analyzer.Package{}, rep.Packages...),
		Facts:    facts(rep),
	}
	why := reasonsByPlace(v.Reasons)
	for i := range rep.Findings {
		r.Findings = append(r.Findings, newFinding(&rep.Findings[i], why))
	}
	for _, s := range rep.Secrets {
		out := Secret{Secret: s, Rules: []Rule{}}
		for _, reason := range why[place{path: s.Path, layer: s.Layer.String()}] {
			out.Rules = appendNew(out.Rules, reason.rule())
		}
		out.Waived = waived(out.Rules)
		r.Secrets = append(r.Secrets, out)
	}
	slices.SortStableFunc(r.Findings, worse)
	return r
}

func newFinding(f *analyzer.Finding, why map[place][]*Reason) Finding {
	p := &f.Package
	out := Finding{
		Advisory: f.Advisory, Aliases: append([]string{}, f.Aliases...),
		Package: p.Name, Version: p.Version, Fixed: f.Fixed,
		Severity: f.Severity, KEV: f.KEV, EPSS: f.EPSS, Class: f.Class,
		Path: p.Path, Layer: p.Layer, Source: f.Source,
		Type: p.Type, PURL: p.PURL, Inner: p.Inner, Owner: p.Owner,
		Score: f.Score, Vector: f.Vector, RatedBy: f.RatedBy, Summary: f.Summary, Published: f.Published,
		Status: StatusOpen, VEX: f.VEX, Rules: []Rule{}, ref: ref(p),
	}
	for _, reason := range why[place{f.Advisory, p.PURL, p.Version, p.Path, p.Layer.String()}] {
		out.Rules = appendNew(out.Rules, reason.rule())
		if out.VEX == nil {
			out.VEX = reason.VEX // attached to the image
		}
	}
	switch set := waived(out.Rules); {
	case out.VEX.Suppresses() && (set != "" || len(out.Rules) == 0):
		out.Status = Status(out.VEX.Status)
	case set != "":
		out.Status, out.Waived = StatusWaived, set
	}
	return out
}

func (r *Reason) rule() Rule { return Rule{r.Rule, r.Action, r.Waived} }

// place is what a reason is about.
type place struct{ advisory, purl, version, path, layer string }

func reasonsByPlace(reasons []Reason) map[place][]*Reason {
	out := map[place][]*Reason{}
	for i := range reasons {
		if r := &reasons[i]; !r.ofImage() {
			p := place{r.Advisory, r.PURL, r.Version, r.Path, r.Layer}
			out[p] = append(out[p], r)
		}
	}
	return out
}

// worse orders by class, severity, known exploitation, then names: malware
// before vulnerabilities, critical before low.
func worse(a, b Finding) int {
	flag := func(f Finding) int {
		n := int(f.Severity) * 2
		if f.KEV {
			n++
		}
		if f.Class == analyzer.ClassMalware {
			n += 1000
		}
		return n
	}
	return cmp.Or(
		flag(b)-flag(a),
		cmp.Compare(a.Package, b.Package), cmp.Compare(a.Advisory, b.Advisory), cmp.Compare(a.Path, b.Path), cmp.Compare(a.ref, b.ref),
	)
}

func facts(rep *analyzer.Report) Facts {
	f := Facts{
		Platform: rep.Platform, SBOM: rep.SBOM,
		OS: strings.TrimSpace(rep.OS.ID + " " + rep.OS.VersionID), OSName: rep.OS.Name, EndOfLife: rep.OS.EndOfLife,
		User: rep.User, Created: rep.Created, Layers: len(rep.Layers), PackagesCount: len(rep.Packages),
		Setuid: append([]string{}, rep.Setuid...), Hardening: rep.Hardening, Base: rep.Base, URLs: append([]string{}, rep.URLs...),
		DigestChain: rep.DiffIDBroken, Complete: len(rep.Incomplete) == 0,
		Incomplete: append([]analyzer.Incomplete{}, rep.Incomplete...), Undecided: []Undecided{},
		Analyzer: rep.Revision, Advisories: rep.Advisories, Updated: rep.Updated,
	}
	for _, l := range rep.Layers {
		f.Size += l.Size
		f.Uncompressed += l.Uncompressed
	}
	for _, u := range rep.Undecided {
		f.Undecided = append(f.Undecided, Undecided{Advisory: u.Advisory, Package: u.Package.Name, Version: u.Package.Version, Reason: u.Reason, VEX: u.VEX})
	}
	return f
}

// Counts returns how many open findings have each severity, by its value.
func (r *Result) Counts() (counts [analyzer.SeverityCritical + 1]int) {
	for i := range r.Findings {
		if f := &r.Findings[i]; f.Open() {
			counts[min(f.Severity, analyzer.SeverityCritical)]++
		}
	}
	return counts
}

// aside counts the findings that do not count.
func (r *Result) aside() int {
	n := 0
	for i := range r.Findings {
		if !r.Findings[i].Open() {
			n++
		}
	}
	return n
}

// ofImage are the reasons of the verdict about the image as a whole.
func (r *Result) ofImage() []Reason {
	var out []Reason
	for _, reason := range r.Verdict.Reasons {
		if reason.ofImage() {
			out = append(out, reason)
		}
	}
	return out
}

func appendNew[T comparable](list []T, v T) []T {
	if slices.Contains(list, v) {
		return list
	}
	return append(list, v)
}
