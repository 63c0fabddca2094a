//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// pushed is one push of an image.
type pushed struct{ wall, manifest, cpu time.Duration }

func (p pushed) seconds() float64    { return p.wall.Seconds() }
func (p pushed) cpuSeconds() float64 { return p.cpu.Seconds() }
func (p pushed) ofManifest() float64 { return p.manifest.Seconds() * 1000 }

// pushing pushes one new image by one client: to sluice, which analyses and
// judges it before it answers, and to distribution, which does not look. Storage
// is empty and the server new each time. The client is as fast as the loopback
// interface, so that nothing hides the analysis, and then as fast as a link of
// 1 Gbit/s.
func pushing(ctx context.Context, l *lab) ([]row, error) {
	img, err := makeImage(l.dir, "push", l.cold, programs, 6)
	if err != nil {
		return nil, err
	}
	what := fmt.Sprintf("push of %s, analysis and policy on, %d blobs at once", l.cold, parallel)
	loopback, err := l.pushes(ctx, img, 0, what)
	if err != nil {
		return nil, err
	}
	link, err := l.pushes(ctx, img, coldRate, what+", 1 Gbit/s")
	return append(loopback, link...), err
}

func (l *lab) pushes(ctx context.Context, img *image, rate int64, what string) ([]row, error) {
	u, err := newUpstream(ctx, 0, 0, img) // sluice wants one
	if err != nil {
		return nil, err
	}
	defer u.close()
	sides := []func() (pushed, error){func() (pushed, error) {
		s, err := l.startSluice(ctx, u, "auth: {rules: [{who: ['*'], may: [push]}]}\n")
		if err != nil {
			return pushed{}, err
		}
		p, err := s.pushAtOnce(ctx, img, "local/push", rate)
		return p, errors.Join(err, s.analysedOnce(ctx), s.stop())
	}}
	if l.registry != "" {
		sides = append(sides, func() (pushed, error) {
			s, err := l.startPeer(ctx, plain, nil)
			if err != nil {
				return pushed{}, err
			}
			p, err := s.pushAtOnce(ctx, img, "local/push", rate)
			return p, errors.Join(err, s.stop())
		})
	}
	out, err := turns(l.rounds, len(sides), func(side int) (pushed, error) { return sides[side]() })
	if err != nil {
		return nil, err
	}
	own := each(out[0], pushed.seconds)
	r := row{
		what: what, sluice: figure(median(own)) + " s", unit: "×", goal: most(1.1),
		remark: fmt.Sprintf("its CPU %s s, its manifest %s ms", figure(median(each(out[0], pushed.cpuSeconds))), figure(median(each(out[0], pushed.ofManifest)))),
	}
	if len(out) > 1 {
		peer := each(out[1], pushed.seconds)
		r.peer, r.value = figure(median(peer))+" s", ratio(own, peer)
		r.remark += fmt.Sprintf("; distribution's CPU %s s", figure(median(each(out[1], pushed.cpuSeconds))))
	}
	return []row{r}, nil
}

// pushAtOnce pushes an image as podman and docker do, several blobs at once over
// a link with a rate (bytes per second; 0 = no limit), and then the manifest.
func (s *server) pushAtOnce(ctx context.Context, img *image, repository string, rate int64) (pushed, error) {
	before, err := s.cpu()
	if err != nil {
		return pushed{}, err
	}
	link := &upstream{rate: rate}
	base := "http://" + s.address + "/v2/" + repository
	start := time.Now()
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for _, d := range append([]ocispec.Descriptor{img.members.Config}, img.members.Layers...) {
		g.Go(func() error {
			var body io.Reader = bytes.NewReader(img.config)
			if path, ok := img.layers[d.Digest]; ok {
				f, err := os.Open(path)
				if err != nil {
					return err
				}
				defer f.Close()
				body = f
			}
			if rate > 0 {
				body = &paced{body, link}
			}
			return pushBlob(gctx, base, d, body)
		})
	}
	if err := g.Wait(); err != nil {
		return pushed{}, fmt.Errorf("%w\n%s", err, s.said())
	}
	blobs := time.Now()
	if _, err := call(ctx, http.MethodPut, base+"/manifests/"+tag, ocispec.MediaTypeImageManifest, int64(len(img.manifest)), bytes.NewReader(img.manifest)); err != nil {
		return pushed{}, fmt.Errorf("%w\n%s", err, s.said())
	}
	end := time.Now()
	after, err := s.cpu()
	return pushed{wall: end.Sub(start), manifest: end.Sub(blobs), cpu: after - before}, err
}

// paced reads at the pace of a link.
type paced struct {
	r    io.Reader
	link *upstream
}

func (p *paced) Read(b []byte) (int, error) {
	n, err := p.r.Read(b[:min(len(b), chunk)])
	p.link.pace(n)
	return n, err
}
