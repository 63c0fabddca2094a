package policy

import (
	"testing"
	"time"

	godigest "github.com/opencontainers/go-digest"

	"github.com/sluiceproxy/sluice/analyzer"
)

// cleanEvidence is that of an image without fault.
func cleanEvidence() *Evidence {
	return &Evidence{
		Image: Image{
			Name: "docker.io/library/app", Upstream: "docker.io", Repository: "library/app", Tags: []string{"1"},
			Digest: "sha256:7d5d2d3e6b8c2ab7a1d2d5c5b5c1c0b5d1a0c9d8e7f6a5b4c3d2e1f0a9b8c7d6", FirstSeen: clock,
		},
		Report:     &analyzer.Report{Advisories: "r1", Updated: clock, Inventory: analyzer.Inventory{User: "app", Created: clock}},
		Advisories: Advisories{Revision: "r1", Updated: clock},
		Now:        clock,
	}
}

// Only what went into a verdict changes its id.
func TestVerdictID(t *testing.T) {
	p := Default()
	base := cleanEvidence()
	id := p.Decide(base).ID
	if len(id) != len("v-")+10 {
		t.Errorf("id %q", id)
	}
	for name, tt := range map[string]struct {
		change func(*Evidence)
		same   bool
	}{
		"later":            {func(e *Evidence) { e.Now = e.Now.Add(time.Hour) }, true},
		"another tag":      {func(e *Evidence) { e.Image.Tags = nil }, true},
		"another digest":   {func(e *Evidence) { e.Image.Digest = godigest.FromString("other") }, false},
		"another name":     {func(e *Evidence) { e.Image.Name = "docker.io/library/other" }, false},
		"other advisories": {func(e *Evidence) { e.Report.Advisories = "r2" }, false},
		"another reason":   {func(e *Evidence) { e.Report.User = "root" }, false},
		"a block":          {func(e *Evidence) { e.Blocks = []Block{{ID: "b", Image: "**", Reason: "r", Owner: "o"}} }, false},
	} {
		e := cleanEvidence()
		tt.change(e)
		if got := p.Decide(e).ID; (got == id) != tt.same {
			t.Errorf("%s: id %s after %s", name, got, id)
		}
	}
}

func TestZeroPolicyDenies(t *testing.T) {
	if v := new(Policy).Decide(cleanEvidence()); v.Decision != Deny {
		t.Errorf("decision = %s", v.Decision)
	}
}
