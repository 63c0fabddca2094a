package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/sluiceproxy/sluice/analyzer"
	"github.com/sluiceproxy/sluice/analyzer/advisory"
	"github.com/sluiceproxy/sluice/configs"
	"github.com/sluiceproxy/sluice/proxy/api"
)

// advisories are the advisories of a server: the index of its data folder,
// kept up to date. It implements proxy.Advisories.
type advisories struct {
	store *advisory.Store
	cfg   *configs.Config
	log   *zap.Logger
	last  atomic.Pointer[error] // of the last update, nil after a success
}

// openAdvisories opens the index that is there. A damaged one counts as none,
// so that an update can replace it.
func openAdvisories(cfg *configs.Config, log *zap.Logger) *advisories {
	a := &advisories{store: advisory.NewStore(advisoryDir(cfg.Data), log), cfg: cfg, log: log}
	a.reload()
	return a
}

func (a *advisories) reload() {
	if err := a.store.Reload(); err != nil {
		a.log.Error("advisory index not opened", zap.Error(err))
	}
}

// Current returns the newest advisories, nil while there are none.
func (a *advisories) Current() analyzer.Matcher {
	if x := a.store.Current(); x != nil {
		return x
	}
	return nil
}

// Status says what is done about missing advisories, and what an operator can do.
func (a *advisories) Status() string {
	const wayOut = "'sluice db update --from DIR' on the server takes them from a mirror or folder"
	if p, ok := a.store.Updating(); ok {
		return fmt.Sprintf("they are being fetched (%s); %s", progressText(p), wayOut)
	}
	if err := a.last.Load(); err != nil {
		return fmt.Sprintf("the last update failed (%v) and is tried again; %s", *err, wayOut)
	}
	return wayOut
}

// progressText is how far an update is, in words.
func progressText(p advisory.Progress) string {
	s := p.Phase
	if p.Ecosystem != "" {
		s += " " + p.Ecosystem
	}
	if p.Archives > 0 {
		s += fmt.Sprintf(" %d/%d", p.Archive, p.Archives)
	}
	if p.Records > 0 {
		s += fmt.Sprintf(", %d records", p.Records)
	}
	return s
}

// Summary is what the API tells of the advisories.
func (a *advisories) Summary() api.AdvisoryStatus {
	s := api.AdvisoryStatus{Source: redactURL(a.cfg.Advisories.From)}
	if p, ok := a.store.Updating(); ok {
		s.Updating = progressText(p)
	}
	if err := a.last.Load(); err != nil {
		s.LastError = (*err).Error()
	}
	maxAge := time.Duration(a.cfg.Advisories.MaxAge)
	if maxAge > 0 {
		s.MaxAge = a.cfg.Advisories.MaxAge.String()
	}
	x := a.store.Current()
	if x == nil {
		return s
	}
	st := x.Stats()
	s.Present, s.Revision, s.Updated, s.Source, s.Advisories, s.KEV = true, st.Revision, st.Updated, st.Source, st.Advisories, st.KEV
	s.Stale = maxAge > 0 && time.Since(st.Updated) > maxAge
	s.Ecosystems = make(map[string]int, len(st.Ecosystems))
	for _, e := range st.Ecosystems {
		s.Ecosystems[e.Name] = e.Advisories
	}
	return s
}

const (
	reloadEvery  = 2 * time.Second // how soon a 'sluice db update' beside the server is seen
	firstRetry   = time.Minute     // after a failed update; doubled up to longestRetry
	longestRetry = 30 * time.Minute
)

// Run keeps the advisories up to date until ctx ends.
func (a *advisories) Run(ctx context.Context) error {
	tick := time.NewTicker(reloadEvery)
	defer tick.Stop()
	next, retry := a.due(time.Now()), firstRetry
	for {
		if !next.IsZero() && !time.Now().Before(next) {
			switch err := a.update(ctx); {
			case ctx.Err() != nil:
				return nil
			case err == nil:
				next, retry = a.due(time.Now()), firstRetry
			default:
				a.log.Error("advisories not updated, the old ones stay in force", zap.Error(err), zap.Duration("retry", retry))
				next, retry = time.Now().Add(retry), min(2*retry, longestRetry)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			a.reload()
		}
	}
}

// due is when the next update should start; zero means never.
func (a *advisories) due(now time.Time) time.Time {
	every := time.Duration(a.cfg.Advisories.UpdateEvery)
	if every == 0 {
		return time.Time{}
	}
	if x := a.store.Current(); x != nil {
		return x.Checked().Add(every)
	}
	return now
}

func (a *advisories) update(ctx context.Context) error {
	a.log.Info("updating the advisories", zap.String("from", redactURL(a.cfg.Advisories.From)))
	src, opts := advisorySource(a.cfg)
	stats, err := a.store.Update(ctx, src, opts)
	if errors.Is(err, advisory.ErrBusy) { // another process does it; its result is seen by reload
		return err
	}
	if err != nil {
		a.last.Store(&err)
		return err
	}
	a.last.Store(nil)
	for _, w := range stats.Warnings {
		a.log.Warn("advisory source not reached", zap.String("warning", w))
	}
	a.log.Info("advisories updated", zap.String("revision", stats.Revision), zap.Int("advisories", stats.Advisories), zap.Bool("unchanged", stats.Unchanged))
	return nil
}

// advisorySource translates the configuration.
func advisorySource(cfg *configs.Config) (advisory.Source, advisory.CompileOptions) {
	a := cfg.Advisories
	src := advisory.Source{Base: a.From, KEV: a.KEV, EPSS: a.EPSS, NVD: a.NVD, Private: a.Private}
	if isArtifact(a.From) && a.KEV == configs.Default().Advisories.KEV {
		src.KEV = "" // it brings its own, and is for machines without the internet
	}
	return src, advisory.CompileOptions{Ecosystems: a.Ecosystems, Artifact: func(ctx context.Context, reference string) (*advisory.Artifact, error) {
		return openArtifact(ctx, cfg, reference)
	}}
}

// isArtifact reports whether advisories come from what 'sluice db export' made.
func isArtifact(from string) bool {
	if strings.HasPrefix(from, ociScheme) {
		return true
	}
	info, err := os.Stat(from)
	return err == nil && info.Mode().IsRegular()
}
