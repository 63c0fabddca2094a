package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	godigest "github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/sluiceproxy/sluice/cmd/sluice/target"
	"github.com/sluiceproxy/sluice/configs"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/signing"
)

// trustExplanation is what `policy explain` tells of an image.
type trustExplanation struct {
	Image    string            `json:"image"` // canonical name
	Tags     []string          `json:"tags,omitempty"`
	Digest   godigest.Digest   `json:"digest"`            // of the platform's manifest
	Indexes  []godigest.Digest `json:"indexes,omitempty"` // that list it, by which it was asked for
	Revision string            `json:"revision"`          // of the policy
	Decision policy.Decision   `json:"decision"`          // by its signatures alone
	Policies []trustOfPolicy   `json:"policies"`
}

// trustOfPolicy is what one policy of the file makes of it.
type trustOfPolicy struct {
	policy.Coverage
	Demands  bool            `json:"demands"` // signatures
	Require  int             `json:"require,omitempty"`
	Decision policy.Decision `json:"decision"` // undecided where it demands none
	Reason   string          `json:"reason,omitempty"`
	Error    string          `json:"error,omitempty"`
	Result   *signing.Result `json:"result,omitempty"`
}

func newPolicyExplain() *cobra.Command {
	var (
		config, format, platform string
		ups                      []string
	)
	cmd := &cobra.Command{
		Use:   "explain IMAGE",
		Short: "Tell which policies cover an image, and which authority signed it or why none counts",
		Long: `Explain looks for the signatures and attestations of an image in its registry and
judges them by the policy file, as the proxy would. The image's content is not
looked at; for that see 'sluice scan'. No server is needed.

Exit codes: 0 the signatures satisfy every policy that covers the image, 1 they do
not, or no policy covers it, 2 usage, 3 they could not be looked at.`,
		Example: `  sluice policy explain ghcr.io/acme/app:1.2 --policy policy.yml
  sluice policy explain ghcr.io/acme/app@sha256:… --policy policy.yml --format json
  sluice policy explain 127.0.0.1:5000/app:1 --platform linux/arm64`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := oneOf("--format", format, "text", "json"); err != nil {
				return err
			}
			more, err := addUpstreams(ups)
			if err != nil {
				return err
			}
			cfg, err := loadConfig(cmd, config, more, overrideString(cmd, "policy", func(c *configs.Config, v string) { c.Policy.File = v }))
			if err != nil {
				return err
			}
			e, err := explainTrust(cmd.Context(), cfg, args[0], platform)
			if err != nil {
				return err
			}
			if format == "json" {
				err = writeIndented(cmd.OutOrStdout(), e)
			} else {
				err = e.write(cmd.OutOrStdout())
			}
			if err != nil {
				return err
			}
			return decided(e.Decision)
		},
	}
	f := cmd.Flags()
	f.StringVar(&config, "config", "", "configuration file, for its upstreams")
	f.StringVar(&format, "format", "text", "text or json")
	f.String("policy", "", "policy file (default the configuration's, or the shipped policy)")
	f.StringVar(&platform, "platform", "", "os/arch[/variant] of a multi-platform image (default linux on this machine's architecture)")
	f.StringArrayVar(&ups, "upstream", nil, "NAME=URL of a registry; may be given again")
	return cmd
}

// explainTrust opens the image, whose layers it does not read, and judges its
// signatures.
func explainTrust(ctx context.Context, cfg *configs.Config, spec, platform string) (*trustExplanation, error) {
	p, err := loadPolicy(cfg.Policy.File)
	if err != nil {
		return nil, err
	}
	server, err := serverOptions(cfg)
	if err != nil {
		return nil, usageError(err)
	}
	opts := target.Options{Platform: platform, Upstreams: server.Upstreams, Default: cfg.Default}
	if cfg.DockerConfig == "none" {
		opts.Keychain = authn.NewMultiKeychain()
	}
	t, err := target.Open(ctx, spec, opts)
	if err != nil {
		return nil, err
	}
	defer func() { _ = t.Close() }() // files that were only read
	if t.Source == nil {
		return nil, usageError(fmt.Errorf("%s is not in a registry: nobody could have attached a signature there", spec))
	}
	img := policy.Image{
		Name: t.Name, Upstream: t.Upstream, Repository: t.Repository, Tags: t.Tags, Digest: t.Digest, Parents: t.Parents,
		MediaType: t.MediaType, Evidential: evidentialTarget(t),
	}
	e := &trustExplanation{Image: img.Name, Tags: img.Tags, Digest: img.Digest, Indexes: img.Parents, Revision: p.Revision(), Decision: policy.Deny}
	results := judgeTrust(ctx, p, &img, t, nil, time.Now())
	for _, c := range p.Coverage(&img) {
		e.Policies = append(e.Policies, trustOfPolicy{Coverage: c, Demands: c.Trust != nil})
	}
	if slices.ContainsFunc(e.Policies, func(o trustOfPolicy) bool { return o.Covers }) {
		e.Decision = policy.Allow
	}
	for i := range e.Policies {
		o := &e.Policies[i]
		if !o.Covers || !o.Demands {
			continue
		}
		o.judge(results, &img)
		e.Decision = max(e.Decision, o.Decision)
	}
	return e, nil
}

// judge fills in what the policy makes of its result.
func (o *trustOfPolicy) judge(results []policy.TrustResult, img *policy.Image) {
	o.Require = o.Trust.Require
	if img.Evidential {
		o.Decision, o.Reason = policy.Allow, "it holds signatures and reports only, which need no signature of their own"
		return
	}
	var r policy.TrustResult
	if i := slices.IndexFunc(results, func(r policy.TrustResult) bool { return r.Policy == o.Policy }); i >= 0 {
		r = results[i]
	}
	o.Error = r.Err
	if r.Err == "" {
		o.Result = &r.Result
	}
	o.Decision, o.Reason = o.Trust.Decide(&r)
}

// write tells the explanation in words.
func (e *trustExplanation) write(w io.Writer) error {
	var b strings.Builder
	name := e.Image
	if len(e.Tags) > 0 {
		name += ":" + e.Tags[0]
	}
	fmt.Fprintf(&b, "image   %s@%s\n", name, e.Digest)
	for _, d := range e.Indexes {
		fmt.Fprintf(&b, "index   %s\n", d)
	}
	fmt.Fprintf(&b, "policy  revision %s\n", e.Revision)
	covered := false
	for i := range e.Policies {
		o := &e.Policies[i]
		covered = covered || o.Covers
		o.write(&b)
	}
	if !covered {
		b.WriteString("\nno policy covers the image: it is denied\n")
	}
	fmt.Fprintf(&b, "\nby its signatures: %s\n", e.Decision)
	_, err := io.WriteString(w, b.String())
	return err
}

func (o *trustOfPolicy) write(b *strings.Builder) {
	switch {
	case o.Excluded:
		fmt.Fprintf(b, "\n- %s: excludes the image\n", o.Policy)
		return
	case !o.Covers:
		fmt.Fprintf(b, "\n- %s: does not cover the image\n", o.Policy)
		return
	case !o.Demands:
		fmt.Fprintf(b, "\n- %s: covers the image and demands no signatures\n", o.Policy)
		return
	}
	fmt.Fprintf(b, "\n- %s: covers the image; %d of %d authorities must pass\n", o.Policy, o.Require, len(o.Trust.Authorities))
	if o.Reason != "" {
		fmt.Fprintf(b, "    %s: %s\n", o.Decision, printable(o.Reason))
	}
	if o.Result == nil {
		return
	}
	for _, list := range [][]signing.AuthorityResult{o.Result.Authorities, o.Result.Issuers} {
		for i := range list {
			writeAuthority(b, &list[i], o.Result.Attestations)
		}
	}
	for _, c := range o.Result.Claims {
		fmt.Fprintf(b, "    not signed, so it proves nothing: %s %s %s\n", c.Format, printable(cmp.Or(c.PredicateType, c.MediaType)), c.Digest)
	}
	for _, g := range o.Result.Gaps {
		fmt.Fprintf(b, "    not looked at: %s\n", printable(g))
	}
}

// writeAuthority tells what one authority signed and what was refused.
func writeAuthority(b *strings.Builder, a *signing.AuthorityResult, attestations []signing.Attestation) {
	fmt.Fprintf(b, "    [%s] %s", a.Outcome, a.Name)
	if a.Reason != "" {
		fmt.Fprintf(b, ": %s", printable(a.Reason))
	}
	b.WriteByte('\n')
	for i := range a.Signatures {
		s := &a.Signatures[i]
		fmt.Fprintf(b, "        signed by %s (%s %s, on %s)\n", signer(&s.Identity), s.Format, s.Manifest, s.About)
	}
	for i := range attestations {
		t := &attestations[i]
		if t.Authority != a.Name {
			continue
		}
		rule := ""
		if t.Rule != "" {
			rule = ", meets " + t.Rule
		}
		fmt.Fprintf(b, "        attests %s by %s (%s %s%s)\n", printable(t.PredicateType), signer(&t.Identity), t.Format, t.Manifest, rule)
	}
	for _, r := range a.Refused {
		fmt.Fprintf(b, "        refused %s %s: %s\n", r.Format, r.Digest, printable(r.Reason))
	}
}

// signer names who signed.
func signer(id *signing.Identity) string {
	if id.Subject == "" {
		return "key " + id.KeyID
	}
	return printable(id.Subject + ", vouched for by " + id.Issuer)
}
