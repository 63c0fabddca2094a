package integration

import (
	"bufio"
	"compress/gzip"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	godigest "github.com/opencontainers/go-digest"
	"github.com/ulikunitz/xz"
)

// rootfs is a real root file system of the shared data.
type rootfs struct {
	name  string // a repository name: alpine-minirootfs-3.18.9-x86_64
	path  string
	image v1.Image
}

// rootfses makes an image of each root file system in the shared data.
func rootfses(t *testing.T) []rootfs {
	t.Helper()
	paths := must(filepath.Glob(filepath.Join(shared(t, "rootfs"), "*.tar.*")))(t)
	if len(paths) == 0 {
		t.Fatal("no root file systems in the shared data")
	}
	var out []rootfs
	for _, p := range paths {
		name, _, _ := strings.Cut(filepath.Base(p), ".tar.")
		arch := "amd64"
		if strings.Contains(name, "aarch64") {
			arch = "arm64"
		}
		out = append(out, rootfs{name: name, path: p, image: image(t, arch, layerOf(t, archive(t, p)))})
	}
	return out
}

// archive returns the tar archive in a .tar.gz or .tar.xz file.
func archive(t *testing.T, path string) []byte {
	t.Helper()
	f := must(os.Open(path))(t)
	defer f.Close()
	var r io.Reader
	if strings.HasSuffix(path, ".xz") {
		r = must(xz.NewReader(bufio.NewReader(f)))(t)
	} else {
		r = must(gzip.NewReader(f))(t)
	}
	return must(io.ReadAll(r))(t)
}

// TestShared puts every root file system of the shared data behind one server
// that judges by all of the shared advisories.
func TestShared(t *testing.T) {
	all := rootfses(t)
	u := newUpstream(t)
	for _, r := range all {
		u.push(t, r.name, "real", r.image)
	}
	s := start(t, options{upstream: u.URL, advisories: shared(t, "osv")})
	for _, r := range all {
		t.Run(r.name, func(t *testing.T) { pullRootfs(t, s, r) })
	}
	if n := s.metric(t, "sluice_analyses_total"); n != float64(len(all)) {
		t.Errorf("%v analyses of %d images", n, len(all))
	}
	t.Run("findings in AlmaLinux", func(t *testing.T) { compareFindings(t, s) })
	t.Run("real vulnerable package", func(t *testing.T) { pullMinimist(t, s, u) })
}

// pullRootfs pulls with every client. What the client gets must be what the API
// says of the digest: the upstream's bytes, or the reason.
func pullRootfs(t *testing.T, s *server, r rootfs) {
	digest := godigest.Digest(must(r.image.Digest())(t).String())
	a := s.get(t, "/v2/up/"+r.name+"/manifests/real")
	list := s.verdicts(t, url.Values{"image": {"up/" + r.name}})
	if len(list) != 1 || list[0].Digest != digest.String() {
		t.Fatalf("verdicts: %+v, want one of %s", list, digest)
	}
	v := list[0]
	t.Logf("%s: %s, %d reasons", r.name, v.Decision, len(v.Reasons))
	served := v.Decision == "allow" || v.Decision == "annotate"
	if served {
		wantPull(t, s, "up/"+r.name, "real", r.image)
	} else if a.status != http.StatusForbidden {
		t.Errorf("%d for the decision %s", a.status, v.Decision)
	}
	for _, c := range clients() {
		t.Run(c.name, func(t *testing.T) {
			for _, reference := range []string{":real", "@" + digest.String()} {
				out, err := c.pull(t, s.registry+"/up/"+r.name+reference, digest)
				if (err == nil) != served {
					t.Errorf("pull %s: %v, the decision is %s\n%s", reference, err, v.Decision, out)
				}
				if !served && !strings.Contains(out, "(verdict "+v.ID+")") {
					t.Errorf("pull %s does not name the verdict %s:\n%s", reference, v.ID, out)
				}
			}
		})
	}
}

// pullMinimist adds a package with a critical advisory to a real Alpine: it
// alone makes the difference.
func pullMinimist(t *testing.T, s *server, u *upstream) {
	base := layerOf(t, archive(t, shared(t, "rootfs/alpine-minirootfs-3.18.9-x86_64.tar.gz")))
	img := image(t, "amd64", base, layer(t, files{
		{"app/node_modules/minimist/package.json", `{"name": "minimist", "version": "1.2.5", "license": "MIT"}`},
	}))
	digest := u.push(t, "minimist", "1", img)
	for _, c := range clients() {
		t.Run(c.name, func(t *testing.T) {
			out, err := c.pull(t, s.registry+"/up/minimist:1", digest)
			if err == nil {
				t.Error("pulled, want a refusal")
			}
			for _, word := range []string{"CVE-2021-44906", "critical", "minimist", "1.2.5", "1.2.6", "app/node_modules/minimist", "(verdict "} {
				if !strings.Contains(out, word) {
					t.Errorf("the client does not print %q:\n%s", word, out)
				}
			}
		})
	}
}
