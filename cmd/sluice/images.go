package main

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/sluiceproxy/sluice/proxy/api"
)

func newImages() *cobra.Command {
	c := &client{}
	cmd := listing[api.Places, api.Place]{
		path: "/images",
		flags: map[string]string{
			"advisory": "advisory id or alias (CVE-…)", "package": "purl, with or without a version",
			"decision": "of the last verdict: allow, annotate, pending or deny", "image": "glob over canonical names",
		},
		page:  func(p api.Places) ([]api.Place, string) { return p.Items, p.NextPageToken },
		write: writePlaces,
	}.complete(&cobra.Command{
		Use:   "images",
		Short: "Ask a server where an advisory or a package is",
		Long: `Images lists what was pulled through the server: tags, the last decision, and the
last pull and by whom. With --advisory or --package it lists the images that hold
such a package, whatever the policy says of it.`,
		Example: `  sluice images --advisory CVE-2021-44228
  sluice images --package pkg:npm/lodash@4.17.20 --decision allow
  sluice images --image 'ghcr.io/acme/**' --format json`,
	}, c)
	c.register(cmd)
	return cmd
}

func writePlaces(cmd *cobra.Command, items []api.Place) error {
	out := cmd.OutOrStdout()
	if len(items) == 0 {
		_, err := fmt.Fprintln(out, "no such image was pulled through this server")
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "IMAGE\tTAGS\tDIGEST\tDECISION\tPULLS\tLAST PULL\tBY\tPACKAGES")
	for i := range items {
		p := &items[i]
		last := "-"
		if !p.LastPull.IsZero() {
			last = p.LastPull.UTC().Format("2006-01-02 15:04 UTC")
		}
		by := make([]string, len(p.Clients))
		for j, c := range p.Clients {
			by[j] = c.Client
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\n", printable(p.Name), orDash(strings.Join(p.Tags, " ")), short(p.Digest.String()), p.Decision,
			p.Pulls, last, orDash(printable(few(by))), orDash(printable(few(p.Packages))))
	}
	return w.Flush()
}

// short is a digest as people compare it.
func short(digest string) string { return digest[:min(len(digest), len("sha256:")+12)] }

// few names the first of a list and counts the others.
func few(list []string) string {
	const most = 3
	if len(list) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(list[:most], " "), len(list)-most)
	}
	return strings.Join(list, " ")
}
