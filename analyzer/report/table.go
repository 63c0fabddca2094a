package report

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sluiceproxy/sluice/analyzer"
)

// TableOptions say what the reader's screen can do.
type TableOptions struct {
	Color bool // ANSI colours
	Width int  // columns; 0 = unlimited, as for a file

	Waived  bool              // show findings that do not count
	Least   analyzer.Severity // of findings that are shown; unrated ones are below all. Malware and known-exploited ones always are
	Removed bool              // show Result.Removed
}

// minColumn is the room that every column of a table may have: a GHSA id.
const minColumn = 19

// maxList bounds lists that can be long and say little each.
const maxList = 10

// WriteTable writes r for people: findings with the worst first, secrets,
// facts, gaps, and the verdict last, where a scrolled screen shows it.
func WriteTable(w io.Writer, r Result, opts TableOptions) error {
	t := table{w: bufio.NewWriter(w), opts: opts}
	t.head(r)
	hidden := t.findings(r.Findings)
	t.secrets(r.Secrets)
	if opts.Removed {
		t.removed(r.Removed)
	}
	t.facts(r.Facts)
	t.gaps(r.Facts)
	t.summary(r, hidden)
	if err := t.w.Flush(); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

type table struct {
	w    *bufio.Writer // keeps the first error for Flush
	opts TableOptions
}

// Styles of ANSI terminals (ECMA-48, SGR).
const (
	bold    = "1"
	dim     = "2"
	red     = "31"
	boldRed = "1;31"
	green   = "32"
	yellow  = "33"
	magenta = "35"
	cyan    = "36"
)

func (t *table) style(s, sgr string) string {
	if !t.opts.Color || sgr == "" || s == "" {
		return s
	}
	return "\x1b[" + sgr + "m" + s + "\x1b[0m"
}

func (t *table) printf(format string, args ...any) { _, _ = fmt.Fprintf(t.w, format, args...) }

func (t *table) head(r Result) {
	t.printf("%s", t.style(clean(r.Image), bold))
	for _, s := range []string{r.Facts.Platform, r.Facts.OS, r.Digest.String()} {
		if s != "" {
			t.printf("  %s", clean(s))
		}
	}
	t.printf("\n")
}

func (t *table) title(format string, args ...any) {
	t.printf("\n%s\n", t.style(fmt.Sprintf(format, args...), bold))
}

// findings shows the findings, and returns how many that count it did not.
// Columns that no finding has a value for are left out.
func (t *table) findings(all []Finding) (hidden int) {
	var list []*Finding
	kev, epss := false, false
	for i := range all {
		f := &all[i]
		switch {
		case !f.Open() && !t.opts.Waived:
		case f.Severity < t.opts.Least && !f.KEV && f.Class != analyzer.ClassMalware:
			hidden++
		default:
			list = append(list, f)
			kev, epss = kev || f.KEV, epss || f.EPSS != nil
		}
	}
	if len(list) == 0 {
		return hidden
	}
	t.title("Findings")
	header := []string{"SEVERITY", "ADVISORY", "PACKAGE", "INSTALLED", "FIXED"}
	if kev {
		header = append(header, "KEV")
	}
	if epss {
		header = append(header, "EPSS")
	}
	rows := [][]string{append(header, "WHY")}
	for _, f := range list {
		row := []string{f.Severity.String(), shown(f), f.Package, f.Version, orDash(f.Fixed)}
		if kev {
			row = append(row, map[bool]string{true: "yes", false: "-"}[f.KEV])
		}
		if epss {
			row = append(row, percent(f.EPSS))
		}
		rows = append(rows, append(row, why(f)))
	}
	t.rows(rows, func(row int) string {
		if f := list[row]; f.Open() {
			return severityStyle(f.Severity)
		}
		return dim
	})
	return hidden
}

// percent shows a probability.
func percent(p *float64) string {
	if p == nil {
		return "-"
	}
	return fmt.Sprintf("%.1f%%", *p*100)
}

// why says what makes a finding matter or not, and where the package is.
func why(f *Finding) string {
	var parts []string
	if f.Class == analyzer.ClassMalware {
		parts = append(parts, "malware")
	}
	for _, r := range f.Rules {
		if r.Waived == "" {
			parts = append(parts, r.Action+" by "+r.ID)
		}
	}
	parts = append(parts, f.because())
	if at := f.location(); at != "" {
		parts = append(parts, "in "+at)
	}
	return clean(join("; ", parts...))
}

func (t *table) secrets(secrets []Secret) {
	if len(secrets) == 0 {
		return
	}
	t.title("Secrets")
	rows := [][]string{{"KIND", "RULE", "WHERE"}}
	for _, s := range secrets {
		where := fmt.Sprintf("%s:%d", s.Path, s.Line)
		if s.Deleted {
			where += " (deleted by a later layer)"
		}
		if s.Waived != "" {
			where += "; waived: " + s.Waived
		}
		rows = append(rows, []string{s.Kind, s.Rule, where})
	}
	t.rows(rows, func(int) string { return red })
}

func (t *table) facts(f Facts) {
	t.title("Facts")
	fact := func(name, value string) {
		if value != "" {
			t.printf("%-12s %s\n", name, clean(value))
		}
	}
	if f.SBOM != "" {
		fact("from", "an SBOM ("+f.SBOM+"): files were not looked at, so secrets and hardening are not known")
	}
	fact("os", orDash(f.OSName))
	if !f.EndOfLife.IsZero() {
		fact("end of life", f.EndOfLife.UTC().Format(time.DateOnly))
	}
	if f.SBOM == "" {
		fact("user", cmp.Or(f.User, "root (none is set)"))
		fact("layers", fmt.Sprintf("%d, %s stored, %s unpacked", f.Layers, megabytes(f.Size), megabytes(f.Uncompressed)))
	}
	t.hardening(f)
	fact("packages", fmt.Sprint(f.PackagesCount))
	if f.DigestChain != "" {
		fact("digests", "broken: "+f.DigestChain)
	}
	fact("fetched from", strings.Join(f.URLs, " "))
	switch {
	case f.Advisories == "":
		fact("advisories", "none: nothing was compared with them")
	case f.Updated.IsZero():
		fact("advisories", f.Advisories+", of an unknown time")
	default:
		fact("advisories", f.Advisories+" of "+f.Updated.UTC().Format("2006-01-02 15:04 UTC"))
	}
}

// hardening shows how the image would run and what it is built on.
func (t *table) hardening(f Facts) {
	fact := func(name, value string) {
		if value != "" {
			t.line(fmt.Sprintf("%-12s %s", name, value))
		}
	}
	h, b := &f.Hardening, &f.Base
	base := join(" ", string(b.Kind), b.Name, b.Digest.String())
	if p := b.Proven; p != nil {
		base = join(", ", base, fmt.Sprintf("proven: %s with %s", p.Name, plural(p.Layers, "layer")))
	}
	if b.ClaimFalse {
		base += ", which is not so: that image has other layers"
	}
	fact("base", base)
	if n := len(f.Setuid); n > 0 {
		fact("setuid", join(", unusual: ", plural(n, "file"), some(h.UnusualSetuid)))
	}
	fact("writable", some(h.WorldWritable))
	fact("shells", some(h.Shells))
	fact("installers", some(h.PackageManagers))
	fact("ssh", some(h.SSH))
	fact("ports", some(h.Ports))
	fact("added", some(h.AddedURLs))
	if h.Wasted > 0 {
		fact("wasted", megabytes(h.Wasted)+" that later layers remove or replace")
	}
}

// some shows the first elements of a list and counts the others.
func some(list []string) string {
	const most = 4
	if len(list) <= most {
		return strings.Join(list, " ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(list[:most], " "), len(list)-most)
}

// removed shows the packages that only lower layers have.
func (t *table) removed(packages []analyzer.Package) {
	if len(packages) == 0 {
		return
	}
	t.title("Removed or replaced by later layers (%d)", len(packages))
	rows := [][]string{{"TYPE", "PACKAGE", "VERSION", "LAYER"}}
	for _, p := range packages {
		rows = append(rows, []string{p.Type, p.Name, p.Version, join(" in ", p.Layer.String(), p.Path)})
	}
	t.rows(rows, func(int) string { return dim })
}

// gaps shows what the scan could not see or compare.
func (t *table) gaps(f Facts) {
	if n := len(f.Incomplete); n > 0 {
		t.title("Not analysed (%d)", n)
		for i, g := range f.Incomplete {
			if t.more(i, n) {
				break
			}
			t.line(join(": ", g.Path, g.Reason))
		}
	}
	if n := len(f.Undecided); n > 0 {
		t.title("Not compared (%d)", n)
		for i, u := range f.Undecided {
			if t.more(i, n) {
				break
			}
			t.line(join(": ", join(" ", u.Advisory, u.Package, u.Version), u.Reason))
		}
	}
}

// more ends a long list.
func (t *table) more(i, n int) bool {
	if i < maxList {
		return false
	}
	t.printf("… and %d more: see the JSON\n", n-i)
	return true
}

func (t *table) line(s string) { t.printf("%s\n", t.cut(clean(s), t.opts.Width)) }

func (t *table) summary(r Result, hidden int) {
	counts, open := r.Counts(), len(r.Findings)-r.aside()
	t.printf("\n%s", plural(open, "finding"))
	sep := " ("
	for s := len(counts) - 1; s >= 0; s-- {
		if counts[s] > 0 {
			sev := analyzer.Severity(s)
			t.printf("%s%s", sep, t.style(fmt.Sprintf("%d %s", counts[s], sev), severityStyle(sev)))
			sep = ", "
		}
	}
	if open > 0 {
		t.printf(")")
	}
	if r.Facts.SBOM == "" {
		t.printf(", %s", plural(len(r.Secrets), "secret"))
	}
	t.printf(", %s\n", plural(len(r.Packages), "package"))
	if hidden > 0 {
		t.printf("%s below %s or unrated not shown (--severity)\n", plural(hidden, "finding"), t.opts.Least)
	}
	if n := r.aside(); n > 0 {
		hint := " (--show-waived)"
		if t.opts.Waived {
			hint = ""
		}
		t.printf("%s waived or not affected%s\n", plural(n, "finding"), hint)
	}
	t.printf("%s", t.style(strings.ToUpper(orDash(r.Verdict.Decision)), decisionStyle(r.Verdict.Decision)))
	if r.Verdict.ID != "" {
		t.printf("  (verdict %s)", clean(r.Verdict.ID))
	}
	t.printf("\n")
	n, decisive := 0, 0
	for _, reason := range r.Verdict.Reasons {
		if reason.Waived == "" && reason.Action == r.Verdict.Decision {
			decisive++
		}
	}
	for _, reason := range r.Verdict.Reasons {
		if reason.Waived != "" || reason.Action != r.Verdict.Decision {
			continue
		}
		if t.more(n, decisive) {
			break
		}
		n++
		t.printf("  %s: %s\n", clean(reason.Rule), clean(reason.Message))
	}
}

// rows writes lines of columns. The first row is the header; style gives the
// colour of the first column of the others, counted from 0. On a screen a
// column takes a fifth of it at most, and the last one ends at its edge.
func (t *table) rows(rows [][]string, style func(row int) string) {
	last := len(rows[0]) - 1
	widths := make([]int, last)
	for _, row := range rows {
		for i := range row {
			row[i] = clean(row[i])
			if i < last && t.opts.Width > 0 {
				row[i] = t.cut(row[i], max(minColumn, t.opts.Width/5))
			}
		}
		for i := range last {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
	}
	for n, row := range rows {
		used := 0
		for i, w := range widths {
			cell := row[i] + strings.Repeat(" ", w-utf8.RuneCountInString(row[i])+2)
			used += w + 2
			switch {
			case n == 0:
				cell = t.style(cell, dim)
			case i == 0:
				cell = t.style(cell, style(n-1))
			}
			t.printf("%s", cell)
		}
		text := row[last]
		if t.opts.Width > 0 {
			text = t.cut(text, max(t.opts.Width-used, 8))
		}
		if n == 0 {
			text = t.style(text, dim)
		}
		t.printf("%s\n", text)
	}
}

// cut shortens s to width letters; 0 = any.
func (t *table) cut(s string, width int) string {
	if width <= 0 || utf8.RuneCountInString(s) <= width {
		return s
	}
	return string([]rune(s)[:width-1]) + "…"
}

// clean escapes what is not printable: names and paths come from the image.
func clean(s string) string {
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == utf8.RuneError:
			if _, size := utf8.DecodeRuneInString(s[i:]); size == 1 {
				fmt.Fprintf(&b, `\x%02x`, s[i])
				continue
			}
			b.WriteRune(r)
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

func severityStyle(s analyzer.Severity) string {
	switch s {
	case analyzer.SeverityCritical:
		return boldRed
	case analyzer.SeverityHigh:
		return red
	case analyzer.SeverityMedium:
		return yellow
	case analyzer.SeverityLow:
		return cyan
	case analyzer.SeverityNone, analyzer.SeverityUnknown:
	}
	return dim
}

func decisionStyle(d string) string {
	switch d {
	case "allow":
		return green
	case "annotate":
		return yellow
	case "pending":
		return magenta
	}
	return boldRed
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }
