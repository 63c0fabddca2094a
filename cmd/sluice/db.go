package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/sluiceproxy/sluice/analyzer"
	"github.com/sluiceproxy/sluice/analyzer/advisory"
	"github.com/sluiceproxy/sluice/configs"
)

func newDB() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "db",
		Short: "Update and look into the advisories",
		Example: `  sluice db update                                   # from the public OSV export
  sluice db update --from /mnt/osv --kev /mnt/kev.json   # from a mirror, offline
  sluice db import acme-2026-1.json                 # advisories of your own
  sluice db export --to advisories.tar              # to carry over
  sluice db status
  sluice db lookup pkg:npm/lodash@4.17.20`,
	}
	cmd.AddCommand(newDBUpdate(), newDBStatus(), newDBLookup(), newDBImport(), newDBExport())
	return cmd
}

func newDBUpdate() *cobra.Command {
	var (
		file, from               string
		ecosystems, nvd, private []string
	)
	cmd := &cobra.Command{
		Use:   "update",
		Short: "Compile a new index from the public OSV export, a mirror or an artifact",
		Long: `Update reads <base>/<Ecosystem>/all.zip from a URL or a directory, or what
'sluice db export' made, and replaces the index in one step. After an error the
old one stays in force. A server that shares the --data directory takes the new
one within seconds.

What did not change since the last update is not downloaded again; a download
that broke off goes on where it was.`,
		Example: `  sluice db update
  sluice db update --from /mnt/osv --kev /mnt/kev.json --epss /mnt/epss_scores-current.csv.gz
  sluice db update --from oci://registry.example.com/mirror/advisories:latest
  sluice db update --private 'https://example.com/feed.zip#sha256=9f86d0…'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(cmd, file,
				overrideString(cmd, "from", func(c *configs.Config, v string) { c.Advisories.From = v }),
				overrideString(cmd, "kev", func(c *configs.Config, v string) { c.Advisories.KEV = v }),
				overrideString(cmd, "epss", func(c *configs.Config, v string) { c.Advisories.EPSS = v }),
				func(c *configs.Config) {
					for list, given := range map[*[]string][]string{&c.Advisories.Ecosystems: ecosystems, &c.Advisories.NVD: nvd, &c.Advisories.Private: private} {
						if len(given) > 0 {
							*list = given
						}
					}
				})
			if err != nil {
				return err
			}
			return updateDB(cmd, cfg)
		},
	}
	f := cmd.Flags()
	f.StringVar(&file, "config", "", "configuration file")
	f.StringVar(&from, "from", "", "URL or directory of the OSV export, oci://registry/repository:tag, or a tar file of 'db export' (default "+advisory.PublicExport+")")
	f.String("kev", "", "URL or file of CISA's known-exploited catalogue (default CISA's; none with a directory or an artifact)")
	f.String("epss", "", "URL or file of FIRST's scores, epss_scores-current.csv.gz (default none)")
	f.StringArrayVar(&nvd, "nvd", nil, "URL, file or directory of NVD's JSON 2.0, for severities that nobody else gives; may be given again")
	f.StringArrayVar(&private, "private", nil, "URL, file or directory of OSV records of your own, with #sha256=… to pin it; may be given again")
	f.StringArrayVar(&ecosystems, "ecosystem", nil, "take only this ecosystem; may be given again (default all)")
	return cmd
}

func updateDB(cmd *cobra.Command, cfg *configs.Config) error {
	src, opts := advisorySource(cfg)
	from := cfg.Advisories.From
	if !cmd.Flags().Changed("kev") && !strings.Contains(from, "://") && src.KEV == configs.Default().Advisories.KEV {
		src.KEV = "" // a local mirror is for machines without the internet
		_, _ = fmt.Fprintln(cmd.ErrOrStderr(), "warning: no advisory is marked as known exploited: give CISA's catalogue with --kev")
	}
	p := newProgress(cmd.ErrOrStderr())
	start := time.Now()
	opts.Dir = advisoryDir(cfg.Data)
	opts.Progress = func(u advisory.Progress) { p.update(progressText(u), u.Bytes, u.Total) }
	stats, err := advisory.Compile(cmd.Context(), src, opts)
	p.clear()
	if err != nil {
		return fmt.Errorf("%w (the index in force stays as it was)", err)
	}
	for _, w := range stats.Warnings {
		_, _ = fmt.Fprintln(cmd.ErrOrStderr(), "warning:", printable(w))
	}
	what := ""
	if stats.Unchanged {
		what = "nothing changed: "
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s%d advisories on %d packages of %d ecosystems, %d of them known exploited, in %s (revision %s)\n",
		what, stats.Advisories, stats.Packages, len(stats.Ecosystems), stats.KEVMatched, time.Since(start).Round(time.Millisecond), stats.Revision)
	return err
}

// openIndex opens the index below data; without one the error tells the way out.
func openIndex(data string) (*advisory.Index, error) {
	store := advisory.NewStore(advisoryDir(data), zap.NewNop())
	if err := store.Reload(); err != nil {
		return nil, err
	}
	if x := store.Current(); x != nil {
		return x, nil
	}
	return nil, fmt.Errorf("there are no advisories in %s: fetch them with 'sluice db update', or 'sluice db update --from DIR' offline", advisoryDir(data))
}

func newDBStatus() *cobra.Command {
	var (
		format string
		verify bool
	)
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what the index holds and how old it is",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := oneOf("--format", format, "text", "json"); err != nil {
				return err
			}
			cfg, err := loadConfig(cmd, "")
			if err != nil {
				return err
			}
			x, err := openIndex(cfg.Data)
			if err != nil {
				return err
			}
			defer func() { _ = x.Close() }()
			if verify {
				if err := verifyIndex(cmd.Context(), cfg.Data); err != nil {
					return err
				}
			}
			st := dbStatus{Stats: x.Stats(), Checked: x.Checked()}
			if format == "json" {
				return writeIndented(cmd.OutOrStdout(), st)
			}
			return writeStatus(cmd.OutOrStdout(), st, time.Duration(cfg.Advisories.MaxAge), time.Now())
		},
	}
	cmd.Flags().StringVar(&format, "format", "text", "text or json")
	cmd.Flags().BoolVar(&verify, "verify", false, "read the whole index and compare its checksums")
	return cmd
}

func verifyIndex(ctx context.Context, data string) error {
	return advisory.Verify(ctx, advisory.NewStore(advisoryDir(data), zap.NewNop()).Path())
}

// dbStatus is the output of db status.
type dbStatus struct {
	advisory.Stats
	Checked time.Time `json:"checked"` // when the sources were last compared with the index
}

func writeStatus(w io.Writer, s dbStatus, maxAge time.Duration, now time.Time) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) { _, _ = fmt.Fprintf(tw, name+"\t"+format+"\n", args...) }
	row("revision", "%s", s.Revision)
	row("source", "%s", printable(s.Source))
	row("built", "%s", instant(s.Built))
	row("checked", "%s (%s)", instant(s.Checked), ago(s.Checked, now))
	row("newest advisory", "%s (%s%s)", instant(s.Updated), ago(s.Updated, now), staleness(s.Updated, maxAge, now))
	row("size", "%s", megabytes(s.Size))
	row("advisories", "%d on %d packages; %d withdrawn ones and %d errata left out", s.Advisories, s.Packages, s.Withdrawn, s.Errata)
	row("malware", "%d", s.Malware)
	row("known exploited", "%d in the catalogue%s, %d advisories", s.KEV, dated(s.Sources, advisory.KindKEV, now), s.KEVMatched)
	if s.EPSS > 0 {
		row("epss", "%d scores%s of model %s, %d advisories", s.EPSS, dated(s.Sources, advisory.KindEPSS, now), printable(s.EPSSModel), s.EPSSMatched)
	} else {
		row("epss", "none; see advisories.epss")
	}
	if s.NVD > 0 {
		row("nvd", "%d entries%s, %d advisories rated by it alone", s.NVD, dated(s.Sources, advisory.KindNVD, now), s.NVDRated)
	}
	for _, src := range s.Sources {
		if src.Kind == advisory.KindPrivate {
			row("private", "%s: %d records, sha256 %.12s…", printable(src.From), src.Entries, src.SHA256)
		}
	}
	_, _ = fmt.Fprintln(tw)
	_, _ = fmt.Fprintln(tw, "ECOSYSTEM\tADVISORIES\tNEWEST\tAS OF")
	for _, e := range s.Ecosystems {
		name := printable(e.Name)
		if !e.Covered {
			name += " (in part)"
		}
		asOf := "-"
		if !e.AsOf.IsZero() {
			asOf = e.AsOf.UTC().Format(time.DateOnly) + staleness(e.AsOf, maxAge, now)
		}
		newest := "-"
		if !e.Updated.IsZero() {
			newest = e.Updated.UTC().Format(time.DateOnly)
		}
		_, _ = fmt.Fprintf(tw, "%s\t%d\t%s\t%s\n", name, e.Advisories, newest, asOf)
	}
	return tw.Flush()
}

func instant(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// ago is an age in words.
func ago(t, now time.Time) string {
	switch age := now.Sub(t); {
	case age < 2*time.Hour:
		return fmt.Sprintf("%d minutes ago", int(max(age, 0).Minutes()))
	case age < 48*time.Hour:
		return fmt.Sprintf("%d hours ago", int(age.Hours()))
	default:
		return fmt.Sprintf("%d days ago", int(age.Hours()/24))
	}
}

func staleness(t time.Time, maxAge time.Duration, now time.Time) string {
	if maxAge <= 0 || now.Sub(t) <= maxAge {
		return ""
	}
	return fmt.Sprintf(", older than advisories.maxAge (%s)", configs.Duration(maxAge))
}

// dated is the newest date of the sources of a kind.
func dated(sources []advisory.SourceStats, kind string, now time.Time) string {
	var newest time.Time
	for _, s := range sources {
		if s.Kind == kind && s.Date.After(newest) {
			newest = s.Date
		}
	}
	if newest.IsZero() {
		return ""
	}
	return fmt.Sprintf(" of %s (%s)", newest.UTC().Format(time.DateOnly), ago(newest, now))
}

func newDBLookup() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "lookup PURL",
		Short: "List the advisories for a package",
		Long: `Lookup lists the advisories that apply to a package's version, or without a
version all that name it. The exit code is 3 if some of them cannot be compared
with the version.`,
		Example: `  sluice db lookup pkg:npm/lodash@4.17.20
  sluice db lookup 'pkg:deb/debian/openssl@3.0.11-1?distro=debian-12'`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := oneOf("--format", format, "text", "json"); err != nil {
				return err
			}
			cfg, err := loadConfig(cmd, "")
			if err != nil {
				return err
			}
			x, err := openIndex(cfg.Data)
			if err != nil {
				return err
			}
			defer func() { _ = x.Close() }()
			findings, err := x.Lookup(args[0])
			if err != nil && !errors.Is(err, advisory.ErrUndecided) {
				return err
			}
			if format == "json" {
				if findings == nil {
					findings = []analyzer.Finding{}
				}
				return errors.Join(writeIndented(cmd.OutOrStdout(), findings), err)
			}
			return errors.Join(writeFindings(cmd.OutOrStdout(), args[0], findings), err)
		},
	}
	cmd.Flags().StringVar(&format, "format", "text", "text or json")
	return cmd
}

func writeFindings(w io.Writer, purl string, findings []analyzer.Finding) error {
	if len(findings) == 0 {
		_, err := fmt.Fprintf(w, "no advisory applies to %s\n", purl)
		return err
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(tw, "SEVERITY\tADVISORY\tALIASES\tFIXED\tRATED BY\tSOURCE")
	for _, f := range findings {
		severity := f.Severity.String()
		if f.KEV {
			severity += " (known exploited)"
		}
		if f.EPSS != nil {
			severity += fmt.Sprintf(" (epss %.3f)", *f.EPSS)
		}
		_, _ = fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\n", severity, printable(f.Advisory), orDash(printable(strings.Join(f.Aliases, " "))),
			orDash(printable(f.Fixed)), orDash(printable(f.RatedBy)), printable(f.Source))
	}
	return tw.Flush()
}
