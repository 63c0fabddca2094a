// Package advisory keeps the known advisories in one compiled, read-only file
// and finds those that apply to packages.
//
//	OSV export (directory, URL) ┐
//	artifact (oci://, tar)      │
//	private OSV files           ├ gather ─ Compile ─▶ <dir>/index ─ Open ─▶ Index ─ Match, Lookup, Changes
//	KEV, EPSS, NVD              ┘    │                      ▲
//	                            <dir>/feed     Store: lock, update, swap, reload
//
// gather (gather.go) brings every file together before anything of it is read:
// downloads are kept and resumed (feed.go, remote.go), artifacts unpacked
// (bundle.go), private records verified (private.go). If nothing changed the
// index stays. Else Compile streams the files, so its memory does not grow with
// their text, writes a temporary file, checks it, syncs it and renames it: an
// update that fails or is killed at any instant leaves the old index in force.
//
// The index file is a header and seven sections (format.go): the advisories'
// texts; a table of them; the affected versions ("postings") grouped by package;
// a sorted table of the keys "ecosystem NUL name" and their text; a hash table
// of ids and aliases; statistics. The file is mapped, not read, so an open index
// costs the pages that are looked at.
//
// Invariants:
//   - An Index never changes. Whatever it returns is copied out of the map.
//   - Integrity: the header, the statistics and the key tables are checked when
//     the file is opened; each posting and advisory when it is read. A damaged
//     byte is an error, never an advisory that is silently missing. All offsets
//     are checked against the file before they are followed.
//   - What cannot be decided (a version that cannot be read, a release that the
//     feed does not cover, a range of commits only) is an analyzer.Undecided.
//   - A record that is no JSON of OSV's shape, or has no usable id, fails the
//     whole update: to drop it silently would be to pass what it names.
//     Withdrawn records are left out.
//
// The rules of matching are in match.go, judge.go, module.go and ecosystem.go;
// of what a record means in record.go, of version order in version.go, of
// severity in rating.go, of what becomes one finding in collapse.go.
package advisory
