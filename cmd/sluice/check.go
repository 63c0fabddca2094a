package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluiceproxy/sluice/proxy/api"
)

func newCheck() *cobra.Command {
	c := &client{}
	var (
		platform string
		wait     time.Duration
	)
	cmd := &cobra.Command{
		Use:   "check IMAGE",
		Short: "Ask a server what it would say to a pull of an image, now",
		Long: `Check lets the server judge an image by its policy, advisories, blocklist and
waivers of this moment, as a pull or a push of it would, and serves nothing. The
image is one of the server's upstreams or of its gated registry; what the server
does not know yet it downloads and analyses first.

For an image that is only on this machine, 'sluice scan' judges by a policy file.

The exit code is that of the verdict: 0 allow or annotate, 1 deny, 3 undecided
or no answer.`,
		Example: `  sluice check nginx:1.27
  sluice check local/team/app:main --server https://sluice.example.org:5001 --token-file token
  sluice check ghcr.io/acme/shop@sha256:… --format json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeoutCause(cmd.Context(), wait, fmt.Errorf("no verdict within %s; the server goes on, ask again", wait))
			defer cancel()
			scan, err := c.check(ctx, args[0], platform)
			if err != nil {
				if ctx.Err() != nil && cmd.Context().Err() == nil {
					err = context.Cause(ctx)
				}
				return rejected(err)
			}
			if c.format == "json" {
				err = writeIndented(cmd.OutOrStdout(), scan)
			} else {
				err = writeExplanation(cmd.OutOrStdout(), api.Explanation{Digest: scan.Digest, Verdicts: []api.Verdict{*scan.Verdict}})
			}
			if err != nil {
				return err
			}
			return decided(scan.Verdict.Decision)
		},
	}
	c.register(cmd)
	cmd.Flags().StringVar(&platform, "platform", "", "os/arch[/variant] of a multi-platform image (default linux/amd64)")
	cmd.Flags().DurationVar(&wait, "timeout", 15*time.Minute, "longest wait for the verdict")
	return cmd
}

// pollEvery is how often the server is asked for a scan's state.
const pollEvery = 250 * time.Millisecond

// check has the server judge the image and waits for it. A name that the server
// does not know is tried without the registry in front, which may be the
// server's own address.
func (c *client) check(ctx context.Context, image, platform string) (api.Scan, error) {
	var scan api.Scan
	err := c.startScan(ctx, image, platform, &scan)
	if host, rest, ok := strings.Cut(image, "/"); err != nil && ok && strings.ContainsAny(host, ".:") && unknownName(err) {
		// A name that begins with neither an upstream nor the local prefix would be
		// the default upstream's, which is another image.
		if c.startScan(ctx, rest, platform, &scan) == nil && strings.HasPrefix(scan.Image, rest) {
			err = nil
		}
	}
	if err != nil {
		return scan, err
	}
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for scan.State != api.ScanDone {
		if scan.State == api.ScanFailed {
			return scan, errors.New(scan.Error)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return scan, context.Cause(ctx)
		}
		if err := c.do(ctx, http.MethodGet, "/scans/"+scan.ID, nil, nil, &scan); err != nil {
			return scan, err
		}
	}
	if scan.Verdict == nil {
		return scan, errors.New("answer of the server: a scan that is done and has no verdict")
	}
	return scan, nil
}

func (c *client) startScan(ctx context.Context, image, platform string, scan *api.Scan) error {
	return c.do(ctx, http.MethodPost, "/scans", nil, map[string]string{"image": image, "platform": platform}, scan)
}

// unknownName reports whether the server blames the image's name.
func unknownName(err error) bool {
	var p *api.Problem
	return errors.As(err, &p) && p.Status == http.StatusUnprocessableEntity
}
