package advisory

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// privateName is the folder of imported records, below the index's.
const privateName = "private"

// private opens the private sources: those of an artifact, those that are
// named, and what was imported.
func (g *gatherer) private(ctx context.Context) error {
	for _, name := range g.bundle.below("private/") {
		in, err := g.bundle.input(name)
		if err != nil {
			return err
		}
		g.add(KindPrivate, name, in)
	}
	roots := slices.Clone(g.src.Private)
	imported := filepath.Join(g.opts.Dir, privateName)
	if entries, err := os.ReadDir(imported); err == nil && len(entries) > 0 {
		roots = append(roots, imported)
	}
	for _, root := range roots {
		in, err := g.privateRoot(ctx, root)
		if err != nil {
			return err
		}
		g.add(KindPrivate, "private/"+filepath.Base(in.From), in)
	}
	return nil
}

func (g *gatherer) privateRoot(ctx context.Context, root string) (*input, error) {
	from, pin, err := ParsePin(root)
	if err != nil {
		return nil, err
	}
	if info, err := os.Stat(from); err != nil || !info.IsDir() {
		return g.file(ctx, root, g.opts.Limits.Archive, KindPrivate)
	}
	in := &input{SourceStats: SourceStats{From: from}}
	if in.SHA256, err = walkRecords(ctx, from, g.opts.Limits, func(_ string, data []byte) error {
		in.Size += int64(len(data))
		return nil
	}); err != nil {
		return nil, err
	}
	return in, checkPin(in, pin)
}

// walkRecords hands every *.json file below root to take, in the order of their
// paths, and returns the SHA-256 of their listing: see ParsePin.
func walkRecords(ctx context.Context, root string, limits Limits, take func(name string, data []byte) error) (string, error) {
	var names []string
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name, err := filepath.Rel(root, path); err == nil && !e.IsDir() && strings.EqualFold(filepath.Ext(path), ".json") {
			names = append(names, filepath.ToSlash(name))
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	if len(names) == 0 {
		return "", fmt.Errorf("%s: no .json files", root)
	}
	if len(names) > limits.Records {
		return "", fmt.Errorf("%s: %d records, more than the limit of %d", root, len(names), limits.Records)
	}
	slices.Sort(names)
	list := sha256.New()
	for _, name := range names {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		path := filepath.Join(root, filepath.FromSlash(name))
		data, err := readRecord(path, limits)
		if err == nil {
			err = take(name, data)
		}
		if err != nil {
			return "", fmt.Errorf("%s: %w", path, err)
		}
		fmt.Fprintf(list, "%x  %s\n", sha256.Sum256(data), name)
	}
	return hex.EncodeToString(list.Sum(nil)), nil
}

func readRecord(path string, limits Limits) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errors.New("not a regular file")
	case info.Size() > limits.Record:
		return nil, fmt.Errorf("%d bytes, more than the limit of %d for a record", info.Size(), limits.Record)
	}
	return os.ReadFile(path)
}

// readPrivate hands the records of one private source to take. Errors name the
// file and the record.
func readPrivate(ctx context.Context, in *input, limits Limits, take func(data []byte) error) error {
	if in.f == nil {
		sum, err := walkRecords(ctx, in.From, limits, func(_ string, data []byte) error { return take(data) })
		if err == nil && sum != in.SHA256 {
			err = fmt.Errorf("%s: it changed while it was read", in.From)
		}
		return err
	}
	magic := make([]byte, 2)
	if _, err := in.f.ReadAt(magic, 0); err == nil && string(magic) == "PK" {
		if err := readArchive(ctx, in.f, limits, take); err != nil {
			return fmt.Errorf("%s: %w", in.From, err)
		}
		return nil
	}
	data, err := io.ReadAll(io.LimitReader(in.f, limits.Record+1))
	if err == nil && int64(len(data)) > limits.Record {
		err = fmt.Errorf("more than the limit of %d bytes for a record", limits.Record)
	}
	if err == nil {
		err = take(data)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", in.From, err)
	}
	return nil
}

// checkPrivate refuses what a public feed may hold and a record of one's own
// surely means otherwise: no package, an ecosystem that is not known, and
// versions that cannot be compared.
func checkPrivate(r *record) error {
	if r.withdrawn {
		return nil
	}
	if len(r.affected) == 0 {
		return fmt.Errorf("record %s: it names no affected package", r.ID)
	}
	for i := range r.affected {
		a := &r.affected[i]
		where := fmt.Sprintf("record %s: affected[%d] (%s %s)", r.ID, i, a.ecosystem, a.name)
		parse := orderOf(parseEcosystem(a.ecosystem).base)
		if parse == nil {
			return fmt.Errorf("%s: ecosystem %q is not known", where, a.ecosystem)
		}
		if len(a.ranges) == 0 && len(a.versions) == 0 {
			return fmt.Errorf("%s: neither a range of versions nor a list", where)
		}
		for _, events := range a.ranges {
			for _, e := range events {
				if e.kind == eventUnknown {
					return fmt.Errorf("%s: a kind of event that is not known", where)
				}
				if e.version == "0" || e.kind == eventLimit && e.version == "*" {
					continue
				}
				if _, err := parse(e.version); err != nil {
					return fmt.Errorf("%s: %w", where, err)
				}
			}
		}
	}
	return nil
}

// ImportPrivate takes private OSV records, written as in Source.Private but not
// behind a URL, into dir, where every update finds them. Either all are taken or
// none: each must name a package of a known ecosystem with versions that can be
// compared. A record of an id that is there already replaces it. It returns the
// ids. They count from the next Compile.
func ImportPrivate(ctx context.Context, dir, from string, limits Limits) ([]string, error) {
	limits = limits.orDefault()
	g := newGatherer(Source{}, CompileOptions{Dir: dir, Limits: limits})
	if path, _, err := ParsePin(from); err == nil && strings.Contains(path, "://") {
		return nil, fmt.Errorf("import %s: only files and directories can be imported; a feed behind a URL belongs into advisories.private of the configuration", redact(path))
	}
	in, err := g.privateRoot(ctx, from)
	if err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	defer in.close()
	records := make(map[string][]byte)
	var ids []string
	if err := readPrivate(ctx, in, limits, func(data []byte) error {
		r, err := parseRecord(data)
		if err == nil {
			err = checkPrivate(r)
		}
		if err != nil {
			return err
		}
		if records[r.ID] != nil {
			return fmt.Errorf("%w: its id %s is also that of another record", errRecord, r.ID)
		}
		records[r.ID] = slices.Clone(data)
		ids = append(ids, r.ID)
		return nil
	}); err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	if len(ids) == 0 {
		return nil, fmt.Errorf("import %s: no records", from)
	}
	into := filepath.Join(dir, privateName)
	if err := os.MkdirAll(into, 0o755); err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	unlock, err := lock(filepath.Join(dir, lockName))
	if err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	defer unlock()
	for _, id := range ids {
		path := filepath.Join(into, url.PathEscape(id)+".json")
		if err := os.WriteFile(path+".new", records[id], 0o600); err != nil {
			return nil, fmt.Errorf("import: %w", err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			return nil, fmt.Errorf("import: %w", err)
		}
	}
	slices.Sort(ids)
	return ids, nil
}
