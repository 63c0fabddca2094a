package integration

import (
	"bytes"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	godigest "github.com/opencontainers/go-digest"
)

// nodes are all clients.
func nodes() []client { return append(clients(), containerd(), cri()) }

// fleet is an upstream, a server before it, and clients that ask for images by
// the registry's name. That name is the address of a second door to the same
// content, which the server does not use, so that whoever comes through it goes
// past the server.
type fleet struct {
	*upstream
	*server
	address string // the registry's name
	door    *httptest.Server

	mu     sync.Mutex
	direct []string // requests through the second door
}

func newFleet(t *testing.T, config string) *fleet {
	f := &fleet{upstream: newUpstream(t)}
	f.door = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.direct = append(f.direct, r.Method+" "+r.URL.Path+" by "+r.UserAgent())
		f.mu.Unlock()
		f.content.ServeHTTP(w, r)
	}))
	t.Cleanup(f.door.Close)
	f.address = strings.TrimPrefix(f.door.URL, "http://")
	f.server = start(t, options{
		advisories: smallFeed(t),
		config:     "upstreams:\n  up:\n    url: " + f.URL + "\n    aliases: [\"" + f.address + "\"]\n" + config,
	})
	return f
}

// past returns what clients asked the registry itself.
func (f *fleet) past() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.direct)
}

// pull pulls name:1 on a new machine and returns it with what the client printed.
func (f *fleet) pull(t *testing.T, c client, name string, want godigest.Digest) (m machine, out string, err error) {
	t.Helper()
	m = newMachine(t)
	reference := f.registry + "/up/" + name + ":1"
	if c.mirrors {
		m.mirror(t, f.address, f.registry)
		reference = f.address + "/" + name + ":1"
	}
	out, err = c.into(t, m, reference, want)
	return m, out, err
}

// wantRefused pulls name:1 and fails the test where the client gets it, any
// whole blob of it, or no reason.
func (f *fleet) wantRefused(t *testing.T, c client, name string, img v1.Image) {
	t.Helper()
	m, out, err := f.pull(t, c, name, godigest.Digest(must(img.Digest())(t).String()))
	if err == nil {
		t.Errorf("pulled, want a refusal\n%s", out)
	}
	words := []string{"403"}
	if c.tells {
		words = []string{victimCVE, "libvictim", "1.0.1-r0", "(verdict "}
	}
	for _, word := range words {
		if !strings.Contains(out, word) {
			t.Errorf("the client does not print %q:\n%s", word, out)
		}
	}
	wantNothingWhole(t, m, img)
}

// wantNothingWhole fails the test where a file of the machine is a blob of img.
func wantNothingWhole(t *testing.T, m machine, img v1.Image) {
	t.Helper()
	blobs := contentOf(t, img)
	err := filepath.WalkDir(m.dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(name)
		if d := godigest.FromBytes(data).String(); err == nil && blobs[d] != nil {
			t.Errorf("%s is the blob %s of an image that was refused", name, d)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// big makes an image of which each name has its own, and returns the digest and
// bytes of its large layer, which comes last.
func big(t *testing.T, name string, pkgs []apk) (img v1.Image, digest string, body []byte) {
	t.Helper()
	img = image(t, "amd64", layer(t, append(alpine(pkgs), files{{"etc/name", name}}...)),
		layer(t, files{{"usr/share/name", name}, {"usr/share/filler", noise(500_000)}}))
	digest = must(must(img.Layers())(t)[1].Digest())(t).String()
	return img, digest, contentOf(t, img)[digest]
}

// TestNodes pulls with each client as nodes do: by the upstream's name, through
// the server alone.
func TestNodes(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "tagTTL: 0s\n")
	t.Run("clients", func(t *testing.T) {
		for _, c := range nodes() {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				t.Run("allowed", func(t *testing.T) { nodeAllowed(t, f, c) })
				t.Run("denied", func(t *testing.T) { nodeDenied(t, f, c) })
				t.Run("upstream cut", func(t *testing.T) { nodeCut(t, f, c) })
			})
		}
	})
	for _, request := range f.past() {
		t.Errorf("past the server: %s", request)
	}
	f.Close()
	f.door.Close()
	for _, c := range nodes() {
		t.Run("upstream down/"+c.name, func(t *testing.T) {
			t.Parallel()
			img, _, _ := big(t, c.name+"-allowed", clean)
			if _, out, err := f.pull(t, c, c.name+"/allowed", godigest.Digest(must(img.Digest())(t).String())); err != nil {
				t.Errorf("with a warm cache: %v\n%s", err, out)
			}
			denied, _, _ := big(t, c.name+"-denied", vulnerable)
			f.wantRefused(t, c, c.name+"/denied", denied)
		})
	}
}

func nodeAllowed(t *testing.T, f *fleet, c client) {
	img, layer, _ := big(t, c.name+"-allowed", clean)
	digest := f.push(t, c.name+"/allowed", "1", img)
	for range 2 {
		if _, out, err := f.pull(t, c, c.name+"/allowed", digest); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	}
	if n := f.count(http.MethodGet, "/v2/"+c.name+"/allowed/blobs/"+layer); n != 1 {
		t.Errorf("the layer was downloaded %d times for two pulls", n)
	}
}

func nodeDenied(t *testing.T, f *fleet, c client) {
	img, _, _ := big(t, c.name+"-denied", vulnerable)
	f.push(t, c.name+"/denied", "1", img)
	f.wantRefused(t, c, c.name+"/denied", img)
}

// nodeCut has the upstream cut the layer half-way, which the client must not notice.
func nodeCut(t *testing.T, f *fleet, c client) {
	img, layer, body := big(t, c.name+"-cut", clean)
	digest := f.push(t, c.name+"/cut", "1", img)
	path := "/v2/" + c.name + "/cut/blobs/" + layer
	var resumed atomic.Int32
	f.fail(path, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Range") == "" {
			w = &cutting{w, len(body) / 2}
		} else {
			resumed.Add(1)
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
	}))
	if _, out, err := f.pull(t, c, c.name+"/cut", digest); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if n := f.count(http.MethodGet, path); n != 2 || resumed.Load() != 1 {
		t.Errorf("%d requests for the layer, %d with a range, want 2 and 1", n, resumed.Load())
	}
}

// cutting cuts the connection after some bytes.
type cutting struct {
	http.ResponseWriter
	left int
}

func (c *cutting) Write(p []byte) (int, error) {
	if len(p) > c.left {
		_, _ = c.ResponseWriter.Write(p[:c.left])
		_ = http.NewResponseController(c.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	c.left -= len(p)
	return c.ResponseWriter.Write(p)
}
