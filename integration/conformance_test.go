package integration

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	godigest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// suite is the conformance suite of the OCI distribution specification, which
// has the tests of version 1.1 and of what comes after it ("dev").
const suite = "github.com/opencontainers/distribution-spec/conformance@v0.0.0-20260831232431-97274622c111"

// anything is a policy without rules: the suite's images are none that run, and
// their configs name other layers than they have.
const anything = "version: 1\npolicies:\n  - {name: anything, images: [\"**\"], rules: []}\n" +
	"waivers:\n  - {rule: digest-chain, images: [\"**\"], owner: tests, reason: the suite's images have made-up diffIDs, expires: 2999-01-01}\n"

// TestConformance runs the suite against the program, once as a registry that
// only serves what is there already, and then with data of the suite's own: it
// pushes them to the upstream and reads them through the program.
func TestConformance(t *testing.T) {
	t.Parallel()
	run := install(t, suite)
	for _, version := range []string{"1.1", "dev"} {
		t.Run(version, func(t *testing.T) {
			t.Run("read-only", func(t *testing.T) { conformReadOnly(t, run, version) })
			t.Run("data", func(t *testing.T) { conformData(t, run, version) })
		})
	}
}

// conformReadOnly has no requests but reads. In this mode the suite does not
// look at the answers' digest header and then misses it, so it is not asked to.
func conformReadOnly(t *testing.T, run, version string) {
	u := newReferringUpstream(t)
	img := image(t, "amd64", layer(t, alpine(clean)), layer(t, files{{"etc/motd", "hello"}}))
	both := index(img, image(t, "arm64", layer(t, alpine(noisy))))
	signed := must(partial.Descriptor(img))(t)
	signature := mutate.Subject(image(t, "amd64", layer(t, files{{"signature", "of img"}})), *signed)
	for tag, m := range map[string]manifest{"single": img, "multi": both, "docker": docker(t, clean)} {
		u.push(t, "conformance", tag, m)
	}
	referrer := u.push(t, "conformance", "signature", signature.(v1.Image)) //nolint:errcheck // Subject returns what it was given
	s := start(t, options{upstream: u.URL, advisories: smallFeed(t), config: "policy:\n  file: " + policyFile(t, anything) + "\n"})

	manifests := []string{must(img.Digest())(t).String(), must(both.Digest())(t).String(), referrer.String()}
	var blobs []string
	for digest := range contentOf(t, img) {
		blobs = append(blobs, digest)
	}
	conform(t, run, upstreams, []string{
		"ping", "empty/tag list", "empty/referrers", "read-only/tag-list", "read-only/referrers",
		"read-only/head/manifest-head-by-tag", "read-only/head/manifest-head-by-digest", "read-only/head/blob-head",
		"read-only/pull/manifest-by-tag", "read-only/pull/manifest-by-digest", "read-only/pull/blob-get",
		"missing-manifest/by-digest", "missing-manifest/by-tag",
	},
		"OCI_VERSION="+version, "OCI_REGISTRY="+s.registry, "OCI_REPO1=up/conformance", "OCI_API_PUSH=false",
		"OCI_API_MANIFESTS_DIGEST_HEADER=false", "OCI_RO_DATA_TAGS=single multi docker signature", "OCI_RO_DATA_MANIFESTS="+strings.Join(manifests, " "),
		"OCI_RO_DATA_BLOBS="+strings.Join(blobs, " "), "OCI_RO_DATA_REFERRERS="+manifests[0])
}

// conformData reads every kind of content that the suite makes. It makes no
// image with layers that only other servers have: the gate does not let pass
// what it cannot read.
func conformData(t *testing.T, run, version string) {
	u := newReferringUpstream(t)
	s := start(t, options{upstream: u.URL, advisories: smallFeed(t), config: "tagTTL: 0s\npolicy:\n  file: " + policyFile(t, anything) + "\n"})
	front := httptest.NewServer(newSplitter(u, s))
	t.Cleanup(front.Close)
	var want []string
	for _, data := range []string{
		"image", "image-uncompressed", "large-manifest", "index", "nested-index", "empty-index", "artifact", "artifact-index",
		"artifact-without-layers", "artifacts-with-subject", "index-with-subject", "missing-subject", "data-field", "custom-fields", "no-layers",
	} {
		want = append(want, data+"/tag-list", data+"/head/manifest-head-by-tag", data+"/head/manifest-head-by-digest",
			data+"/pull/manifest-by-tag", data+"/pull/manifest-by-digest")
		if data != "empty-index" {
			want = append(want, data+"/head/blob-head", data+"/pull/blob-get")
		}
		if strings.Contains(data, "subject") {
			want = append(want, data+"/referrers")
		}
	}
	conform(t, run, upstreams, want, "OCI_VERSION="+version, "OCI_REGISTRY="+strings.TrimPrefix(front.URL, "http://"),
		"OCI_API_MANIFESTS_DIGEST_HEADER=true", "OCI_API_BLOBS_DIGEST_HEADER=true", "OCI_DATA_SHA512=false", "OCI_DATA_NONDISTRIBUTABLE=false")
}

// splitter sends writes past the program to the upstream, and reads to the
// program. Only what the program rightly does not serve is read from the
// upstream: uploads, and blobs that no manifest names yet.
type splitter struct {
	upstream *referring
	program  http.Handler
	mu       sync.Mutex
	named    map[string]bool // digests in pushed manifests
}

func newSplitter(u *referring, s *server) *splitter {
	program := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { // and no X-Forwarded-For: it stands for the client itself
		r.SetURL(&url.URL{Scheme: "http", Host: s.registry})
		r.Out.Host = r.In.Host
	}}
	return &splitter{upstream: u, program: program, named: map[string]bool{}}
}

var digestText = regexp.MustCompile(`sha256:[0-9a-f]{64}`)

func (s *splitter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	read := r.Method == http.MethodGet || r.Method == http.MethodHead
	_, digest, blob := strings.Cut(r.URL.Path, "/blobs/")
	s.mu.Lock()
	pushing := blob && !s.named[digest]
	s.mu.Unlock()
	switch {
	case read && !pushing:
		s.program.ServeHTTP(w, r)
		return
	case r.Method == http.MethodPut && !blob:
		body, err := io.ReadAll(r.Body)
		reference := path.Base(r.URL.Path)
		if err != nil || strings.Contains(reference, ":") && reference != godigest.FromBytes(body).String() {
			http.Error(w, "not the digest of the manifest", http.StatusBadRequest)
			return
		}
		s.mu.Lock()
		for _, d := range digestText.FindAllString(string(body), -1) {
			s.named[d] = true
		}
		s.mu.Unlock()
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	s.upstream.front.ServeHTTP(w, r)
}

// referring is an upstream with the referrers API, which tells where it put
// content (OCI distribution 1.1, "Pushing blobs", "Listing Referrers").
type referring struct {
	*upstream
	mu        sync.Mutex
	referrers map[string][]ocispec.Descriptor // by the path that they are asked for with
}

func newReferringUpstream(t *testing.T) *referring {
	u := &referring{upstream: newUpstream(t), referrers: map[string][]ocispec.Descriptor{}}
	u.guard(http.HandlerFunc(u.answer))
	return u
}

func (u *referring) answer(w http.ResponseWriter, r *http.Request) {
	name, _, manifest := strings.Cut(r.URL.Path, "/manifests/")
	if r.Method == http.MethodPut && manifest {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = u.refer(w.Header(), name, body)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	u.mu.Lock()
	list, listed := u.referrers[r.URL.Path]
	u.mu.Unlock()
	if listed && r.Method == http.MethodGet {
		w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
		_ = json.NewEncoder(w).Encode(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: list})
		return
	}
	location := r.URL.Path
	if name, _, blob := strings.Cut(location, "/blobs/"); blob {
		location = name + "/blobs/" + r.URL.Query().Get("digest")
	}
	u.content.ServeHTTP(&locating{w, location}, r)
}

// refer notes what the manifest in body refers to.
func (u *referring) refer(head http.Header, name string, body []byte) error {
	var m ocispec.Manifest // an index has the same names
	if err := json.Unmarshal(body, &m); err != nil || m.Subject == nil {
		return err
	}
	d := ocispec.Descriptor{
		MediaType: m.MediaType, Digest: godigest.FromBytes(body), Size: int64(len(body)),
		ArtifactType: cmp.Or(m.ArtifactType, m.Config.MediaType), Annotations: m.Annotations,
	}
	list := name + "/referrers/" + m.Subject.Digest.String()
	u.mu.Lock()
	defer u.mu.Unlock()
	if !slices.ContainsFunc(u.referrers[list], func(have ocispec.Descriptor) bool { return have.Digest == d.Digest }) {
		u.referrers[list] = append(u.referrers[list], d)
	}
	head.Set("OCI-Subject", m.Subject.Digest.String())
	return nil
}

// locating tells where what was created is.
type locating struct {
	http.ResponseWriter
	location string
}

func (l *locating) WriteHeader(status int) {
	if status == http.StatusCreated {
		l.Header().Set("Location", l.location)
	}
	l.ResponseWriter.WriteHeader(status)
}

func policyFile(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "policy.yaml")
	write(t, name, []byte(text))
	return name
}

// result is a line of the suite's report.
var result = regexp.MustCompile(`(?m)^( *)OCI Conformance Test/(.+): (Pass|FAIL|Error|Skip|Disabled)$`)

// upstreams tells the cases that are answered by the upstream.
func upstreams(name string) bool {
	return strings.Contains(name, "/push/") || strings.HasPrefix(name, "sha256 blobs/")
}

// conform runs the suite with this configuration. It fails on each case that
// fails and is not another's, or that the suite skips because it takes a feature
// as missing, and on what is in want and did not pass.
//
// The report is read from the output, since the suite at this version panics
// before it writes its files where pushing is disabled.
func conform(t *testing.T, run string, others func(name string) bool, want []string, config ...string) {
	t.Helper()
	dir := t.TempDir()
	out, err := runSuite(t, run, dir, append([]string{
		"OCI_TLS=disabled", "OCI_RESULTS_DIR=" + dir, "OCI_LOG=error",
		"OCI_API_BLOBS_DELETE=false", "OCI_API_MANIFESTS_DELETE=false", "OCI_API_TAGS_DELETE=false",
	}, config...))
	text := string(out)
	if !strings.Contains(text, "OCI Conformance Result:") {
		t.Fatalf("the suite gave no result: %v\n%s", err, text)
	}
	lines := result.FindAllStringSubmatchIndex(text, -1)
	var passed, disabled []string
	for i, l := range lines {
		end := strings.Index(text, "Configuration:")
		if i+1 < len(lines) {
			if next := lines[i+1]; next[3]-next[2] > l[3]-l[2] {
				continue // it sums up the next lines
			}
			end = lines[i+1][0]
		}
		name, status, why := text[l[4]:l[5]], text[l[6]:l[7]], text[l[1]:end]
		switch {
		case status == "Pass":
			passed = append(passed, name)
		case status == "Disabled":
			disabled = append(disabled, name)
		case others(name):
			t.Logf("not ours: %s: %s", name, status)
		default:
			t.Errorf("%s: %s%s", name, status, why)
		}
	}
	for _, name := range want {
		if !slices.Contains(passed, name) {
			t.Errorf("%s did not pass", name)
		}
	}
	t.Logf("%d cases passed, %d are disabled:\n%s", len(passed), len(disabled), strings.Join(disabled, "\n"))
}

// runSuite runs a conformance suite in dir and returns what it says.
func runSuite(t *testing.T, program, dir string, config []string) ([]byte, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program)
	cmd.Dir, cmd.Env = dir, append(environment(), config...)
	return cmd.CombinedOutput()
}

// install builds a program of another module, version and all, or ends the test.
func install(t *testing.T, module string) string {
	t.Helper()
	dir := t.TempDir()
	goTool(t, dir, []string{"GOBIN=" + dir}, "install", module)
	name, _, _ := strings.Cut(module, "@")
	return filepath.Join(dir, filepath.Base(name))
}

// goTool runs the go command for another module and returns its output, or ends
// the test.
func goTool(t *testing.T, dir string, env []string, args ...string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 6*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", args...)
	var stderr bytes.Buffer
	cmd.Dir, cmd.Stderr = dir, &stderr
	cmd.Env = append(append(os.Environ(), "GOFLAGS=-trimpath"), env...)
	out, err := cmd.Output()
	switch {
	case err != nil && onCI():
		t.Fatalf("go %s: %v\n%s%s", strings.Join(args, " "), err, stderr.Bytes(), out)
	case err != nil:
		t.Skipf("another module cannot be had: go %s: %v\n%s%s", strings.Join(args, " "), err, stderr.Bytes(), out)
	}
	return out
}
