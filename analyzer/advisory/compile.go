package advisory

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// CompileOptions say how an index is made. Dir is required.
type CompileOptions struct {
	Dir        string         // holds the index, what was downloaded for it, and temporary files; made if missing
	Ecosystems []string       // archives to read, in any case; empty = all that can hold packages
	Limits     Limits         // zero fields mean the defaults
	Progress   func(Progress) // called often, from the compiling goroutine; may be nil
	Client     *http.Client   // nil = one with time-outs
	Now        time.Time      // time of the update; zero = the clock's
	Offline    bool           // take what earlier updates downloaded; ask nobody
	// Artifact opens an artifact of a registry by its reference without oci://;
	// nil = none can be.
	Artifact func(ctx context.Context, reference string) (*Artifact, error)
}

// Progress is how far an update is.
type Progress struct {
	Phase     string `json:"phase"`               // "download", "read" or "write"
	Ecosystem string `json:"ecosystem,omitempty"` // or kev, epss, nvd, private
	Archive   int    `json:"archive"`             // 1-based number of the archive
	Archives  int    `json:"archives"`            // number of archives
	Bytes     int64  `json:"bytes"`               // of this archive, received
	Total     int64  `json:"total"`               // of this archive; -1 = unknown
	Records   int    `json:"records"`             // records taken so far, of all archives
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

	EPSS        int    `json:"epss"`           // scores
	EPSSMatched int    `json:"epssAdvisories"` // advisories that have one
	EPSSModel   string `json:"epssModel,omitempty"`
	NVD         int    `json:"nvd"`           // entries of NVD's files
	NVDRated    int    `json:"nvdAdvisories"` // advisories that only NVD rates

	Sources []SourceStats `json:"sources"`
	Inputs  string        `json:"inputs"` // the same for the same sources, read in the same way

	Unchanged bool     `json:"-"` // of an update: the sources are those of the index in force, which was kept
	Warnings  []string `json:"-"` // of an update: sources of which an earlier copy was used
}

// SourceStats describe one of the files that an index was made of.
type SourceStats struct {
	Kind    string    `json:"kind"`           // KindOSV, KindKEV, KindEPSS, KindNVD or KindPrivate
	Name    string    `json:"name,omitempty"` // the ecosystem, for KindOSV
	From    string    `json:"from"`           // file, or URL without credentials
	SHA256  string    `json:"sha256"`         // of its bytes; for a directory see ParsePin
	Size    int64     `json:"size"`           // bytes
	Entries int       `json:"entries"`
	Date    time.Time `json:"date,omitzero"` // of its content: newest record, release, scores
	Checked time.Time `json:"-"`             // when its server last said that it is current
	Kept    string    `json:"-"`             // why an earlier copy was used; "" = none was
}

// EcosystemStats describe one ecosystem, or one release of a distribution.
type EcosystemStats struct {
	Name       string    `json:"name"` // "Debian:12", "npm"
	Advisories int       `json:"advisories"`
	Updated    time.Time `json:"updated,omitzero"` // newest "modified"
	// Covered means that the index holds the feed of the ecosystem, so that a
	// package without advisories is one without known vulnerabilities.
	Covered bool `json:"covered"`
	// AsOf is the instant whose state the feed of a covered ecosystem is known to
	// show: the newest record of its archive, and as much later as that archive's
	// usual silence allows (see silence), but not later than Stats.Updated.
	AsOf time.Time `json:"asOf,omitzero"`
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
//
// Files behind URLs are kept in Dir and asked for by ETag and date, resumed
// where they broke off, and tried five times. If nothing of the sources changed
// the index stays as it is, but for Index.Checked, and Stats.Unchanged is set.
// KEV, EPSS, NVD and private files that cannot be reached are taken from an
// earlier update, which Stats.Warnings tells.
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

	g := newGatherer(src, opts)
	defer g.close()
	if err := g.gather(ctx); err != nil {
		return Stats{}, err
	}
	stats, same := inForce(ctx, opts, g.fingerprint())
	if !same {
		if stats, err = compile(ctx, g, src, opts); err != nil {
			return Stats{}, err
		}
	}
	stats.Unchanged, stats.Warnings = same, g.warnings
	if err := errors.Join(g.feed.commit(), g.remember()); err != nil {
		return Stats{}, fmt.Errorf("advisory index: made, but its sources are not kept: %w", err)
	}
	return stats, nil
}

// inForce reports whether the index that is there, whole, was made of the same
// sources. It then counts as checked now.
func inForce(ctx context.Context, opts CompileOptions, fingerprint string) (Stats, bool) {
	path := filepath.Join(opts.Dir, indexName)
	x, err := Open(path)
	if err != nil {
		return Stats{}, false
	}
	defer x.Close()
	if x.stats.Inputs != fingerprint || Verify(ctx, path) != nil || os.Chtimes(path, opts.Now, opts.Now) != nil {
		return Stats{}, false
	}
	return x.Stats(), true
}

func compile(ctx context.Context, g *gatherer, src Source, opts CompileOptions) (Stats, error) {
	b, err := newBuilder(opts.Dir, opts.Now)
	if err != nil {
		return Stats{}, fmt.Errorf("advisory index: %w", err)
	}
	defer b.drop()
	for _, read := range []func(context.Context, *builder, *gatherer) error{compileKEV, compileEPSS, compileBase, compilePrivate} {
		if err := read(ctx, b, g); err != nil {
			return Stats{}, err
		}
	}
	if len(b.rows) == 0 {
		return Stats{}, fmt.Errorf("advisory source %s: no advisories", src)
	}
	if err := compileNVD(ctx, b, g); err != nil {
		return Stats{}, err
	}
	opts.Progress(Progress{Phase: "write", Records: b.stats.Advisories})
	b.stats.Inputs = g.fingerprint()
	for _, in := range g.all {
		b.stats.Sources = append(b.stats.Sources, in.SourceStats)
	}
	stats, err := b.finish(ctx, src.String(), filepath.Join(opts.Dir, indexName))
	if err != nil {
		return Stats{}, fmt.Errorf("advisory index: %w", err)
	}
	return stats, nil
}

// blame marks an input that cannot be read, so that the next update takes it anew.
func (g *gatherer) blame(in *input, err error) error {
	if !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		g.feed.spoiled(in)
	}
	return err
}

func compileKEV(_ context.Context, b *builder, g *gatherer) error {
	for _, in := range g.of(KindKEV) {
		k, err := parseKEV(io.LimitReader(in.f, maxKEV))
		if err != nil {
			return g.blame(in, fmt.Errorf("kev %s: %w", in.From, err))
		}
		in.Entries, in.Date = len(k.ids), k.date
		b.kev, b.stats.KEV = k.ids, len(k.ids)
	}
	return nil
}

func compileEPSS(_ context.Context, b *builder, g *gatherer) error {
	for _, in := range g.of(KindEPSS) {
		e, err := parseEPSS(in.f)
		if err != nil {
			return g.blame(in, fmt.Errorf("epss %s: %w", in.From, err))
		}
		in.Entries, in.Date = len(e.scores), e.date
		b.epss, b.stats.EPSS, b.stats.EPSSModel = e, len(e.scores), e.model
	}
	return nil
}

func compileBase(ctx context.Context, b *builder, g *gatherer) error {
	archives := g.of(KindOSV)
	read := make(map[string]bool)
	for _, in := range archives {
		read[parseEcosystem(in.Name).base] = true
	}
	for i, in := range archives {
		p := Progress{Phase: "read", Ecosystem: in.Name, Archive: i + 1, Archives: len(archives), Bytes: in.Size, Total: in.Size, Records: len(b.rows)}
		g.opts.Progress(p)
		scope := archiveScope{name: parseEcosystem(in.Name), others: read, limited: len(g.opts.Ecosystems) > 0}
		b.startArchive(true)
		err := readArchive(ctx, in.f, g.opts.Limits, func(data []byte) error {
			in.Entries++
			if p.Records = len(b.rows); p.Records%512 == 0 {
				g.opts.Progress(p)
			}
			return b.take(data, scope.holds)
		})
		if err != nil {
			return g.blame(in, fmt.Errorf("advisories of %s: all.zip: %w", in.Name, err))
		}
		in.Date = b.cover(scope.name)
	}
	return nil
}

func compilePrivate(ctx context.Context, b *builder, g *gatherer) error {
	for _, in := range g.of(KindPrivate) {
		b.startArchive(false)
		if err := readPrivate(ctx, in, g.opts.Limits, func(data []byte) error {
			in.Entries++
			return b.take(data, func(ecosystem) bool { return true })
		}); err != nil {
			return g.blame(in, fmt.Errorf("private advisories: %w", err))
		}
	}
	return nil
}

// compileNVD reads NVD's files after all records, since it needs only what
// nobody else rated.
func compileNVD(ctx context.Context, b *builder, g *gatherer) error {
	files := g.of(KindNVD)
	wanted := b.lend()
	for i, in := range files {
		g.opts.Progress(Progress{Phase: "read", Ecosystem: KindNVD, Archive: i + 1, Archives: len(files), Bytes: in.Size, Total: in.Size, Records: b.stats.Advisories})
		var err error
		if in.Entries, in.Date, err = parseNVD(ctx, in.f, g.opts.Limits, func(c cve, r rating) {
			if _, ok := wanted[c]; ok {
				wanted[c] = r
			}
		}); err != nil {
			return g.blame(in, fmt.Errorf("nvd %s: %w", in.From, err))
		}
		b.stats.NVD += in.Entries
	}
	return b.lendNVD(wanted)
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

// sortedEcosystems returns the statistics by name.
func sortedEcosystems(m map[ecosystem]*EcosystemStats) []EcosystemStats {
	out := make([]EcosystemStats, 0, len(m))
	for _, e := range m {
		out = append(out, *e)
	}
	slices.SortFunc(out, func(a, b EcosystemStats) int { return strings.Compare(a.Name, b.Name) })
	return out
}
