package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluiceproxy/sluice/analyzer"
	"github.com/sluiceproxy/sluice/analyzer/report"
	"github.com/sluiceproxy/sluice/cmd/sluice/target"
	"github.com/sluiceproxy/sluice/configs"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// scanFlags are the flags of scan.
type scanFlags struct {
	config, format, output, platform, name string
	explain, severity                      string
	ignores                                string
	failOn, upstreams, vex                 []string
	waived, removed, schema                bool
}

func newScan() *cobra.Command {
	var f scanFlags
	cmd := &cobra.Command{
		Use:   "scan TARGET",
		Short: "Judge an image as the proxy would, without running one",
		Long: `Scan analyses TARGET and judges it by the same policy, advisories, blocklist and
waivers as the server that shares its --data directory. Layers that were analysed
before, here or by the server, are not read again.

TARGET is one of
  an image reference              nginx:1.27, ghcr.io/acme/shop@sha256:…
  oci-layout:DIR[:TAG|@DIGEST]    an OCI image layout
  oci-archive:FILE[:TAG|@DIGEST]  the same in a tar file
  docker-archive:FILE             what 'docker save' writes; may be compressed
  dir:DIR                         a root file system
  sbom:FILE                       CycloneDX 1.4 to 1.7 (JSON or XML), SPDX 2.2, 2.3 (JSON):
                                  its packages only, files are not looked at

Formats:
FORMATS
SOURCE_DATE_EPOCH sets the time that the formats with one write.

Exit codes: 0 allow or annotate, 1 deny or --fail-on, 2 usage, 3 could not decide.
--explain ends with 0 whatever it tells.`,
		Example: `  sluice scan nginx:1.27
  sluice scan oci-layout:build/image --policy policy.yml --format json --output report.json
  sluice scan docker-archive:image.tar --name ghcr.io/acme/shop:1.2 --fail-on high,kev,secret
  sluice scan oci-archive:image.tar --format sarif --output sluice.sarif
  sluice scan nginx:1.27 --explain CVE-2023-44487
  sluice scan dir:/srv/root --show-waived --severity high
  sluice scan sbom:bom.cdx.json`,
		Args: func(cmd *cobra.Command, args []string) error {
			if f.schema {
				return cobra.NoArgs(cmd, args)
			}
			return cobra.ExactArgs(1)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.schema {
				_, err := cmd.OutOrStdout().Write(report.Schema())
				return err
			}
			return f.run(cmd, args[0])
		},
	}
	cmd.ValidArgsFunction = completeTarget
	cmd.Long = strings.Replace(cmd.Long, "FORMATS", listFormats(), 1)
	fl := cmd.Flags()
	fl.StringVar(&f.config, "config", "", "configuration file")
	fl.StringVar(&f.format, "format", "table", strings.Join(formatNames(), ", "))
	fl.StringVar(&f.output, "output", "", "file to write the result to (default standard output)")
	fl.String("policy", "", "policy file (default the shipped policy)")
	fl.StringSliceVar(&f.failOn, "fail-on", nil, "fail beside the policy: "+strings.Join(failWords(), ", "))
	fl.StringVar(&f.platform, "platform", "", "os/arch[/variant] of a multi-platform image (default linux on this machine's architecture)")
	fl.StringVar(&f.name, "name", "", "name[:tag] to judge the image under (default its own, or local/…)")
	fl.StringArrayVar(&f.upstreams, "upstream", nil, "NAME=URL of a registry; may be given again")
	fl.StringArrayVar(&f.vex, "vex", nil, "file or directory of OpenVEX or CSAF VEX documents to obey; may be given again")
	fl.StringVar(&f.ignores, "ignorefile", "", `exceptions in Trivy's format (default .trivyignore.yaml or .trivyignore here; "" = none)`)
	fl.StringVar(&f.explain, "explain", "", "ID of an advisory or CVE: say why it applies to the image, or why not, instead of the report")
	fl.StringVar(&f.severity, "severity", "", "least severity that the table shows; the verdict does not change")
	fl.BoolVar(&f.waived, "show-waived", false, "show in the table what a waiver or a VEX statement sets aside")
	fl.BoolVar(&f.removed, "all-layers", false, "show packages of lower layers that later ones removed or replaced")
	fl.BoolVar(&f.schema, "schema", false, "print the JSON Schema of --format json")
	complete := func(flag string, values ...string) {
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)) // the flag exists
	}
	complete("format", report.Formats()...)
	complete("fail-on", failWords()...)
	complete("severity", severities()...)
	return cmd
}

// completeTarget offers the kinds of targets, and files after one of them.
func completeTarget(_ *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 || strings.Contains(typed, ":") {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return []string{"oci-layout:", "oci-archive:", "docker-archive:", "dir:", "sbom:"}, cobra.ShellCompDirectiveNoSpace | cobra.ShellCompDirectiveNoFileComp
}

func formatNames() []string {
	names := report.Formats()
	for i := range names {
		names[i], _, _ = strings.Cut(names[i], "\t")
	}
	return names
}

func listFormats() string {
	var b strings.Builder
	for _, f := range report.Formats() {
		name, about, _ := strings.Cut(f, "\t")
		fmt.Fprintf(&b, "  %-10s %s\n", name, about)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func severities() []string { return []string{"critical", "high", "medium", "low", "none", "unknown"} }

// maxEpoch is the end of the year 9999, the last that RFC 3339 can write.
const maxEpoch = 253402300799

// check reports flags that do not go together, and returns what they say.
func (f *scanFlags) check(cmd *cobra.Command) (fails failOn, opts report.Options, err error) {
	if err := oneOf("--format", f.format, formatNames()...); err != nil {
		return fails, opts, err
	}
	if fails, err = parseFailOn(f.failOn); err != nil {
		return fails, opts, err
	}
	opts = report.Options{Time: time.Now(), Table: report.TableOptions{Waived: f.waived, Removed: f.removed}}
	opts.Version, _ = buildVersion()
	if f.severity != "" {
		if err := oneOf("--severity", f.severity, severities()...); err != nil {
			return fails, opts, err
		}
		opts.Table.Least, _ = analyzer.ParseSeverity(f.severity)
	}
	for _, flag := range []string{"severity", "show-waived", "explain"} {
		if f.format != "table" && cmd.Flags().Changed(flag) {
			return fails, opts, usageError(fmt.Errorf("--%s is for --format table; the other formats hold everything", flag))
		}
	}
	if f.explain != "" && len(f.failOn) > 0 {
		return fails, opts, usageError(errors.New("--explain gives no verdict that --fail-on could add to"))
	}
	if f.removed && f.format != "table" && f.format != "json" {
		return fails, opts, usageError(fmt.Errorf("--all-layers is for --format table and json; %s has no place for packages that are not installed", f.format))
	}
	if epoch := os.Getenv("SOURCE_DATE_EPOCH"); epoch != "" {
		n, err := strconv.ParseInt(epoch, 10, 64)
		if err != nil || n < 0 || n > maxEpoch {
			return fails, opts, usageError(fmt.Errorf("SOURCE_DATE_EPOCH %q is not a number of seconds since 1970", epoch))
		}
		opts.Time = time.Unix(n, 0)
	}
	return fails, opts, nil
}

func (f *scanFlags) run(cmd *cobra.Command, spec string) error {
	fails, opts, err := f.check(cmd)
	if err != nil {
		return err
	}
	ups, err := addUpstreams(f.upstreams)
	if err != nil {
		return err
	}
	cfg, err := loadConfig(cmd, f.config, ups, overrideString(cmd, "policy", func(c *configs.Config, v string) { c.Policy.File = v }),
		func(c *configs.Config) { c.VEX.Files = append(c.VEX.Files, f.vex...) })
	if err != nil {
		return err
	}
	if cfg.Log.Level == "info" {
		cfg.Log.Level = "warn" // a server tells what it does; here the result does
	}
	log, err := newLogger(cfg.Log, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	s, err := newScanning(cmd.Context(), cfg, log, newProgress(cmd.ErrOrStderr()))
	if err != nil {
		return err
	}
	if s.ignored, err = loadIgnores(f.ignores, cmd.Flags().Changed("ignorefile")); err != nil {
		return errors.Join(err, s.close())
	}
	verdict, rep, err := s.scan(cmd.Context(), spec, f.platform, f.name)
	s.progress.clear()
	if err == nil && f.explain != "" {
		return errors.Join(f.tell(cmd, s, spec, verdict, rep), s.close())
	}
	if err := errors.Join(err, s.close()); err != nil {
		if errors.Is(err, target.ErrInvalid) {
			return usageError(err)
		}
		return err
	}
	result := report.New(spec, reportVerdict(verdict), rep)
	if f.removed {
		result.Removed = rep.Removed
	}
	why, blind := fails.failed(&result), fails.blind(s.index, &result)
	if err := f.write(cmd.OutOrStdout(), func(w io.Writer) error { return f.render(w, result, opts) }); err != nil {
		return err
	}
	switch {
	case verdict.Decision == policy.Pending:
		return &exitError{exitUndecided, errors.New(s.wayOut(verdict))}
	case !verdict.Decision.Serves():
		return decided(verdict.Decision)
	case why != "":
		return &exitError{exitDenied, errors.New("--fail-on: " + why)}
	case blind != nil:
		return &exitError{exitUndecided, blind}
	}
	return nil
}

// tell writes the explanation of an advisory.
func (f *scanFlags) tell(cmd *cobra.Command, s *scanning, spec string, v policy.Verdict, rep *analyzer.Report) error {
	e, err := s.explain(cmd.Context(), f.explain, report.New(spec, reportVerdict(v), rep), rep)
	if err != nil {
		return err
	}
	return f.write(cmd.OutOrStdout(), e.write)
}

// write has render write where the user wants it.
func (f *scanFlags) write(stdout io.Writer, render func(io.Writer) error) error {
	if f.output == "" {
		return render(stdout)
	}
	file, err := os.Create(f.output)
	if err != nil {
		return fmt.Errorf("--output: %w", err)
	}
	return errors.Join(render(file), file.Close())
}

func (f *scanFlags) render(w io.Writer, r report.Result, opts report.Options) error {
	width, _ := screen(w)
	opts.Table.Color, opts.Table.Width = colorful(w), width
	return report.Write(w, f.format, r, opts)
}

// reportVerdict is v in the report's own words.
func reportVerdict(v policy.Verdict) report.Verdict {
	out := report.Verdict{Decision: v.Decision.String(), ID: v.ID, Image: v.Image, Tags: slices.Clone(v.Tags), Policy: v.Policy}
	for _, r := range v.Reasons {
		reason := report.Reason{
			Rule: r.Rule, Action: r.Action.String(), Message: r.Message, Advisory: r.Advisory,
			Package: r.Package, Version: r.Version, PURL: r.PURL, Path: r.Path, Layer: r.Layer,
			Waived: r.Waived, VEX: r.VEX,
		}
		if w := r.Waiver; w != nil {
			reason.Waiver = &report.Waiver{ID: w.ID, Owner: w.Owner, Reason: w.Reason, Expires: w.Expires}
		}
		out.Reasons = append(out.Reasons, reason)
	}
	return out
}
