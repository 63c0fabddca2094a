package records

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	godigest "github.com/opencontainers/go-digest"

	"github.com/sluiceproxy/sluice/analyzer"
)

// built is an inventory of an image with the layers.
func built(name string, layers ...string) *analyzer.Inventory {
	inv := &analyzer.Inventory{Manifest: digest(name)}
	for _, l := range layers {
		inv.Layers = append(inv.Layers, analyzer.LayerSummary{DiffID: digest(l)})
	}
	return inv
}

func TestBase(t *testing.T) {
	db := openNew(t)
	for _, b := range []struct {
		name string
		inv  *analyzer.Inventory
	}{
		{"debian:12", built("debian", "a")},
		{"debian:bookworm", built("debian again", "a")},
		{"python:3", built("python", "a", "b")},
		{"other:1", built("other", "b")},
		{"empty:1", built("empty")},
		{"debian:late", built("debian", "a")}, // known already
	} {
		if err := db.PutBase(t.Context(), b.inv, b.name); err != nil {
			t.Fatal(err)
		}
	}
	broken := built("broken", "a", "b", "c")
	broken.DiffIDBroken = "x"
	for _, tt := range []struct {
		name  string
		inv   *analyzer.Inventory
		claim godigest.Digest
		want  string // the proven base
		falls bool
	}{
		{"on two layers", built("app", "a", "b", "c"), "", "python:3", false},
		{"on one", built("app", "a", "x"), "", "debian:12", false},
		{"the first layer is another", built("app", "x", "b", "c"), "", "", false},
		{"an image is not its own base", built("python", "a", "b"), "", "debian:12", false},
		{"nothing below", built("debian", "a"), "", "", false},
		{"true claim", built("app", "a", "b", "c"), digest("debian"), "python:3", false},
		{"true claim without a layer of one's own", built("app", "a", "b"), digest("python"), "debian:12", false},
		{"false claim", built("app", "x", "c"), digest("debian"), "", true},
		{"false claim of more layers", built("app", "a"), digest("python"), "", true},
		{"claim of an unknown image", built("app", "x", "c"), digest("unknown"), "", false},
		{"broken digest chain", broken, digest("debian"), "", false},
	} {
		tt.inv.Base = analyzer.Base{Kind: analyzer.BaseMinimal, Digest: tt.claim}
		got, err := db.Base(t.Context(), tt.inv)
		if err != nil {
			t.Fatal(err)
		}
		name := ""
		if got.Proven != nil {
			name = got.Proven.Name
			if chain := tt.inv.ChainIDs(); chain[got.Proven.Layers-1] != got.Proven.ChainID {
				t.Errorf("%s: %+v is not of %v", tt.name, got.Proven, chain)
			}
		}
		if name != tt.want || got.ClaimFalse != tt.falls {
			t.Errorf("%s: base %q, false %v, want %q, %v", tt.name, name, got.ClaimFalse, tt.want, tt.falls)
		}
		got.Proven, got.Below, got.ClaimFalse = nil, nil, false
		if d := cmp.Diff(tt.inv.Base, got); d != "" {
			t.Errorf("%s changed:\n%s", tt.name, d)
		}
	}
}
