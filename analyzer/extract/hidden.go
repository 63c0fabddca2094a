package extract

import (
	"path"
	"slices"
	"strings"
)

// databases are the places of package databases, which a link can move.
var databases = [...]string{
	"var/lib/rpm", "usr/lib/sysimage/rpm", "usr/share/rpm",
	"lib/apk/db/installed", "usr/lib/apk/db/installed", "var/lib/apk/db/installed",
	"var/lib/dpkg/status", "var/lib/dpkg/status.d",
}

// HiddenBy reports whether a symbolic link at p to target, both clean and
// relative to the root, lets programs find a wanted file under a name at which
// no reader of the stream would look for it.
func (e *Extractor) HiddenBy(p, target string) bool {
	if e.WantsPath(p) && !e.WantsPath(target) {
		return true
	}
	for _, db := range databases {
		rest, ok := strings.CutPrefix(db, p)
		if ok && (rest == "" || rest[0] == '/') && !slices.Contains(databases[:], path.Join(target, rest)) {
			return true
		}
	}
	return false
}
