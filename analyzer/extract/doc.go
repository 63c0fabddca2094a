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
// Lists of files that package managers keep tell which distribution package
// installed a file (owner.go): Session.Owner. A Nix store's packages are in its
// paths' names (NixStore).
//
// What is read: the databases of dpkg, apk, rpm, pacman, opkg, portage, COS,
// chisel, snap, flatpak and spack; Go, Rust and .NET binaries, ELF and PE; Java
// and Python archives, also nested and within zip files; installed packages of
// npm, pip, conda, gem, Composer, R, Erlang, LuaRocks, CPAN, WordPress, Bitnami;
// lock files whose packages are installed beside them (npm, Yarn, pnpm, Pipenv,
// Poetry, uv, PDM, Bundler, Composer, NuGet, Julia).
//
// Invariants:
//   - A parser's error or panic, a limit, and a record that was skipped become a
//     Problem with the file's path. They are never dropped.
//   - An error of this machine (a full disk) is an error, not a Problem: it must
//     not be remembered as a property of the image.
//   - Formats that list what a build wanted rather than what was installed
//     (requirements.txt, go.mod, pom.xml, Cargo.lock) are not read, and
//     development-only entries of lock files and lock files inside of installed
//     packages are left out.
//   - Memory is bounded by Options whatever the content says of its size.
package extract
