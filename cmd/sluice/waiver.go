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

func newWaiver() *cobra.Command {
	c := &client{}
	cmd := &cobra.Command{
		Use:   "waiver",
		Short: "Show, grant and withdraw exceptions from a server's policy",
		Long: `A waiver sets aside what the policy found, in some images or all, for a reason
and until an expiry. What it sets aside stays in every report, marked.

A blocklist entry, and an image that cannot be analysed, cannot be waived.`,
		Example: `  sluice waiver list
  sluice waiver add --advisory CVE-2023-45853 --package pkg:deb/debian/zlib1g --image 'docker.io/library/nginx' \
    --reason "no MiniZip in use" --owner web-team --expires 2027-01-31
  sluice waiver remove w-7k2mq4xw3a`,
	}
	c.register(cmd)
	cmd.AddCommand(newWaiverList(c), newWaiverAdd(c), newWaiverRemove(c))
	return cmd
}

func newWaiverList(c *client) *cobra.Command {
	return listing[api.Waivers, api.Waiver]{
		path: "/waivers",
		flags: map[string]string{
			"advisory": "only those that name this id", "state": "active or expired (default both)", "source": "operator or policy (default both)",
		},
		page:  func(p api.Waivers) ([]api.Waiver, string) { return p.Items, p.NextPageToken },
		write: writeWaivers,
	}.complete(&cobra.Command{
		Use:   "list",
		Short: "List the waivers: those granted here and those of the policy file, expired ones too",
	}, c)
}

func writeWaivers(cmd *cobra.Command, items []api.Waiver) error {
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "ID\tSOURCE\tSTATE\tTARGET\tIMAGES\tOWNER\tEXPIRES\tREASON")
	for i := range items {
		v := &items[i]
		images := strings.Join(v.Images, " ")
		if images == "" {
			images = "all"
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", orDash(v.ID), v.Source, v.State, printable(waiverTarget(v)), printable(images),
			printable(v.Owner), v.Expires.UTC().Format("2006-01-02 15:04 UTC"), printable(v.Reason))
	}
	return w.Flush()
}

// waiverTarget is what a waiver sets aside.
func waiverTarget(w *api.Waiver) string {
	var parts []string
	for _, p := range []struct{ what, value string }{
		{"", w.Advisory}, {"", w.Package}, {"rule ", w.Rule}, {"secret ", w.Secret}, {"in ", w.Path},
	} {
		if p.value != "" {
			parts = append(parts, p.what+p.value)
		}
	}
	return strings.Join(parts, " ")
}

func newWaiverAdd(c *client) *cobra.Command {
	var (
		targets              = map[string]*string{}
		images               []string
		reason, owner, until string
	)
	cmd := &cobra.Command{
		Use:   "add",
		Short: "Grant an exception; it is in force from the next request on",
		Long: `What is named must all be true of what is set aside; at least one of --advisory,
--package, --rule and --secret is wanted, and a --reason and --expires.`,
		Example: `  sluice waiver add --advisory CVE-2023-45853 --image 'docker.io/library/*' --reason "not reachable" --expires 720h
  sluice waiver add --rule root-user --image 'ghcr.io/acme/legacy/**' --reason "being rebuilt" --expires 2027-01-31
  sluice waiver add --secret private-key --path 'usr/share/doc/**' --reason "sample keys" --expires 2027-06-30`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			body := map[string]any{"reason": reason, "owner": owner}
			named := false
			for name, v := range targets {
				if *v != "" {
					body[name] = *v
					named = named || name != "path"
				}
			}
			if !named || reason == "" || until == "" {
				return usageError(errors.New("at least one of --advisory, --package, --rule and --secret is wanted, a --reason and an --expires"))
			}
			t, err := expiry(until, time.Now())
			if err != nil {
				return err
			}
			body["expires"] = t.Format(time.RFC3339)
			if len(images) > 0 {
				body["images"] = images
			}
			var added api.Waiver
			if err := c.do(cmd.Context(), http.MethodPost, "/waivers", nil, body, &added); err != nil {
				return rejected(err)
			}
			if c.format == "json" {
				return writeIndented(cmd.OutOrStdout(), added)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s waives %s until %s\n", added.ID, waiverTarget(&added), added.Expires.UTC().Format("2006-01-02 15:04 UTC"))
			return err
		},
	}
	for name, help := range map[string]string{
		"advisory": "advisory id or alias (CVE-…)", "package": "purl, with or without a version", "rule": "id of a rule of the policy",
		"secret": "kind of secret (private-key), or what recognised it (github-token)", "path": "glob over the path of the package or secret",
	} {
		targets[name] = cmd.Flags().String(name, "", help)
	}
	cmd.Flags().StringArrayVar(&images, "image", nil, "glob over canonical names; may be given again (default every image)")
	cmd.Flags().StringVar(&reason, "reason", "", "why; stands in every report")
	cmd.Flags().StringVar(&owner, "owner", operator(), "who answers for it")
	cmd.Flags().StringVar(&until, "expires", "", "end: a time (RFC 3339), a date or a duration such as 720h")
	return cmd
}

func newWaiverRemove(c *client) *cobra.Command {
	return &cobra.Command{
		Use:   "remove ID",
		Short: "Withdraw a waiver",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			err := c.do(cmd.Context(), http.MethodDelete, "/waivers/"+url.PathEscape(args[0]), nil, nil, nil)
			switch {
			case notFound(err):
				return fmt.Errorf("there is no waiver %s; those of the policy file are removed there", args[0])
			case err != nil:
				return err
			case c.format == "json":
				return writeIndented(cmd.OutOrStdout(), map[string]string{"removed": args[0]})
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is withdrawn\n", args[0])
			return err
		},
	}
}
