package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"github.com/sluiceproxy/sluice/analyzer"
	"github.com/sluiceproxy/sluice/analyzer/vex"
	"github.com/sluiceproxy/sluice/cmd/sluice/target"
	"github.com/sluiceproxy/sluice/proxy/gate"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/signing"
	"github.com/sluiceproxy/sluice/signing/lock"
	"github.com/sluiceproxy/sluice/signing/verify"
)

// maxTrustFile is the largest file of keys, roots or certificates in bytes.
const maxTrustFile = 16 << 20

// bindPolicy reads the files that the trust sections of the policy in file name,
// relative to its folder, and compiles them.
func bindPolicy(p *policy.Policy, file string) (*policy.Policy, error) {
	return p.Bind(policy.Binder{
		Now:  time.Now(),
		Read: func(name string) ([]byte, error) { return readTrust(file, name) },
		Compile: func(t signing.Trust) (signing.Verifier, error) {
			v, err := verify.Compile(t)
			if err != nil {
				return nil, err // a nil *Verifier would be no nil Verifier
			}
			return v, nil
		},
		OpenLocks: func(locks []signing.Lock) (signing.Locks, error) {
			set, err := lock.OpenAll(locks)
			if err != nil {
				return nil, err // as above
			}
			return set, nil
		},
	})
}

// readTrust reads a file that a policy names.
func readTrust(policyFile, name string) ([]byte, error) {
	if !filepath.IsAbs(name) {
		name = filepath.Join(filepath.Dir(policyFile), name)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxTrustFile+1))
	if err == nil && len(b) > maxTrustFile {
		err = fmt.Errorf("%s: larger than %d bytes", name, maxTrustFile)
	}
	return b, err
}

// parseVEX reads an attested VEX document.
func parseVEX(name string, data []byte) (analyzer.VEX, error) {
	d, err := vex.Parse(name, data)
	if err != nil {
		return nil, err
	}
	return vex.NewSet(d), nil
}

// judgeTrust looks for the image's signatures and judges them by each policy
// that covers it, as the gate does. Nothing is kept. Without a registry there is
// nothing to look for.
func judgeTrust(ctx context.Context, p *policy.Policy, img *policy.Image, t *target.Target, rep *analyzer.Report, now time.Time) []policy.TrustResult {
	var (
		out       []policy.TrustResult
		ev        signing.Evidence
		err       error
		collected bool
	)
	for _, c := range p.Coverage(img) {
		if !c.Covers || c.Trust == nil || c.Trust.Verifier == nil || t.Source == nil {
			continue
		}
		if !collected {
			s := signing.Subject{Name: img.Name, Desc: t.Image.Manifest, Parents: t.Indexes, Tags: img.Tags}
			if rep != nil {
				s.Platform = rep.Platform
				for _, l := range rep.Layers {
					s.DiffIDs = append(s.DiffIDs, l.DiffID)
				}
			}
			ev, err = signing.Collect(ctx, t.Source, s)
			collected = true
		}
		r := policy.TrustResult{Policy: c.Policy}
		if err == nil {
			r.Result, err = c.Trust.Verifier.Judge(ctx, ev, now)
		}
		if err != nil {
			r.Err = err.Error()
		}
		out = append(out, r)
	}
	return out
}

// exemptions returns what VEX attestations that the policy trusts say of the
// report's findings. One that cannot be read says nothing.
func exemptions(results []policy.TrustResult, rep *analyzer.Report, img *policy.Image, log *zap.Logger) []policy.AttachedVEX {
	var out []policy.AttachedVEX
	for i := range results {
		for _, a := range results[i].Result.Attestations {
			if a.Use != signing.UseExemptions {
				continue
			}
			doc, err := parseVEX(fmt.Sprintf("attestation by %s, %s", a.Authority, a.Manifest), a.Predicate)
			if err != nil {
				log.Warn("VEX attestation not obeyed", zap.Error(err))
				continue
			}
			out = append(out, gate.Attached(doc, rep, img)...)
		}
	}
	return out
}

// evidentialTarget reports whether the target holds signatures and reports only.
func evidentialTarget(t *target.Target) bool {
	types := make([]string, len(t.Image.Layers))
	for i, l := range t.Image.Layers {
		types[i] = l.MediaType
	}
	return signing.Evidential(t.Image.ArtifactType, t.Image.Config.MediaType, types)
}
