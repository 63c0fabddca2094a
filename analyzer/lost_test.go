package analyzer

import (
	"context"
	"io"
	"testing"

	godigest "github.com/opencontainers/go-digest"
)

// TestLost checks that a layer whose scan was lost is scanned once more, and that
// after a second loss the image is incomplete and no cache knows of it.
func TestLost(t *testing.T) {
	for _, losses := range []int{1, 2} {
		cache := &memoryCache{m: map[string]*Layer{}}
		img := newTestImage(t, "one")
		scans := 0
		a := newAnalyzer(t, scanFunc(func(ctx context.Context, r io.Reader) (*Layer, error) {
			if scans++; scans > losses {
				return lineScanner(ctx, r)
			}
			b, err := io.ReadAll(r)
			return &Layer{Digest: godigest.FromBytes(b), Size: int64(len(b)), Lost: true, Incomplete: []Incomplete{{Reason: "it crashed"}}}, err
		}), cache)
		inv, err := a.Inventory(t.Context(), img.Image)
		if err != nil {
			t.Fatal(err)
		}
		wanted, incomplete, kept := 2, 0, 1
		if losses == 2 {
			incomplete, kept = 1, 0
		}
		if opens := img.opens[img.Layers[0].Digest]; scans != wanted || opens != wanted || len(inv.Incomplete) != incomplete || len(cache.m) != kept {
			t.Errorf("after %d losses: %d scans, %d opens, incomplete %v, %d layers kept", losses, scans, opens, inv.Incomplete, len(cache.m))
		}
	}
}
