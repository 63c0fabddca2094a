package policy

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	godigest "github.com/opencontainers/go-digest"
	"go.yaml.in/yaml/v3"

	"github.com/sluiceproxy/sluice/analyzer"
)

// specFile is a *.policytest: a policy, a clock, and cases that override the
// base evidence.
type specFile struct {
	Policy string     `json:"policy"` // "default" or a policy file's text
	Clock  time.Time  `json:"clock"`
	Cases  []specCase `json:"cases"`
}

type specCase struct {
	Name       string          `json:"name"`
	Image      json.RawMessage `json:"image"`
	Report     json.RawMessage `json:"report"`
	NoReport   bool            `json:"noReport"`
	Failure    string          `json:"failure"`
	Advisories json.RawMessage `json:"advisories"`
	Known      []struct {
		Advisory, Package string
		Since             time.Time
	} `json:"known"`
	Blocks  []Block  `json:"blocks"`
	Waivers []Waiver `json:"waivers"`
	Want    struct {
		Decision Decision  `json:"decision"`
		Until    time.Time `json:"until"`
		Reasons  []Reason  `json:"reasons"` // without a message: any
	} `json:"want"`
}

// strict decodes JSON into v; an unknown key fails the test.
func strict(t *testing.T, b []byte, v any) {
	t.Helper()
	if len(b) == 0 {
		return
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		t.Fatal(err)
	}
}

func (c *specCase) evidence(t *testing.T, clock time.Time) *Evidence {
	t.Helper()
	e := &Evidence{
		Image: Image{
			Name: "docker.io/library/app", Upstream: "docker.io", Repository: "library/app", Tags: []string{"1"},
			Digest: "sha256:7d5d2d3e6b8c2ab7a1d2d5c5b5c1c0b5d1a0c9d8e7f6a5b4c3d2e1f0a9b8c7d6", FirstSeen: clock,
		},
		Report:     &analyzer.Report{Advisories: "r1", Updated: clock, Inventory: analyzer.Inventory{User: "app", Created: clock}},
		Advisories: Advisories{Revision: "r1", Updated: clock},
		Failure:    c.Failure, Blocks: c.Blocks, Waivers: c.Waivers, Now: clock,
	}
	strict(t, c.Image, &e.Image)
	strict(t, c.Report, e.Report)
	strict(t, c.Advisories, &e.Advisories)
	if c.NoReport {
		e.Report = nil
	}
	e.Image.Known = map[FindingKey]time.Time{}
	for _, k := range c.Known {
		e.Image.Known[FindingKey{k.Advisory, k.Package}] = k.Since
	}
	return e
}

// outline keeps of reasons what a case tells of.
func outline(reasons, like []Reason) []Reason {
	var out []Reason
	for i, r := range reasons {
		o := Reason{Rule: r.Rule, Action: r.Action, Waived: r.Waived, GraceUntil: r.GraceUntil}
		if i < len(like) {
			if like[i].Message != "" {
				o.Message = r.Message
			}
			if like[i].Policy != "" {
				o.Policy = r.Policy
			}
			if like[i].Block != "" {
				o.Block = r.Block
			}
		}
		out = append(out, o)
	}
	return out
}

func TestSpecs(t *testing.T) {
	files, err := filepath.Glob("testdata/*.policytest")
	if err != nil || len(files) == 0 {
		t.Fatalf("no specs: %v", err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var loose any
		if err := yaml.Unmarshal(text, &loose); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		asJSON, err := json.Marshal(loose)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var spec specFile
		strict(t, asJSON, &spec)
		p := Default()
		if spec.Policy != "default" {
			if p, err = Parse(name, []byte(spec.Policy)); err != nil {
				t.Fatal(err)
			}
		}
		for _, c := range spec.Cases {
			t.Run(filepath.Base(name)+"/"+c.Name, func(t *testing.T) {
				e := c.evidence(t, spec.Clock)
				v := p.Decide(e)
				if v.Decision != c.Want.Decision {
					t.Errorf("decision = %s, want %s: %s", v.Decision, c.Want.Decision, v.Summary())
				}
				if d := cmp.Diff(c.Want.Reasons, outline(v.Reasons, c.Want.Reasons)); d != "" {
					t.Errorf("reasons (-want +got):\n%s", d)
				}
				if !c.Want.Until.IsZero() && !v.Until.Equal(c.Want.Until) {
					t.Errorf("until = %v, want %v", v.Until, c.Want.Until)
				}
				if again := p.Decide(c.evidence(t, spec.Clock)); again.ID != v.ID {
					t.Errorf("the same evidence gave %s, then %s", v.ID, again.ID)
				}
				if v.Image != e.Image.Name || v.Digest != e.Image.Digest || v.Policy != p.Revision() || !v.At.Equal(spec.Clock) {
					t.Errorf("verdict is on %s@%s by %s at %v", v.Image, v.Digest, v.Policy, v.At)
				}
			})
		}
	}
}

// Only what went into a verdict changes its id.
func TestVerdictID(t *testing.T) {
	p := Default()
	base := (&specCase{}).evidence(t, clock)
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
		e := (&specCase{}).evidence(t, clock)
		tt.change(e)
		if got := p.Decide(e).ID; (got == id) != tt.same {
			t.Errorf("%s: id %s after %s", name, got, id)
		}
	}
}

func TestZeroPolicyDenies(t *testing.T) {
	if v := new(Policy).Decide((&specCase{}).evidence(t, clock)); v.Decision != Deny {
		t.Errorf("decision = %s", v.Decision)
	}
}
