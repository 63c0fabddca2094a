package policy

import (
	"cmp"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"hash"
	"slices"
	"strings"
	"time"

	"github.com/sluiceproxy/sluice/analyzer"
)

// The rules that are built in. A file's rules cannot have their names.
const (
	RuleBlocklist         = "blocklist"          // an operator's entry
	RuleAnalysisFailed    = "analysis-failed"    // there is no report
	RuleAdvisoriesMissing = "advisories-missing" // there is a report, but nothing to match it with
	RuleAdvisoriesStale   = "advisories-stale"   // they are older than advisories.maxAge, and advisories.whenStale does not leave it to the rules
	RuleNotCovered        = "not-covered"        // no policy is for this image
	RuleIndexURLs         = "index-urls"         // an index whose descriptors name external addresses
	RuleUnsigned          = "unsigned"           // a policy's trust: nothing is signed
	RuleTrustFailed       = "trust-failed"       // a policy's trust: what is signed does not count
	RuleTrustError        = "trust-error"        // a policy's trust: the signatures could not be looked at
	RuleTrustWarning      = "trust-warning"      // a policy's trust: an authority passed by a lock that has expired
	RuleTagMoved          = "tag-moved"          // a policy's tags: the tag names another digest than before
	RuleTagRollback       = "tag-rollback"       // a policy's tags: the tag names an older digest than before
	RuleBaseUnknown       = "base-unknown"       // a policy's base: no known image is below this one
	RuleBaseUntrusted     = "base-untrusted"     // a policy's base: none that is trusted
	RuleBaseTooOld        = "base-too-old"       // a policy's base: it was built too long ago
	RuleDigestChain       = "digest-chain"       // the bytes are not what the index or the config promises
	RuleWaived            = "waived"             // no rule fired on what a waiver or a VEX statement sets aside all the same
)

// waivable are those that waivers may name: a policy's own demands, and layers
// that are not the config's.
var waivable = []string{RuleDigestChain, RuleUnsigned, RuleTrustFailed, RuleTagMoved, RuleTagRollback, RuleBaseUnknown, RuleBaseUntrusted, RuleBaseTooOld}

var builtIn = []string{
	RuleBlocklist, RuleAnalysisFailed, RuleAdvisoriesMissing, RuleAdvisoriesStale, RuleNotCovered, RuleIndexURLs, RuleUnsigned, RuleTrustFailed, RuleTrustError, RuleWaived,
	RuleTrustWarning, RuleTagMoved, RuleTagRollback, RuleBaseUnknown, RuleBaseUntrusted, RuleBaseTooOld, RuleDigestChain,
}

// Decide judges e. The blocklist comes first, then the rules of every policy
// that covers the image; the strictest outcome wins. Each piece of evidence has
// one reason, that of the strictest rule that fired on it; where an exception
// sets a stricter one aside, that is a second, waived reason.
//
// An index is judged by the blocklist's digests and images, by its own
// descriptors' addresses and by the indexes that list it only.
//
// The verdict's ID depends on the image, the digest, the revisions of policy
// and advisories, the decision and the reasons, not on e.Now: the same inputs
// give the same id. Until is exact for graces, waivers, blocks and ages that a
// condition compares with a literal duration; another use of an age gives one
// minute.
func (p *Policy) Decide(e *Evidence) Verdict {
	d := decision{Evidence: e, policy: p}
	d.blocklist()
	covering := d.covering()
	d.gatherWaivers()
	d.trusts(covering)
	d.chain()
	switch {
	case e.Image.Index:
		if len(e.Image.URLs) > 0 {
			d.add(Reason{Rule: RuleIndexURLs, Action: Deny, Message: "the index's descriptors name addresses outside the registry: " + some(e.Image.URLs)})
		}
	case e.Report == nil || e.Failure != "":
		why := e.Failure
		if why == "" {
			why = "there is no report"
		}
		d.add(Reason{Rule: RuleAnalysisFailed, Action: Deny, Message: "the image could not be analysed: " + why})
	default:
		if e.unadvised() {
			d.add(Reason{Rule: RuleAdvisoriesMissing, Action: e.Advisories.whenMissing(), Message: "there are no advisories yet to match the image's packages with"})
		}
		d.stale()
		d.bases(covering)
		d.rules(covering)
	}
	return d.verdict()
}

func (a Advisories) whenMissing() Decision {
	if a.WhenMissing == Deny || a.WhenMissing == Annotate {
		return a.WhenMissing
	}
	return Pending
}

// stale reports advisories whose findings say too little because of their age.
func (a Advisories) stale(now time.Time) bool {
	return a.MaxAge > 0 && ageOf(a.Updated, now) > a.MaxAge
}

// turnStale is when they become so; zero without a limit or a known age.
func (a Advisories) turnStale() time.Time {
	if a.MaxAge <= 0 || a.Updated.IsZero() {
		return time.Time{}
	}
	return a.Updated.Add(a.MaxAge + 1)
}

// decision is a verdict in the making.
type decision struct {
	*Evidence
	policy  *Policy
	reasons []Reason
	until   time.Time
	waivers []waiver // in force for this image
	trusted []TrustVerdict
}

// add keeps a reason. Its message holds names from the image, which end in
// headers and on terminals.
func (d *decision) add(r Reason) {
	r.Message = printable(r.Message)
	if d.Lenient && r.Policy != "" && r.Action == Deny {
		r.Action = Annotate
	}
	d.reasons = append(d.reasons, r)
}

// stale applies advisories.whenStale. An image that was allowed before stays
// pullable where a first pull has to wait: running workloads do not stop since
// a feed does.
func (d *decision) stale() {
	a := d.Advisories
	if a.WhenStale != Pending && a.WhenStale != Deny || d.unadvised() {
		return
	}
	d.recheck(a.turnStale())
	if a.stale(d.Now) {
		action := a.WhenStale
		if action == Pending && !d.Image.AllowedSince.IsZero() {
			action = Annotate
		}
		d.add(Reason{Rule: RuleAdvisoriesStale, Action: action, Message: "the findings cannot be relied on: " +
			sayUpdated(&subject{Evidence: d.Evidence}) + ", older than advisories.maxAge allows"})
	}
}

// recheck asks for a new verdict at t, if that is still to come.
func (d *decision) recheck(t time.Time) { d.until = earlier(d.until, t, d.Now) }

// covering returns the policies for the image; that there is none is a reason.
func (d *decision) covering() []*ruleset {
	var covering []*ruleset
	for _, s := range d.policy.sets {
		if s.covers(&d.Image) {
			covering = append(covering, s)
		}
	}
	if len(covering) == 0 {
		d.add(Reason{Rule: RuleNotCovered, Action: Deny, Message: "no policy covers " + d.Image.Name})
	}
	return covering
}

func (s *ruleset) covers(i *Image) bool {
	return slices.ContainsFunc(s.images, func(g Glob) bool { return g.Match(i.Name, i.Tags, i.Digest) }) &&
		!slices.ContainsFunc(s.exclude, func(g Glob) bool { return g.matchAll(i.Name, i.Tags, i.Digest) })
}

// rules applies the rules of the covering policies.
func (d *decision) rules(covering []*ruleset) {
	report := d.Report
	if !d.unadvised() {
		for i := range report.Findings {
			d.strictest(covering, forFinding, &subject{Evidence: d.Evidence, finding: &report.Findings[i]})
		}
		for i := range report.Undecided {
			d.strictest(covering, forUndecided, &subject{Evidence: d.Evidence, undecided: &report.Undecided[i]})
		}
	}
	for i := range report.Secrets {
		d.strictest(covering, forSecret, &subject{Evidence: d.Evidence, secret: &report.Secrets[i]})
	}
	image := &subject{Evidence: d.Evidence}
	for _, set := range covering { // each rule tells of something else
		for _, rule := range set.rules {
			if rule.kind != forImage {
				continue
			}
			if r, ok := d.apply(set, rule, image); ok {
				d.add(r)
			}
		}
	}
}

// strictest applies every rule for k to s and adds the reason of the one that
// weighs most, and of those that are waived the one that would outweigh it.
func (d *decision) strictest(covering []*ruleset, k kind, s *subject) {
	var counting, waived *Reason
	for _, set := range covering {
		for _, rule := range set.rules {
			if rule.kind != k || counting != nil && counting.Action == Deny {
				continue // nothing outdoes a deny without grace
			}
			r, ok := d.apply(set, rule, s)
			if !ok {
				continue
			}
			best := &counting
			if r.Waived != "" {
				best = &waived
			}
			if *best == nil || compareActions(r, **best) < 0 {
				*best = &r
			}
		}
	}
	if counting == nil && waived == nil { // a report tells of every exception, also where none was needed
		r := Reason{Rule: RuleWaived, Action: Allow}
		r.Message = describe(&r, s)
		if d.waive(&r, s); r.Waived != "" {
			waived = &r
		}
	}
	if counting != nil {
		d.add(*counting)
	}
	if waived != nil && (counting == nil || compareActions(*waived, *counting) < 0) {
		d.add(*waived)
	}
}

// apply evaluates rule on s. A condition that fails denies.
func (d *decision) apply(set *ruleset, rule *rule, s *subject) (Reason, bool) {
	d.recheck(rule.when.changes(s))
	r := Reason{Rule: rule.id, Policy: set.name, Action: rule.action}
	holds, err := rule.when.evaluate(s)
	switch {
	case err != nil:
		r.Action = Deny
		r.Message = "rule " + rule.id + " failed: " + err.Error()
		describe(&r, s)
		return r, true // never waived: it says nothing of the evidence
	case !holds:
		return Reason{}, false
	}
	cause := describe(&r, s)
	if cause == "" {
		cause = sayImage(rule.when, s)
	}
	r.Message = cause
	if rule.message != "" {
		r.Message = rule.message + " (" + cause + ")"
	}
	d.grace(&r, rule, s)
	d.waive(&r, s)
	return r, true
}

// describe copies what s is about into r and returns it as a sentence, "" for
// the image.
func describe(r *Reason, s *subject) string {
	var p *analyzer.Package
	cause := ""
	switch {
	case s.finding != nil:
		p, cause = &s.finding.Package, sayFinding(s.finding)
		r.Advisory, r.Aliases, r.Severity, r.Fixed = s.finding.Advisory, s.finding.Aliases, s.finding.Severity.String(), s.finding.Fixed
	case s.undecided != nil:
		p, cause = &s.undecided.Package, sayUndecided(s.undecided)
		r.Advisory = s.undecided.Advisory
	case s.secret != nil:
		r.Path, r.Layer = s.secret.Path, s.secret.Layer.String()
		return saySecret(s.secret)
	}
	if p != nil {
		r.Package, r.PURL, r.Version, r.Path, r.Layer = p.Name, p.PURL, p.Version, p.Path, p.Layer.String()
	}
	return cause
}

// grace softens a deny of a finding that became known after the digest had
// been allowed. A digest that was never allowed has none.
func (d *decision) grace(r *Reason, rule *rule, s *subject) {
	if rule.grace == 0 || s.finding == nil || d.Image.AllowedSince.IsZero() {
		return
	}
	known, ok := d.Image.Known[FindingKey{s.finding.Advisory, s.finding.Package.Name}]
	if !ok {
		known = d.Now
	}
	until := known.Add(rule.grace)
	if known.Before(d.Image.AllowedSince) || !d.Now.Before(until) {
		return
	}
	r.Action, r.GraceUntil = Annotate, until
	r.Message += "; denied from " + day(until)
	d.recheck(until)
}

// verdict sums the reasons up.
func (d *decision) verdict() Verdict {
	outcome := Allow
	for _, r := range d.reasons {
		if r.Waived == "" {
			outcome = max(outcome, r.Action)
		}
	}
	slices.SortFunc(d.reasons, compareReasons)
	v := Verdict{
		Decision: outcome, Image: d.Image.Name, Digest: d.Image.Digest, Tags: d.Image.Tags, Reasons: d.reasons,
		Trust: d.trusted, Policy: d.policy.revision, Advisories: d.Advisories.Revision, At: d.Now, Until: d.until,
	}
	if d.Report != nil {
		v.Advisories = d.Report.Advisories // what its findings rest on
	}
	v.ID = identify(&v)
	return v
}

// compareActions puts the stricter reason first: by action, then, of two that
// annotate, the one whose grace ends first, before the one without.
func compareActions(a, b Reason) int {
	if c := cmp.Compare(b.Action, a.Action); c != 0 {
		return c
	}
	switch {
	case a.GraceUntil.Equal(b.GraceUntil):
		return 0
	case a.GraceUntil.IsZero():
		return 1
	case b.GraceUntil.IsZero():
		return -1
	}
	return a.GraceUntil.Compare(b.GraceUntil)
}

func compareReasons(a, b Reason) int {
	waived := func(r Reason) int {
		if r.Waived != "" {
			return 1
		}
		return 0
	}
	if c := cmp.Or(waived(a)-waived(b), compareActions(a, b)); c != 0 {
		return c
	}
	return cmp.Or(
		builtInFirst(a, b),
		cmp.Compare(severity(b), severity(a)),
		cmp.Compare(a.Policy, b.Policy),
		cmp.Compare(a.Rule, b.Rule),
		cmp.Compare(a.Package, b.Package),
		cmp.Compare(a.Advisory, b.Advisory),
		cmp.Compare(a.Path, b.Path),
		cmp.Compare(a.Version, b.Version),
		cmp.Compare(a.Block, b.Block),
	)
}

// builtInFirst puts what is not a policy's rule before what is: an operator's
// block is the reason that counts, whatever else is wrong.
func builtInFirst(a, b Reason) int {
	switch {
	case a.Policy == "" && b.Policy != "":
		return -1
	case a.Policy != "" && b.Policy == "":
		return 1
	}
	return 0
}

// severity ranks a reason: what is not a finding (a secret, a fact of the
// image) comes with the critical ones.
func severity(r Reason) analyzer.Severity {
	if r.Severity == "" {
		return analyzer.SeverityCritical
	}
	s, _ := analyzer.ParseSeverity(r.Severity)
	return s
}

// identify returns "v-" and 50 bits of a hash over what made the verdict.
// Messages are left out: their wording may change.
func identify(v *Verdict) string {
	h := sha256.New()
	write(h, v.Image, v.Digest.String(), v.Policy, v.Advisories, v.Decision.String())
	for i := range v.Reasons {
		r := &v.Reasons[i]
		grace := ""
		if !r.GraceUntil.IsZero() {
			grace = r.GraceUntil.UTC().Format(time.RFC3339)
		}
		write(h, r.Rule, r.Policy, r.Action.String(), r.Advisory, r.Package, r.Version, r.Path, r.Layer, r.Block, r.Waived, grace)
	}
	return "v-" + strings.ToLower(base32.StdEncoding.EncodeToString(h.Sum(nil))[:10])
}

// write feeds texts to h so that no two lists of texts feed it the same bytes.
func write(h hash.Hash, texts ...string) {
	var buf []byte
	for _, s := range texts {
		buf = binary.AppendUvarint(buf, uint64(len(s)))
		buf = append(buf, s...)
	}
	h.Write(buf) // a hash never returns an error
}
