package main

import (
	"context"
	"time"

	godigest "github.com/opencontainers/go-digest"

	"github.com/sluiceproxy/sluice/analyzer"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/records"
)

// seed records two images, one of them denied, each with a package and a finding.
func seed(db *records.DB) error {
	ctx := context.Background()
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for _, v := range []policy.Verdict{
		{
			ID: "v-good000000", Decision: policy.Allow, Image: "docker.io/library/good", Digest: godigest.FromString("good"),
			Tags: []string{"1.0"}, Policy: "p", Advisories: "a", At: at,
		},
		{
			ID: "v-bad0000000", Decision: policy.Deny, Image: "up/acme/bad", Digest: godigest.FromString("bad"),
			Tags: []string{"1.0"}, Policy: "p", Advisories: "a", At: at,
			Reasons: []policy.Reason{{Rule: "malware", Action: policy.Deny, Message: "MAL-1 in npm evil 1.0.0", Advisory: "MAL-1"}},
		},
	} {
		if _, err := db.SeenImage(ctx, v.Image, "1.0", v.Digest, "application/vnd.oci.image.manifest.v1+json", at); err != nil {
			return err
		}
		if err := db.PutVerdict(ctx, v); err != nil {
			return err
		}
		evil := analyzer.Package{Type: "npm", Name: "evil", Version: "1.0.0", Ecosystem: "npm", PURL: "pkg:npm/evil@1.0.0"}
		if v.Decision == policy.Allow {
			evil.Version, evil.PURL = "0.9.0", "pkg:npm/evil@0.9.0"
		}
		if err := db.PutInventory(ctx, &analyzer.Inventory{Revision: "r", Manifest: v.Digest, Packages: []analyzer.Package{evil}}); err != nil {
			return err
		}
		if v.Decision == policy.Allow {
			continue
		}
		if err := db.PutFindings(ctx, v.Digest, []analyzer.Finding{{Advisory: "MAL-1", Package: evil}}); err != nil {
			return err
		}
		if err := db.Pulled(ctx, v.Image, v.Digest, "192.0.2.7", at, 2); err != nil {
			return err
		}
	}
	return nil
}

func noReport(context.Context, godigest.Digest) (*analyzer.Report, bool, error) {
	return nil, false, nil
}
