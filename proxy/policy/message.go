package policy

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sluiceproxy/sluice/analyzer"
)

// The default sentences of reasons. None tells the time that has passed since
// something: the same evidence a minute later gives the same sentence.

// sayFinding is `CVE-2021-23337 (high) in npm lodash 4.17.20 at
// app/node_modules/lodash/package.json; fixed in 4.17.21`.
func sayFinding(f *analyzer.Finding) string {
	var b strings.Builder
	b.WriteString(vulnerability(f))
	if f.Class == analyzer.ClassMalware {
		b.WriteString(" (malware)")
	} else {
		rating := f.Severity.String()
		if f.Severity == analyzer.SeverityUnknown {
			rating = "unrated"
		}
		if f.KEV {
			rating += ", known to be exploited"
		}
		b.WriteString(" (" + rating + ")")
	}
	b.WriteString(" in " + sayPackage(f.Package))
	switch {
	case f.Fixed != "":
		b.WriteString("; fixed in " + f.Fixed)
	case f.Class != analyzer.ClassMalware:
		b.WriteString("; no fixed version is known")
	}
	if f.VEX != nil && !f.VEX.Suppresses() {
		b.WriteString("; " + sayVEX(f.VEX))
	}
	return b.String()
}

// vulnerability is the name under which most readers know the finding: its one
// CVE id, else that of the advisory.
func vulnerability(f *analyzer.Finding) string {
	cve := ""
	for _, a := range f.Aliases {
		if strings.HasPrefix(a, "CVE-") {
			if cve != "" {
				return f.Advisory
			}
			cve = a
		}
	}
	if cve == "" || strings.HasPrefix(f.Advisory, "CVE-") {
		return f.Advisory
	}
	return cve
}

func sayPackage(p analyzer.Package) string {
	s := strings.TrimSpace(p.Type + " " + p.Name + " " + p.Version)
	if p.Path != "" {
		s += " at " + p.Path
	}
	return s
}

// sayUndecided tells of an advisory, or of all advisories, that could not be
// compared with a package.
func sayUndecided(u *analyzer.Undecided) string {
	what, why := "advisories for "+sayPackage(u.Package), u.Reason
	if u.Advisory != "" {
		what = u.Advisory + " for " + sayPackage(u.Package)
	}
	if why == "" {
		why = "no reason was given"
	}
	return what + " could not be decided: " + why
}

// saySecret is `private key in root/.ssh/id_rsa (deleted by a later layer,
// still readable in layer sha256:1f3a…)`.
func saySecret(s *analyzer.Secret) string {
	text := strings.ReplaceAll(s.Kind, "-", " ") + " in " + s.Path
	if s.Line > 1 {
		text += ":" + strconv.Itoa(s.Line)
	}
	if !s.NotAfter.IsZero() {
		text += ", valid until " + day(s.NotAfter)
	}
	if s.Deleted {
		text += " (deleted by a later layer, still readable in layer " + s.Layer.String() + ")"
	}
	return text
}

// sayImage tells what the rule's condition saw, field by field.
func sayImage(c *condition, s *subject) string {
	var parts []string
	seen := map[string]bool{}
	for _, f := range c.fields {
		part := ""
		switch value := f.get(s); {
		case f.say != nil:
			part = f.say(s)
		case f.typ.TypeName() == "sluice.Analysis", f.typ.TypeName() == "sluice.Hardening", f.typ.TypeName() == "sluice.Base":
			continue // its fields follow
		default:
			part = f.name + " is " + show(value)
		}
		if part != "" && !seen[part] {
			seen[part] = true
			parts = append(parts, part)
		}
	}
	if len(parts) == 0 {
		return "every image"
	}
	return strings.Join(parts, ", ")
}

// maxShown is how many elements of a list a sentence holds.
const maxShown = 3

func show(v any) string {
	switch v := v.(type) {
	case string:
		return strconv.Quote(v)
	case []string:
		return some(v)
	case time.Time:
		return day(v)
	}
	return fmt.Sprint(v)
}

// some names the first elements and counts the others.
func some(list []string) string {
	switch {
	case len(list) == 0:
		return "empty"
	case len(list) > maxShown:
		return fmt.Sprintf("%s and %d more", strings.Join(list[:maxShown], ", "), len(list)-maxShown)
	}
	return strings.Join(list, ", ")
}

func saySBOM(s *subject) string {
	if s.report().SBOM == "" {
		return "its files were looked at"
	}
	return "only an SBOM is known (" + s.report().SBOM + "), files were not looked at"
}

func sayArtifact(s *subject) string {
	if s.report().ArtifactType == "" {
		return ""
	}
	return "an artifact of type " + strconv.Quote(s.report().ArtifactType) + ", in which only archives were looked into"
}

func sayEndOfLife(s *subject) string {
	rel := s.report().OS
	name := strings.TrimSpace(rel.ID + " " + rel.VersionID)
	switch {
	case rel.EndOfLife.IsZero():
		return ""
	case s.Now.Before(rel.EndOfLife):
		return name + " gets security updates until " + day(rel.EndOfLife)
	}
	return name + " has had no security updates since " + day(rel.EndOfLife)
}

func sayUser(s *subject) string {
	user := s.report().User
	switch name, _, _ := strings.Cut(user, ":"); name {
	case "":
		return "runs as root: its configuration names no user"
	case "0", "root":
		return "runs as root"
	default:
		return "runs as user " + strconv.Quote(user)
	}
}

func sayURLs(s *subject) string {
	if urls := externalURLs(s); len(urls) > 0 {
		return "its descriptors name addresses outside the registry: " + some(urls)
	}
	return "its descriptors name no address outside the registry"
}

func sayChain(s *subject) string {
	if broken := s.report().DiffIDBroken; broken != "" {
		return "broken digest chain: " + broken
	}
	return "unbroken digest chain"
}

func sayIncomplete(s *subject) string {
	gaps := s.report().Incomplete
	if len(gaps) == 0 {
		return "complete analysis"
	}
	text := "incomplete analysis: "
	if gaps[0].Path != "" {
		text += gaps[0].Path + ": "
	}
	text += gaps[0].Reason
	if len(gaps) > 1 {
		text += fmt.Sprintf(" and %d more", len(gaps)-1)
	}
	return text
}

func sayUpdated(s *subject) string {
	if s.Advisories.Updated.IsZero() {
		return "the age of the advisories is unknown"
	}
	return "the advisories are of " + day(s.Advisories.Updated)
}

// sayBlock is `blocked by operator alice: reason (until 2026-12-01)`.
func sayBlock(b *Block, cause string) string {
	text := "blocked by operator " + b.Owner
	if cause != "" {
		text += " for " + cause
	}
	text += ": " + b.Reason
	if !b.Expires.IsZero() {
		text += " (until " + day(b.Expires) + ")"
	}
	return text
}

// sayWaiver is `web-team: not reachable (until 2027-01-31)`.
func sayWaiver(w *Waiver) string {
	text := w.Owner + ": " + w.Reason
	if w.Expires.Before(Forever) {
		text += " (until " + day(w.Expires) + ")"
	}
	return printable(text)
}

// sayVEX is `not affected by word of Acme: vulnerable code not in execute path
// (VEX acme.json: statements[3])`.
func sayVEX(s *analyzer.VEXStatement) string {
	text := strings.ReplaceAll(string(s.Status), "_", " ") + " by word of " + s.Author
	why := s.Impact
	if s.Justification != "" {
		why = strings.ReplaceAll(s.Justification, "_", " ")
	}
	if s.Status == analyzer.VEXAffected {
		why = s.Action
	}
	if why != "" {
		text += ": " + oneLine(why)
	}
	return printable(text + " (VEX " + s.Source + ")")
}

// day writes a time as the date alone where it stands for a whole day, its
// first or its last second, else to the minute; always in UTC.
func day(t time.Time) string {
	t = t.UTC()
	switch {
	case t.IsZero():
		return "unknown"
	case t.Equal(t.Truncate(24 * time.Hour)), t.Truncate(time.Second).Equal(endOfDay(t)):
		return t.Format(time.DateOnly)
	}
	return t.Format("2006-01-02 15:04 UTC")
}

// maxMessage is the longest message in bytes: it stands in a header, which
// clients cut at 4 KiB or refuse, beside others.
const maxMessage = 1 << 10

// printable returns s, cut at maxMessage, with whatever is not a visible
// character or a space escaped: a file's name may hold line breaks, terminal
// sequences or marks that turn the direction of reading.
func printable(s string) string {
	if len(s) > maxMessage {
		s = strings.ToValidUTF8(s[:maxMessage], "") + "…"
	}
	if utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && n == 1 || !unicode.IsPrint(r) {
			quoted := strconv.Quote(s[:n])
			b.WriteString(quoted[1 : len(quoted)-1])
		} else {
			b.WriteString(s[:n])
		}
		s = s[n:]
	}
	return b.String()
}

// endOfDay is the last second of t's day in UTC.
func endOfDay(t time.Time) time.Time {
	y, m, d := t.UTC().Date()
	return time.Date(y, m, d, 23, 59, 59, 0, time.UTC)
}
