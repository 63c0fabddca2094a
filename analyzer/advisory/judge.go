package advisory

import (
	"strings"
)

type outcome uint8

const (
	outcomeClean outcome = iota
	outcomeUndecided
	outcomeAffected
)

// judgement is what an advisory's entries say of one version.
type judgement struct {
	outcome outcome
	reason  string // why undecided
	fixed   string // smallest fixed version above the installed one
	source  string // ecosystem and the range that matched
	rating  rating // of the entry that matched, if it has its own
}

// installed is a version to compare with advisories.
type installed struct {
	text    string
	parse   order      // nil where the ecosystem's order is not known
	compare comparison // nil where the version cannot be read
	failed  string     // why compare is nil
}

func newInstalled(base, version string) installed {
	in := installed{text: version, parse: orderOf(base)}
	if in.parse == nil {
		in.failed = "the order of versions of " + base + " is not known"
		return in
	}
	var err error
	if in.compare, err = in.parse(version); err != nil {
		in.compare, in.failed = nil, "the installed "+err.Error()
	}
	return in
}

// judge evaluates the entries of one advisory for one package. The worst outcome
// wins: affected, undecided, clean. A version that cannot be read can still
// match where it is listed.
func judge(entries []posting, in *installed) judgement {
	var best judgement
	for i := range entries {
		j := judgeEntry(&entries[i], in)
		j.rating = entries[i].rating
		switch {
		case j.outcome > best.outcome:
			best = j
		case j.outcome == outcomeAffected && best.outcome == outcomeAffected:
			if j.rating.better(best.rating) {
				best.rating = j.rating
			}
			if best.fixed == "" || in.less(j.fixed, best.fixed) {
				best.fixed, best.source = j.fixed, j.source
			}
		}
	}
	return best
}

// less reports whether version a comes before b; "" comes nowhere.
func (in *installed) less(a, b string) bool {
	if a == "" || in.parse == nil {
		return false
	}
	compare, err := in.parse(a)
	if err != nil {
		return false
	}
	n, err := compare(b)
	return err == nil && n < 0
}

func judgeEntry(e *posting, in *installed) judgement {
	if e.ranges == "" && e.versions == "" {
		return judgement{outcome: outcomeUndecided, reason: "the advisory names no versions that can be compared"}
	}
	var (
		j   judgement
		buf eventBuffer
	)
	for d := e.rangeDecoder(); d.rest != ""; {
		events := d.events(buf[:0])
		r := judgement{outcome: outcomeUndecided, reason: in.failed}
		if in.compare != nil {
			r = judgeRange(e.ecosystem, events, in.compare)
		}
		if r.outcome > j.outcome || (r.outcome == j.outcome && (j.fixed == "" || in.less(r.fixed, j.fixed))) {
			j = r
		}
	}
	if j.outcome == outcomeAffected {
		return j
	}
	if v, ok := in.listed(e, j.outcome == outcomeUndecided); ok {
		return judgement{outcome: outcomeAffected, source: e.ecosystem + " version " + v + " listed", fixed: firstFix(e, in.compare)}
	}
	if e.ranges == "" && in.compare == nil {
		return judgement{outcome: outcomeUndecided, reason: in.failed}
	}
	return j
}

// listed looks for the installed version in an entry's list. Equal by the
// ecosystem's order ("1.0" and "1.0.0") counts where no range has decided; where
// one has, the list only adds to it what it spells out.
func (in *installed) listed(e *posting, undecided bool) (string, bool) {
	if e.versions == "" {
		return "", false
	}
	if strings.Contains(e.versions, "\x00"+in.text+"\x00") {
		return in.text, true
	}
	if in.compare != nil && (undecided || e.ranges == "") {
		for v := range strings.SplitSeq(strings.Trim(e.versions, "\x00"), "\x00") {
			if n, err := in.compare(v); err == nil && n == 0 {
				return v, true
			}
		}
	}
	return "", false
}

// judgeRange is OSV's evaluation of one range, whose events are in the order of
// their versions.
func judgeRange(eco string, events []event, compare comparison) judgement {
	undecided := func(reason string) judgement {
		return judgement{outcome: outcomeUndecided, reason: reason}
	}
	vulnerable, starts, limited, below := false, false, false, false
	var from, to event
	for _, e := range events {
		sign := 1 // "0" comes before every version
		if e.kind == eventUnknown {
			return undecided("the advisory has a kind of range that is not known")
		}
		if e.kind == eventLimit && e.version == "*" {
			limited, below = true, true
			continue
		}
		if e.version != "0" {
			var err error
			if sign, err = compare(e.version); err != nil {
				return undecided("in the advisory's range: " + err.Error())
			}
		}
		switch e.kind {
		case eventIntroduced:
			starts = true
			if sign >= 0 {
				vulnerable, from, to = true, e, event{}
			}
		case eventFixed:
			if sign >= 0 {
				vulnerable = false
			} else if vulnerable && to.version == "" {
				to = e
			}
		case eventLastAffected:
			if sign > 0 {
				vulnerable = false
			} else if vulnerable && to.version == "" {
				to = e
			}
		case eventLimit:
			limited, below = true, below || sign < 0
		}
	}
	if !starts {
		return undecided("the advisory's range has no start")
	}
	if !vulnerable || (limited && !below) {
		return judgement{}
	}
	j := judgement{outcome: outcomeAffected, source: eco + " introduced " + from.version}
	switch {
	case to.version != "" && to.kind == eventFixed:
		j.fixed = to.version
		j.source += ", fixed " + to.version
	case to.version != "":
		j.source += ", last affected " + to.version
	}
	return j
}

// firstFix returns the first fixed version above the installed one of any range.
func firstFix(p *posting, compare comparison) string {
	if compare == nil {
		return ""
	}
	var buf eventBuffer
	for d := p.rangeDecoder(); d.rest != ""; {
		r := d.events(buf[:0])
		for _, e := range r {
			if e.kind != eventFixed {
				continue
			}
			if n, err := compare(e.version); err == nil && n < 0 {
				return e.version
			}
		}
	}
	return ""
}
