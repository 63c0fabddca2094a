package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"go.uber.org/zap"

	"github.com/sluiceproxy/sluice/analyzer/advisory"
	"github.com/sluiceproxy/sluice/analyzer/vex"
	"github.com/sluiceproxy/sluice/proxy"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/records"
)

// loadVEX reads VEX files and directories, and tells of statements that can
// match nothing.
func loadVEX(paths []string, log *zap.Logger) (*vex.Set, error) {
	set, docs, err := vex.Load(paths)
	if err != nil {
		return nil, usageError(err)
	}
	for _, d := range docs {
		for _, w := range d.Warnings {
			log.Warn("VEX statement", zap.String("file", d.Name), zap.String("warning", w))
		}
	}
	if len(docs) > 0 {
		log.Info("VEX loaded", zap.Int("documents", len(docs)), zap.Int("statements", set.Len()), zap.String("revision", set.Revision()))
	}
	return set, nil
}

// ignoreFiles are what scan looks for in the working directory, the first that
// is there.
var ignoreFiles = []string{".trivyignore.yaml", ".trivyignore"}

// loadIgnores reads exceptions in Trivy's format: those of file, or if none was
// asked for those of the working directory.
func loadIgnores(file string, asked bool) ([]policy.Waiver, error) {
	files := []string{file}
	if !asked {
		files = ignoreFiles
	} else if file == "" {
		return nil, nil
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		switch {
		case err == nil:
			waivers, err := policy.ParseTrivyIgnore(name, data)
			if err != nil {
				return nil, usageError(err)
			}
			return waivers, nil
		case asked || !errors.Is(err, fs.ErrNotExist):
			return nil, usageError(fmt.Errorf("exceptions: %w", err))
		}
	}
	return nil, nil
}

// rematch judges what is known again whenever the advisories change, until ctx
// ends: at first what other advisories judged before the start, later the
// images that hold a package about which they say something else.
func rematch(ctx context.Context, srv *proxy.Server, adv *advisories, log *zap.Logger) error {
	tick := time.NewTicker(reloadEvery)
	defer tick.Stop()
	var seen *advisory.Index
	for {
		if x := adv.store.Current(); x != seen {
			keys, err := changedKeys(seen, x)
			var done any
			if err == nil {
				done, err = srv.Rematch(ctx, keys)
			}
			switch {
			case ctx.Err() != nil:
				return nil
			case err != nil:
				log.Error("images not judged again by the new advisories; their next pull does it", zap.Error(err))
			default:
				log.Info("images judged again by the new advisories", zap.String("revision", x.Revision()), zap.Any("images", done))
			}
			seen = x
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// changedKeys returns the packages about which two states of the advisories
// differ; nil, which means all of them, where there was none before.
func changedKeys(old, x *advisory.Index) ([]records.PackageKey, error) {
	if old == nil {
		return nil, nil
	}
	changes, err := advisory.Changes(old, x)
	if err != nil {
		return nil, err
	}
	keys := make([]records.PackageKey, len(changes))
	for i, k := range changes {
		keys[i] = records.PackageKey{Ecosystem: k.Ecosystem, Name: k.Name}
	}
	return keys, nil
}
