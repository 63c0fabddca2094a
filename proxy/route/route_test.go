package route

import (
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const dgst = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func table(t testing.TB) *Table {
	t.Helper()
	tab, err := NewTable([]Upstream{
		{Name: "docker.io", Aliases: []string{"index.docker.io", "registry-1.docker.io"}, Library: true},
		{Name: "ghcr.io"},
		{Name: "registry.corp:5000"},
		{Name: "up"},
	}, "docker.io", "local")
	if err != nil {
		t.Fatal(err)
	}
	return tab
}

func TestParse(t *testing.T) {
	tab := table(t)
	for _, tt := range []struct {
		url  string
		want Route
		err  error
	}{
		{url: "/v2/", want: Route{Kind: Base}},
		{url: "/v2", want: Route{Kind: Base}},
		{url: "/v2/_catalog", want: Route{Kind: Catalog}},
		{url: "/v2/nginx/manifests/1.27", want: Route{Kind: Manifest, Upstream: "docker.io", Repository: "library/nginx", Name: "docker.io/library/nginx", Asked: "nginx", Tag: "1.27"}},
		{url: "/v2/library/nginx/manifests/1.27", want: Route{Kind: Manifest, Upstream: "docker.io", Repository: "library/nginx", Name: "docker.io/library/nginx", Asked: "library/nginx", Tag: "1.27"}},
		{url: "/v2/docker.io/library/nginx/manifests/1.27", want: Route{Kind: Manifest, Upstream: "docker.io", Repository: "library/nginx", Name: "docker.io/library/nginx", Asked: "docker.io/library/nginx", Tag: "1.27"}},
		{url: "/v2/docker.io/nginx/manifests/1.27", want: Route{Kind: Manifest, Upstream: "docker.io", Repository: "library/nginx", Name: "docker.io/library/nginx", Asked: "docker.io/nginx", Tag: "1.27"}},
		{url: "/v2/index.docker.io/nginx/manifests/1", want: Route{Kind: Manifest, Upstream: "docker.io", Repository: "library/nginx", Name: "docker.io/library/nginx", Asked: "index.docker.io/nginx", Tag: "1"}},
		{url: "/v2/library/nginx/manifests/1.27?ns=docker.io", want: Route{Kind: Manifest, Upstream: "docker.io", Repository: "library/nginx", Name: "docker.io/library/nginx", Asked: "library/nginx", Tag: "1.27"}},
		{url: "/v2/library/nginx/manifests/1.27?ns=Docker.IO", want: Route{Kind: Manifest, Upstream: "docker.io", Repository: "library/nginx", Name: "docker.io/library/nginx", Asked: "library/nginx", Tag: "1.27"}},
		{url: "/v2/ghcr.io/acme/app/blobs/" + dgst + "?ns=ghcr.io", want: Route{Kind: Blob, Upstream: "ghcr.io", Repository: "acme/app", Name: "ghcr.io/acme/app", Asked: "ghcr.io/acme/app", Digest: dgst}},
		{url: "/v2/acme/app/blobs/" + dgst + "?ns=registry.corp:5000", want: Route{Kind: Blob, Upstream: "registry.corp:5000", Repository: "acme/app", Name: "registry.corp:5000/acme/app", Asked: "acme/app", Digest: dgst}},
		{url: "/v2/up/app/manifests/" + dgst, want: Route{Kind: Manifest, Upstream: "up", Repository: "app", Name: "up/app", Asked: "up/app", Digest: dgst}},
		{url: "/v2/up/app/manifests/x?ns=docker.io", want: Route{Kind: Manifest, Upstream: "docker.io", Repository: "up/app", Name: "docker.io/up/app", Asked: "up/app", Tag: "x"}},
		{url: "/v2/up/manifests/x", want: Route{Kind: Manifest, Upstream: "docker.io", Repository: "library/up", Name: "docker.io/library/up", Asked: "up", Tag: "x"}},
		{url: "/v2/a/blobs/blobs/" + dgst, want: Route{Kind: Blob, Upstream: "docker.io", Repository: "a/blobs", Name: "docker.io/a/blobs", Asked: "a/blobs", Digest: dgst}},
		{url: "/v2/local/team/app/blobs/uploads/", want: Route{Kind: Upload, Local: true, Repository: "team/app", Name: "local/team/app", Asked: "local/team/app"}},
		{url: "/v2/local/app/blobs/uploads/id-1", want: Route{Kind: Upload, Local: true, Repository: "app", Name: "local/app", Asked: "local/app", Session: "id-1"}},
		{url: "/v2/up/app/tags/list?n=2", want: Route{Kind: Tags, Upstream: "up", Repository: "app", Name: "up/app", Asked: "up/app"}},
		{url: "/v2/up/app/referrers/" + dgst, want: Route{Kind: Referrers, Upstream: "up", Repository: "app", Name: "up/app", Asked: "up/app", Digest: dgst}},
		{url: "/v2/_attest/docker.io/nginx/manifests/x", want: Route{Kind: Manifest, Side: true, Upstream: "docker.io", Repository: "library/nginx", Name: "docker.io/library/nginx", Asked: "_attest/docker.io/nginx", Tag: "x"}},
		{url: "/v2/_attest/local/app/blobs/" + dgst, want: Route{Kind: Blob, Side: true, Local: true, Repository: "app", Name: "local/app", Asked: "_attest/local/app", Digest: dgst}},

		{url: "/", err: ErrNotFound},
		{url: "/v1/x", err: ErrNotFound},
		{url: "/v2x/app/manifests/x", err: ErrNotFound},
		{url: "/v2/app", err: ErrNotFound},
		{url: "/v2/app/unknown/x", err: ErrNotFound},
		{url: "/v2/evil.example/app/manifests/x", err: ErrNameUnknown},
		{url: "/v2/127.0.0.1:80/app/manifests/x", err: ErrNameUnknown},
		{url: "/v2/app/manifests/x?ns=evil.example", err: ErrNameUnknown},
		{url: "/v2/ghcr.io/app/manifests/x?ns=docker.io", err: ErrNameUnknown},
		{url: "/v2/app/manifests/x?ns=docker.io&ns=ghcr.io", err: ErrNameInvalid},
		{url: "/v2/_attest/_attest/up/app/manifests/x", err: ErrNameInvalid},
		{url: "/v2/_attest/evil.example/app/manifests/x", err: ErrNameUnknown},
		{url: "/v2/_attest/manifests/x", err: ErrNameInvalid},
		{url: "/v2/local/_attest/app/manifests/x", err: ErrNameInvalid},
		{url: "/v2/App/manifests/x", err: ErrNameInvalid},
		{url: "/v2//manifests/x", err: ErrNameInvalid},
		{url: "/v2/a/../b/manifests/x", err: ErrNameInvalid},
		{url: "/v2/a%2fb/manifests/x", err: ErrNameInvalid},
		{url: "/v2/up/%61pp/manifests/x", err: ErrNameInvalid},
		{url: "/v2/" + strings.Repeat("a", 250) + "/manifests/x", err: ErrNameInvalid},
		{url: "/v2/up/app/manifests/-x", err: ErrTagInvalid},
		{url: "/v2/up/app/manifests/" + strings.Repeat("x", 129), err: ErrTagInvalid},
		{url: "/v2/up/app/manifests/", err: ErrTagInvalid},
		{url: "/v2/up/app/manifests/sha256:short", err: ErrDigestInvalid},
		{url: "/v2/up/app/manifests/" + strings.ToUpper(dgst), err: ErrDigestInvalid},
		{url: "/v2/up/app/blobs/sha256:" + strings.ToUpper(dgst[7:]), err: ErrDigestInvalid},
		{url: "/v2/up/app/blobs/sha512:" + strings.Repeat("a", 128), err: ErrDigestInvalid},
		{url: "/v2/up/app/blobs/latest", err: ErrDigestInvalid},
	} {
		t.Run(tt.url, func(t *testing.T) {
			u, err := url.Parse(tt.url)
			if err != nil {
				t.Fatal(err)
			}
			got, err := tab.Parse(u)
			if !errors.Is(err, tt.err) {
				t.Fatalf("Parse error = %v, want %v", err, tt.err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("Parse (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNewTableRefuses(t *testing.T) {
	for name, ups := range map[string][]Upstream{
		"upper case":      {{Name: "Docker.io"}},
		"alias twice":     {{Name: "a"}, {Name: "b", Aliases: []string{"a"}}},
		"local prefix":    {{Name: "local"}},
		"not a host":      {{Name: "a/b"}},
		"missing default": {{Name: "other"}},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := NewTable(ups, "up", "local"); err == nil {
				t.Error("no error")
			}
		})
	}
}

// FuzzParse checks what every later part relies on: a Route that comes out
// names a configured upstream and clean names.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"/v2/docker.io/library/nginx/manifests/1.27", "/v2/up/app/blobs/" + dgst, "/v2/a%2fb/manifests/x",
		"/v2/../manifests/x", "/v2/up/app/tags/list?ns=up", "/v2/x/blobs/uploads/", "/v2/_attest/up/app/manifests/x",
	} {
		f.Add(s)
	}
	tab := table(f)
	f.Fuzz(func(t *testing.T, s string) {
		u, err := url.Parse(s)
		if err != nil {
			return
		}
		r, err := tab.Parse(u)
		if err != nil || r.Kind == Base || r.Kind == Catalog {
			return
		}
		if _, ok := tab.byName[r.Upstream]; ok == r.Local {
			t.Fatalf("%q: upstream %q, local %v", s, r.Upstream, r.Local)
		}
		if len(r.Name) > maxName || strings.Contains(r.Name, "..") || strings.Contains(r.Name, "//") || !repository.MatchString(r.Repository) {
			t.Fatalf("%q: name %q", s, r.Name)
		}
		if r.Digest != "" && r.Digest.Validate() != nil {
			t.Fatalf("%q: digest %q", s, r.Digest)
		}
	})
}
