package extract

import (
	"bytes"
	"encoding/binary"
	"path"
	"strings"

	cpb "github.com/google/osv-scalibr/binary/proto/config_go_proto"
	"github.com/google/osv-scalibr/extractor/filesystem"
	"github.com/google/osv-scalibr/extractor/filesystem/language/dotnet/depsjson"
	"github.com/google/osv-scalibr/extractor/filesystem/language/dotnet/packageslockjson"
	"github.com/google/osv-scalibr/extractor/filesystem/language/golang/gobinary"
	"github.com/google/osv-scalibr/extractor/filesystem/language/javascript/packagejson"
	"github.com/google/osv-scalibr/extractor/filesystem/language/javascript/pnpmlock"
	"github.com/google/osv-scalibr/extractor/filesystem/language/javascript/yarnlock"
	"github.com/google/osv-scalibr/extractor/filesystem/language/python/pipfilelock"
	"github.com/google/osv-scalibr/extractor/filesystem/language/python/poetrylock"
	"github.com/google/osv-scalibr/extractor/filesystem/language/python/uvlock"
	"github.com/google/osv-scalibr/extractor/filesystem/language/python/wheelegg"
	"github.com/google/osv-scalibr/extractor/filesystem/language/ruby/gemfilelock"
	"github.com/google/osv-scalibr/extractor/filesystem/language/ruby/gemspec"
	"github.com/google/osv-scalibr/extractor/filesystem/language/rust/cargoauditable"
	"github.com/google/osv-scalibr/extractor/filesystem/os/apk"
	"github.com/google/osv-scalibr/extractor/filesystem/os/dpkg"
	"github.com/google/osv-scalibr/extractor/filesystem/os/pacman"

	"github.com/sluiceproxy/sluice/analyzer"
)

// scalibrParser is one of scalibr's extractors with our own, more precise path
// test: scalibr's are made for source trees and buffer much that is not
// installed (a gem's own gemspec, a package.json in a test fixture).
type scalibrParser struct {
	name     string
	make     func(*cpb.PluginConfig) (filesystem.Extractor, error)
	wants    func(file) bool
	document bool
	check    func(Content, []analyzer.Package) error
}

func scalibrParsers() []scalibrParser {
	return []scalibrParser{
		{"apk", apk.New, paths("lib/apk/db/installed", "usr/lib/apk/db/installed", "var/lib/apk/db/installed"), true, checkAPK},
		{"dpkg", dpkg.New, isDpkg, true, checkDpkg},
		{"pacman", pacman.New, isPacman, true, nil},
		{"go binary", gobinary.New, isExecutable, false, checkGo},
		{"rust binary", cargoauditable.New, isExecutable, false, nil},
		{"npm package", packagejson.New, isNodePackage, true, nil},
		{"yarn lock", yarnlock.New, bases("yarn.lock"), true, nil},
		{"pnpm lock", pnpmlock.New, bases("pnpm-lock.yaml"), true, nil},
		{"python package", wheelegg.New, isPython, true, nil},
		{"pipfile lock", pipfilelock.New, bases("Pipfile.lock"), true, nil},
		{"poetry lock", poetrylock.New, bases("poetry.lock"), true, nil},
		{"uv lock", uvlock.New, bases("uv.lock"), true, nil},
		{"gem", gemspec.New, isGem, true, nil},
		{"gemfile lock", gemfilelock.New, bases("Gemfile.lock", "gems.locked"), true, nil},
		{"deps.json", depsjson.New, func(f file) bool { return strings.HasSuffix(f.base, ".deps.json") }, true, nil},
		{"nuget lock", packageslockjson.New, bases("packages.lock.json"), true, nil},
	}
}

// ownParsers are the formats that scalibr reads in a way that hostile or merely
// large input can make too dear (see npm.go, composer.go, jar.go).
func ownParsers() []parser {
	return []parser{
		{name: "npm lock", wants: isNPMLock, document: true, parse: parseNPMLock},
		{name: "composer", wants: isComposer, document: true, parse: parseComposer},
		{name: "java archive", wants: func(f file) bool { return isJava(f.base) }, parse: parseJava},
	}
}

func paths(want ...string) func(file) bool {
	return func(f file) bool {
		for _, w := range want {
			if f.path == w {
				return true
			}
		}
		return false
	}
}

func bases(want ...string) func(file) bool {
	return func(f file) bool {
		for _, w := range want {
			if f.base == w && !inNodeModules(f.path) {
				return true
			}
		}
		return false
	}
}

func isExecutable(f file) bool { return f.binary }

// isDpkg knows the database of a full system, the directory that distroless
// images have instead, and OpenWrt's.
func isDpkg(f file) bool {
	if f.path == "var/lib/dpkg/status" || f.path == "usr/lib/opkg/status" {
		return true
	}
	return strings.HasPrefix(f.path, statusDir) && !strings.HasSuffix(f.base, ".md5sums")
}

const statusDir = "var/lib/dpkg/status.d/"

func isPacman(f file) bool {
	return f.base == "desc" && strings.HasPrefix(f.path, "var/lib/pacman/local/")
}

// isNodePackage accepts the manifest of an installed package,
// node_modules/NAME/package.json or node_modules/@SCOPE/NAME/package.json, and
// not those further down, which are fixtures and entry-point stubs.
func isNodePackage(f file) bool {
	if f.base != "package.json" {
		return false
	}
	dir := path.Dir(path.Dir(f.path))
	if strings.HasPrefix(path.Base(dir), "@") {
		dir = path.Dir(dir)
	}
	return path.Base(dir) == "node_modules"
}

func isNPMLock(f file) bool {
	return (f.base == "package-lock.json" || f.base == "npm-shrinkwrap.json") && !inNodeModules(f.path)
}

func inNodeModules(p string) bool {
	return strings.HasPrefix(p, "node_modules/") || strings.Contains(p, "/node_modules/")
}

func isPython(f file) bool {
	switch {
	case f.base == "METADATA":
		return strings.HasSuffix(path.Dir(f.path), ".dist-info")
	case f.base == "PKG-INFO":
		dir := path.Base(path.Dir(f.path))
		return dir == "EGG-INFO" || strings.HasSuffix(dir, ".egg-info")
	}
	return strings.HasSuffix(f.base, ".egg-info") || strings.HasSuffix(f.base, ".egg") || strings.HasSuffix(f.base, ".whl")
}

// isGem accepts the specifications that RubyGems writes when it installs, not
// the gemspec files inside gems, which are programs.
func isGem(f file) bool {
	if !strings.HasSuffix(f.base, ".gemspec") {
		return false
	}
	dir := path.Dir(f.path)
	if path.Base(dir) == "default" {
		dir = path.Dir(dir)
	}
	return path.Base(dir) == "specifications"
}

func isComposer(f file) bool {
	return f.base == "composer.lock" || f.base == "installed.json" && path.Base(path.Dir(f.path)) == "composer"
}

// isBinary reports an ELF executable or shared object, a PE or a Mach-O file.
// ELF relocatables and core files cannot be run and are not binaries.
func isBinary(head []byte) bool {
	switch {
	case bytes.HasPrefix(head, []byte("\x7fELF")):
		if len(head) < 18 {
			return false
		}
		var order binary.ByteOrder = binary.LittleEndian
		if head[5] == 2 { // EI_DATA: ELFDATA2MSB
			order = binary.BigEndian
		}
		t := order.Uint16(head[16:])
		return t == 2 || t == 3 // ET_EXEC, ET_DYN
	case bytes.HasPrefix(head, []byte("MZ")):
		return len(head) >= 64
	case bytes.HasPrefix(head, []byte{0xcf, 0xfa, 0xed, 0xfe}), bytes.HasPrefix(head, []byte{0xce, 0xfa, 0xed, 0xfe}):
		return true
	}
	return false
}
