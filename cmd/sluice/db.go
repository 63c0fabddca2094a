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
  sluice db status
  sluice db lookup pkg:npm/lodash@4.17.20`,
	}
	cmd.AddCommand(newDBUpdate(), newDBStatus(), newDBLookup(), &cobra.Command{
		Use:   "import FILE",
		Short: "Add private advisories (not supported yet)",
		Args:  cobra.ExactArgs(1),
		RunE:  func(*cobra.Command, []string) error { return usageError(errors.New("db import is not supported yet")) },
	})
	return cmd
}

func newDBUpdate() *cobra.Command {
	var (
		file, from, kev string
		ecosystems      []string
	)
	cmd := &cobra.Command{
		Use:   "update",
		Short: "Compile a new index from the public OSV export or a mirror of it",
		Long: `Update reads <base>/<Ecosystem>/all.zip from a URL or a directory and replaces
the index in one step. After an error the old one stays in force. A server that
shares the --data directory takes the new one within seconds.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(cmd, file,
				overrideString(cmd, "from", func(c *configs.Config, v string) { c.Advisories.From = v }),
				overrideString(cmd, "kev", func(c *configs.Config, v string) { c.Advisories.KEV = v }),
				func(c *configs.Config) {
					if len(ecosystems) > 0 {
						c.Advisories.Ecosystems = ecosystems
					}
				})
			if err != nil {
				return err
			}
			a := cfg.Advisories
			if !cmd.Flags().Changed("kev") && from != "" && !strings.Contains(from, "://") && a.KEV == configs.Default().Advisories.KEV {
				a.KEV = "" // a local mirror is for machines without the internet
				_, _ = fmt.Fprintln(cmd.ErrOrStderr(), "warning: no advisory is marked as known exploited: give CISA's catalogue with --kev")
			}
			return updateDB(cmd, cfg.Data, a)
		},
	}
	f := cmd.Flags()
	f.StringVar(&file, "config", "", "configuration file")
	f.StringVar(&from, "from", "", "URL or directory of the OSV export (default "+advisory.PublicExport+")")
	f.StringVar(&kev, "kev", "", "URL or file of CISA's known-exploited catalogue (default CISA's; none with a directory)")
	f.StringArrayVar(&ecosystems, "ecosystem", nil, "take only this ecosystem; may be given again (default all)")
	return cmd
}

func updateDB(cmd *cobra.Command, data string, a configs.Advisories) error {
	p := newProgress(cmd.ErrOrStderr())
	start := time.Now()
	stats, err := advisory.Compile(cmd.Context(), advisory.Source{Base: a.From}, advisory.CompileOptions{
		Dir: advisoryDir(data), Ecosystems: a.Ecosystems, KEV: a.KEV,
		Progress: func(u advisory.Progress) {
			p.update(fmt.Sprintf("%s %s %d/%d, %d records", u.Phase, u.Ecosystem, u.Archive, u.Archives, u.Records), u.Bytes, u.Total)
		},
	})
	p.clear()
	if err != nil {
		return fmt.Errorf("%w (the index in force stays as it was)", err)
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d advisories on %d packages of %d ecosystems, %d of them known exploited, in %s (revision %s)\n",
		stats.Advisories, stats.Packages, len(stats.Ecosystems), stats.KEVMatched, time.Since(start).Round(time.Millisecond), stats.Revision)
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
			if format == "json" {
				return writeIndented(cmd.OutOrStdout(), x.Stats())
			}
			return writeStats(cmd.OutOrStdout(), x.Stats(), time.Duration(cfg.Advisories.MaxAge))
		},
	}
	cmd.Flags().StringVar(&format, "format", "text", "text or json")
	cmd.Flags().BoolVar(&verify, "verify", false, "read the whole index and compare its checksums")
	return cmd
}

func verifyIndex(ctx context.Context, data string) error {
	return advisory.Verify(ctx, advisory.NewStore(advisoryDir(data), zap.NewNop()).Path())
}

func writeStats(w io.Writer, s advisory.Stats, maxAge time.Duration) error {
	age := time.Since(s.Updated)
	stale := ""
	if maxAge > 0 && age > maxAge {
		stale = fmt.Sprintf(", older than advisories.maxAge (%s)", configs.Duration(maxAge))
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) { _, _ = fmt.Fprintf(tw, name+"\t"+format+"\n", args...) }
	row("revision", "%s", s.Revision)
	row("source", "%s", s.Source)
	row("built", "%s", s.Built.UTC().Format("2006-01-02 15:04:05 UTC"))
	row("newest advisory", "%s (%d days ago%s)", s.Updated.UTC().Format("2006-01-02 15:04:05 UTC"), int(age.Hours()/24), stale)
	row("size", "%s", megabytes(s.Size))
	row("advisories", "%d on %d packages; %d withdrawn ones and %d errata left out", s.Advisories, s.Packages, s.Withdrawn, s.Errata)
	row("malware", "%d", s.Malware)
	row("known exploited", "%d in the catalogue, %d advisories", s.KEV, s.KEVMatched)
	_, _ = fmt.Fprintln(tw)
	_, _ = fmt.Fprintln(tw, "ECOSYSTEM\tADVISORIES\tNEWEST")
	for _, e := range s.Ecosystems {
		name := e.Name
		if !e.Covered {
			name += " (in part)"
		}
		newest := "-"
		if !e.Updated.IsZero() {
			newest = e.Updated.UTC().Format(time.DateOnly)
		}
		_, _ = fmt.Fprintf(tw, "%s\t%d\t%s\n", name, e.Advisories, newest)
	}
	return tw.Flush()
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
	_, _ = fmt.Fprintln(tw, "SEVERITY\tADVISORY\tALIASES\tFIXED\tSOURCE")
	for _, f := range findings {
		severity := f.Severity.String()
		if f.KEV {
			severity += " (known exploited)"
		}
		_, _ = fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\n", severity, printable(f.Advisory), orDash(printable(strings.Join(f.Aliases, " "))), orDash(printable(f.Fixed)), printable(f.Source))
	}
	return tw.Flush()
}
