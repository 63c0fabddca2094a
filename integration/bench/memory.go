//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
)

// memory has clients pull a large new image at once, as fast as they can.
func memory(ctx context.Context, l *lab) ([]row, error) {
	img, err := makeImage(l.dir, "memory", l.memory, noise, 5)
	if err != nil {
		return nil, err
	}
	u, err := newUpstream(ctx, 0, 0, img)
	if err != nil {
		return nil, err
	}
	defer u.close()
	s, err := l.startSluice(ctx, u, "")
	if err != nil {
		return nil, err
	}
	seen := s.watch()
	c, err := l.crowd(ctx, s, u, img, l.pulls)
	peak, perr := seen()
	if err := errors.Join(err, perr, s.analysedOnce(ctx), s.stop()); err != nil {
		return nil, err
	}
	mb := float64(peak) / 1e6
	return []row{{
		what: fmt.Sprintf("%d cold pulls at once of %s: peak resident size", l.pulls, l.memory), sluice: figure(mb) + " MB",
		value: mb, unit: " MB", goal: most(150),
		remark: fmt.Sprintf("%s s, %s GB/s to the clients", figure(c.seconds()), figure(float64(img.size())*float64(l.pulls)/1e9/c.seconds())),
	}}, nil
}
