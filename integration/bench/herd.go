//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	herdRate = 20e6 // the upstream's limit in bytes per second
	// herdTurns is how much oftener than others the crowd's rounds are repeated:
	// they are short, and differ by more.
	herdTurns = 3
)

// crowd is one cold pull of an image by many clients at once.
type crowd struct {
	wall     time.Duration
	upstream float64 // bytes that the upstream sent, over the image's size
}

func (c crowd) seconds() float64 { return c.wall.Seconds() }
func (c crowd) copies() float64  { return c.upstream }

// herd has many clients pull one new image at once from a slow upstream.
func herd(ctx context.Context, l *lab) ([]row, error) {
	img, err := makeImage(l.dir, "herd", l.herd, programs, 4)
	if err != nil {
		return nil, err
	}
	u, err := newUpstream(ctx, coldLatency, herdRate, img)
	if err != nil {
		return nil, err
	}
	defer u.close()
	throughSluice := func(clients int) (crowd, error) {
		s, err := l.startSluice(ctx, u, "")
		if err != nil {
			return crowd{}, err
		}
		c, err := l.crowd(ctx, s, u, img, clients)
		return c, errors.Join(err, s.analysedOnce(ctx), s.stop())
	}
	clients := []int{l.clients, 1}
	out, err := turns(herdTurns*l.rounds, len(clients), func(side int) (crowd, error) { return throughSluice(clients[side]) })
	if err != nil {
		return nil, err
	}
	what := fmt.Sprintf("%d cold pulls at once of %s, upstream %d MB/s", l.clients, l.herd, int64(herdRate/1e6))
	many, one := each(out[0], crowd.seconds), each(out[1], crowd.seconds)
	rows := []row{
		{
			what: what + ": upstream bytes ÷ image", sluice: figure(median(each(out[0], crowd.copies))) + "×",
			value: median(each(out[0], crowd.copies)), unit: "×", goal: most(1),
		},
		{
			what: what + ": wall ÷ one client's", sluice: fmt.Sprintf("%s s, one client %s s", figure(median(many)), figure(median(one))),
			value: ratio(many, one), unit: "×", goal: most(1.3),
		},
	}
	if l.registry == "" {
		return rows, nil
	}
	// One round: it takes as long as the upstream needs for all the copies.
	s, err := l.startPeer(ctx, pullThrough, u)
	if err != nil {
		return nil, err
	}
	c, err := l.crowd(ctx, s, u, img, l.clients)
	if err := errors.Join(err, s.stop()); err != nil {
		return nil, err
	}
	rows[0].peer, rows[1].peer = figure(c.upstream)+"×", figure(c.seconds())+" s"
	return rows, nil
}

// crowd has clients pull img from a new server in front of u.
func (l *lab) crowd(ctx context.Context, s *server, u *upstream, img *image, clients int) (crowd, error) {
	done, err := l.order(ctx, order{Address: s.address, Repository: img.repository, Clients: clients, Parallel: parallel})
	if err != nil {
		return crowd{}, fmt.Errorf("%w\n%s", err, s.said())
	}
	if want := img.size() * int64(clients); done.Bytes != want {
		return crowd{}, fmt.Errorf("clients got %d bytes, want %d", done.Bytes, want)
	}
	bytes, _ := u.sent()
	return crowd{wall: done.Elapsed, upstream: float64(bytes) / float64(img.size())}, nil
}
