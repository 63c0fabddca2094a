package api

import (
	"net/http"

	godigest "github.com/opencontainers/go-digest"

	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/records"
)

// Place is an image that was asked for: what it is called, what was decided,
// and where it runs as far as pulls tell.
type Place struct {
	Digest godigest.Digest `json:"digest"`
	Image
	Decision policy.Decision  `json:"decision"` // of the last verdict, undecided where there was none
	Verdict  string           `json:"verdict"`  // its id
	Packages []string         `json:"packages"` // purls that the advisory and package parameters name in it, at most 100
	Clients  []records.Client `json:"clients"`  // who pulled it, the last first, at most 20
}

// Places is a page of images, sorted by name and digest.
type Places struct {
	Items         []Place `json:"items"`
	NextPageToken string  `json:"nextPageToken,omitempty"`
}

func (s *server) images(w http.ResponseWriter, r *http.Request) error {
	q := newQuery(r, "advisory", "package", "decision", "image", "limit", "page_token")
	f := records.ImageFilter{
		Advisory: q.text("advisory"), Package: q.text("package"),
		Limit: q.limit(), PageToken: q.text("page_token"),
	}
	f.Decision, f.Image = q.decision(), q.image()
	if f.Package != "" {
		if _, err := policy.ParsePURL(f.Package); err != nil {
			q.bad("package", err.Error())
		}
	}
	if err := q.err(); err != nil {
		return err
	}
	items, next, err := s.Records.Images(r.Context(), f)
	if err != nil {
		return err
	}
	page := Places{Items: make([]Place, len(items)), NextPageToken: next}
	for i := range items {
		p := &items[i]
		page.Items[i] = Place{
			Digest: p.Digest, Image: imageOf(&p.Image), Decision: p.Decision, Verdict: p.Verdict,
			Packages: list(p.Packages), Clients: list(p.Clients),
		}
	}
	return writeJSON(w, http.StatusOK, page)
}

func imageOf(i *records.Image) Image {
	return Image{
		Name: i.Name, MediaType: i.MediaType, Tags: list(i.Tags), FirstSeen: i.FirstSeen,
		AllowedSince: i.AllowedSince, LastPull: i.LastPull, LastClient: i.LastClient, Pulls: i.Pulls,
	}
}
