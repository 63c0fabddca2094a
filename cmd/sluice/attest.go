package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/sluiceproxy/sluice/analyzer"
	"github.com/sluiceproxy/sluice/analyzer/report"
	"github.com/sluiceproxy/sluice/configs"
	"github.com/sluiceproxy/sluice/proxy/gate"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/signing/attest"
)

// newAttest returns what serve attests; nil where the gated registry, which
// keeps it, is switched off.
func newAttest(ctx context.Context, cfg *configs.Config) (*gate.Attest, error) {
	if !cfg.Registry.Enabled {
		return nil, nil
	}
	opts := attest.Options{Verifier: cfg.Attest.Verifier}
	opts.Version, _ = buildVersion()
	var err error
	if cfg.Attest.Key != "" {
		password, err := configs.ReadSecret(cfg.Attest.Password, cfg.Attest.PasswordFile)
		if err != nil {
			return nil, usageError(fmt.Errorf("attest.password: %w", err))
		}
		if opts.Key, err = attest.LoadKey(ctx, cfg.Attest.Key, []byte(password)); err != nil {
			return nil, usageError(fmt.Errorf("attest: %w", err))
		}
	}
	if opts.NotBefore, opts.NotAfter, err = window(cfg.Attest.NotBefore, cfg.Attest.NotAfter); err != nil {
		return nil, usageError(fmt.Errorf("attest: %w", err))
	}
	for _, o := range cfg.Attest.Older {
		text, err := os.ReadFile(o.File)
		if err != nil {
			return nil, usageError(fmt.Errorf("attest.older: %w", err))
		}
		k, err := attest.ParsePublic(text)
		if err != nil {
			return nil, usageError(fmt.Errorf("attest.older: %s: %w", o.File, err))
		}
		if k.NotBefore, k.NotAfter, err = window(o.NotBefore, o.NotAfter); err != nil {
			return nil, usageError(fmt.Errorf("attest.older: %s: %w", o.File, err))
		}
		opts.Older = append(opts.Older, k)
	}
	a, err := attest.New(opts)
	if err != nil {
		return nil, err
	}
	return &gate.Attest{Attestor: a, Documents: documents(opts.Version), Every: time.Duration(cfg.Attest.Every)}, nil
}

// window reads the times of a key; "" is the zero time.
func window(notBefore, notAfter string) (from, to time.Time, err error) {
	for _, t := range []struct {
		text string
		to   *time.Time
	}{{notBefore, &from}, {notAfter, &to}} {
		if t.text == "" {
			continue
		}
		if *t.to, err = time.Parse(time.RFC3339, t.text); err != nil {
			return from, to, err
		}
	}
	return from, to, nil
}

// documents writes the report of an image as attestations hold it: findings in
// Sluice's own JSON, and CycloneDX.
func documents(version string) func(policy.Verdict, *analyzer.Report) (json.RawMessage, []byte, error) {
	return func(v policy.Verdict, rep *analyzer.Report) (json.RawMessage, []byte, error) {
		r := report.New(v.Image, reportVerdict(v), rep)
		r.Digest = v.Digest
		var bom bytes.Buffer
		if err := report.WriteCycloneDX(&bom, r, report.Options{Time: v.At, Version: version}); err != nil {
			return nil, nil, err
		}
		var sbom bytes.Buffer
		if err := json.Compact(&sbom, bom.Bytes()); err != nil {
			return nil, nil, err
		}
		// The packages are in the SBOM, and secrets are for nobody else's eyes.
		r.Packages, r.Secrets = nil, nil
		scan, err := json.Marshal(r)
		return scan, sbom.Bytes(), err
	}
}
