package upstream

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// referrer is a descriptor in JSON, of artifact type "t/"+kind.
func referrer(kind, s string) string {
	return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":7,"artifactType":"t/%s"}`, ocispec.MediaTypeImageManifest, godigest.FromString(s), kind)
}

func indexOf(descriptors ...string) string {
	return fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[%s]}`, ocispec.MediaTypeImageIndex, strings.Join(descriptors, ","))
}

func index(body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		answer(200, append([]string{"Content-Type", ocispec.MediaTypeImageIndex}, header...)...)(w, r)
		_, _ = io.WriteString(w, body)
	}
}

func TestReferrers(t *testing.T) {
	subject := godigest.FromString("subject")
	api, tag := "/v2/app/referrers/"+subject.String(), "/v2/app/manifests/sha256-"+subject.Encoded()
	first, second := "", "?page=2"
	a, b, c := referrer("sig", "a"), referrer("sbom", "b"), referrer("sig", "c")
	sha512 := fmt.Sprintf(`{"mediaType":"x","digest":%q,"size":7}`, godigest.SHA512.FromString("x"))
	type pages map[string]http.HandlerFunc
	for _, tt := range []struct {
		name    string
		answers pages // by path and query; others are a 404
		kind    string
		want    []string // what the referrers were made of
		status  int      // of the *StatusError
		content string   // in the *ContentError
	}{
		{name: "none", answers: pages{api + first: index(indexOf())}},
		{name: "some", answers: pages{api + first: index(indexOf(a, b, c))}, want: []string{"a", "b", "c"}},
		{name: "twice the same", answers: pages{api + first: index(indexOf(a, a))}, want: []string{"a"}},
		{name: "filtered here", answers: pages{api + "?artifactType=t%2Fsig": index(indexOf(a, b, c))}, kind: "t/sig", want: []string{"a", "c"}},
		{name: "filtered there", answers: pages{api + "?artifactType=t%2Fsig": index(indexOf(a, b), "OCI-Filters-Applied", "artifactType")}, kind: "t/sig", want: []string{"a", "b"}},
		{name: "two pages", answers: pages{
			api + first:  index(indexOf(a, b), "Link", `<`+api+second+`>; rel="next"`),
			api + second: index(indexOf(c)),
		}, want: []string{"a", "b", "c"}},
		{name: "relative link", answers: pages{
			api + first:  index(indexOf(a), "Link", `<?page=2>; rel=next`),
			api + second: index(indexOf(c)),
		}, want: []string{"a", "c"}},
		{name: "second page fails", answers: pages{
			api + first:  index(indexOf(a), "Link", `<`+api+second+`>; rel="next"`),
			api + second: answer(500),
		}, status: 500},
		{name: "second page is not there", answers: pages{api + first: index(indexOf(a), "Link", `<`+api+second+`>; rel="next"`)}, status: 404},
		{name: "endless", answers: pages{
			api + first:  index(indexOf(a), "Link", `<`+api+second+`>; rel="next"`),
			api + second: index(indexOf(b), "Link", `<`+api+second+`>; rel="next"`),
		}, content: "more than 16 pages"},
		{name: "next page on another host", answers: pages{api + first: index(indexOf(a), "Link", `<http://169.254.169.254`+api+`>; rel="next"`)}, content: "elsewhere"},
		{name: "next page of another path", answers: pages{api + first: index(indexOf(a), "Link", `</v2/other/tags/list>; rel="next"`)}, content: "elsewhere"},
		{name: "too many", answers: pages{api + first: func(w http.ResponseWriter, r *http.Request) {
			list := make([]string, maxReferrers+1)
			for i := range list {
				list[i] = referrer("sig", fmt.Sprint(i))
			}
			index(indexOf(list...))(w, r)
		}}, content: "more than 4096 descriptors"},
		{name: "too large", answers: pages{api + first: index(strings.Repeat(" ", MaxManifest+1))}, content: "larger than"},

		{name: "no API, tag", answers: pages{tag: index(indexOf(a, b))}, want: []string{"a", "b"}},
		{name: "no API, tag, filtered", answers: pages{tag: index(indexOf(a, b))}, kind: "t/sbom", want: []string{"b"}},
		{name: "no API, 405", answers: pages{api: answer(405), tag: index(indexOf(a))}, want: []string{"a"}},
		{name: "no API, 400", answers: pages{api: answer(400), tag: index(indexOf(a))}, want: []string{"a"}},
		{name: "no API, 406", answers: pages{api: answer(406), tag: index(indexOf(a))}, want: []string{"a"}},
		{name: "no API, no tag"},
		{name: "no API, tag fails", answers: pages{tag: answer(500)}, status: 500},
		{name: "no API, tag denied", answers: pages{tag: answer(403)}, status: 403},
		{name: "no API, tag limited", answers: pages{tag: answer(429)}, status: 429},
		{name: "no API, tag is an image", answers: pages{tag: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
			_, _ = io.WriteString(w, `{"schemaVersion":2}`)
		}}, content: "not a list of referrers"},

		{name: "401", answers: pages{api: answer(401)}, status: 401},
		{name: "403", answers: pages{api: answer(403)}, status: 403},
		{name: "429", answers: pages{api: answer(429)}, status: 429},
		{name: "500", answers: pages{api: answer(500)}, status: 500},
		{name: "501", answers: pages{api: answer(501)}, status: 501},
		{name: "204", answers: pages{api: answer(204)}, status: 204},
		{name: "a web page", answers: pages{api: func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }}, content: "text/html"},
		{name: "no JSON", answers: pages{api: index("<html>")}, content: "not a list of referrers"},
		{name: "empty object", answers: pages{api: index("{}")}, content: "no image index"},
		{name: "no manifests", answers: pages{api: index(`{"schemaVersion":2}`)}, content: "no image index"},
		{name: "null manifests", answers: pages{api: index(`{"schemaVersion":2,"manifests":null}`)}, content: "no image index"},
		{name: "another media type inside", answers: pages{api: index(`{"schemaVersion":2,"mediaType":"x","manifests":[]}`)}, content: "no image index"},
		{name: "no digest", answers: pages{api: index(indexOf(a, "{}"))}, content: "referrer 1 has the digest"},
		{name: "short digest", answers: pages{api: index(indexOf(`{"digest":"sha256:abc"}`))}, content: "referrer 0 has the digest"},
		{name: "sha512", answers: pages{api: index(indexOf(sha512))}, content: "want sha256"},
		{name: "negative size", answers: pages{api: index(indexOf(strings.Replace(a, ":7,", ":-7,", 1)))}, content: "has the size -7"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake(t)
			f.set(func() {
				f.answer = func(w http.ResponseWriter, r *http.Request) {
					if h, ok := tt.answers[r.URL.RequestURI()]; ok {
						h(w, r)
						return
					}
					w.WriteHeader(404)
				}
			})
			got, err := f.client(t, Config{}, anonymous).Referrers(t.Context(), "app", subject, tt.kind)
			var status *StatusError
			var content *ContentError
			switch {
			case tt.status != 0:
				if !errors.As(err, &status) || status.Status != tt.status || got != nil {
					t.Fatalf("Referrers = %v, %v, want status %d", got, err, tt.status)
				}
				return
			case tt.content != "":
				if !errors.As(err, &content) || !strings.Contains(err.Error(), tt.content) || got != nil {
					t.Fatalf("Referrers = %v, %v, want a *ContentError with %q", got, err, tt.content)
				}
				return
			case err != nil:
				t.Fatal(err)
			}
			var want, have []godigest.Digest
			for _, s := range tt.want {
				want = append(want, godigest.FromString(s))
			}
			for _, d := range got {
				have = append(have, d.Digest)
			}
			if diff := cmp.Diff(want, have); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestAbsentAPIIsRemembered counts what a registry is asked for in four calls:
// two at once, one in another repository, and one an hour later.
func TestAbsentAPIIsRemembered(t *testing.T) {
	subject := godigest.FromString("subject")
	tag := "/manifests/sha256-" + subject.Encoded()
	for _, tt := range []struct {
		name   string
		api    int // status of the API
		tag    http.HandlerFunc
		image  int // status of the subject's manifest
		counts map[string]int
	}{
		{"neither API nor tag", 404, answer(404), 200, map[string]int{"api": 3, "tag": 4, "image": 3}},
		{"405", 405, answer(404), 200, map[string]int{"api": 3, "tag": 4, "image": 3}},
		{"a tag proves the repository", 404, index(indexOf(referrer("sig", "a"))), 404, map[string]int{"api": 3, "tag": 4}},
		{"no such image", 404, answer(404), 404, map[string]int{"api": 4, "tag": 4, "image": 4}},
		{"the image is not to be had", 404, answer(404), 403, map[string]int{"api": 4, "tag": 4, "image": 4}},
		{"the tag fails", 404, answer(403), 200, map[string]int{"api": 4, "tag": 4}},
		{"the API refuses", 403, answer(404), 200, map[string]int{"api": 4}},
		{"there is an API", 200, answer(404), 200, map[string]int{"api": 4}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got := map[string]int{}
				u, _ := bubble(t, func(w http.ResponseWriter, r *http.Request) {
					switch {
					case strings.Contains(r.URL.Path, "/referrers/") && tt.api == 200:
						got["api"]++
						index(indexOf())(w, r)
					case strings.Contains(r.URL.Path, "/referrers/"):
						got["api"]++
						w.WriteHeader(tt.api)
					case strings.HasSuffix(r.URL.Path, tag):
						got["tag"]++
						tt.tag(w, r)
					default:
						got["image"]++
						w.WriteHeader(tt.image)
					}
				}, Options{}, Config{})
				for _, repo := range []string{"app", "app", "other"} {
					_, _ = u.Referrers(t.Context(), repo, subject, "") // what it says is TestReferrers'
				}
				time.Sleep(absentFor)
				_, _ = u.Referrers(t.Context(), "app", subject, "")
				if diff := cmp.Diff(tt.counts, got); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

func TestReferrersOfNoDigest(t *testing.T) {
	f := newFake(t)
	if _, err := f.client(t, Config{}, anonymous).Referrers(t.Context(), "app", "sha256:../../x", ""); err == nil {
		t.Error("no error")
	}
	if n := f.count("GET /v2/"); n != 0 {
		t.Errorf("%d requests sent", n)
	}
}

// TestReferrersOfRegistries reads lists that another implementation wrote: by
// the API and, with it switched off, by the tag that its client keeps.
func TestReferrersOfRegistries(t *testing.T) {
	for _, hasAPI := range []bool{true, false} {
		t.Run(fmt.Sprintf("API %v", hasAPI), func(t *testing.T) {
			srv := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(hasAPI)))
			defer srv.Close()
			repo, err := name.NewRepository(strings.TrimPrefix(srv.URL, "http://") + "/app")
			if err != nil {
				t.Fatal(err)
			}
			img, err := random.Image(100, 1)
			if err != nil {
				t.Fatal(err)
			}
			if err := remote.Write(repo.Tag("1"), img); err != nil {
				t.Fatal(err)
			}
			subject, err := partial.Descriptor(img)
			if err != nil {
				t.Fatal(err)
			}
			var want []godigest.Digest
			for _, kind := range []types.MediaType{"t/sig", "t/sbom"} {
				r, err := random.Image(100, 1)
				if err != nil {
					t.Fatal(err)
				}
				att, ok := mutate.Subject(mutate.ConfigMediaType(mutate.MediaType(r, types.OCIManifestSchema1), kind), *subject).(v1.Image)
				if !ok {
					t.Fatal("mutate.Subject gives no image")
				}
				d, err := att.Digest()
				if err != nil {
					t.Fatal(err)
				}
				if err := remote.Write(repo.Digest(d.String()), att); err != nil {
					t.Fatal(err)
				}
				want = append(want, godigest.Digest(d.String()))
			}
			c, err := New(Options{Upstreams: []Config{{Name: "up", URL: srv.URL}}, Anonymous: true})
			if err != nil {
				t.Fatal(err)
			}
			for kind, want := range map[string][]godigest.Digest{"": want, "t/sig": want[:1], "t/none": nil} {
				list, err := c.ups["up"].Referrers(t.Context(), "app", godigest.Digest(subject.Digest.String()), kind)
				if err != nil {
					t.Fatal(err)
				}
				var got []godigest.Digest
				for _, d := range list {
					got = append(got, d.Digest)
				}
				slices.Sort(got)
				want = slices.Sorted(slices.Values(want))
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%q: %s", kind, diff)
				}
			}
		})
	}
}

func TestResolveWhatIsKnown(t *testing.T) {
	known, other := godigest.FromString("known"), godigest.FromString("other")
	conditional := func(w http.ResponseWriter, r *http.Request) { // the tag names known
		w.Header().Set("Docker-Content-Digest", known.String())
		if r.Header.Get("If-None-Match") == `"`+known.String()+`"` {
			w.WriteHeader(http.StatusNotModified)
		}
	}
	for _, tt := range []struct {
		name   string
		answer http.HandlerFunc
		known  godigest.Digest
		want   godigest.Digest
		err    string
	}{
		{name: "304", answer: conditional, known: known, want: known},
		{name: "304 without digest", answer: answer(304), known: known, want: known},
		{name: "changed", answer: conditional, known: other, want: known},
		{name: "nothing known", answer: conditional, want: known},
		{name: "condition ignored", answer: answer(200, "Docker-Content-Digest", known.String()), known: known, want: known},
		{name: "condition ignored, changed", answer: answer(200, "Docker-Content-Digest", other.String()), known: known, want: other},
		{name: "304 of another digest", answer: answer(304, "Docker-Content-Digest", other.String()), known: known, err: "not modified"},
		{name: "304 unasked", answer: answer(304, "Docker-Content-Digest", other.String()), err: "304"},
		{name: "404", answer: answer(404), known: known, err: "404"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake(t)
			f.set(func() { f.answer = tt.answer })
			desc, err := f.client(t, Config{}, anonymous).Resolve(t.Context(), "app", "1", tt.known)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) || desc.Digest != "" {
					t.Fatalf("Resolve = %v, %v, want an error with %q", desc, err, tt.err)
				}
				return
			}
			if err != nil || desc.Digest != tt.want {
				t.Errorf("Resolve = %v, %v, want %s", desc.Digest, err, tt.want)
			}
		})
	}
}

func FuzzReferrers(f *testing.F) {
	f.Add(indexOf(referrer("sig", "a")))
	f.Add(indexOf())
	f.Add(`{"schemaVersion":2,"manifests":null}`)
	f.Add(indexOf(`{"digest":":"}`, `{"digest":"sha256:","size":-1}`))
	f.Fuzz(func(t *testing.T, s string) {
		list, err := parseReferrers(ocispec.MediaTypeImageIndex, []byte(s))
		if err != nil && list != nil {
			t.Error("a list with an error")
		}
		for _, d := range list {
			if d.Digest.Validate() != nil || d.Digest.Algorithm() != godigest.SHA256 || d.Size < 0 {
				t.Errorf("passed: %+v", d)
			}
		}
	})
}

func TestNextLink(t *testing.T) {
	for in, want := range map[string]string{
		"":                                   "",
		`</a?n=1>; rel="next"`:               "/a?n=1",
		`</a>;rel=next`:                      "/a",
		`</a>; title="x"; REL="prev next"`:   "/a",
		`</a>; rel="prev", </b>; rel="next"`: "/b",
		`</a>; rel="prev"`:                   "",
		`</a>; rel="nextish"`:                "",
		`</a; rel="next"`:                    "",
		`rel="next"`:                         "",
	} {
		if got := nextLink([]string{in}); got != want {
			t.Errorf("nextLink(%s) = %q, want %q", in, got, want)
		}
	}
	if got := nextLink([]string{`</a>; rel="prev"`, `</b>; rel="next"`}); got != "/b" {
		t.Errorf("two headers: %q", got)
	}
}

func FuzzNextLink(f *testing.F) {
	for _, s := range []string{`</a?n=1>; rel="next"`, `<<>>;;rel==next`, `</a>; rel="prev", </b>; rel="next"`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got := nextLink([]string{s}); got != "" && !strings.Contains(s, "<"+got+">") {
			t.Errorf("nextLink(%q) = %q, which is no target of it", s, got)
		}
	})
}
