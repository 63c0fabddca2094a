package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluiceproxy/sluice/proxy/api"
)

func newBlocklist() *cobra.Command {
	c := &client{}
	cmd := &cobra.Command{
		Use:   "blocklist",
		Short: "Show and change what a server refuses",
		Example: `  sluice blocklist list
  sluice blocklist add --image 'docker.io/acme/**' --reason "account taken over" --expires 72h
  sluice blocklist remove b-7k2mq4xw3a`,
	}
	c.register(cmd)
	cmd.AddCommand(newBlocklistList(c), newBlocklistAdd(c), newBlocklistRemove(c))
	return cmd
}

func newBlocklistList(c *client) *cobra.Command {
	return listing[api.Blocklist, api.Blocked]{
		path: "/blocklist",
		flags: map[string]string{
			"digest": "only entries on this digest", "image": "only entries on this image glob", "source": "operator or policy (default both)",
		},
		page:  func(p api.Blocklist) ([]api.Blocked, string) { return p.Items, p.NextPageToken },
		write: writeBlocklist,
	}.complete(&cobra.Command{
		Use:   "list",
		Short: "List what is refused now, by operators and by policy",
	}, c)
}

func writeBlocklist(cmd *cobra.Command, items []api.Blocked) error {
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "ID\tSOURCE\tTARGET\tOWNER\tEXPIRES\tREASON")
	for _, b := range items {
		expires := "never"
		if !b.Expires.IsZero() {
			expires = b.Expires.UTC().Format("2006-01-02 15:04 UTC")
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", b.ID+b.Verdict, b.Source, printable(blockTarget(b)), printable(b.Owner), expires, printable(b.Reason))
	}
	return w.Flush()
}

// blockTarget is what an entry refuses. One of the policy has an image and a digest.
func blockTarget(b api.Blocked) string {
	switch {
	case b.Image != "" && b.Digest != "":
		return b.Image + "@" + b.Digest.String()
	case b.Layer != "":
		return "layer " + b.Layer.String()
	}
	return b.Digest.String() + b.Image + b.Package + b.Advisory
}

func newBlocklistAdd(c *client) *cobra.Command {
	var (
		targets              = map[string]*string{}
		reason, owner, until string
	)
	cmd := &cobra.Command{
		Use:   "add",
		Short: "Refuse a digest, image, layer, package or advisory from the next request on",
		Example: `  sluice blocklist add --advisory CVE-2021-44228 --reason log4shell
  sluice blocklist add --digest sha256:… --reason "bad build" --expires 2027-01-31T00:00:00Z
  sluice blocklist add --package pkg:npm/event-stream@3.3.6 --reason malware --owner security`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			body := map[string]string{"reason": reason, "owner": owner}
			n := 0
			for name, v := range targets {
				if *v != "" {
					body[name] = *v
					n++
				}
			}
			if n != 1 || reason == "" {
				return usageError(errors.New("exactly one of --digest, --image, --layer, --package, --advisory is wanted, and a --reason"))
			}
			if until != "" {
				t, err := expiry(until, time.Now())
				if err != nil {
					return err
				}
				body["expires"] = t.Format(time.RFC3339)
			}
			var added api.Blocked
			if err := c.do(cmd.Context(), http.MethodPost, "/blocklist", nil, body, &added); err != nil {
				return rejected(err)
			}
			if c.format == "json" {
				return writeIndented(cmd.OutOrStdout(), added)
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s blocks %s\n", added.ID, blockTarget(added))
			return err
		},
	}
	for name, help := range map[string]string{
		"digest": "digest of a manifest, index or config", "image": "glob over canonical names; * stops at /, ** does not",
		"layer": "diffID of a layer", "package": "purl, with or without a version", "advisory": "advisory id or alias (CVE-…)",
	} {
		targets[name] = cmd.Flags().String(name, "", help)
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why; stands in every refusal")
	cmd.Flags().StringVar(&owner, "owner", operator(), "who answers for it")
	cmd.Flags().StringVar(&until, "expires", "", "end: a time (RFC 3339), a date or a duration such as 72h (default never)")
	return cmd
}

// expiry reads a time, a date (its end, UTC) or a duration from now.
func expiry(s string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(d), nil
	}
	if t, err := time.Parse(time.DateOnly, s); err == nil {
		return t.AddDate(0, 0, 1), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, usageError(fmt.Errorf("--expires: %q is not a time such as 2027-01-31T00:00:00Z, a date or a duration", s))
	}
	return t, nil
}

// rejected makes an answer that blames the request a usage error.
func rejected(err error) error {
	var p *api.Problem
	if errors.As(err, &p) && (p.Status == http.StatusBadRequest || p.Status == http.StatusUnprocessableEntity) {
		return usageError(err)
	}
	return err
}

func newBlocklistRemove(c *client) *cobra.Command {
	return &cobra.Command{
		Use:   "remove ID",
		Short: "Lift a block",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			err := c.do(cmd.Context(), http.MethodDelete, "/blocklist/"+url.PathEscape(args[0]), nil, nil, nil)
			switch {
			case notFound(err):
				return fmt.Errorf("there is no block %s%s", args[0], hintPolicy(args[0]))
			case err != nil:
				return err
			case c.format == "json":
				return writeIndented(cmd.OutOrStdout(), map[string]string{"removed": args[0]})
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is lifted\n", args[0])
			return err
		},
	}
}

// hintPolicy tells someone who tries to lift a verdict where it comes from.
func hintPolicy(id string) string {
	if strings.HasPrefix(id, "v-") {
		return ": it is a verdict of the policy, which a change of the policy or a waiver (sluice waiver add) lifts"
	}
	return ""
}
