package api

import (
	"fmt"
	"net/http"
	"time"

	godigest "github.com/opencontainers/go-digest"

	"github.com/sluiceproxy/sluice/analyzer"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/records"
)

// Verdict is a verdict with its one sentence.
type Verdict struct {
	policy.Verdict
	Summary string `json:"summary"`
}

// Verdicts is one page of verdicts, the newest first.
type Verdicts struct {
	Items         []Verdict `json:"items"`
	NextPageToken string    `json:"nextPageToken,omitempty"` // "" = this is the last page
}

// Explanation is all that is known of one digest.
type Explanation struct {
	Digest   godigest.Digest `json:"digest"`
	Verdicts []Verdict       `json:"verdicts"` // one for each image name that it was pulled under
	Images   []Image         `json:"images"`
	// TagHistory is that of each tag that the upstream ever let name the digest,
	// the newest first: what it named, who vouched for it, and whether it was
	// served (alert), held or denied.
	TagHistory []records.TagChange `json:"tagHistory"`
	Evidence   *Evidence           `json:"evidence"` // null when it has not been analysed
}

// Image is one name of a digest, and who pulled it.
type Image struct {
	Name         string    `json:"name"`
	MediaType    string    `json:"mediaType"`
	Tags         []string  `json:"tags"`
	FirstSeen    time.Time `json:"firstSeen,omitzero"`
	AllowedSince time.Time `json:"allowedSince,omitzero"`
	LastPull     time.Time `json:"lastPull,omitzero"`
	LastClient   string    `json:"lastClient"`
	Pulls        int64     `json:"pulls"`
}

// Evidence is an analysis without its list of packages.
type Evidence struct {
	Analyzer   string                  `json:"analyzer"` // revision
	Platform   string                  `json:"platform"`
	OS         analyzer.OSRelease      `json:"os"`
	User       string                  `json:"user"`
	Created    time.Time               `json:"created,omitzero"`
	Layers     []analyzer.LayerSummary `json:"layers"`
	Packages   int                     `json:"packages"`
	Findings   []analyzer.Finding      `json:"findings"`
	Undecided  []analyzer.Undecided    `json:"undecided"`
	Secrets    []analyzer.Secret       `json:"secrets"`
	Setuid     []string                `json:"setuid"`
	Hardening  analyzer.Hardening      `json:"hardening"`
	Base       analyzer.Base           `json:"base"`
	Overwrites []analyzer.Overwrites   `json:"overwrites"` // files of its lower layers that its upper ones take away
	Incomplete []analyzer.Incomplete   `json:"incomplete"`
	DiffIDs    string                  `json:"diffIDBroken"` // "" = the digest chain is intact
	URLs       []string                `json:"urls"`
	Advisories string                  `json:"advisories"` // revision; "" = there were none
}

func (s *server) verdicts(w http.ResponseWriter, r *http.Request) error {
	q := newQuery(r, "decision", "image", "advisory", "since", "limit", "page_token")
	f := records.VerdictFilter{
		Advisory: q.text("advisory"), Since: q.since(s.Now()),
		Limit: q.limit(), PageToken: q.text("page_token"),
	}
	f.Decision, f.Image = q.decision(), q.image()
	if err := q.err(); err != nil {
		return err
	}
	items, next, err := s.Records.Verdicts(r.Context(), f)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, Verdicts{Items: summarize(items), NextPageToken: next})
}

func summarize(items []policy.Verdict) []Verdict {
	out := make([]Verdict, len(items))
	for i, v := range items {
		out[i] = Verdict{v, v.Summary()}
	}
	return out
}

func (s *server) verdict(w http.ResponseWriter, r *http.Request) error {
	if err := newQuery(r).err(); err != nil {
		return err
	}
	d, err := godigest.Parse(r.PathValue("digest"))
	if err != nil {
		return &Problem{Status: http.StatusBadRequest, Detail: fmt.Sprintf("%q is not a digest", r.PathValue("digest"))}
	}
	verdicts, err := s.Records.VerdictsOf(r.Context(), d)
	if err != nil {
		return err
	}
	images, err := s.Records.ImagesOf(r.Context(), d)
	if err != nil {
		return err
	}
	if len(verdicts) == 0 && len(images) == 0 {
		return &Problem{Status: http.StatusNotFound, Detail: fmt.Sprintf("%s has never been asked for", d)}
	}
	out := Explanation{Digest: d, Verdicts: summarize(verdicts), Images: []Image{}}
	for i := range images {
		out.Images = append(out.Images, imageOf(&images[i]))
	}
	if out.TagHistory, err = s.Records.TagHistoryOf(r.Context(), d); err != nil {
		return err
	}
	rep, ok, err := s.Report(r.Context(), d)
	if err != nil {
		return err
	}
	if ok {
		out.Evidence = evidence(rep)
	}
	return writeJSON(w, http.StatusOK, out)
}

func evidence(rep *analyzer.Report) *Evidence {
	return &Evidence{
		Analyzer: rep.Revision, Platform: rep.Platform, OS: rep.OS, User: rep.User, Created: rep.Created,
		Layers: list(rep.Layers), Packages: len(rep.Packages), Findings: list(rep.Findings), Undecided: list(rep.Undecided),
		Secrets: list(rep.Secrets), Setuid: list(rep.Setuid), Hardening: rep.Hardening, Base: rep.Base, Overwrites: list(rep.Overwrites), Incomplete: list(rep.Incomplete),
		DiffIDs: rep.DiffIDBroken, URLs: list(rep.URLs), Advisories: rep.Advisories,
	}
}

// list keeps a nil slice from becoming null.
func list[T any](items []T) []T {
	if items == nil {
		return []T{}
	}
	return items
}
