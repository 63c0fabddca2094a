package advisory

import (
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sluiceproxy/sluice/analyzer"
)

// osvRecord is the part of a record that is compiled (ossf.github.io/osv-schema, 1.7).
type osvRecord struct {
	ID               string          `json:"id"`
	Summary          string          `json:"summary"`
	Details          string          `json:"details"`
	Aliases          []string        `json:"aliases"`
	Upstream         []string        `json:"upstream"`
	Related          []string        `json:"related"`
	Published        string          `json:"published"`
	Modified         string          `json:"modified"`
	Withdrawn        string          `json:"withdrawn"`
	Severity         []osvSeverity   `json:"severity"`
	Affected         []osvAffected   `json:"affected"`
	DatabaseSpecific json.RawMessage `json:"database_specific"`
}

type osvSeverity struct {
	Type  string `json:"type"`
	Score string `json:"score"`
}

type osvAffected struct {
	Package struct {
		Ecosystem string `json:"ecosystem"`
		Name      string `json:"name"`
	} `json:"package"`
	Severity          []osvSeverity   `json:"severity"`
	Ranges            []osvRange      `json:"ranges"`
	Versions          []string        `json:"versions"`
	EcosystemSpecific json.RawMessage `json:"ecosystem_specific"`
}

type osvRange struct {
	Type   string              `json:"type"`
	Events []map[string]string `json:"events"`
}

// eventKind is what happens at a version of a range.
type eventKind uint8

const (
	eventIntroduced   eventKind = iota // affected from here
	eventFixed                         // not affected from here
	eventLastAffected                  // not affected after this
	eventLimit                         // nothing is said from here
	eventUnknown                       // a kind of a later schema: the range cannot be decided
)

type event struct {
	kind    eventKind
	version string
}

// affected is what a record says of one package: it is affected in any of the
// ranges and in the listed versions. Neither means that it cannot be decided.
type affected struct {
	ecosystem string // as written in the record
	name      string
	ranges    [][]event // sorted by version where all versions can be read
	versions  []string
	rating    rating // where it differs from the record's
}

// record is an advisory ready to be written.
type record struct {
	Advisory
	withdrawn bool
	erratum   bool     // no vulnerability: see parseRecord
	streams   []string // "name:stream" of the rpm modules that it is for
	rating    rating
	affected  []affected
	gitOnly   int // affected entries that name commits only
}

// Advisory is one record of a feed, without the versions that it affects.
type Advisory struct {
	ID        string            `json:"id"`
	Aliases   []string          `json:"aliases,omitempty"` // other ids of the same vulnerability, sorted; see parseRecord
	Class     analyzer.Class    `json:"class"`
	Severity  analyzer.Severity `json:"severity"`
	Score     float64           `json:"score,omitempty"`
	Vector    string            `json:"vector,omitempty"`
	RatedBy   string            `json:"ratedBy,omitempty"` // as in analyzer.Finding
	KEV       bool              `json:"kev,omitempty"`
	EPSS      *float64          `json:"epss,omitempty"` // as in analyzer.Finding
	Summary   string            `json:"summary,omitempty"`
	Published time.Time         `json:"published,omitzero"`
	Modified  time.Time         `json:"modified,omitzero"`

	// same are the first entries of Aliases that the record itself calls
	// aliases, not upstream or related ones.
	same []string
}

// rate sets the advisory's rating and who gave it: by, or the distribution
// that the record's entries are of.
func (a *Advisory) rate(r rating, by string) {
	a.Severity, a.Score, a.Vector, a.RatedBy = r.severity, r.score, r.vector, by
	if r.severity == analyzer.SeverityUnknown {
		a.RatedBy = ""
	}
}

const (
	maxID      = 256
	maxSummary = 300
)

// errRecord is wrapped by errors about a record that cannot be taken.
var errRecord = errors.New("not an OSV record")

// parseRecord reads one OSV record. What it decides:
//
//   - Aliases are "aliases" and "upstream" (Debian, Alpine name their CVEs
//     there), and the CVEs of "related" for the errata of rpm distributions,
//     which name what they fix only there.
//   - Errata that fix no vulnerability (AlmaLinux, Rocky, Red Hat bug fix and
//     enhancement advisories: ids with BA or EA, no CVE) are marked and never
//     become findings. RUSTSEC's informational records are kept: that a crate
//     is unmaintained or unsound is for the policy to judge, by its severity.
//   - An entry with neither a version range nor a list of versions is kept; it
//     matches as undecided.
func parseRecord(data []byte) (*record, error) {
	var o osvRecord
	if err := json.Unmarshal(data, &o); err != nil {
		return nil, fmt.Errorf("%w: %w", errRecord, err)
	}
	if err := checkID(o.ID); err != nil {
		return nil, err
	}
	published, modified := parseTime(o.Published), parseTime(o.Modified)
	r := &record{withdrawn: !parseTime(o.Withdrawn).IsZero(), streams: moduleStreams(o.Summary)}
	errata := rpmErratum(o.ID)
	same := cleanIDs(o.Aliases, o.ID)
	others := o.Upstream
	if errata != "" {
		others = append(others[:len(others):len(others)], cves(o.Related)...)
	}
	r.Advisory = Advisory{
		ID: o.ID, Aliases: cleanIDs(append(same[:len(same):len(same)], others...), o.ID), same: same,
		Class: analyzer.ClassVulnerability, Summary: summary(&o), Published: published, Modified: modified,
	}
	r.erratum = errata != "" && errata != "SA" && len(cves(r.Aliases)) == 0
	for _, id := range append([]string{o.ID}, same...) {
		if strings.HasPrefix(id, "MAL-") {
			r.Class = analyzer.ClassMalware
		}
	}
	total, own := rate(&o)
	r.rating = total
	r.rate(total, r.ID)
	for i, a := range o.Affected {
		e, git := compileAffected(a)
		if e.name == "" || e.ecosystem == "" {
			continue // commits of a repository: no package is named
		}
		if git {
			r.gitOnly++
		}
		e.rating = own[i]
		r.affected = append(r.affected, e)
	}
	return r, nil
}

// compileAffected keeps the ranges of versions. git reports that there were
// ranges, but of commits only, and no list of versions.
func compileAffected(a osvAffected) (e affected, git bool) {
	e = affected{ecosystem: a.Package.Ecosystem, name: a.Package.Name, versions: a.Versions}
	for _, g := range a.Ranges {
		if g.Type == "GIT" {
			git = true
			continue
		}
		var events []event
		for _, ev := range g.Events {
			events = append(events, eventsOf(ev)...)
		}
		if len(events) == 0 {
			events = []event{{kind: eventUnknown}}
		}
		sortEvents(parseEcosystem(e.ecosystem).base, events)
		e.ranges = append(e.ranges, events)
	}
	return e, git && len(e.ranges) == 0 && len(e.versions) == 0
}

func eventsOf(m map[string]string) []event {
	var out []event
	for _, k := range []struct {
		name string
		kind eventKind
	}{{"introduced", eventIntroduced}, {"fixed", eventFixed}, {"last_affected", eventLastAffected}, {"limit", eventLimit}} {
		if v, ok := m[k.name]; ok {
			out = append(out, event{k.kind, v})
		}
	}
	if len(out) != len(m) {
		out = append(out, event{kind: eventUnknown})
	}
	return out
}

// sortEvents sorts by version, as the schema's evaluation wants. Events at the
// same version keep their order. With a version that cannot be read nothing is
// sorted: the evaluation will find it and not decide.
func sortEvents(base string, events []event) {
	parse := orderOf(base)
	if parse == nil {
		return
	}
	type parsed struct {
		event
		compare comparison
	}
	all := make([]parsed, len(events))
	for i, e := range events {
		all[i] = parsed{event: e}
		if e.version == "0" || e.kind == eventUnknown || (e.kind == eventLimit && e.version == "*") {
			continue
		}
		c, err := parse(e.version)
		if err != nil {
			return
		}
		all[i].compare = c
	}
	sort.SliceStable(all, func(i, j int) bool {
		a, b := all[i], all[j]
		if a.version == "0" || b.version == "0" || a.compare == nil || b.compare == nil {
			return a.version == "0" && b.version != "0"
		}
		n, err := a.compare(b.version)
		return err == nil && n < 0
	})
	for i := range all {
		events[i] = all[i].event
	}
}

func checkID(id string) error {
	if id == "" {
		return fmt.Errorf("%w: it has no id", errRecord)
	}
	if len(id) > maxID || !printable(id) {
		return fmt.Errorf("%w: its id is longer than %d bytes or holds spaces or control characters", errRecord, maxID)
	}
	return nil
}

func printable(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f || r == utf8.RuneError }) < 0
}

// cleanIDs sorts ids and leaves out repetitions, self and what is no id.
func cleanIDs(ids []string, self string) []string {
	var out []string
	for _, id := range ids {
		if id != self && checkID(id) == nil {
			out = append(out, id)
		}
	}
	sort.Strings(out)
	return compactStrings(out)
}

func compactStrings(s []string) []string {
	var out []string
	for i, v := range s {
		if i == 0 || v != s[i-1] {
			out = append(out, v)
		}
	}
	return out
}

func cves(ids []string) []string {
	var out []string
	for _, id := range ids {
		if strings.HasPrefix(id, "CVE-") {
			out = append(out, id)
		}
	}
	return out
}

// rpmErratum returns the kind of an rpm distribution's erratum by its id: "SA",
// "BA" or "EA" for ALSA-2024:1, RLBA-…, RHEA-…; "" for every other id.
func rpmErratum(id string) string {
	if len(id) < 5 || id[4] != '-' {
		return ""
	}
	switch id[:2] {
	case "AL", "RL", "RH", "RX", "EL":
		if k := id[2:4]; k == "SA" || k == "BA" || k == "EA" {
			return k
		}
	}
	return ""
}

// summary is one line about a record: its summary, or the start of its details.
func summary(o *osvRecord) string {
	s := strings.TrimSpace(o.Summary)
	if s == "" {
		s, _, _ = strings.Cut(strings.TrimSpace(o.Details), "\n")
	}
	s = strings.Join(strings.Fields(s), " ")
	s = strings.ToValidUTF8(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, s), "")
	if len(s) <= maxSummary {
		return s
	}
	return strings.TrimSpace(strings.ToValidUTF8(s[:maxSummary-3], "")) + "…"
}

// parseTime reads an RFC 3339 time; the zero time (of year 1 too, which some
// feeds write for "unknown") where there is none.
func parseTime(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || t.Year() < 1970 {
		return time.Time{}
	}
	return t.UTC().Truncate(time.Second)
}
