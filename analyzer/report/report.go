package report

import (
	"slices"
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
	Secrets  []analyzer.Secret  `json:"secrets"`
	Facts    Facts              `json:"facts"`
	Packages []analyzer.Package `json:"packages"`
}

// Verdict is what the policy says of the image.
type Verdict struct {
	Decision string   `json:"decision"` // allow, annotate, deny or pending
	ID       string   `json:"id"`
	Policy   string   `json:"policy"` // revision
	Reasons  []Reason `json:"reasons"`
}

// Reason is one cause of a verdict.
type Reason struct {
	Rule     string `json:"rule"`
	Action   string `json:"action"`
	Message  string `json:"message"`
	Advisory string `json:"advisory,omitempty"`
	Waived   string `json:"waived,omitempty"` // why it does not count
}

// Finding is one advisory that applies to one package.
type Finding struct {
	Advisory string            `json:"advisory"`
	Aliases  []string          `json:"aliases"`
	Package  string            `json:"package"` // name
	Version  string            `json:"version"`
	Fixed    string            `json:"fixed"` // "" = no fix is known
	Severity analyzer.Severity `json:"severity"`
	KEV      bool              `json:"kev"`
	EPSS     *float64          `json:"epss"` // null = unknown
	Class    analyzer.Class    `json:"class"`
	Path     string            `json:"path"`
	Layer    godigest.Digest   `json:"layer"`  // diffID
	Source   string            `json:"source"` // the feed and the range that matched
}

// Facts are what is known of the image besides findings and secrets.
type Facts struct {
	Platform      string                `json:"platform"`
	OS            string                `json:"os"` // os-release ID and VERSION_ID: "debian 12"
	OSName        string                `json:"osName"`
	User          string                `json:"user"`
	Created       time.Time             `json:"created,omitzero"`
	Layers        int                   `json:"layers"`
	Size          int64                 `json:"size"`         // bytes of the layers as stored
	Uncompressed  int64                 `json:"uncompressed"` // bytes
	PackagesCount int                   `json:"packages"`
	Setuid        []string              `json:"setuid"`
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
}

// New returns the Result of rep and v. image is what the user asked for.
func New(image string, v Verdict, rep *analyzer.Report) Result {
	r := Result{
		Image: image, Digest: rep.Manifest, Verdict: v,
		Findings: make([]Finding, 0, len(rep.Findings)),
		Secrets:  append([]analyzer.Secret{}, rep.Secrets...),
		Packages: append([]analyzer.Package{}, rep.Packages...),
		Facts:    facts(rep),
	}
	if r.Verdict.Reasons == nil {
		r.Verdict.Reasons = []Reason{}
	}
	for _, f := range rep.Findings {
		r.Findings = append(r.Findings, Finding{
			Advisory: f.Advisory, Aliases: append([]string{}, f.Aliases...),
			Package: f.Package.Name, Version: f.Package.Version, Fixed: f.Fixed,
			Severity: f.Severity, KEV: f.KEV, Class: f.Class,
			Path: f.Package.Path, Layer: f.Package.Layer, Source: f.Source,
		})
	}
	slices.SortStableFunc(r.Findings, worse)
	return r
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
	if d := flag(b) - flag(a); d != 0 {
		return d
	}
	return slices.Compare([]string{a.Package, a.Advisory, a.Path}, []string{b.Package, b.Advisory, b.Path})
}

func facts(rep *analyzer.Report) Facts {
	f := Facts{
		Platform: rep.Platform, OS: strings.TrimSpace(rep.OS.ID + " " + rep.OS.VersionID), OSName: rep.OS.Name,
		User: rep.User, Created: rep.Created, Layers: len(rep.Layers), PackagesCount: len(rep.Packages),
		Setuid: append([]string{}, rep.Setuid...), URLs: append([]string{}, rep.URLs...),
		DigestChain: rep.DiffIDBroken, Complete: len(rep.Incomplete) == 0,
		Incomplete: append([]analyzer.Incomplete{}, rep.Incomplete...), Undecided: []Undecided{},
		Analyzer: rep.Revision, Advisories: rep.Advisories, Updated: rep.Updated,
	}
	for _, l := range rep.Layers {
		f.Size += l.Size
		f.Uncompressed += l.Uncompressed
	}
	for _, u := range rep.Undecided {
		f.Undecided = append(f.Undecided, Undecided{Advisory: u.Advisory, Package: u.Package.Name, Version: u.Package.Version, Reason: u.Reason})
	}
	return f
}

// Counts returns how many findings have each severity, by its value.
func (r Result) Counts() (counts [analyzer.SeverityCritical + 1]int) {
	for _, f := range r.Findings {
		counts[min(f.Severity, analyzer.SeverityCritical)]++
	}
	return counts
}
