package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/distribution/reference"
	godigest "github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/sluiceproxy/sluice/proxy/api"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

func newVerdict() *cobra.Command {
	var c client
	cmd := &cobra.Command{
		Use:   "verdict IMAGE|DIGEST",
		Short: "Ask a server what it decided on an image, and why",
		Long: `Verdict shows what the server decided on an image that was pulled through it:
the rules that fired, its names and tags, and who pulled it.

The exit code is that of the decision: 0 allow or annotate, 1 deny, 3 pending,
unknown or no answer.`,
		Example: `  sluice verdict nginx:1.27
  sluice verdict ghcr.io/acme/shop@sha256:… --format json
  sluice verdict sha256:… --server https://sluice.example.org:5001 --token-file token`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := c.explain(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if c.format == "json" {
				err = writeIndented(cmd.OutOrStdout(), e)
			} else {
				err = writeExplanation(cmd.OutOrStdout(), e)
			}
			if err != nil {
				return err
			}
			return decided(worst(e.Verdicts))
		},
	}
	c.register(cmd)
	return cmd
}

// explain returns the explanation of what target, an image or a digest, names.
// The verdicts are those of the name, if it has one.
func (c *client) explain(ctx context.Context, target string) (api.Explanation, error) {
	var e api.Explanation
	name, d, err := c.resolve(ctx, target)
	if err != nil {
		return e, err
	}
	if err := c.do(ctx, http.MethodGet, "/verdicts/"+d.String(), nil, nil, &e); err != nil {
		return e, err
	}
	if name == "" {
		return e, nil
	}
	kept := e.Verdicts[:0]
	for _, v := range e.Verdicts {
		if v.Image == name {
			kept = append(kept, v)
		}
	}
	if e.Verdicts = kept; len(kept) == 0 {
		return e, fmt.Errorf("%s has no verdict under the name %s", d, name)
	}
	return e, nil
}

// resolve finds the canonical name and the digest of target. name is "" for a
// digest alone.
func (c *client) resolve(ctx context.Context, target string) (name string, d godigest.Digest, err error) {
	if d, err := godigest.Parse(target); err == nil {
		return "", d, nil
	}
	names, err := canonical(target)
	if err != nil {
		return "", "", err
	}
	var newest *api.Verdict
	for _, n := range names {
		err := pages(ctx, c, "/verdicts", url.Values{"image": {n}, "limit": {"1"}}, func(p api.Verdicts) (string, bool) {
			if len(p.Items) > 0 {
				newest = &p.Items[0]
			}
			return "", false
		})
		switch {
		case err != nil && !badGlob(err):
			return "", "", err
		case newest != nil:
			return newest.Image, newest.Digest, nil
		}
	}
	return "", "", fmt.Errorf("the server knows no verdict on %s", target)
}

// badGlob reports whether the server took a name for no canonical one; another
// spelling may be.
func badGlob(err error) bool {
	var p *api.Problem
	return errors.As(err, &p) && p.Status == http.StatusBadRequest
}

// canonical returns the names that target may have at the server: as written,
// as Docker completes it, and both without the proxy's own address in front.
// Without a tag or digest it means any.
func canonical(target string) ([]string, error) {
	if strings.Contains(target, "*") {
		return nil, usageError(fmt.Errorf("%q is not the name of one image", target))
	}
	ref, err := reference.ParseNormalizedNamed(target)
	if err != nil {
		return nil, usageError(fmt.Errorf("%q is neither an image nor a digest: %w", target, err))
	}
	suffix := ""
	switch r := ref.(type) {
	case reference.Digested:
		suffix = "@" + r.Digest().String()
	case reference.Tagged:
		suffix = ":" + r.Tag()
	}
	names := []string{target}
	path := reference.Path(ref)
	for _, name := range []string{ref.Name(), path, "docker.io/" + path} {
		if name += suffix; !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names, nil
}

// worst returns the strictest decision of vs, Undecided for none.
func worst(vs []api.Verdict) policy.Decision {
	d := policy.Undecided
	for _, v := range vs {
		d = max(d, v.Decision)
	}
	return d
}

// decided turns a decision into an exit code.
func decided(d policy.Decision) error {
	switch d {
	case policy.Allow, policy.Annotate:
		return nil
	case policy.Deny:
		return &exitError{code: exitDenied}
	case policy.Pending, policy.Undecided:
	}
	return &exitError{code: exitUndecided}
}

func writeExplanation(w io.Writer, e api.Explanation) error {
	var b strings.Builder
	color := colorful(w)
	for _, v := range e.Verdicts {
		fmt.Fprintf(&b, "%s@%s\n", v.Image, v.Digest)
		fmt.Fprintf(&b, "%s  (verdict %s of %s)\n", paint(strings.ToUpper(v.Decision.String()), v.Decision, color), v.ID, v.At.UTC().Format("2006-01-02 15:04:05 UTC"))
		for _, r := range v.Reasons {
			fmt.Fprintf(&b, "  %s by %s: %s", r.Action, r.Rule, printable(r.Message))
			if r.Waived != "" {
				fmt.Fprintf(&b, " [waived: %s]", r.Waived)
			}
			if !r.GraceUntil.IsZero() {
				fmt.Fprintf(&b, " [denied from %s]", r.GraceUntil.UTC().Format("2006-01-02 15:04 UTC"))
			}
			b.WriteString("\n")
		}
		for _, t := range v.Trust {
			fmt.Fprintf(&b, "  signatures for policy %s: %s", t.Policy, t.Outcome)
			if len(t.Passed) > 0 {
				fmt.Fprintf(&b, " by %s", strings.Join(t.Passed, ", "))
			}
			b.WriteString("\n")
		}
	}
	for _, i := range e.Images {
		fmt.Fprintf(&b, "%s: tags %s; %d pulls", printable(i.Name), orDash(strings.Join(i.Tags, ", ")), i.Pulls)
		if i.Pulls > 0 {
			fmt.Fprintf(&b, ", the last by %s at %s", i.LastClient, i.LastPull.UTC().Format("2006-01-02 15:04:05 UTC"))
		}
		b.WriteString("\n")
	}
	if ev := e.Evidence; ev != nil {
		fmt.Fprintf(&b, "%d packages, %d findings, %d secrets, %d parts not analysed\n", ev.Packages, len(ev.Findings), len(ev.Secrets), len(ev.Incomplete))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// paint colours a decision's text: green serves, red does not.
func paint(s string, d policy.Decision, color bool) string {
	if !color {
		return s
	}
	sgr := "1;31"
	switch d {
	case policy.Allow:
		sgr = "32"
	case policy.Annotate:
		sgr = "33"
	case policy.Pending:
		sgr = "35"
	case policy.Deny, policy.Undecided:
	}
	return "\x1b[" + sgr + "m" + s + "\x1b[0m"
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
