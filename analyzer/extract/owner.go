package extract

import (
	"bytes"
	"context"
	"hash/maphash"
	"path"
	"strings"

	"github.com/sluiceproxy/sluice/analyzer"
)

// maxOwned is how many owned files are noted for one layer. What is beyond has
// no owner, so it is judged by itself.
const maxOwned = 4_000_000

// owners are the files that the distribution packages of a layer installed, as
// their package manager lists them. A whole distribution has some 100,000, so
// only a hash of each path is kept, under a seed that nobody can aim at.
type owners struct {
	seed  maphash.Seed
	files map[uint64]int32 // index in names
	names []string         // TYPE/NAME of the packages
}

func (o *owners) add(p, owner string) {
	if o.files == nil {
		o.seed, o.files = maphash.MakeSeed(), map[uint64]int32{}
	}
	if len(o.files) >= maxOwned {
		return
	}
	if len(o.names) == 0 || o.names[len(o.names)-1] != owner {
		o.names = append(o.names, owner)
	}
	p = strings.TrimPrefix(strings.TrimPrefix(p, "."), "/")
	o.files[maphash.String(o.seed, ownerKey(p))] = int32(len(o.names) - 1)
}

func (o *owners) of(p string) string {
	if o.files == nil {
		return ""
	}
	i, ok := o.files[maphash.String(o.seed, ownerKey(p))]
	if !ok {
		return ""
	}
	return o.names[i]
}

// ownerKey is a path without the difference that a merged /usr makes: packages
// list /lib/x where the file system has /usr/lib/x, and the other way round.
func ownerKey(p string) string {
	if rest, ok := strings.CutPrefix(p, "usr/"); ok {
		switch top, _, _ := strings.Cut(rest, "/"); top {
		case "bin", "sbin", "lib", "lib32", "lib64", "libx32":
			return rest
		}
	}
	return p
}

// Owner returns the distribution package that installed the file at p, as its
// type and name ("deb/python3-django"): the purl needs the release, which is
// known for an image only. It is "" where none of the layer's lists has the
// file. Call it after Finish.
func (s *Session) Owner(p string) string { return s.owners.of(p) }

// isFileList knows the lists of dpkg (info/NAME[:ARCH].list), of distroless
// images (status.d/NAME.md5sums), of opkg and of pacman.
func isFileList(f file) bool {
	switch path.Ext(f.base) {
	case ".list":
		dir := path.Dir(f.path)
		return dir == "var/lib/dpkg/info" || dir == "usr/lib/opkg/info"
	case ".md5sums":
		return path.Dir(f.path) == "var/lib/dpkg/status.d"
	}
	return f.base == "files" && strings.HasPrefix(f.path, "var/lib/pacman/local/")
}

// readFileList notes the files of one package. It finds no packages.
func readFileList(_ context.Context, s *Session, p string, c Content) ([]analyzer.Package, error) {
	name, list := strings.CutSuffix(path.Base(p), ".list")
	name = strings.TrimSuffix(name, ".md5sums")
	name, _, _ = strings.Cut(name, ":")
	owner := "deb/" + name
	switch {
	case strings.HasPrefix(p, "usr/lib/opkg/"):
		owner = "opkg/" + name
	case !list && strings.HasPrefix(p, "var/lib/pacman/"):
		owner = "alpm/" + pacmanName(path.Base(path.Dir(p)))
	}
	return nil, eachLine(c, func(line []byte) {
		if !list {
			if _, file, ok := bytes.Cut(line, []byte("  ")); ok {
				line = file // md5sum(1): sum, two spaces, path
			}
		}
		s.owners.add(string(line), owner)
	})
}

// pacmanName is the package of a directory NAME-VERSION-RELEASE.
func pacmanName(dir string) string {
	for range 2 {
		if i := strings.LastIndexByte(dir, '-'); i > 0 {
			dir = dir[:i]
		}
	}
	return dir
}

// readAPKFiles notes the files of an apk database (apk(5): P: starts a package,
// F: a directory, R: a file in it). It finds no packages.
func readAPKFiles(_ context.Context, s *Session, _ string, c Content) ([]analyzer.Package, error) {
	owner, dir := "", ""
	return nil, eachLine(c, func(line []byte) {
		if len(line) < 2 || line[1] != ':' {
			return
		}
		switch value := string(line[2:]); line[0] {
		case 'P':
			owner, dir = "apk/"+value, ""
		case 'F':
			dir = value
		case 'R':
			s.owners.add(path.Join(dir, value), owner)
		}
	})
}
