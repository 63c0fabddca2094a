//go:build linux

package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// upstream is the registry behind the servers. It has images, waits before each
// answer, limits its bytes per second over all connections, and counts.
type upstream struct {
	address string
	latency time.Duration
	rate    int64 // bytes of blobs per second; 0 = no limit
	images  map[string]*image
	server  *http.Server

	bytes    atomic.Int64 // of blobs that were sent
	requests atomic.Int64 // GETs of blobs
	busy     sync.RWMutex // read-locked by each answer under way

	mu   sync.Mutex
	free time.Time // when the next byte may leave
}

func newUpstream(ctx context.Context, latency time.Duration, rate int64, images ...*image) (*upstream, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	u := &upstream{address: l.Addr().String(), latency: latency, rate: rate, images: map[string]*image{}}
	for _, img := range images {
		u.images[img.repository] = img
	}
	u.server = &http.Server{Handler: u, ReadHeaderTimeout: time.Minute}
	go func() { _ = u.server.Serve(l) }()
	return u, nil
}

func (u *upstream) close() { _ = u.server.Close() }

// sent waits for the answers under way, returns how many bytes of blobs were
// sent in how many answers, and starts both counters again.
func (u *upstream) sent() (bytes, requests int64) {
	u.busy.Lock()
	defer u.busy.Unlock()
	return u.bytes.Swap(0), u.requests.Swap(0)
}

// ServeHTTP answers pulls.
func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	u.busy.RLock()
	defer u.busy.RUnlock()
	time.Sleep(u.latency)
	path := strings.TrimPrefix(r.URL.Path, "/v2/")
	if path == "" {
		return
	}
	repository, reference, isManifest := strings.Cut(path, "/manifests/")
	if !isManifest {
		repository, reference, _ = strings.Cut(path, "/blobs/")
	}
	img := u.images[repository]
	switch {
	case img == nil:
		http.NotFound(w, r)
	case isManifest && (reference == tag || reference == img.digest.String()):
		w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
		w.Header().Set("Docker-Content-Digest", img.digest.String())
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(img.manifest))
	case isManifest:
		http.NotFound(w, r)
	default:
		u.blob(w, r, img, godigest.Digest(reference))
	}
}

func (u *upstream) blob(w http.ResponseWriter, r *http.Request, img *image, d godigest.Digest) {
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Docker-Content-Digest", d.String())
	var body io.ReadSeeker
	if d == img.members.Config.Digest {
		body = bytes.NewReader(img.config)
	} else {
		f, err := os.Open(img.layers[d])
		if err != nil {
			http.NotFound(w, r)
			return
		}
		defer f.Close()
		body = f
	}
	if r.Method == http.MethodGet {
		u.requests.Add(1)
	}
	http.ServeContent(&meter{ResponseWriter: w, u: u}, r, "", time.Time{}, body)
}

// pace waits until n more bytes may leave.
func (u *upstream) pace(n int) {
	if u.rate == 0 {
		return
	}
	u.mu.Lock()
	now := time.Now()
	if idle := now.Add(-slack); u.free.Before(idle) {
		u.free = idle
	}
	u.free = u.free.Add(time.Duration(int64(n) * int64(time.Second) / u.rate))
	wait := u.free.Sub(now)
	u.mu.Unlock()
	time.Sleep(wait)
}

// meter counts and paces a blob's bytes.
type meter struct {
	http.ResponseWriter
	u *upstream
}

const (
	chunk = 32 << 10              // what a paced upstream sends at once
	slack = 10 * time.Millisecond // how far it may lag behind its rate and catch up: sleeping is not exact
)

func (m *meter) Write(p []byte) (int, error) {
	sent := 0
	for len(p) > 0 {
		part := p[:min(chunk, len(p))]
		m.u.pace(len(part))
		n, err := m.ResponseWriter.Write(part)
		m.u.bytes.Add(int64(n))
		sent, p = sent+n, p[n:]
		if err != nil {
			return sent, err
		}
	}
	return sent, nil
}

// ReadFrom hands a file to the connection itself when nothing is limited.
func (m *meter) ReadFrom(r io.Reader) (int64, error) {
	if m.u.rate > 0 {
		return io.CopyBuffer(struct{ io.Writer }{m}, r, make([]byte, chunk))
	}
	n, err := io.Copy(m.ResponseWriter, r)
	m.u.bytes.Add(n)
	return n, err
}
