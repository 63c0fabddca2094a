//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
)

// The sides of a warm work.
const (
	sluiceSide = iota
	peerSide
	cachedSide
	sideCount
)

// connections are those of the load on a warm server.
const connections = 8

// warmed starts the servers of a warm work and gives each img: distribution by
// a push, sluice by a pull. Without distribution there is only sluice.
func (l *lab) warmed(ctx context.Context, img *image) (servers []*server, stop func() error, err error) {
	u, err := newUpstream(ctx, 0, 0, img)
	if err != nil {
		return nil, nil, err
	}
	stop = func() error {
		u.close()
		var err error
		for _, s := range servers {
			err = errors.Join(err, s.stop())
		}
		return err
	}
	s, err := l.startSluice(ctx, u, "")
	if err != nil {
		return nil, nil, errors.Join(err, stop())
	}
	servers = append(servers, s)
	if _, err := l.order(ctx, order{Address: s.address, Repository: img.repository, Clients: 1, Parallel: 1}); err != nil {
		return nil, nil, errors.Join(err, stop())
	}
	if l.registry == "" {
		return servers, stop, nil
	}
	for _, kind := range []peerKind{plain, cached} {
		s, err := l.startPeer(ctx, kind, nil)
		if err != nil {
			return nil, nil, errors.Join(err, stop())
		}
		servers = append(servers, s)
		if err := s.push(ctx, img); err != nil {
			return nil, nil, errors.Join(err, stop())
		}
	}
	return servers, stop, nil
}

// burst is one turn of load on a warm server.
type burst struct {
	perSecond  float64 // requests
	cpuRequest float64 // microseconds of the server's CPU for one
	cpuGiB     float64 // seconds of the server's CPU for a GiB
}

func (b burst) rate() float64       { return b.perSecond }
func (b burst) microCPU() float64   { return b.cpuRequest }
func (b burst) secondsGiB() float64 { return b.cpuGiB }

// bursts loads the servers in turns and returns the bursts of each side; a side
// that is missing has none.
func (l *lab) bursts(ctx context.Context, servers []*server, method, path string) ([][]burst, error) {
	out, err := turns(l.rounds, len(servers), func(side int) (burst, error) {
		s := servers[side]
		before, err := s.cpu()
		if err != nil {
			return burst{}, err
		}
		done, err := l.order(ctx, order{Address: s.address, Method: method, Path: path, Connections: connections, Turn: l.turn})
		if err != nil {
			return burst{}, err
		}
		after, err := s.cpu()
		cpu := after - before
		return burst{
			perSecond:  float64(done.Requests) / done.Elapsed.Seconds(),
			cpuRequest: float64(cpu.Microseconds()) / float64(done.Requests),
			cpuGiB:     cpu.Seconds() / float64(done.Bytes) * (1 << 30),
		}, err
	})
	for len(out) < sideCount {
		out = append(out, nil)
	}
	return out, err
}

// compare makes a row of one figure of the bursts.
func compare(what, unit string, b [][]burst, f func(burst) float64, g goal) row {
	own, peer, cached := each(b[sluiceSide], f), each(b[peerSide], f), each(b[cachedSide], f)
	r := row{what: what, sluice: figure(median(own)) + " " + unit, unit: "×", goal: g, value: ratio(own, peer)}
	if len(peer) > 0 {
		r.peer = figure(median(peer)) + " " + unit
		r.remark = fmt.Sprintf("with distribution's descriptor cache %s %s: %s×", figure(median(cached)), unit, figure(ratio(own, cached)))
	}
	return r
}

// warmManifest asks for a manifest over and over.
func warmManifest(ctx context.Context, l *lab) (rows []row, err error) {
	img, err := makeImage(l.dir, "warm", shape{2, 100 << 10}, programs, 1)
	if err != nil {
		return nil, err
	}
	servers, stop, err := l.warmed(ctx, img)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	base := "/v2/" + img.repository + "/manifests/"
	for _, w := range []struct{ what, method, path string }{
		{"warm manifest, GET by digest", http.MethodGet, base + img.digest.String()},
		{"warm manifest, GET by tag", http.MethodGet, base + tag},
		{"warm manifest, HEAD by tag", http.MethodHead, base + tag},
	} {
		b, err := l.bursts(ctx, servers, w.method, w.path)
		if err != nil {
			return nil, err
		}
		rows = append(rows, compare(w.what, "req/s", b, burst.rate, least(5)),
			compare(w.what+", CPU of a request", "µs", b, burst.microCPU, most(0.2)))
	}
	return rows, nil
}

// warmBlob asks for a big and for a small blob over and over.
func warmBlob(ctx context.Context, l *lab) (rows []row, err error) {
	img, err := makeImage(l.dir, "warmblob", shape{1, l.bigBlob}, noise, 2)
	if err != nil {
		return nil, err
	}
	servers, stop, err := l.warmed(ctx, img)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	base := "/v2/" + img.repository + "/blobs/"
	big, err := l.bursts(ctx, servers, http.MethodGet, base+img.members.Layers[0].Digest.String())
	if err != nil {
		return nil, err
	}
	small, err := l.bursts(ctx, servers, http.MethodGet, base+img.members.Config.Digest.String())
	if err != nil {
		return nil, err
	}
	return []row{
		compare(fmt.Sprintf("warm blob of %d MiB, %d clients, CPU of a GiB", l.bigBlob>>20, connections), "s", big, burst.secondsGiB, most(0.35)),
		compare(fmt.Sprintf("warm blob of %d bytes", img.members.Config.Size), "req/s", small, burst.rate, least(15)),
	}, nil
}
