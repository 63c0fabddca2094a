package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/sluiceproxy/sluice/analyzer"
	"github.com/sluiceproxy/sluice/analyzer/advisory"
	"github.com/sluiceproxy/sluice/analyzer/report"
)

// maxAffected is how many packages of an advisory are listed.
const maxAffected = 20

// explanation is why an advisory applies to an image, or why it does not.
type explanation struct {
	id         string
	image      string
	packages   int
	findings   []report.Finding
	reasons    []report.Reason
	undecided  []analyzer.Undecided
	advisories []advisory.Advisory
	affected   []advisory.Affected
	near       []nearHit
	removed    []analyzer.Package // of lower layers, that an advisory names
	incomplete int
}

// nearHit is an installed package that an advisory names and does not apply to.
type nearHit struct {
	pkg      analyzer.Package
	affected advisory.Affected
	release  bool // the advisory is for the package's release
}

// explain gathers what is known of the advisory or alias id in the image of r.
func (s *scanning) explain(ctx context.Context, id string, r report.Result, rep *analyzer.Report) (*explanation, error) {
	e := &explanation{id: id, image: r.Image, packages: len(rep.Packages), incomplete: len(rep.Incomplete)}
	if s.index == nil {
		return nil, fmt.Errorf("there are no advisories in %s to explain %s with: fetch them with 'sluice db update'", advisoryDir(s.cfg.Data), id)
	}
	names := func(feed string, aliases []string) bool {
		return strings.EqualFold(feed, id) || slices.ContainsFunc(aliases, func(a string) bool { return strings.EqualFold(a, id) })
	}
	matched := map[string]bool{}
	for _, f := range r.Findings {
		if names(f.Advisory, f.Aliases) {
			e.findings = append(e.findings, f)
			matched[f.PURL+" "+f.Path] = true
		}
	}
	for _, reason := range r.Verdict.Reasons {
		if reason.Rule == "blocklist" && strings.Contains(strings.ToLower(reason.Message), strings.ToLower(id)) {
			e.reasons = append(e.reasons, reason)
		}
	}
	var err error
	for _, spelling := range []string{id, strings.ToUpper(id)} { // ids of feeds are in mixed case
		if e.advisories, err = s.index.Advisory(spelling); err != nil {
			return nil, err
		}
		if e.affected, err = s.index.Affected(ctx, spelling); err != nil {
			return nil, err
		}
		if len(e.advisories) > 0 {
			break
		}
	}
	e.advisories = slices.CompactFunc(e.advisories, func(a, b advisory.Advisory) bool { return a.ID == b.ID }) // one id can have a record in several feeds
	for _, u := range rep.Undecided {
		if u.Advisory != "" && slices.ContainsFunc(e.advisories, func(a advisory.Advisory) bool { return a.ID == u.Advisory }) {
			e.undecided = append(e.undecided, u)
			matched[u.Package.PURL+" "+u.Package.Path] = true
		}
	}
	for i := range rep.Packages {
		if p := &rep.Packages[i]; !matched[p.PURL+" "+p.Path] {
			e.nearest(p)
		}
	}
	for i := range rep.Removed {
		p := &rep.Removed[i]
		if slices.ContainsFunc(e.affected, func(a advisory.Affected) bool { name, _ := a.Names(p); return name }) {
			e.removed = append(e.removed, *p)
		}
	}
	return e, nil
}

// nearest adds p if an advisory names it, with the entry for its release if
// there is one.
func (e *explanation) nearest(p *analyzer.Package) {
	var best *nearHit
	for _, a := range e.affected {
		if name, release := a.Names(p); name && (best == nil || release && !best.release) {
			best = &nearHit{*p, a, release}
		}
	}
	if best != nil {
		e.near = append(e.near, *best)
	}
}

// write tells it to a person.
func (e *explanation) write(out io.Writer) error {
	w := bufio.NewWriter(out)
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format+"\n", args...) }
	id, image := printable(e.id), printable(e.image)
	switch {
	case len(e.findings) > 0:
		say("%s is in %s: %s", id, image, counted(len(e.findings), "finding"))
	case len(e.undecided) > 0:
		say("%s may be in %s: it could not be compared with %s", id, image, counted(len(e.undecided), "package"))
	default:
		say("%s is not in %s", id, image)
	}
	for i := range e.findings {
		tellFinding(say, &e.findings[i])
	}
	for _, u := range e.undecided {
		say("\n%s", printable(strings.TrimSpace(u.Package.Type+" "+u.Package.Name+" "+u.Package.Version)))
		say("  advisory   %s", printable(u.Advisory))
		say("  undecided  %s", printable(u.Reason))
	}
	for _, r := range e.reasons {
		say("\nBlocked: %s", printable(r.Message))
	}
	e.tellNear(say)
	e.tellAdvisories(say)
	if e.incomplete > 0 {
		say("\nThe image was not analysed in full (%s), so more may apply.", counted(e.incomplete, "gap"))
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("write explanation: %w", err)
	}
	return nil
}

func tellFinding(say func(string, ...any), f *report.Finding) {
	line := func(name, value string) {
		if value != "" {
			say("  %-10s %s", name, printable(value))
		}
	}
	say("\n%s", printable(strings.TrimSpace(f.Type+" "+f.Package+" "+f.Version)))
	line("advisory", f.Advisory)
	line("also", strings.Join(f.Aliases, " "))
	line("summary", f.Summary)
	line("because", f.Source)
	fixed := f.Fixed
	if fixed == "" {
		fixed = "no version is known"
	}
	line("fixed in", fixed)
	rating := f.Severity.String()
	if f.RatedBy != "" {
		rating += ", rated by " + f.RatedBy
	}
	if f.Vector != "" {
		rating += fmt.Sprintf(" (%.1f, %s)", f.Score, f.Vector)
	}
	line("severity", rating)
	kev := "no"
	if f.KEV {
		kev = "yes, in CISA's catalogue"
	}
	line("exploited", kev)
	if f.EPSS != nil {
		line("EPSS", fmt.Sprintf("%.2f%% within 30 days", *f.EPSS*100))
	}
	if !f.Published.IsZero() {
		line("published", f.Published.UTC().Format(time.DateOnly))
	}
	where := f.Path
	if f.Inner != "" {
		where += "!" + f.Inner
	}
	line("file", where)
	line("layer", f.Layer.String())
	line("package", f.PURL)
	line("owner", f.Owner)
	if v := f.VEX; v != nil {
		line("VEX", strings.Join(strings.Fields(strings.Join([]string{string(v.Status), v.Justification, v.Impact, v.Action, "by " + v.Author + " in " + v.Source}, " ")), " "))
	}
	line("waived", f.Waived)
	for _, r := range f.Rules {
		if r.Waived == "" {
			line("policy", r.Action+" by rule "+r.ID)
		}
	}
	if len(f.Rules) == 0 {
		line("policy", "no rule fired")
	}
}

// tellNear names the packages that look like it and are not.
func (e *explanation) tellNear(say func(string, ...any)) {
	if len(e.near) > 0 {
		say("\nInstalled and named by an advisory, but not affected:")
	}
	for _, n := range e.near {
		why := "affected: " + n.affected.Range
		switch {
		case n.pkg.Owner != "":
			why = "judged as " + n.pkg.Owner + ", which installed it"
		case !n.release:
			why = fmt.Sprintf("the advisory is for %s, the package of %s", n.affected.Ecosystem, n.pkg.Ecosystem)
		}
		say("  %s: %s (%s)", printable(strings.TrimSpace(n.pkg.Type+" "+n.pkg.Name+" "+n.pkg.Version)), printable(why), printable(n.affected.Advisory))
	}
	if len(e.removed) > 0 {
		say("\nIn a lower layer only, removed or replaced since:")
	}
	for _, p := range e.removed {
		say("  %s", printable(strings.TrimSpace(p.Type+" "+p.Name+" "+p.Version+" in "+p.Path)))
	}
}

// tellAdvisories says what the advisories are about.
func (e *explanation) tellAdvisories(say func(string, ...any)) {
	if len(e.advisories) == 0 {
		if len(e.findings) == 0 {
			say("\nNo advisory with this id or alias is in the index: see 'sluice db status' for the ecosystems that it has.")
		}
		return
	}
	say("\nAdvisories:")
	for _, a := range e.advisories {
		say("  %s  %s", printable(a.ID), printable(a.Summary))
	}
	if len(e.affected) > 0 {
		say("\nThey are about (the image has %s):", counted(e.packages, "package"))
	}
	for i, a := range e.affected {
		if i == maxAffected {
			say("  … and %d more", len(e.affected)-maxAffected)
			break
		}
		say("  %s %s: %s", printable(a.Ecosystem), printable(a.Package), printable(a.Range))
	}
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
