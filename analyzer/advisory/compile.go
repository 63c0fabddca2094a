package advisory

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// CompileOptions say how an index is made. Dir is required.
type CompileOptions struct {
	Dir        string         // holds the index and temporary files; made if missing
	Ecosystems []string       // archives to read, in any case; empty = all that can hold packages
	KEV        string         // file or http(s) URL of CISA's KEV catalogue in JSON; "" = none is marked
	Limits     Limits         // zero fields mean the defaults
	Progress   func(Progress) // called often, from the compiling goroutine; may be nil
	Client     *http.Client   // nil = one with time-outs
	Now        time.Time      // time of the update; zero = the clock's
}

// Progress is how far an update is.
type Progress struct {
	Phase     string `json:"phase"` // "download", "read" or "write"
	Ecosystem string `json:"ecosystem,omitempty"`
	Archive   int    `json:"archive"`  // 1-based number of the archive
	Archives  int    `json:"archives"` // number of archives
	Bytes     int64  `json:"bytes"`    // of this archive, received
	Total     int64  `json:"total"`    // of this archive; -1 = unknown
	Records   int    `json:"records"`  // records taken so far, of all archives
}

// Stats describe an index.
type Stats struct {
	Revision   string           `json:"revision"` // the same for the same content
	Source     string           `json:"source"`
	Built      time.Time        `json:"built"`
	Updated    time.Time        `json:"updated"` // newest "modified" of Base's records that is not after Built; Built without any
	Size       int64            `json:"size"`    // bytes of the file
	Ecosystems []EcosystemStats `json:"ecosystems"`

	Advisories  int `json:"advisories"`  // matched ones; the same id in two archives counts twice
	Packages    int `json:"packages"`    // distinct (ecosystem, name)
	Withdrawn   int `json:"withdrawn"`   // left out: withdrawn by the feed
	Errata      int `json:"errata"`      // left out: errata that fix no vulnerability
	NoPackage   int `json:"noPackage"`   // left out: name no package of the ecosystems that were read
	CommitsOnly int `json:"commitsOnly"` // affected entries with ranges of commits only; match as undecided
	Malware     int `json:"malware"`
	KEV         int `json:"kev"`           // entries of the KEV catalogue
	KEVMatched  int `json:"kevAdvisories"` // advisories that name one of them
}

// EcosystemStats describe one ecosystem, or one release of a distribution.
type EcosystemStats struct {
	Name       string    `json:"name"` // "Debian:12", "npm"
	Advisories int       `json:"advisories"`
	Updated    time.Time `json:"updated,omitzero"` // newest "modified"
	// Covered means that the index holds the feed of the ecosystem, so that a
	// package without advisories is one without known vulnerabilities.
	Covered bool `json:"covered"`
}

// ErrBusy is wrapped when another update of the same directory is running.
var ErrBusy = errors.New("another update is running")

const (
	indexName  = "index"
	lockName   = "index.lock"
	tempPrefix = ".tmp-"
)

// Compile reads the advisories of src and writes the index <Dir>/index. Whatever
// fails, the index that was there stays: the new one takes its place by a rename,
// after it was written, read again in full and synced. Errors name the archive
// and the entry. It wraps ErrBusy if another process or goroutine is compiling
// into Dir.
func Compile(ctx context.Context, src Source, opts CompileOptions) (Stats, error) {
	if src.Base == "" && len(src.Private) == 0 {
		return Stats{}, errors.New("advisory source: neither a base nor private files")
	}
	if opts.Now.IsZero() {
		opts.Now = time.Now()
	}
	if opts.Client == nil {
		opts.Client = newClient()
		defer opts.Client.CloseIdleConnections()
	}
	if opts.Progress == nil {
		opts.Progress = func(Progress) {}
	}
	opts.Limits = opts.Limits.orDefault()
	if err := os.MkdirAll(opts.Dir, 0o755); err != nil {
		return Stats{}, fmt.Errorf("advisory index: %w", err)
	}
	unlock, err := lock(filepath.Join(opts.Dir, lockName))
	if err != nil {
		return Stats{}, fmt.Errorf("advisory index: %w", err)
	}
	defer unlock()
	removeLeftovers(opts.Dir)

	var kev map[string]bool
	if opts.KEV != "" {
		if kev, err = readKEV(ctx, opts.KEV, opts.Client, opts.Limits); err != nil {
			return Stats{}, err
		}
	}
	b, err := newBuilder(opts.Dir, kev, opts.Now)
	if err != nil {
		return Stats{}, fmt.Errorf("advisory index: %w", err)
	}
	defer b.drop()
	if src.Base != "" {
		if err := compileBase(ctx, b, src.Base, opts); err != nil {
			return Stats{}, err
		}
	}
	for _, p := range src.Private {
		if err := compilePrivate(ctx, b, p, opts.Limits); err != nil {
			return Stats{}, fmt.Errorf("private advisories: %w", err)
		}
	}
	if len(b.rows) == 0 {
		return Stats{}, fmt.Errorf("advisory source %s: no advisories", src)
	}
	opts.Progress(Progress{Phase: "write", Records: len(b.rows)})
	stats, err := b.finish(ctx, src.String(), filepath.Join(opts.Dir, indexName))
	if err != nil {
		return Stats{}, fmt.Errorf("advisory index: %w", err)
	}
	return stats, nil
}

// removeLeftovers drops temporary files of updates that were killed. The lock
// is held, so no update owns them.
func removeLeftovers(dir string) {
	names, err := filepath.Glob(filepath.Join(dir, tempPrefix+"*"))
	if err != nil {
		return
	}
	for _, n := range names {
		os.Remove(n)
	}
}

func compileBase(ctx context.Context, b *builder, base string, opts CompileOptions) error {
	o, err := newOrigin(base, opts.Dir, opts.Client, opts.Limits)
	if err != nil {
		return err
	}
	archives, err := choose(ctx, o, opts.Ecosystems)
	if err != nil {
		return err
	}
	read := make(map[string]bool)
	for _, a := range archives {
		read[parseEcosystem(a).base] = true
	}
	for i, name := range archives {
		p := Progress{Phase: "download", Ecosystem: name, Archive: i + 1, Archives: len(archives), Records: len(b.rows)}
		f, drop, err := o.archive(ctx, name, func(done, total int64) {
			p.Bytes, p.Total = done, total
			opts.Progress(p)
		})
		if err != nil {
			return fmt.Errorf("advisories of %s: %w", name, err)
		}
		p.Phase = "read"
		scope := archiveScope{name: parseEcosystem(name), others: read, limited: len(opts.Ecosystems) > 0}
		b.startArchive(true)
		err = readArchive(ctx, f, opts.Limits, func(data []byte) error {
			if p.Records = len(b.rows); p.Records%512 == 0 {
				opts.Progress(p)
			}
			return b.take(data, scope.holds)
		})
		drop()
		if err != nil {
			return fmt.Errorf("advisories of %s: all.zip: %w", name, err)
		}
		b.cover(scope.name)
		opts.Progress(p)
	}
	return nil
}

// archiveScope tells which affected entries of an archive's records count. A
// record that names packages of two ecosystems is in both archives, with the
// same id and not always the same content, so each archive gives its own. An
// ecosystem that has no archive is taken from where it is found, unless the
// update is limited to some ecosystems.
type archiveScope struct {
	name    ecosystem
	others  map[string]bool // bases that are read
	limited bool
}

func (s archiveScope) holds(e ecosystem) bool {
	if e.base == s.name.base {
		return s.name.release == "" || s.name == e
	}
	return !s.limited && !s.others[e.base]
}

// compilePrivate takes a loose file, or all *.json files below a directory, in
// the order of their names.
func compilePrivate(ctx context.Context, b *builder, root string, limits Limits) error {
	b.startArchive(false)
	found := 0
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if e.IsDir() || (path != root && !strings.EqualFold(filepath.Ext(path), ".json")) {
			return nil
		}
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		switch {
		case !info.Mode().IsRegular():
			return fmt.Errorf("%s: not a regular file", path)
		case info.Size() > limits.Record:
			return fmt.Errorf("%s: %d bytes, more than the limit of %d for a record", path, info.Size(), limits.Record)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		found++
		if err := b.take(data, func(ecosystem) bool { return true }); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		return nil
	})
	if err == nil && found == 0 {
		err = fmt.Errorf("%s: no .json files", root)
	}
	return err
}

// sortedEcosystems returns the statistics by name.
func sortedEcosystems(m map[ecosystem]*EcosystemStats) []EcosystemStats {
	out := make([]EcosystemStats, 0, len(m))
	for _, e := range m {
		out = append(out, *e)
	}
	slices.SortFunc(out, func(a, b EcosystemStats) int { return strings.Compare(a.Name, b.Name) })
	return out
}
