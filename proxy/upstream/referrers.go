package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sluiceproxy/sluice/analyzer"
)

const (
	maxPages     = 16   // of a list of referrers
	maxReferrers = 4096 // of one digest, and in one list (analyzer.Descriptors)

	absentFor = time.Hour // how long the API is not asked for again where there is none
	maxAbsent = 4096      // repositories; past it all are asked again
)

// Referrers returns the descriptors of what refers to d, of one artifactType or
// of all (""). It asks the referrers API, and where the registry has none, the
// referrers tag (OCI distribution 1.1, "Listing Referrers" and "Unavailable
// Referrers API"). None is said only when the API lists none, or answers as one
// that is not there (400, 404, 405, 406) and the tag is a 404 too; every other
// answer is an error. A list longer than 16 pages or 4096 descriptors, a page
// of more than MaxManifest bytes, or a descriptor without a sha256 digest is a
// *ContentError: a list cut short could hide what matters.
//
// A repository without referrers API is asked for its tags alone for an hour.
// It is one if it has d, or d's referrers tag, and yet answers as above; this
// goes by repository, since behind one address there may be several registries.
func (u *Upstream) Referrers(ctx context.Context, repo string, d godigest.Digest, artifactType string) ([]ocispec.Descriptor, error) {
	if err := d.Validate(); err != nil {
		return nil, fmt.Errorf("referrers of %q: %w", d, err)
	}
	op := "referrers of " + repo + "@" + d.String()
	if u.noReferrers.has(repo, time.Now()) {
		list, _, err := u.referrersTag(ctx, repo, op, d, artifactType)
		return list, err
	}
	path := "/referrers/" + d.String()
	query := ""
	if artifactType != "" {
		query = "?" + url.Values{"artifactType": {artifactType}}.Encode()
	}
	var all []ocispec.Descriptor
	seen := make(map[godigest.Digest]bool)
	for page := 0; ; page++ {
		if page == maxPages {
			return nil, &ContentError{Upstream: u.name, Op: op, Reason: fmt.Sprintf("more than %d pages", maxPages)}
		}
		p, err := u.referrersPage(ctx, repo, op, path, query, artifactType)
		if page == 0 && unavailable(err) {
			list, found, err := u.referrersTag(ctx, repo, op, d, artifactType)
			if err == nil && (found || u.holds(ctx, repo, d)) {
				u.noReferrers.add(repo, time.Now())
			}
			return list, err
		}
		if err != nil {
			return nil, err
		}
		for _, desc := range p.descriptors {
			if !seen[desc.Digest] {
				seen[desc.Digest] = true
				all = append(all, desc)
			}
		}
		if len(all) > maxReferrers {
			return nil, &ContentError{Upstream: u.name, Op: op, Reason: fmt.Sprintf("more than %d referrers", maxReferrers)}
		}
		if !p.more {
			return all, nil
		}
		query = "?" + p.next
	}
}

// referrersPage is one answer of the referrers API.
type referrersPage struct {
	descriptors []ocispec.Descriptor
	next        string // query of the next page
	more        bool
}

func (u *Upstream) referrersPage(ctx context.Context, repo, op, path, query, artifactType string) (p referrersPage, err error) {
	err = u.do(ctx, request{
		method: http.MethodGet, repo: repo, kind: kindReferrers, op: op, path: path + query,
		header: map[string]string{"Accept": ocispec.MediaTypeImageIndex},
	}, func(resp *http.Response) error {
		defer func() { _ = resp.Body.Close() }()
		b, err := u.readAll(ctx, op, resp)
		if err != nil {
			return err
		}
		p = referrersPage{}
		if p.descriptors, err = parseReferrers(mediaType(resp), b); err != nil {
			return &ContentError{Upstream: u.name, Op: op, Reason: err.Error()}
		}
		if !slices.ContainsFunc(resp.Header.Values("OCI-Filters-Applied"), func(v string) bool { return strings.Contains(v, "artifactType") }) {
			p.descriptors = ofType(p.descriptors, artifactType)
		}
		link := nextLink(resp.Header.Values("Link"))
		if link == "" {
			return nil
		}
		next, err := (&url.URL{Scheme: u.base.Scheme, Host: u.base.Host, Path: "/v2/" + repo + path}).Parse(link)
		if err != nil || next.Host != u.base.Host || next.Path != "/v2/"+repo+path {
			return &ContentError{Upstream: u.name, Op: op, Reason: fmt.Sprintf("the next page is said to be elsewhere: %q", link)}
		}
		p.next, p.more = next.RawQuery, true
		return nil
	})
	return p, err
}

// unavailable reports whether a registry answers as one without referrers API.
// The request is well-formed, so a 400 is of a registry that does not know it.
func unavailable(err error) bool {
	var status *StatusError
	if !errors.As(err, &status) {
		return false
	}
	switch status.Status {
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusBadRequest, http.StatusNotAcceptable:
		return true
	}
	return false
}

// referrersTag reads the list from the tag that clients keep for registries
// without referrers API (OCI distribution 1.1, "Referrers Tag Schema"). found
// says that there is such a tag.
func (u *Upstream) referrersTag(ctx context.Context, repo, op string, d godigest.Digest, artifactType string) (list []ocispec.Descriptor, found bool, err error) {
	hex := d.Encoded()
	m, err := u.Manifest(ctx, repo, d.Algorithm().String()+"-"+hex[:min(len(hex), 64)])
	var status *StatusError
	if errors.As(err, &status) && status.Status == http.StatusNotFound {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	if list, err = parseReferrers(m.MediaType, m.Bytes); err != nil {
		return nil, true, &ContentError{Upstream: u.name, Op: op, Reason: err.Error()}
	}
	return ofType(list, artifactType), true, nil
}

// holds reports whether the upstream says that repo has the manifest d.
func (u *Upstream) holds(ctx context.Context, repo string, d godigest.Digest) bool {
	return u.do(ctx, request{
		method: http.MethodHead, repo: repo, kind: kindManifest, op: "manifest " + repo + "@" + d.String(), path: "/manifests/" + d.String(),
		header: map[string]string{"Accept": manifestTypes},
	}, func(resp *http.Response) error { return resp.Body.Close() }) == nil
}

// absent remembers repositories without referrers API. The zero value is ready.
type absent struct {
	mu sync.Mutex
	m  map[string]time.Time // since when
}

func (a *absent) has(repo string, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	since, ok := a.m[repo]
	return ok && now.Sub(since) < absentFor
}

func (a *absent) add(repo string, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.m == nil || len(a.m) >= maxAbsent {
		a.m = make(map[string]time.Time)
	}
	a.m[repo] = now
}

// parseReferrers reads an image index. mediaType is what the answer was
// declared as.
func parseReferrers(mediaType string, b []byte) ([]ocispec.Descriptor, error) {
	if mediaType != ocispec.MediaTypeImageIndex {
		return nil, fmt.Errorf("not a list of referrers but %q", mediaType)
	}
	var index struct {
		SchemaVersion int                   `json:"schemaVersion"`
		MediaType     string                `json:"mediaType"`
		Manifests     *analyzer.Descriptors `json:"manifests"`
	}
	if err := json.Unmarshal(b, &index); err != nil {
		return nil, fmt.Errorf("not a list of referrers: %w", err)
	}
	if index.SchemaVersion != 2 || index.MediaType != "" && index.MediaType != ocispec.MediaTypeImageIndex || index.Manifests == nil {
		return nil, errors.New("not a list of referrers: no image index of version 2")
	}
	for i, d := range *index.Manifests {
		if err := d.Digest.Validate(); err != nil || d.Digest.Algorithm() != godigest.SHA256 {
			return nil, fmt.Errorf("referrer %d has the digest %q, want sha256", i, d.Digest)
		}
		if d.Size < 0 {
			return nil, fmt.Errorf("referrer %d has the size %d", i, d.Size)
		}
	}
	return *index.Manifests, nil
}

// ofType keeps the descriptors of one artifactType; "" keeps all.
func ofType(list []ocispec.Descriptor, artifactType string) []ocispec.Descriptor {
	if artifactType == "" {
		return list
	}
	return slices.DeleteFunc(list, func(d ocispec.Descriptor) bool { return d.ArtifactType != artifactType })
}

// nextLink returns the target of the link to the next page, "" if there is none
// (RFC 8288, section 3).
func nextLink(header []string) string {
	for _, rest := range header {
		for {
			_, after, ok := strings.Cut(rest, "<")
			if !ok {
				break
			}
			target, params, ok := strings.Cut(after, ">")
			if !ok {
				break
			}
			rest = ""
			if i := strings.IndexByte(params, '<'); i >= 0 {
				params, rest = params[:i], params[i:]
			}
			for p := range strings.SplitSeq(params, ";") {
				key, value, _ := strings.Cut(strings.Trim(p, ", \t"), "=")
				if strings.EqualFold(key, "rel") && slices.Contains(strings.Fields(strings.Trim(value, `"`)), "next") {
					return target
				}
			}
		}
	}
	return ""
}
