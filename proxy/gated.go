package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/sluiceproxy/sluice/proxy/api"
	"github.com/sluiceproxy/sluice/proxy/auth"
	"github.com/sluiceproxy/sluice/proxy/gate"
	"github.com/sluiceproxy/sluice/proxy/local"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/records"
	"github.com/sluiceproxy/sluice/proxy/route"
	"github.com/sluiceproxy/sluice/proxy/store"
	"github.com/sluiceproxy/sluice/proxy/upload"
)

// openRegistry opens the gated registry's content. work is the life of scans of
// what arrives.
func (s *Server) openRegistry(work context.Context, metrics prometheus.Registerer) error {
	if !s.opts.Registry.Enabled {
		return nil
	}
	var err error
	s.pushed, err = store.Open(filepath.Join(s.opts.Data, "registry"), store.Options{
		Keep: true, Name: "registry", Metrics: metrics, Log: s.opts.Log.Named("registry-store"),
	})
	if err != nil {
		return err
	}
	s.uploads = upload.New(upload.Options{
		NewSpool: func() (upload.Spool, error) { return s.pushed.NewSpool(-1) },
		NewTap: func() upload.Tap {
			if a := s.opts.Analyzer.Arriving(work); a != nil {
				return a
			}
			return nil // a nil *Arrival would not be a nil Tap
		},
		MaxBytes: s.opts.Registry.MaxBlob, Log: s.opts.Log.Named("upload"),
	})
	s.local = local.New(local.Options{
		Store: s.pushed, Records: s.opts.Records, Uploads: s.uploads, Quotas: s.opts.Registry.Quotas,
		Grace: s.opts.Registry.GCGrace, Retention: s.opts.Registry.Retention, Log: s.opts.Log.Named("registry"),
	})
	return nil
}

// newAuth says who may do what.
func (s *Server) newAuth(table *route.Table) (*auth.Controller, error) {
	opts := s.opts.Auth
	opts.Robots = robots{s.opts.Records}
	opts.Certificates = s.opts.ClientCA != ""
	opts.Log = s.opts.Log.Named("auth")
	opts.Canonical = func(asked string) (string, bool, error) {
		rt, err := table.Parse(&url.URL{Path: "/v2/" + asked + "/tags/list"})
		return rt.Name, rt.Local, err
	}
	return auth.New(opts)
}

// robots are those of the records, as package auth wants them.
type robots struct{ records *records.DB }

func (r robots) Robots(ctx context.Context) ([]auth.Robot, error) {
	list, err := r.records.Robots(ctx)
	out := make([]auth.Robot, len(list))
	for i, b := range list {
		out[i] = auth.Robot{Name: b.Name, Hash: b.Hash, Expires: b.Expires}
	}
	return out, err
}

// purgeEvery is how often uploads that nobody goes on with are dropped.
const purgeEvery = 10 * time.Minute

// collectGarbage removes what no manifest names any more, until ctx ends.
func (s *Server) collectGarbage(ctx context.Context) error {
	if s.local == nil {
		return nil
	}
	purge := time.NewTicker(purgeEvery)
	defer purge.Stop()
	var collect <-chan time.Time
	if every := s.opts.Registry.GCEvery; every > 0 {
		t := time.NewTicker(every)
		defer t.Stop()
		collect = t.C
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-purge.C:
			s.uploads.Purge()
		case <-collect:
			if _, err := s.collect(ctx, false, ""); err != nil && ctx.Err() == nil {
				s.opts.Log.Error("garbage not collected", zap.Error(err))
			}
		}
	}
}

// collect removes what the retention rules let go, and then what nothing names.
// A collection that an operator asked for stands in the audit trail.
func (s *Server) collect(ctx context.Context, dryRun bool, by string) (local.Garbage, error) {
	s.gate.FlushPulls(ctx) // a pull of a moment ago counts
	images, err := s.local.Expired(ctx)
	if err != nil {
		return local.Garbage{}, err
	}
	if !dryRun {
		gone := images[:0]
		for _, e := range images {
			ok, err := s.gate.Expire(ctx, e)
			if err != nil && !errors.Is(err, gate.ErrManifestUnknown) {
				return local.Garbage{}, err
			}
			if ok {
				gone = append(gone, e)
				s.opts.Log.Info("image expired", zap.String("repository", e.Name), zap.Stringer("digest", e.Digest), zap.Strings("tags", e.Tags), zap.Time("pushed", e.Pushed))
			}
		}
		images = gone
	}
	g, err := s.local.Collect(ctx, images, dryRun)
	if err == nil && !dryRun && by != "" {
		err = s.opts.Records.Note(ctx, by, records.ActionCollect, s.opts.LocalPrefix, map[string]any{"images": len(g.Images), "blobs": len(g.Blobs), "bytes": g.Bytes})
	}
	return g, err
}

// parseReference reads an image's reference as operators write it, with the
// names that clients may use in paths.
func parseReference(table *route.Table, text string) (route.Route, error) {
	name, d, byDigest := strings.Cut(text, "@")
	tag := ""
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		name, tag = name[:i], name[i+1:]
	}
	switch {
	case byDigest: // the tag, if any, is a remark
		tag = d
	case tag == "":
		tag = "latest"
	}
	rt, err := table.Parse(&url.URL{Path: "/v2/" + name + "/manifests/" + tag})
	if err == nil && rt.Kind != route.Manifest {
		err = route.ErrNameInvalid
	}
	if err != nil {
		return route.Route{}, &api.Problem{Status: http.StatusUnprocessableEntity, Detail: fmt.Sprintf("%q: %v", text, err)}
	}
	return rt, nil
}

// judge lets the API judge images.
func (s *Server) judge(table *route.Table) func(string, ocispec.Platform) (string, api.JudgeFunc, error) {
	return func(image string, platform ocispec.Platform) (string, api.JudgeFunc, error) {
		rt, err := parseReference(table, image)
		if err == nil && rt.Local && s.local == nil {
			err = &api.Problem{Status: http.StatusUnprocessableEntity, Detail: fmt.Sprintf("%q: there is no gated registry (registry.enabled)", image)}
		}
		if err != nil {
			return "", nil, err
		}
		return rt.Reference(), func(ctx context.Context) (godigest.Digest, policy.Verdict, error) {
			return s.gate.Judge(ctx, rt, platform)
		}, nil
	}
}

// promote lets the API promote images.
func (s *Server) promote(table *route.Table) func(ctx context.Context, from, to, by string) (gate.Pushed, error) {
	return func(ctx context.Context, from, to, by string) (gate.Pushed, error) {
		src, err := parseReference(table, from)
		if err != nil {
			return gate.Pushed{}, err
		}
		dst, err := parseReference(table, to)
		if err != nil {
			return gate.Pushed{}, err
		}
		switch {
		case !src.Local || !dst.Local:
			err = fmt.Errorf("both images belong under %s/", s.opts.LocalPrefix)
		case dst.Tag == "":
			err = fmt.Errorf("%q: name the target with a tag; its digest is that of the source", to)
		case src.Name == dst.Name:
			err = fmt.Errorf("both are %s: push a tag there instead", src.Name)
		}
		if err != nil {
			return gate.Pushed{}, &api.Problem{Status: http.StatusUnprocessableEntity, Detail: err.Error()}
		}
		tag := records.PushedTag{Name: dst.Tag, Immutable: s.opts.Registry.Immutable != nil && s.opts.Registry.Immutable(dst.Name, dst.Tag)}
		p, err := s.gate.Promote(ctx, src, dst, by, []records.PushedTag{tag})
		if err != nil {
			return p, err
		}
		return p, s.opts.Records.Note(ctx, by, records.ActionPromote, dst.Reference(), map[string]any{"from": src.Reference(), "digest": p.Digest, "verdict": p.Verdict.ID})
	}
}
