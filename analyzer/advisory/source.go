package advisory

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Source says where advisories come from. At least one field is set.
type Source struct {
	// Base is a directory or an http(s) URL with the layout of the public OSV
	// export (google.github.io/osv.dev/data): <Base>/ecosystems.txt and
	// <Base>/<Ecosystem>/all.zip. A directory without ecosystems.txt holds the
	// ecosystems of its sub-folders.
	//
	// Or it is an artifact that Export made: the name of its tar file, or
	// oci://<registry>/<repository>[:<tag>][@<digest>]. The catalogues and private
	// records that an artifact holds take the place of KEV and EPSS and add to NVD
	// and Private.
	Base string
	// Private are OSV records that are added: a file (*.json, or *.zip of such), a
	// directory of *.json files, or the http(s) URL of a file. Each may end in
	// #sha256=<64 hexadecimal digits>; see ParsePin. They do not count for
	// Stats.Ecosystems[].Covered: a few records of one's own say nothing about the
	// rest of an ecosystem. What ImportPrivate took is added without being named.
	Private []string

	KEV  string   // file or URL of CISA's catalogue of known-exploited vulnerabilities, in JSON; "" = none
	EPSS string   // file or URL of FIRST's scores, epss_scores-*.csv or .csv.gz; "" = none
	NVD  []string // files, directories or URLs of NVD's JSON 2.0 feeds or pages, plain or gzip
}

// PublicExport is the public OSV export.
const PublicExport = "https://osv-vulnerabilities.storage.googleapis.com"

// String names the source without credentials.
func (s Source) String() string {
	parts := make([]string, 0, 1+len(s.Private))
	if s.Base != "" {
		parts = append(parts, redact(s.Base))
	}
	for _, p := range s.Private {
		parts = append(parts, redact(p))
	}
	return strings.Join(parts, ", ")
}

// Limits bound what an update takes from a source. Zero fields mean the default.
type Limits struct {
	Archive int64 // bytes of one all.zip; default 4 GiB
	Record  int64 // bytes of one record; default 32 MiB
	Records int   // records of one archive; default 1,000,000
	Text    int64 // uncompressed bytes of one archive; default 32 GiB
	Ratio   int64 // uncompressed to compressed bytes of a record beyond 1 MiB; default 200
	// Stall ends a download from which nothing came for so long; default 1 minute.
	Stall time.Duration
	// Retry is the pause before a download that failed is tried again, doubled up
	// to the fourth and last time; default 1 second.
	Retry time.Duration
}

func (l Limits) orDefault() Limits {
	def := func(v *int64, d int64) {
		if *v == 0 {
			*v = d
		}
	}
	def(&l.Archive, 4<<30)
	def(&l.Record, 32<<20)
	def(&l.Text, 32<<30)
	def(&l.Ratio, 200)
	if l.Records == 0 {
		l.Records = 1_000_000
	}
	if l.Stall == 0 {
		l.Stall = time.Minute
	}
	if l.Retry == 0 {
		l.Retry = time.Second
	}
	return l
}

// noPackages are ecosystems of the public export that name no package of an
// image; they are taken only when asked for.
var noPackages = []string{"[EMPTY]", "GIT", "OSS-Fuzz", "Android", "Linux", "UVI", "GSD", "DWF"}

// origin reads the files of one Base.
type origin interface {
	// ecosystems lists the base's ecosystems; nil without a list.
	ecosystems(ctx context.Context) ([]string, error)
	// archive returns an ecosystem's all.zip.
	archive(ctx context.Context, eco string, progress func(done, total int64)) (*input, error)
}

// isURL reports whether a source is to be asked for over HTTP.
func isURL(s string) (*url.URL, bool) {
	u, err := url.Parse(s)
	return u, err == nil && (u.Scheme == "http" || u.Scheme == "https")
}

const ociScheme = "oci://"

// origin opens the Base.
func (g *gatherer) origin(ctx context.Context, base string) (origin, error) {
	if u, ok := isURL(base); ok {
		if u.Host == "" {
			return nil, fmt.Errorf("advisory source %s: no host", redact(base))
		}
		return &remote{base: u, feed: g.feed}, nil
	}
	if ref, ok := strings.CutPrefix(base, ociScheme); ok {
		return g.pull(ctx, ref)
	}
	if strings.Contains(base, "://") {
		return nil, fmt.Errorf("advisory source %s: only http, https, oci and directories are supported", redact(base))
	}
	info, err := os.Stat(base)
	if err != nil && !g.opts.Offline {
		return nil, fmt.Errorf("advisory source: %w", err)
	}
	if err != nil || !info.IsDir() {
		return g.load(ctx, base)
	}
	return &directory{base: base, limits: g.opts.Limits}, nil
}

// choose picks the archives to read: those that were asked for, else all that
// can hold packages, without those of single releases, which their base holds.
func choose(ctx context.Context, o origin, want []string) ([]string, error) {
	all, err := o.ecosystems(ctx)
	if err != nil {
		return nil, err
	}
	for _, e := range all {
		if err := checkEcosystemName(e); err != nil {
			return nil, err
		}
	}
	var out []string
	if len(want) > 0 {
		for _, w := range want {
			i := slices.IndexFunc(all, func(e string) bool { return strings.EqualFold(e, w) })
			switch {
			case i >= 0:
				out = append(out, all[i])
			case all == nil && checkEcosystemName(w) == nil:
				out = append(out, w)
			default:
				return nil, fmt.Errorf("ecosystem %q: the source does not have it; it has %s", w, strings.Join(all, ", "))
			}
		}
	} else {
		for _, e := range all {
			base, _, release := strings.Cut(e, ":")
			if slices.Contains(noPackages, e) || (release && slices.Contains(all, base)) {
				continue
			}
			out = append(out, e)
		}
	}
	slices.Sort(out)
	out = slices.Compact(out)
	if len(out) == 0 {
		return nil, errors.New("advisory source: no ecosystems.txt and no <Ecosystem>/all.zip")
	}
	return out, nil
}

// checkEcosystemName refuses names that would leave the base.
func checkEcosystemName(name string) error {
	if name == "" || len(name) > 100 || strings.ContainsAny(name, `/\`) || name[0] == '.' || strings.IndexFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }) >= 0 {
		return fmt.Errorf("ecosystem name %q: not a name", name)
	}
	return nil
}

// readEcosystems reads ecosystems.txt: one name per line.
func readEcosystems(r io.Reader) ([]string, error) {
	var out []string
	s := bufio.NewScanner(io.LimitReader(r, 1<<20))
	for s.Scan() {
		if line := strings.TrimSpace(s.Text()); line != "" {
			out = append(out, line)
		}
	}
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("ecosystems.txt: %w", err)
	}
	if len(out) == 0 {
		return nil, errors.New("ecosystems.txt: empty")
	}
	return out, nil
}

// directory is a Base on disk.
type directory struct {
	base   string
	limits Limits
}

func (d *directory) ecosystems(context.Context) ([]string, error) {
	f, err := os.Open(filepath.Join(d.base, "ecosystems.txt"))
	if err == nil {
		defer f.Close()
		return readEcosystems(f)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("advisory source: %w", err)
	}
	entries, err := os.ReadDir(d.base)
	if err != nil {
		return nil, fmt.Errorf("advisory source: %w", err)
	}
	var out []string
	for _, e := range entries {
		if _, err := os.Stat(filepath.Join(d.base, e.Name(), "all.zip")); err == nil {
			out = append(out, e.Name())
		}
	}
	return out, nil
}

func (d *directory) archive(_ context.Context, eco string, progress func(done, total int64)) (*input, error) {
	in, err := openInput(filepath.Join(d.base, eco, "all.zip"), d.limits.Archive)
	if err == nil {
		progress(in.Size, in.Size)
	}
	return in, err
}

// openInput opens a file and takes its SHA-256.
func openInput(path string, limit int64) (*input, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	in := &input{f: f}
	info, err := f.Stat()
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		err = errors.New("not a regular file")
	case info.Size() > limit:
		err = fmt.Errorf("%w of %d bytes", errTooLarge, limit)
	default:
		in.From, in.Size = path, info.Size()
		in.SHA256, err = hashFile(f)
	}
	if err != nil {
		in.close()
		return nil, err
	}
	return in, nil
}
