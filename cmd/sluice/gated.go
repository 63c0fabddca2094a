package main

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/sluiceproxy/sluice/configs"
	"github.com/sluiceproxy/sluice/proxy"
	"github.com/sluiceproxy/sluice/proxy/auth"
	"github.com/sluiceproxy/sluice/proxy/gate"
	"github.com/sluiceproxy/sluice/proxy/local"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// gatedOptions translates what the configuration says of identities and of the
// gated registry.
func gatedOptions(cfg *configs.Config, opts *proxy.Options) error {
	opts.ClientCA = cfg.TLS.ClientCA
	for _, p := range cfg.TrustedProxies {
		prefix, err := netip.ParsePrefix(p)
		if err != nil {
			return fmt.Errorf("trustedProxies: %w", err)
		}
		opts.TrustedProxies = append(opts.TrustedProxies, prefix)
	}
	key, err := tokenKey(cfg.Auth.TokenKey)
	if err != nil {
		return fmt.Errorf("auth.tokenKey: %w", err)
	}
	opts.Auth = auth.Options{
		Htpasswd: cfg.Auth.Htpasswd, Key: key, TokenTTL: time.Duration(cfg.Auth.TokenTTL), Realm: cfg.Auth.Realm,
		Requests: cfg.Auth.Rate.Requests, Per: time.Duration(cfg.Auth.Rate.Per),
	}
	for _, r := range cfg.Auth.Rules {
		rule := auth.Rule{Who: r.Who, Repositories: r.Repositories}
		for _, a := range r.May {
			rule.May = append(rule.May, auth.Action(a))
		}
		opts.Auth.Rules = append(opts.Auth.Rules, rule)
	}
	for _, i := range cfg.Auth.Issuers {
		opts.Auth.Issuers = append(opts.Auth.Issuers, auth.Issuer{
			Name: i.Name, URL: i.URL, Audience: i.Audience, JWKS: i.JWKS, Groups: i.Groups, Require: i.Require,
		})
	}
	reg := cfg.Registry
	opts.Registry = proxy.Registry{
		Enabled: reg.Enabled, MaxBlob: int64(reg.MaxBlob), PushHold: time.Duration(reg.PushHold),
		GCEvery: time.Duration(reg.GC.Every), GCGrace: time.Duration(reg.GC.Grace), Quotas: map[string]int64{},
	}
	for prefix, n := range reg.Quotas {
		opts.Registry.Quotas[prefix] = int64(n)
	}
	if opts.Registry.Mode, err = modes(reg.Modes); err != nil {
		return err
	}
	if opts.Registry.Immutable, err = tagPatterns("immutableTags", reg.ImmutableTags); err != nil {
		return err
	}
	opts.Registry.Retention, err = retention(reg.Retention, opts.Registry.Immutable)
	return err
}

// retention translates the rules. Immutable tags are kept: another image could
// take such a tag once it is free.
func retention(entries []configs.Retention, immutable func(name, tag string) bool) ([]local.Retention, error) {
	var out []local.Retention
	for i, e := range entries {
		where, err := globs(e.Repositories)
		if err != nil {
			return nil, fmt.Errorf("registry.retention.%d.repositories: %w", i, err)
		}
		keep, err := tagPatterns(fmt.Sprintf("retention.%d.keepTags", i), []configs.ImmutableTags{{Repositories: e.Repositories, Tags: e.KeepTags}})
		if err != nil {
			return nil, err
		}
		out = append(out, local.Retention{
			Repositories: func(name string) bool { return matchAny(where, name, nil) },
			KeepLast:     e.KeepLast, MaxAge: time.Duration(e.MaxAge), UnlessPulledWithin: time.Duration(e.UnlessPulledWithin),
			KeepTags: func(name, tag string) bool { return keep(name, tag) || immutable(name, tag) },
		})
	}
	return out, nil
}

// tokenKey reads an Ed25519 private key in PKCS #8; nil without a file.
func tokenKey(file string) (ed25519.PrivateKey, error) {
	if file == "" {
		return nil, nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("%s: not PEM; make a key with 'openssl genpkey -algorithm ed25519'", file)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s: not an Ed25519 key; make one with 'openssl genpkey -algorithm ed25519'", file)
	}
	return key, nil
}

// modes returns the mode of a repository: that of the first entry for it.
func modes(entries []configs.RegistryMode) (func(name string) gate.Mode, error) {
	byName := map[string]gate.Mode{"reject": gate.Reject, "quarantine": gate.Quarantine, "annotate": gate.Annotate}
	patterns := make([][]policy.Glob, len(entries))
	for i, e := range entries {
		var err error
		if patterns[i], err = globs(e.Repositories); err != nil {
			return nil, fmt.Errorf("registry.modes.%d.repositories: %w", i, err)
		}
	}
	return func(name string) gate.Mode {
		for i, e := range entries {
			if matchAny(patterns[i], name, nil) {
				return byName[e.Mode]
			}
		}
		return gate.Reject
	}, nil
}

// tagPatterns tells the tags that entries name. key is where they stand.
func tagPatterns(key string, entries []configs.ImmutableTags) (func(name, tag string) bool, error) {
	var patterns []policy.Glob
	for _, e := range entries {
		for _, tag := range e.Tags {
			var with []string
			for _, r := range e.Repositories {
				with = append(with, r+":"+tag)
			}
			g, err := globs(with)
			if err != nil {
				return nil, fmt.Errorf("registry.%s: %w", key, err)
			}
			patterns = append(patterns, g...)
		}
	}
	return func(name, tag string) bool { return matchAny(patterns, name, []string{tag}) }, nil
}

func globs(patterns []string) ([]policy.Glob, error) {
	out := make([]policy.Glob, 0, len(patterns))
	for _, p := range patterns {
		g, err := policy.ParseGlob(p)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", p, err)
		}
		out = append(out, g)
	}
	return out, nil
}

func matchAny(globs []policy.Glob, name string, tags []string) bool {
	return slices.ContainsFunc(globs, func(g policy.Glob) bool { return g.Match(name, tags, "") })
}
