package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/sluiceproxy/sluice/analyzer/report"
	"github.com/sluiceproxy/sluice/cmd/sluice/target"
	"github.com/sluiceproxy/sluice/configs"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// scanFlags are the flags of scan.
type scanFlags struct {
	config, format, output, platform, name string
	failOn, upstreams                      []string
}

func newScan() *cobra.Command {
	var f scanFlags
	cmd := &cobra.Command{
		Use:   "scan TARGET",
		Short: "Judge an image as the proxy would, without running one",
		Long: `Scan analyses TARGET and judges it by the same policy, advisories and blocklist
as the server that shares its --data directory. Layers that were analysed
before, here or by the server, are not read again.

TARGET is one of
  an image reference              nginx:1.27, ghcr.io/acme/shop@sha256:…
  oci-layout:DIR[:TAG|@DIGEST]    an OCI image layout
  oci-archive:FILE[:TAG|@DIGEST]  the same in a tar file
  docker-archive:FILE             what 'docker save' writes; may be compressed
  dir:DIR                         a root file system

Exit codes: 0 allow or annotate, 1 deny or --fail-on, 2 usage, 3 could not decide.`,
		Example: `  sluice scan nginx:1.27
  sluice scan oci-layout:build/image --policy policy.yml --format json --output report.json
  sluice scan docker-archive:image.tar --name ghcr.io/acme/shop:1.2 --fail-on high,kev,secret
  sluice scan dir:/srv/root`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args[0]) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.config, "config", "", "configuration file")
	fl.StringVar(&f.format, "format", "table", "table or json")
	fl.StringVar(&f.output, "output", "", "file to write the result to (default standard output)")
	fl.String("policy", "", "policy file (default the shipped policy)")
	fl.StringSliceVar(&f.failOn, "fail-on", nil, "fail beside the policy: critical, high, medium, low, kev, malware, secret, incomplete")
	fl.StringVar(&f.platform, "platform", "", "os/arch[/variant] of a multi-platform image (default linux on this machine's architecture)")
	fl.StringVar(&f.name, "name", "", "name[:tag] to judge the image under (default its own, or local/…)")
	fl.StringArrayVar(&f.upstreams, "upstream", nil, "NAME=URL of a registry; may be given again")
	return cmd
}

func (f *scanFlags) run(cmd *cobra.Command, spec string) error {
	switch f.format {
	case "sarif", "cyclonedx", "spdx-json", "junit", "gitlab":
		return usageError(fmt.Errorf("--format %s is not supported yet", f.format))
	}
	if err := oneOf("--format", f.format, "table", "json"); err != nil {
		return err
	}
	fails, err := parseFailOn(f.failOn)
	if err != nil {
		return err
	}
	ups, err := addUpstreams(f.upstreams)
	if err != nil {
		return err
	}
	cfg, err := loadConfig(cmd, f.config, ups, overrideString(cmd, "policy", func(c *configs.Config, v string) { c.Policy.File = v }))
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
	verdict, rep, err := s.scan(cmd.Context(), spec, f.platform, f.name)
	s.progress.clear()
	if err := errors.Join(err, s.close()); err != nil {
		if errors.Is(err, target.ErrInvalid) || errors.Is(err, target.ErrUnsupported) {
			return usageError(err)
		}
		return err
	}
	result := report.New(spec, reportVerdict(verdict), rep)
	if err := f.write(cmd.OutOrStdout(), result); err != nil {
		return err
	}
	if verdict.Decision == policy.Pending {
		return &exitError{exitUndecided, errors.New(s.wayOut(verdict))}
	}
	if why := fails.failed(result); why != "" && verdict.Decision.Serves() {
		return &exitError{exitDenied, errors.New("--fail-on: " + why)}
	}
	return decided(verdict.Decision)
}

// write puts the result where the user wants it.
func (f *scanFlags) write(w io.Writer, r report.Result) error {
	if f.output == "" {
		return f.render(w, r)
	}
	file, err := os.Create(f.output)
	if err != nil {
		return fmt.Errorf("--output: %w", err)
	}
	return errors.Join(f.render(file, r), file.Close())
}

func (f *scanFlags) render(w io.Writer, r report.Result) error {
	if f.format == "json" {
		return report.WriteJSON(w, r)
	}
	width, _ := screen(w)
	return report.WriteTable(w, r, report.TableOptions{Color: colorful(w), Width: width})
}

// reportVerdict is v in the report's own words.
func reportVerdict(v policy.Verdict) report.Verdict {
	out := report.Verdict{Decision: v.Decision.String(), ID: v.ID, Policy: v.Policy}
	for _, r := range v.Reasons {
		out.Reasons = append(out.Reasons, report.Reason{
			Rule: r.Rule, Action: r.Action.String(), Message: r.Message, Advisory: r.Advisory, Waived: r.Waived,
		})
	}
	return out
}
