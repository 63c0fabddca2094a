//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// What a first pull meets.
const (
	coldLatency = 20 * time.Millisecond // of the upstream, for each request
	coldRate    = 125e6                 // a link of 1 Gbit/s, bytes per second
	parallel    = 6                     // downloads at once, as containerd and podman do
)

// coldPull is one first pull.
type coldPull struct {
	wall, manifest, cpu time.Duration
}

func (p coldPull) seconds() float64       { return p.wall.Seconds() }
func (p coldPull) untilManifest() float64 { return p.manifest.Seconds() }
func (p coldPull) cpuSeconds() float64    { return p.cpu.Seconds() }

// cold pulls one new image by one client: through sluice, which analyses it and
// asks the policy, through distribution's pull-through cache, and directly.
// Storage is empty and the server new each time. The upstream is as fast as the
// loopback interface, so that nothing hides the analysis, and then as fast as a
// link of 1 Gbit/s. Sluice runs as shipped, holding the manifest for its
// verdict, and with release.hold 0s, streaming at once.
func cold(ctx context.Context, l *lab) ([]row, error) {
	img, err := makeImage(l.dir, "cold", l.cold, programs, 3)
	if err != nil {
		return nil, err
	}
	what := fmt.Sprintf("cold first pull of %s, analysis and policy on, upstream +%s", l.cold, coldLatency)
	loopback, err := l.coldPulls(ctx, img, 0, what)
	if err != nil {
		return nil, err
	}
	link, err := l.coldPulls(ctx, img, coldRate, what+", 1 Gbit/s")
	return append(loopback, link...), err
}

// streamAtOnce is the configuration of a sluice that waits for no verdict.
const streamAtOnce = "release:\n  hold: 0s\n"

// coldPulls compares the first pulls of img from an upstream with a limit.
func (l *lab) coldPulls(ctx context.Context, img *image, rate int64, what string) ([]row, error) {
	u, err := newUpstream(ctx, coldLatency, rate, img)
	if err != nil {
		return nil, err
	}
	defer u.close()
	throughSluice := func(config string) func() (coldPull, error) {
		return func() (coldPull, error) {
			s, err := l.startSluice(ctx, u, config)
			if err != nil {
				return coldPull{}, err
			}
			p, err := l.coldPull(ctx, s, img)
			return p, errors.Join(err, s.analysedOnce(ctx), s.stop())
		}
	}
	sides := []func() (coldPull, error){
		throughSluice(""), throughSluice(streamAtOnce),
		func() (coldPull, error) {
			done, err := l.order(ctx, firstPull(u.address, img))
			return coldPull{wall: done.Elapsed, manifest: done.Manifest}, err
		},
	}
	if l.registry != "" {
		sides = append(sides, func() (coldPull, error) {
			s, err := l.startPeer(ctx, pullThrough, u)
			if err != nil {
				return coldPull{}, err
			}
			p, err := l.coldPull(ctx, s, img)
			return p, errors.Join(err, s.stop())
		})
	}
	out, err := turns(l.rounds, len(sides), func(side int) (coldPull, error) { return sides[side]() })
	if err != nil {
		return nil, err
	}
	held, streamed := coldRow(what, out[0], out[2:]), coldRow(what+", release.hold 0s", out[1], out[2:])
	held.goal = most(1.05)
	return []row{held, streamed}, nil
}

// coldRow compares sluice's pulls with the others: direct ones, and
// distribution's where it is there.
func coldRow(what string, own []coldPull, others [][]coldPull) row {
	wall, direct := each(own, coldPull.seconds), each(others[0], coldPull.seconds)
	r := row{
		what: what, sluice: figure(median(wall)) + " s", unit: "×",
		remark: fmt.Sprintf("directly %s s; sluice %s× that, its manifest after %s s, its CPU %s s",
			figure(median(direct)), figure(ratio(wall, direct)),
			figure(median(each(own, coldPull.untilManifest))), figure(median(each(own, coldPull.cpuSeconds)))),
	}
	if len(others) > 1 {
		peer := each(others[1], coldPull.seconds)
		r.peer, r.value = figure(median(peer))+" s", ratio(wall, peer)
		r.remark += fmt.Sprintf("; distribution %s× directly, its CPU %s s",
			figure(ratio(peer, direct)), figure(median(each(others[1], coldPull.cpuSeconds))))
	}
	return r
}

// firstPull is the order of one client that compares all digests.
func firstPull(address string, img *image) order {
	return order{Address: address, Repository: img.repository, Clients: 1, Parallel: parallel}
}

// coldPull pulls img through a server that has just started.
func (l *lab) coldPull(ctx context.Context, s *server, img *image) (coldPull, error) {
	before, err := s.cpu()
	if err != nil {
		return coldPull{}, err
	}
	done, err := l.order(ctx, firstPull(s.address, img))
	if err != nil {
		return coldPull{}, fmt.Errorf("%w\n%s", err, s.said())
	}
	after, err := s.cpu()
	return coldPull{wall: done.Elapsed, manifest: done.Manifest, cpu: after - before}, err
}
