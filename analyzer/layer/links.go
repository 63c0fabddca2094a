package layer

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"path"
	"slices"

	"github.com/sluiceproxy/sluice/analyzer"
	"github.com/sluiceproxy/sluice/analyzer/extract"
)

const (
	maxLinks     = 200_000  // links to directories that are kept
	maxKept      = 64 << 10 // size of a file that is kept for a hard link to come
	maxKeptBytes = 32 << 20 // of all of them
)

// directoryLinks returns the symbolic links that do not lead to a file of the
// same layer: they may lead to a directory, here or in another layer, and then
// the paths of upper layers can go through them.
func (w *walk) directoryLinks(paths []string) []analyzer.Link {
	var out []analyzer.Link
	for _, p := range slices.Sorted(maps.Keys(w.links)) {
		target := w.links[p]
		_, isLink := w.links[target]
		if _, isFile := slices.BinarySearch(paths, target); isFile && !isLink {
			continue
		}
		if len(out) == maxLinks {
			w.miss(p, fmt.Sprintf("more than %d symbolic links", maxLinks))
			break
		}
		out = append(out, analyzer.Link{Path: p, Target: target})
	}
	return out
}

// remember keeps a small file that nobody wanted under its name but that looks
// like a manifest: stores of packages (pnpm's) come first in a layer, under names
// that say nothing, and hard links to them later.
func (w *walk) remember(p string, b []byte) {
	start := bytes.TrimLeft(b[:min(len(b), 64)], " \t\r\n")
	if len(b) > maxKept || w.keptBytes+len(b) > maxKeptBytes || !bytes.HasPrefix(start, []byte("{")) && !bytes.HasPrefix(start, []byte("Metadata-Version:")) {
		return
	}
	if w.kept == nil {
		w.kept = map[string][]byte{}
	}
	w.keptBytes += len(b)
	w.kept[p] = bytes.Clone(b)
}

// hardLink gives the second name of a file what was found under the first, or
// reads what was kept of it. Other content has gone by: where it was not read as
// what the second name makes of it, that is lost.
func (w *walk) hardLink(ctx context.Context, p, target string) error {
	if !w.ex.WantsPath(p) {
		return nil
	}
	target, _ = clean(target)
	if f, ok := w.found[target]; ok && path.Base(p) == path.Base(target) {
		own := &found{packages: slices.Clone(f.packages)}
		for i := range own.packages {
			own.packages[i].Path = p
		}
		w.keep(p, own)
		return nil
	}
	if b, ok := w.kept[target]; ok {
		f := &found{}
		if err := w.parse(ctx, p, b[:min(len(b), len(w.head))], extract.Content{ReaderAt: memory(b), Size: int64(len(b))}, f); err != nil {
			return err
		}
		w.keep(p, f)
		return nil
	}
	w.miss(p, fmt.Sprintf("a hard link to %q, which was not read as this file", target))
	return nil
}
