package main

import (
	"context"
	"time"

	godigest "github.com/opencontainers/go-digest"

	"github.com/sluiceproxy/sluice/analyzer"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/records"
)

// seed records two images, one of them denied.
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
	}
	return nil
}

func noReport(context.Context, godigest.Digest) (*analyzer.Report, bool, error) {
	return nil, false, nil
}
