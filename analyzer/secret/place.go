package secret

import (
	"bytes"
	"path"
	"slices"
	"strings"
)

// Depth is how much of a file is looked at.
type Depth uint8

// The depths.
const (
	// Nothing: published examples, such as documentation, manual pages, and the
	// test suites of language runtimes and libraries.
	Nothing Depth = iota
	// Proven: keys, and tokens with a checksum. For programs and for the code of
	// published libraries, in which the shape of a token means little.
	Proven
	// Everything: all rules.
	Everything
)

// DepthOf says how much of the file at p that begins with head is looked at.
func DepthOf(p string, head []byte) Depth {
	text, lib := isText(head), library(p)
	switch {
	case published(p), (lib || system(p)) && inTests(p), !text && (system(p) || !searchable(head)):
		return Nothing
	case lib, !text, slices.Contains([]string{".md", ".rst", ".adoc", ".po", ".html"}, path.Ext(p)):
		return Proven
	}
	return Everything
}

// isText reports content that a person could read, as far as its head shows.
func isText(head []byte) bool { return bytes.IndexByte(head, 0) < 0 }

// searchable reports formats that hold text as it is: ELF, PE and Mach-O
// programs, SQLite databases.
func searchable(head []byte) bool {
	for _, magic := range []string{"\x7fELF", "MZ", "\xcf\xfa\xed\xfe", "SQLite format 3\x00"} {
		if bytes.HasPrefix(head, []byte(magic)) {
			return true
		}
	}
	return false
}

// published reports what distributions and language runtimes install for
// reading and for testing themselves, and caches of published source code.
func published(p string) bool {
	for _, dir := range []string{"usr/share/doc/", "usr/share/man/", "usr/share/info/", "usr/share/locale/", "usr/share/gtk-doc/", "usr/share/perl/"} {
		if strings.HasPrefix(p, dir) {
			return true
		}
	}
	for _, dir := range []string{"pkg/mod/", ".cargo/registry/", ".m2/repository/"} {
		if below(p, dir) {
			return true
		}
	}
	// A directory with the version in its name, and what is in it.
	for _, d := range [...]struct{ before, after string }{
		{"lib/python", "test/"}, {"lib/go-", "src/"}, {"share/go-", "src/"}, {"share/go-", "test/"}, {"local/go", "src/"}, {"local/go", "test/"}, {"lib/go", "src/"},
	} {
		if _, rest, ok := strings.Cut(p, d.before); ok {
			_, rest, _ = strings.Cut(rest, "/")
			if strings.HasPrefix(rest, d.after) {
				return true
			}
		}
	}
	return false
}

// system reports the directories of distributions' packages. What stands in
// their programs, such as the keys of self-tests, is public.
func system(p string) bool {
	first, rest, _ := strings.Cut(p, "/")
	switch first {
	case "bin", "sbin", "lib", "lib64", "lib32":
		return true
	case "usr":
		return !strings.HasPrefix(rest, "local/") && !strings.HasPrefix(rest, "src/")
	}
	return false
}

// below reports whether dir is a directory on the way to p.
func below(p, dir string) bool {
	i := strings.Index(p, dir)
	return i == 0 || i > 0 && p[i-1] == '/'
}

// library reports the directories into which package managers unpack what
// anyone can download.
func library(p string) bool {
	for _, dir := range []string{"node_modules/", "site-packages/", "dist-packages/", "gems/", "usr/share/nodejs/", "usr/share/rubygems-integration/"} {
		if below(p, dir) {
			return true
		}
	}
	return false
}

func inTests(p string) bool {
	for part := range strings.SplitSeq(path.Dir(p), "/") {
		switch strings.ToLower(part) {
		case "test", "tests", "testdata", "testing", "__tests__", "spec", "specs", "fixtures", "test_data", "test-data", "test-fixtures", "example", "examples", "doc", "docs", "demo", "benchmark":
			return true
		}
	}
	return false
}
