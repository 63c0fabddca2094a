package layer

import (
	"path"
	"strings"
)

// maxPath is the longest path that Linux takes, in bytes (PATH_MAX, limits.h).
const maxPath = 4096

// clean makes an entry's name relative to the image's root, as a container
// runtime does that unpacks below it. bad says why the name is not one that an
// honest builder writes; such an entry is still analysed where it would land.
func clean(name string) (p, bad string) {
	switch {
	case strings.ContainsRune(name, 0):
		bad = "a path with a zero byte"
	case len(name) > maxPath:
		bad = "a path of more than 4096 bytes"
	default:
		if rel := path.Clean(strings.TrimLeft(name, "/")); rel == ".." || strings.HasPrefix(rel, "../") {
			bad = "a path that leaves the root"
		}
	}
	// Paths are kept as JSON, which has no other bytes.
	p = strings.ToValidUTF8(path.Clean("/" + name)[1:], "\uFFFD")
	if len(p) > maxPath {
		p = p[:maxPath]
	}
	return p, bad
}

// linkTarget returns where a symbolic link at p points to, relative to the root.
func linkTarget(p, target string) string {
	if !strings.HasPrefix(target, "/") {
		target = path.Join("/", path.Dir(p), target)
	}
	return strings.ToValidUTF8(path.Clean("/" + target)[1:], "\uFFFD")
}

// mark is what a name means besides being a path (OCI image-spec, layer.md,
// "Representing Changes").
type mark uint8

const (
	plain    mark = iota
	whiteout      // .wh.NAME removes NAME
	opaque        // .wh..wh..opq hides what lower layers have in its directory
	metadata      // .wh..wh.*: AUFS's own files, which are not part of the image
	invalid       // a whiteout of nothing, of . or of ..
)

const (
	whPrefix = ".wh."
	whMeta   = ".wh..wh."
	whOpaque = ".wh..wh..opq"
)

// classify returns what p means and the path that it is about.
func classify(p string) (mark, string) {
	if !strings.Contains(p, whPrefix) {
		return plain, p
	}
	dir, base := path.Split(p)
	dir = strings.TrimSuffix(dir, "/")
	if strings.HasPrefix(dir, whMeta) || strings.Contains(dir, "/"+whMeta) {
		return metadata, p
	}
	switch {
	case base == whOpaque:
		return opaque, dir
	case strings.HasPrefix(base, whMeta):
		return metadata, p
	case !strings.HasPrefix(base, whPrefix):
		return plain, p
	}
	switch name := base[len(whPrefix):]; name {
	case "", ".", "..":
		return invalid, p
	default:
		return whiteout, path.Join(dir, name)
	}
}
