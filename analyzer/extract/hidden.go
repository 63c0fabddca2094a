package extract

import (
	"path"
	"slices"
	"strings"
)

// databases are the places of package databases, which a link can move.
func databases() []string {
	return append(rpmDirs[:], "lib/apk/db/installed", "usr/lib/apk/db/installed", "var/lib/apk/db/installed", "var/lib/dpkg/status", path.Clean(statusDir))
}

// HiddenBy reports whether a symbolic link at p to target, both clean and
// relative to the root, lets programs find a wanted file under a name at which
// no reader of the stream would look for it.
func (e *Extractor) HiddenBy(p, target string) bool {
	if e.WantsPath(p) && !e.WantsPath(target) {
		return true
	}
	known := databases()
	for _, db := range known {
		rest, ok := strings.CutPrefix(db, p)
		if ok && (rest == "" || rest[0] == '/') && !slices.Contains(known, path.Join(target, rest)) {
			return true
		}
	}
	return false
}
