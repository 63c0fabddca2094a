package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	godigest "github.com/opencontainers/go-digest"
	"go.uber.org/zap"

	"github.com/sluiceproxy/sluice/analyzer"
	"github.com/sluiceproxy/sluice/analyzer/advisory"
	"github.com/sluiceproxy/sluice/analyzer/secret"
	"github.com/sluiceproxy/sluice/analyzer/vex"
	"github.com/sluiceproxy/sluice/cmd/sluice/target"
	"github.com/sluiceproxy/sluice/configs"
	"github.com/sluiceproxy/sluice/proxy"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/records"
	"github.com/sluiceproxy/sluice/proxy/route"
	"github.com/sluiceproxy/sluice/proxy/upstream"
)

// scanning is what a scan shares with the server: configuration, policy,
// advisories and, where the data directory is there, its records.
type scanning struct {
	cfg      *configs.Config
	opts     proxy.Options // upstreams with their secrets
	policy   *policy.Policy
	missing  policy.Decision
	index    *advisory.Index // nil = none
	db       *records.DB     // nil = none
	vex      *vex.Set
	ignored  []policy.Waiver // of .trivyignore
	scanner  *meteredScanner
	stop     func() error // of the scanner
	progress *progress
	log      *zap.Logger
}

func newScanning(ctx context.Context, cfg *configs.Config, log *zap.Logger, p *progress) (*scanning, error) {
	s := &scanning{cfg: cfg, progress: p, log: log}
	var err error
	if s.policy, err = loadPolicy(cfg.Policy.File); err != nil {
		return nil, err
	}
	if s.vex, err = loadVEX(cfg.VEX.Files, log); err != nil {
		return nil, err
	}
	if s.missing, err = whenMissing(cfg.Advisories.WhenMissing); err != nil {
		return nil, err
	}
	if s.opts, err = serverOptions(cfg); err != nil {
		return nil, usageError(err)
	}
	store := advisory.NewStore(advisoryDir(cfg.Data), log)
	if err := store.Reload(); err != nil {
		return nil, fmt.Errorf("%w (make a new one with 'sluice db update')", err)
	}
	s.index = store.Current()
	if err := s.openRecords(ctx); err != nil {
		return nil, err
	}
	inner, stop, err := newScanner(cfg.Analysis, log)
	if err != nil {
		return nil, err
	}
	s.scanner, s.stop = &meteredScanner{LayerScanner: inner, progress: p}, stop
	return s, nil
}

// openRecords opens the server's records. Without a data directory, or with
// one that cannot be written to, nothing is kept; but records that are there
// hold the blocklist, so they must open.
func (s *scanning) openRecords(ctx context.Context) error {
	file := filepath.Join(s.cfg.Data, recordsFile)
	if _, err := os.Stat(s.cfg.Data); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	_, missing := os.Stat(file)
	db, err := records.Open(ctx, file, s.log)
	switch {
	case err == nil:
		s.db = db
	case errors.Is(missing, fs.ErrNotExist):
		s.log.Warn("the data directory cannot be written to: layers that are read are not kept", zap.Error(err))
	default:
		return err
	}
	return nil
}

func (s *scanning) close() error {
	if s.db == nil {
		return s.stop()
	}
	return errors.Join(s.stop(), s.db.Close())
}

// scan analyses and judges what spec names.
func (s *scanning) scan(ctx context.Context, spec, platform, name string) (policy.Verdict, *analyzer.Report, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Duration(s.cfg.Analysis.Timeout), fmt.Errorf("the analysis took longer than %s", s.cfg.Analysis.Timeout))
	defer cancel()
	opts := target.Options{
		Platform: platform, Upstreams: s.opts.Upstreams, Default: s.cfg.Default, Scanner: s.scanner,
	}
	if s.cfg.DockerConfig == "none" {
		opts.Keychain = authn.NewMultiKeychain()
	}
	t, err := target.Open(ctx, spec, opts)
	if err != nil {
		return policy.Verdict{}, nil, err
	}
	defer func() { _ = t.Close() }() // files that were only read
	ev := policy.Evidence{Now: time.Now()}
	if ev.Image, err = s.describe(spec, name, t, ev.Now); err != nil {
		return policy.Verdict{}, nil, err
	}
	if ev.Report, ev.Failure, err = s.report(ctx, t); err != nil {
		return policy.Verdict{}, nil, err
	}
	if rep := ev.Report; rep != nil && platform != "" && rep.Platform != platform && !strings.HasPrefix(rep.Platform, platform+"/") {
		return policy.Verdict{}, nil, fmt.Errorf("%s: the image is for %s, not for %s", spec, rep.Platform, platform)
	}
	ev.Advisories = policy.Advisories{Missing: s.index == nil, WhenMissing: s.missing, WhenStale: s.opts.WhenStale, MaxAge: time.Duration(s.cfg.Advisories.MaxAge)}
	if s.index != nil {
		ev.Advisories.Revision, ev.Advisories.Updated = s.index.Revision(), s.index.Updated()
		if ev.Report != nil {
			ev.Advisories.Updated = ev.Report.Updated // of the stalest feed that the image needs
		}
	}
	if s.db != nil {
		if ev.Report != nil {
			if ev.Report.Base, err = s.db.Base(ctx, &ev.Report.Inventory); err != nil {
				return policy.Verdict{}, nil, err
			}
		}
		if ev.Blocks, err = s.db.Blocks(ctx); err != nil {
			return policy.Verdict{}, nil, err
		}
		if ev.Waivers, err = s.db.Waivers(ctx); err != nil {
			return policy.Verdict{}, nil, err
		}
	}
	ev.Waivers = append(ev.Waivers, s.ignored...)
	if ev.Report != nil {
		s.vex.Mark(ev.Report, analyzer.VEXImage{Name: ev.Image.Name, Tags: ev.Image.Tags, Digests: append([]godigest.Digest{ev.Image.Digest}, ev.Image.Parents...)})
	}
	ev.Image.Evidential, ev.NoRegistry = evidentialTarget(t), t.Source == nil
	ev.Trust = judgeTrust(ctx, s.policy, &ev.Image, t, ev.Report, ev.Now)
	if ev.Report != nil {
		ev.VEX = exemptions(ev.Trust, ev.Report, &ev.Image, s.log)
	}
	v := s.policy.Decide(&ev)
	if ev.Report == nil {
		ev.Report = &analyzer.Report{Inventory: analyzer.Inventory{Incomplete: []analyzer.Incomplete{{Reason: ev.Failure}}}}
	}
	ev.Report.Manifest = t.Digest
	return v, ev.Report, nil
}

// report analyses the image. failure says that its bytes cannot be analysed,
// which the policy judges; an error is somebody else's fault.
func (s *scanning) report(ctx context.Context, t *target.Target) (rep *analyzer.Report, failure string, err error) {
	if t.Inventory != nil {
		rep, err = s.judge(ctx, t.Inventory)
		return rep, "", err
	}
	cache := readLayers{layers: t.Layers}
	if s.db != nil {
		cache.next = s.db
	}
	a := analyzer.New(analyzer.Options{Scanner: s.scanner, Cache: cache, ConfigSecrets: secret.Config, Parallel: s.cfg.Analysis.Parallel, Log: s.log})
	for _, l := range t.Image.Layers {
		s.scanner.total.Add(l.Size)
	}
	inv, err := a.Inventory(ctx, t.Image)
	var (
		status *upstream.StatusError
		unre   *upstream.UnreachableError
		file   *fs.PathError
	)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return nil, "", context.Cause(ctx)
	case errors.As(err, &status), errors.As(err, &unre), errors.As(err, &file):
		return nil, "", err
	default:
		return nil, err.Error(), nil
	}
	rep, err = s.judge(ctx, inv)
	return rep, "", err
}

func (s *scanning) judge(ctx context.Context, inv *analyzer.Inventory) (*analyzer.Report, error) {
	if s.index == nil {
		return analyzer.Judge(ctx, inv, nil)
	}
	return analyzer.Judge(ctx, inv, s.index)
}

// describe makes the evidence beside the content. A name of the user's takes
// the place of the image's own; what has none is local.
func (s *scanning) describe(spec, name string, t *target.Target, now time.Time) (policy.Image, error) {
	img := policy.Image{
		Name: t.Name, Upstream: t.Upstream, Repository: t.Repository, Tags: t.Tags, Digest: t.Digest, Parents: t.Parents,
		MediaType: t.MediaType, URLs: t.Image.URLs, FirstSeen: now,
	}
	if img.Digest == "" {
		img.Digest = t.Image.Manifest.Digest // of the one made for it; verdicts need an identity
	}
	switch {
	case name != "":
		rt, err := s.parseName(name)
		if err != nil {
			return img, usageError(fmt.Errorf("--name %q: %w", name, err))
		}
		img.Name, img.Upstream, img.Repository, img.Tags = rt.Name, rt.Upstream, rt.Repository, nil
		if rt.Tag != "" {
			img.Tags = []string{rt.Tag}
		}
	case img.Name == "":
		img.Repository = localName(spec)
		img.Name = s.cfg.LocalPrefix + "/" + img.Repository
	}
	return img, nil
}

// parseName reads name[:tag] as the registry listener would.
func (s *scanning) parseName(name string) (route.Route, error) {
	routes := make([]route.Upstream, len(s.opts.Upstreams))
	for i, u := range s.opts.Upstreams {
		routes[i] = route.Upstream{Name: u.Name, Aliases: u.Aliases, Library: u.Library}
	}
	table, err := route.NewTable(routes, s.cfg.Default, s.cfg.LocalPrefix)
	if err != nil {
		return route.Route{}, err
	}
	path := "/v2/" + name + "/tags/list"
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		path = "/v2/" + name[:i] + "/manifests/" + name[i+1:]
	}
	return table.Parse(&url.URL{Path: path})
}

// localName makes a repository name of the last part of a path.
func localName(spec string) string {
	_, path, _ := strings.Cut(spec, ":")
	base := strings.ToLower(filepath.Base(filepath.Clean(path)))
	name := strings.Trim(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, base), "-")
	if name == "" {
		return "root"
	}
	return name
}

// wayOut tells what to do about a verdict that is pending.
func (s *scanning) wayOut(v policy.Verdict) string {
	if s.index == nil {
		return fmt.Sprintf("there are no advisories in %s: fetch them with 'sluice db update', or 'sluice db update --from DIR' offline", advisoryDir(s.cfg.Data))
	}
	return v.Summary()
}

// readLayers is a cache that knows the layers that a target has read already.
type readLayers struct {
	layers map[godigest.Digest]*analyzer.Layer
	next   analyzer.LayerCache // nil = none
}

func (c readLayers) Layer(ctx context.Context, d godigest.Digest, revision string) (*analyzer.Layer, bool, error) {
	if l, ok := c.layers[d]; ok {
		return l, true, nil
	}
	if c.next == nil {
		return nil, false, nil
	}
	return c.next.Layer(ctx, d, revision)
}

func (c readLayers) PutLayer(ctx context.Context, revision string, l *analyzer.Layer) error {
	if c.next == nil {
		return nil
	}
	return c.next.PutLayer(ctx, revision, l)
}

// meteredScanner shows how far the scans are.
type meteredScanner struct {
	analyzer.LayerScanner
	progress    *progress
	done, total atomic.Int64
}

// Scan counts the bytes of blob.
func (m *meteredScanner) Scan(ctx context.Context, blob io.Reader) (*analyzer.Layer, error) {
	return m.LayerScanner.Scan(ctx, readerFunc(func(p []byte) (int, error) {
		n, err := blob.Read(p)
		m.progress.update("scanning", m.done.Add(int64(n)), m.total.Load())
		return n, err
	}))
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
