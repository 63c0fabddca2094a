package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/sluiceproxy/sluice/proxy/local"
)

func newGC() *cobra.Command {
	c := &client{patience: longPatience}
	var dry bool
	cmd := &cobra.Command{
		Use:   "gc",
		Short: "Remove what the retention rules let go and what no manifest names",
		Long: `Ask a server to remove garbage of its gated registry now: images that the
retention rules (registry.retention) let go, signatures and SBOMs of images that
were deleted more than registry.gc.grace ago, then blobs that no manifest names
and of which no client was told within that grace that they exist.
Pushes and pulls go on meanwhile. The server does the same by itself every
registry.gc.every.`,
		Example: `  sluice gc --dry-run
  sluice gc --format json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var g local.Garbage
			if err := c.do(cmd.Context(), http.MethodPost, "/gc", url.Values{"dry_run": {strconv.FormatBool(dry)}}, nil, &g); err != nil {
				return err
			}
			if c.format == "json" {
				return writeIndented(cmd.OutOrStdout(), g)
			}
			return writeGarbage(cmd.OutOrStdout(), g, dry)
		},
	}
	c.register(cmd)
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only tell what would be removed")
	return cmd
}

func writeGarbage(out io.Writer, g local.Garbage, dry bool) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, e := range g.Images {
		pulled := "never pulled"
		if !e.LastPull.IsZero() {
			pulled = "last pulled " + e.LastPull.UTC().Format("2006-01-02 15:04 UTC")
		}
		if e.Orphan != "" {
			pulled = "refers to " + e.Orphan.String() + ", which was deleted"
		}
		_, _ = fmt.Fprintf(w, "image\t%s@%s\t%s\tpushed %s, %s\n", e.Name, e.Digest, orDash(strings.Join(e.Tags, ",")), e.Pushed.UTC().Format("2006-01-02 15:04 UTC"), pulled)
	}
	for _, l := range g.Links {
		_, _ = fmt.Fprintf(w, "blob\t%s@%s\t-\t%d bytes\n", l.Name, l.Digest, l.Size)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	did := "removed"
	if dry {
		did = "would remove"
	}
	_, err := fmt.Fprintf(out, "%s %d images, %d blobs of repositories, and %d bytes of content that no repository has\n", did, len(g.Images), len(g.Links), g.Bytes)
	return err
}
