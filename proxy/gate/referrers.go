package gate

import (
	"context"
	"slices"
	"sync"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sluiceproxy/sluice/proxy/route"
)

// referrersTTL is how long a list of referrers is not asked for again. It is
// short, since a signature that was just made should be found.
const referrersTTL = time.Minute

// What is kept in memory of lists of referrers; past it all are dropped.
const (
	maxReferrerLists = 4096
	maxReferrerBytes = 16 << 20
)

// referrerCache remembers lists of referrers, the empty ones too. Errors are
// not remembered, and never read as "none".
type referrerCache struct {
	mu    sync.Mutex
	m     map[key]referrerList
	bytes int
}

type referrerList struct {
	referrers []ocispec.Descriptor
	at        time.Time
	bytes     int // of referrers, about
}

// Referrers returns the descriptors of the manifests that refer to rt's digest
// in its repository, of one artifactType or of all (""). What they name is
// judged when it is pulled.
func (g *Gate) Referrers(ctx context.Context, rt route.Route, artifactType string) ([]ocispec.Descriptor, error) {
	k := key{rt.Name, rt.Digest}
	all, ok := g.referrers.get(k, g.now())
	var err error
	if rt.Local {
		if all, err = g.localReferrers(ctx, rt); err != nil {
			return nil, err
		}
	} else if !ok {
		if all, err = wait(ctx, g.manifests.DoChan("referrers "+k.String(), func() (any, error) { //nolint:contextcheck // many wait for it: it lives on the gate's context
			ctx, cancel := context.WithTimeout(g.ctx, manifestTimeout)
			defer cancel()
			up, err := g.opts.Upstreams.Upstream(rt.Upstream)
			if err != nil {
				return nil, err
			}
			list, err := up.Referrers(ctx, rt.Repository, rt.Digest, "")
			if err == nil {
				g.referrers.put(k, referrerList{referrers: list, at: g.now()})
			}
			return list, err
		}), func(v any) []ocispec.Descriptor { return v.([]ocispec.Descriptor) }); err != nil { //nolint:errcheck,forcetypeassert // what the function above returns
			return nil, err
		}
	}
	own, err := g.SideReferrers(ctx, rt)
	if err != nil {
		return nil, err
	}
	all = append(slices.Clip(all), own...) // the list in memory stays as it is
	if artifactType == "" {
		return all, nil
	}
	var some []ocispec.Descriptor
	for _, d := range all {
		if d.ArtifactType == artifactType {
			some = append(some, d)
		}
	}
	return some, nil
}

func (c *referrerCache) get(k key, now time.Time) ([]ocispec.Descriptor, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l, ok := c.m[k]
	return l.referrers, ok && now.Sub(l.at) < referrersTTL
}

func (c *referrerCache) put(k key, l referrerList) {
	for _, d := range l.referrers {
		l.bytes += weight(d)
	}
	if l.bytes > maxReferrerBytes/8 { // asking again costs less than dropping the others
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bytes += l.bytes - c.m[k].bytes
	if len(c.m) >= maxReferrerLists || c.bytes > maxReferrerBytes {
		clear(c.m)
		c.bytes = l.bytes
	}
	c.m[k] = l
}

// weight is about how many bytes d takes in memory.
func weight(d ocispec.Descriptor) int {
	n := 256 + len(d.MediaType) + len(d.Digest) + len(d.ArtifactType) + len(d.Data)
	for _, u := range d.URLs {
		n += 16 + len(u)
	}
	for k, v := range d.Annotations {
		n += 48 + len(k) + len(v)
	}
	if d.Platform != nil {
		n += 128
		for _, f := range d.Platform.OSFeatures {
			n += 16 + len(f)
		}
	}
	return n
}
