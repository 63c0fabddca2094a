package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluiceproxy/sluice/analyzer/advisory"
)

func newDBImport() *cobra.Command {
	return &cobra.Command{
		Use:   "import FILE...",
		Short: "Add private advisories",
		Long: `Import takes OSV records of your own, a .json file, a .zip of such or a directory,
into the data directory, where every later update finds them. It is strict: each
record must name a package of a known ecosystem and versions that can be
compared, and one that is wrong keeps all of them out. A record of the same id
is replaced. To drop one, delete its file below <data>/advisories/private and
run 'sluice db update'.

FILE may end in #sha256=<hex>: then its bytes must have that digest.`,
		Example: `  sluice db import acme-2026-1.json
  sluice db import ./advisories 'feed.zip#sha256=9f86d0…'`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := loadConfig(cmd, "")
			if err != nil {
				return err
			}
			dir := advisoryDir(cfg.Data)
			var ids []string
			for _, f := range args {
				got, err := advisory.ImportPrivate(cmd.Context(), dir, f, advisory.Limits{})
				if err != nil {
					return err
				}
				ids = append(ids, got...)
			}
			out := cmd.OutOrStdout()
			if _, err := fmt.Fprintf(out, "imported %d: %s\n", len(ids), strings.Join(ids, " ")); err != nil {
				return err
			}
			stats, err := advisory.Recompile(cmd.Context(), dir, advisory.CompileOptions{})
			if err != nil {
				return fmt.Errorf("the records count from the next 'sluice db update' on: %w", err)
			}
			_, err = fmt.Fprintf(out, "they count now (revision %s)\n", stats.Revision)
			return err
		},
	}
}

func newDBExport() *cobra.Command {
	var to, file string
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write the advisories as an artifact for machines without the internet",
		Long: `Export writes all that the index was made of (the archives, KEV, EPSS, NVD and
private records) as an OCI artifact to a registry, or as a tar file.
'sluice db update --from' takes either; every file is verified by its digest.`,
		Example: `  sluice db export --to oci://registry.example.com/mirror/advisories:2026-11-23
  sluice db export --to advisories.tar`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if to == "" {
				return usageError(errors.New("--to is missing: oci://registry/repository:tag, or a file"))
			}
			cfg, err := loadConfig(cmd, file)
			if err != nil {
				return err
			}
			e, err := advisory.NewExport(cmd.Context(), advisoryDir(cfg.Data))
			if err != nil {
				return err
			}
			p := newProgress(cmd.ErrOrStderr())
			defer p.clear()
			if reference, ok := strings.CutPrefix(to, ociScheme); ok {
				err = pushArtifact(cmd.Context(), cfg, reference, e, func(i, of int) { p.update("pushing", int64(i), int64(of)) })
			} else {
				err = writeExport(to, e)
			}
			if err != nil {
				return err
			}
			p.clear()
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s@%s\n", to, e.Manifest.Digest)
			return err
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "where to: oci://registry/repository:tag, or a tar file")
	cmd.Flags().StringVar(&file, "config", "", "configuration file, for credentials of registries")
	return cmd
}

// writeExport writes the tar file at once: another one of the name stays until
// it is whole.
func writeExport(path string, e *advisory.Export) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".sluice-export-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	err = e.WriteTar(f)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	return os.Rename(f.Name(), path)
}
