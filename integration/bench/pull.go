//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// pulls has clients pull an image at once, each as containerd does.
func pulls(ctx context.Context, o order) (outcome, error) {
	var mu sync.Mutex
	var sum outcome
	start := time.Now()
	g, ctx := errgroup.WithContext(ctx)
	for n := range o.Clients {
		p := puller{order: o, verify: n == 0 || o.VerifyAll}
		g.Go(func() error {
			err := p.pull(ctx)
			mu.Lock()
			defer mu.Unlock()
			sum.Bytes += p.bytes
			if n == 0 {
				sum.Manifest = p.manifest
			}
			return err
		})
	}
	err := g.Wait()
	sum.Elapsed = time.Since(start)
	return sum, err
}

// puller is one client.
type puller struct {
	order
	verify   bool
	manifest time.Duration
	bytes    int64
}

func (p *puller) pull(ctx context.Context) error {
	start := time.Now()
	buffer := toDrop
	if p.verify {
		buffer = toVerify
	}
	w, err := dial(ctx, p.Address, buffer)
	if err != nil {
		return err
	}
	defer w.close()
	head, err := w.ask(request(p.Address, http.MethodHead, p.path("manifests", tag)))
	if err != nil {
		return err
	}
	m, err := p.get(w, head.digest)
	if err != nil {
		return err
	}
	p.manifest = time.Since(start)
	// The first connection is kept, the others are opened as they are needed.
	wires := []*wire{w}
	for len(wires) < min(p.Parallel, 1+len(m.Layers)) {
		more, err := dial(ctx, p.Address, buffer)
		if err != nil {
			return err
		}
		defer more.close()
		wires = append(wires, more)
	}
	todo := make(chan ocispec.Descriptor, 1+len(m.Layers))
	for _, d := range append([]ocispec.Descriptor{m.Config}, m.Layers...) {
		todo <- d
		p.bytes += d.Size
	}
	close(todo)
	g, ctx := errgroup.WithContext(ctx)
	for _, w := range wires {
		g.Go(func() error {
			for d := range todo {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				if err := p.blob(w, d); err != nil {
					return fmt.Errorf("blob %s: %w", d.Digest, err)
				}
			}
			return nil
		})
	}
	return g.Wait()
}

func (p *puller) path(kind, reference string) string {
	return "/v2/" + p.Repository + "/" + kind + "/" + reference
}

// get reads the manifest d.
func (p *puller) get(w *wire, d godigest.Digest) (m ocispec.Manifest, err error) {
	if err := d.Validate(); err != nil {
		return m, fmt.Errorf("HEAD names the digest %q: %w", d, err)
	}
	r, err := w.ask(request(p.Address, http.MethodGet, p.path("manifests", d.String())))
	if err != nil {
		return m, err
	}
	var b bytes.Buffer
	if _, err := io.CopyN(&b, w.in, r.length); err != nil {
		return m, err
	}
	if got := d.Algorithm().FromBytes(b.Bytes()); got != d {
		return m, fmt.Errorf("manifest %s has the digest %s", d, got)
	}
	return m, json.Unmarshal(b.Bytes(), &m)
}

func (p *puller) blob(w *wire, d ocispec.Descriptor) error {
	r, err := w.ask(request(p.Address, http.MethodGet, p.path("blobs", d.Digest.String())))
	if err != nil {
		return err
	}
	if r.length != d.Size {
		return fmt.Errorf("%d bytes, the manifest says %d", r.length, d.Size)
	}
	if p.verify {
		return w.verify(r, d.Digest)
	}
	return w.discard(r)
}
