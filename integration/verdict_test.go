package integration

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	godigest "github.com/opencontainers/go-digest"
)

// judged are the images whose verdicts the shipped policy and smallFeed fix.
var judged = []struct {
	name     string
	image    func(*testing.T) v1.Image
	decision string
	rule     string
	says     []string // in the reason
}{
	{"clean", func(t *testing.T) v1.Image { return alpineImage(t, clean) }, "allow", "", nil},
	{
		"noisy", func(t *testing.T) v1.Image { return alpineImage(t, noisy) }, "annotate", "high",
		[]string{noisyCVE, "libnoisy", "1.0.0-r0"},
	},
	{
		"vulnerable", func(t *testing.T) v1.Image { return alpineImage(t, vulnerable) }, "deny", "critical-fixable",
		[]string{victimCVE, "critical", "libvictim", "1.0.0-r0", "1.0.1-r0"},
	},
	{"leaked", leakedImage, "deny", "leaked-secret", []string{"private key", "root/.ssh/id_ed25519"}},
}

// verdict is what the API tells of a digest under one image name.
type verdict struct {
	ID       string   `json:"id"`
	Decision string   `json:"decision"`
	Image    string   `json:"image"`
	Digest   string   `json:"digest"`
	Tags     []string `json:"tags"`
	Reasons  []struct {
		Rule     string `json:"rule"`
		Message  string `json:"message"`
		Advisory string `json:"advisory"`
		Waived   string `json:"waived"`
	} `json:"reasons"`
}

// verdicts asks the API for the current verdicts of a filter.
func (s *server) verdicts(t *testing.T, query url.Values) []verdict {
	t.Helper()
	a := s.api(t, http.MethodGet, "/verdicts?"+query.Encode(), nil)
	var page struct {
		Items []verdict `json:"items"`
	}
	if err := json.Unmarshal(a.body, &page); err != nil || a.status != http.StatusOK {
		t.Fatalf("GET /verdicts: %d %s (%v)", a.status, a.body, err)
	}
	return page.Items
}

// TestVerdicts compares what the client, the API and the headers say of the
// same pull.
func TestVerdicts(t *testing.T) {
	u := newUpstream(t)
	s := start(t, options{upstream: u.URL, advisories: smallFeed(t)})
	for _, tt := range judged {
		t.Run(tt.name, func(t *testing.T) {
			img := tt.image(t)
			digest := u.push(t, "judged/"+tt.name, "1", img)
			a := s.get(t, "/v2/up/judged/"+tt.name+"/manifests/1")
			list := s.verdicts(t, url.Values{"image": {"up/judged/" + tt.name}})
			if len(list) != 1 {
				t.Fatalf("%d verdicts in the API, want 1", len(list))
			}
			v := list[0]
			if v.Decision != tt.decision || v.Digest != digest.String() || v.Image != "up/judged/"+tt.name {
				t.Errorf("API: %+v, want %s of %s", v, tt.decision, digest)
			}
			var text string
			switch tt.decision {
			case "deny":
				code, message := a.refused(t)
				if a.status != http.StatusForbidden || code != "DENIED" {
					t.Errorf("%d %s, want 403 DENIED", a.status, code)
				}
				if id := verdictOf(t, message); id != v.ID {
					t.Errorf("the client sees verdict %s, the API says %s", id, v.ID)
				}
				text = message
			case "annotate":
				wantPull(t, s, "up/judged/"+tt.name, "1", img)
				text = a.header.Get("Warning")
				if !strings.HasPrefix(text, `299 - "`) {
					t.Errorf("Warning: %q", text)
				}
				if got, want := a.header.Get("Sluice-Verdict"), "annotate; id="+v.ID; got != want {
					t.Errorf("Sluice-Verdict: %q, want %q", got, want)
				}
			case "allow":
				wantPull(t, s, "up/judged/"+tt.name, "1", img)
				if w := a.header.Get("Warning"); w != "" {
					t.Errorf("Warning on a clean image: %q", w)
				}
			}
			for _, word := range tt.says {
				if !strings.Contains(text, word) {
					t.Errorf("the client is not told %q: %s", word, text)
				}
			}
			if tt.rule != "" && (len(v.Reasons) == 0 || v.Reasons[0].Rule != tt.rule) {
				t.Errorf("reasons %+v, want the rule %s first", v.Reasons, tt.rule)
			}
		})
	}
	denied := s.verdicts(t, url.Values{"decision": {"deny"}})
	if len(denied) != 2 {
		t.Errorf("%d denied in the API, want 2", len(denied))
	}
	byAdvisory := s.verdicts(t, url.Values{"advisory": {victimCVE}})
	if len(byAdvisory) != 1 || byAdvisory[0].Image != "up/judged/vulnerable" {
		t.Errorf("verdicts with %s: %+v", victimCVE, byAdvisory)
	}
}

// TestClients pulls each judged image with each client, by tag and by digest.
func TestClients(t *testing.T) {
	u := newUpstream(t)
	s := start(t, options{upstream: u.URL, advisories: smallFeed(t)})
	digests := map[string]godigest.Digest{}
	for _, tt := range judged {
		digests[tt.name] = u.push(t, "judged/"+tt.name, "1", tt.image(t))
	}
	for _, c := range clients() {
		t.Run(c.name, func(t *testing.T) {
			for _, tt := range judged {
				name, digest := s.registry+"/up/judged/"+tt.name, digests[tt.name]
				for _, reference := range []string{name + ":1", name + "@" + digest.String()} {
					out, err := c.pull(t, reference, digest)
					if tt.decision != "deny" {
						if err != nil {
							t.Errorf("pull %s: %v\n%s", reference, err, out)
						}
						continue
					}
					if err == nil {
						t.Errorf("pull %s succeeded, want a refusal", reference)
					}
					for _, word := range append([]string{"(verdict "}, tt.says...) {
						if !strings.Contains(out, word) {
							t.Errorf("pull %s does not print %q:\n%s", reference, word, out)
						}
					}
				}
			}
		})
	}
}

// TestClientsIndex: each client gets its platform of an index whose other
// platform would be refused, and nobody looks at that one.
func TestClientsIndex(t *testing.T) {
	amd64, arm64 := alpineImage(t, clean), image(t, "arm64", layer(t, alpine(vulnerable)))
	want := godigest.Digest(must(amd64.Digest())(t).String())
	for _, c := range clients() {
		t.Run(c.name, func(t *testing.T) {
			u := newUpstream(t)
			u.push(t, "multi", "1", index(amd64, arm64))
			s := start(t, options{upstream: u.URL, advisories: smallFeed(t)})
			if out, err := c.pull(t, s.registry+"/up/multi:1", want); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
			if n := s.metric(t, "sluice_analyses_total"); n != 1 {
				t.Errorf("%v analyses, want 1", n)
			}
			if n := u.count(http.MethodGet, "/v2/multi/manifests/"+must(arm64.Digest())(t).String()); n != 0 {
				t.Errorf("the other platform's manifest was fetched %d times", n)
			}
		})
	}
}
