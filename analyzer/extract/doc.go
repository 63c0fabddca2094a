// Package extract finds the packages that single files of a layer name.
//
// The layer walk asks Wants for each entry, by its path and its first bytes,
// and hands over the content of the few that matter. Most formats are parsed by
// osv-scalibr's extractors, each fed one file and an empty file system, so that
// nothing but the stream is read:
//
//	Wants(path, head) ──▶ Session.File(path, content) ──▶ Result per file
//	                      Session.Link(path, target)
//	                      Session.Finish() ──▶ rpm databases, OS release
//
// A Session belongs to one layer. Two things wait for its end: rpm databases,
// which need their write-ahead log and a real path, and the OS release, whose
// name may be a link.
//
// Invariants:
//   - A parser's error or panic, a limit, and a record that was skipped become a
//     Problem with the file's path. They are never dropped.
//   - An error of this machine (a full disk) is an error, not a Problem: it must
//     not be remembered as a property of the image.
//   - Formats that list what a build wanted rather than what was installed
//     (requirements.txt, go.mod, pom.xml) are not read, and development-only
//     entries of lock files are left out.
//   - Memory is bounded by Options whatever the content says of its size.
package extract
