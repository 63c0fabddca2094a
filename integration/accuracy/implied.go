package main

import (
	"archive/zip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// feed are the advisories by ecosystem, as they name it, and package.
type feed struct {
	records map[[2]string][]*record
	covers  map[string]bool // ecosystems with at least one record
	order   versions
}

// record is what is read of an OSV record (ossf.github.io/osv-schema).
type record struct {
	ID        string   `json:"id"`
	Aliases   []string `json:"aliases"`
	Upstream  []string `json:"upstream"`
	Related   []string `json:"related"`
	Withdrawn string   `json:"withdrawn"`
	Affected  []struct {
		Package struct {
			Ecosystem string `json:"ecosystem"`
			Name      string `json:"name"`
		} `json:"package"`
		Ranges []struct {
			Type   string              `json:"type"`
			Events []map[string]string `json:"events"`
		} `json:"ranges"`
		Versions []string `json:"versions"`
	} `json:"affected"`
}

// pair is an advisory that applies to an installed package.
type pair struct {
	record *record
	pkg    pkg
}

func readFeed(dir string) (*feed, error) {
	archives, err := filepath.Glob(filepath.Join(dir, "*", "all.zip"))
	if err != nil {
		return nil, err
	}
	if len(archives) == 0 {
		return nil, fmt.Errorf("no advisories in %s: set SLUICE_TEST_DATA", dir)
	}
	f := &feed{records: map[[2]string][]*record{}, covers: map[string]bool{}}
	for _, a := range archives {
		if err := f.add(a); err != nil {
			return nil, fmt.Errorf("%s: %w", a, err)
		}
	}
	return f, nil
}

func (f *feed) add(archive string) error {
	zr, err := zip.OpenReader(archive)
	if err != nil {
		return err
	}
	defer zr.Close()
	for _, file := range zr.File {
		if !strings.HasSuffix(file.Name, ".json") {
			continue
		}
		r, err := file.Open()
		if err != nil {
			return err
		}
		rec := &record{}
		err = json.NewDecoder(r).Decode(rec)
		_ = r.Close() // it was read
		if err != nil {
			return fmt.Errorf("%s: %w", file.Name, err)
		}
		if rec.Withdrawn != "" {
			continue
		}
		for _, a := range rec.Affected {
			key := [2]string{a.Package.Ecosystem, plainName(a.Package.Ecosystem, a.Package.Name)}
			if !slices.Contains(f.records[key], rec) {
				f.records[key] = append(f.records[key], rec)
			}
			f.covers[a.Package.Ecosystem] = true
		}
	}
	return nil
}

// plainName is the name that PyPI takes for the same (PEP 503).
func plainName(ecosystem, name string) string {
	if ecosystem == "PyPI" {
		return strings.NewReplacer("_", "-", ".", "-").Replace(strings.ToLower(name))
	}
	return name
}

// implied returns the advisories that apply to the packages. A language's
// package that a distribution with advisories has installed is the
// distribution's to judge.
func (f *feed) implied(ctx context.Context, installed []pkg) ([]pair, error) {
	judged := slices.ContainsFunc(installed, func(p pkg) bool { return p.typ == "deb" && f.covers[p.ecosystem] })
	var out []pair
	for _, p := range installed {
		if p.owned && judged {
			continue
		}
		name, version := p.name, p.version
		if p.source != "" {
			name = p.source
		}
		if p.sourceVersion != "" {
			version = p.sourceVersion
		}
		for _, rec := range f.records[[2]string{p.ecosystem, plainName(p.ecosystem, name)}] {
			hit, err := f.affects(ctx, rec, p.ecosystem, name, version)
			if err != nil {
				return nil, fmt.Errorf("%s: %s %s: %w", rec.ID, name, version, err)
			}
			if hit {
				out = append(out, pair{rec, p})
			}
		}
	}
	return out, nil
}

// affects is the schema's "Evaluation" in its simplest form.
func (f *feed) affects(ctx context.Context, rec *record, ecosystem, name, version string) (bool, error) {
	for _, a := range rec.Affected {
		if a.Package.Ecosystem != ecosystem || plainName(ecosystem, a.Package.Name) != plainName(ecosystem, name) {
			continue
		}
		if slices.Contains(a.Versions, version) {
			return true, nil
		}
		for _, r := range a.Ranges {
			if r.Type == "GIT" {
				continue
			}
			if in, err := f.within(ctx, r.Events, ecosystem, version); in || err != nil {
				return in, err
			}
		}
	}
	return false, nil
}

// within reports whether a version is at or above an "introduced" without an
// end between the two, in whatever order the events stand.
func (f *feed) within(ctx context.Context, events []map[string]string, ecosystem, version string) (bool, error) {
	less := func(a, b string) (bool, error) {
		if a == "0" || b == "0" {
			return a == "0" && b != "0", nil
		}
		n, err := f.order.compare(ctx, ecosystem, a, b)
		return n < 0, err
	}
	for _, e := range events {
		start, ok := e["introduced"]
		if !ok {
			continue
		}
		above, err := less(version, start)
		if above || err != nil {
			if err != nil {
				return false, err
			}
			continue
		}
		ended := false
		for _, e := range events {
			if end, ok := e["fixed"]; ok { // start < end <= version
				after, err1 := less(start, end)
				later, err2 := less(version, end)
				ended = ended || after && !later
				err = errors.Join(err, err1, err2)
			}
			if end, ok := e["last_affected"]; ok { // start <= end < version
				before, err1 := less(end, start)
				passed, err2 := less(end, version)
				ended = ended || !before && passed
				err = errors.Join(err, err1, err2)
			}
		}
		if !ended || err != nil {
			return err == nil, err
		}
	}
	return false, nil
}
