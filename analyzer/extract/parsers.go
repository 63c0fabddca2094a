package extract

import (
	"bytes"
	"encoding/binary"
	"path"
	"regexp"
	"strings"

	cpb "github.com/google/osv-scalibr/binary/proto/config_go_proto"
	"github.com/google/osv-scalibr/extractor/filesystem"
	"github.com/google/osv-scalibr/extractor/filesystem/language/dotnet/depsjson"
	"github.com/google/osv-scalibr/extractor/filesystem/language/dotnet/packageslockjson"
	"github.com/google/osv-scalibr/extractor/filesystem/language/golang/gobinary"
	"github.com/google/osv-scalibr/extractor/filesystem/language/javascript/packagejson"
	"github.com/google/osv-scalibr/extractor/filesystem/language/javascript/pnpmlock"
	"github.com/google/osv-scalibr/extractor/filesystem/language/javascript/yarnlock"
	"github.com/google/osv-scalibr/extractor/filesystem/language/julia/manifesttoml"
	"github.com/google/osv-scalibr/extractor/filesystem/language/lua/luarocks"
	"github.com/google/osv-scalibr/extractor/filesystem/language/perl/cpan"
	"github.com/google/osv-scalibr/extractor/filesystem/language/python/pdmlock"
	"github.com/google/osv-scalibr/extractor/filesystem/language/python/pipfilelock"
	"github.com/google/osv-scalibr/extractor/filesystem/language/python/poetrylock"
	"github.com/google/osv-scalibr/extractor/filesystem/language/python/pylock"
	"github.com/google/osv-scalibr/extractor/filesystem/language/python/uvlock"
	"github.com/google/osv-scalibr/extractor/filesystem/language/python/wheelegg"
	"github.com/google/osv-scalibr/extractor/filesystem/language/ruby/gemfilelock"
	"github.com/google/osv-scalibr/extractor/filesystem/language/ruby/gemspec"
	"github.com/google/osv-scalibr/extractor/filesystem/language/rust/cargoauditable"
	"github.com/google/osv-scalibr/extractor/filesystem/os/apk"
	"github.com/google/osv-scalibr/extractor/filesystem/os/cos"
	"github.com/google/osv-scalibr/extractor/filesystem/os/dpkg"
	"github.com/google/osv-scalibr/extractor/filesystem/os/flatpak"
	"github.com/google/osv-scalibr/extractor/filesystem/os/pacman"
	"github.com/google/osv-scalibr/extractor/filesystem/os/portage"
	"github.com/google/osv-scalibr/extractor/filesystem/os/snap"
	"github.com/google/osv-scalibr/extractor/filesystem/os/spack"

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
		{"apk", apk.New, isAPK, true, checkAPK},
		{"dpkg", dpkg.New, isDpkg, true, checkDpkg},
		{"pacman", pacman.New, isPacman, true, nil},
		{"portage", portage.New, isPortage, true, nil},
		{"cos", cos.New, paths("etc/cos-package-info.json"), true, nil},
		{"snap", snap.New, isSnap, true, nil},
		{"flatpak", flatpak.New, isFlatpak, true, nil},
		{"spack", spack.New, isSpack, true, nil},
		{"go binary", gobinary.New, isExecutable, false, checkGo},
		{"rust binary", cargoauditable.New, isExecutable, false, nil},
		{"npm package", packagejson.New, isNodePackage, true, nil},
		{"yarn lock", yarnlock.New, bases("yarn.lock"), true, nil},
		{"pnpm lock", pnpmlock.New, bases("pnpm-lock.yaml"), true, nil},
		{"python package", wheelegg.New, isMetadata, true, nil},
		{"pipfile lock", pipfilelock.New, bases("Pipfile.lock"), true, nil},
		{"poetry lock", poetrylock.New, bases("poetry.lock"), true, nil},
		{"uv lock", uvlock.New, bases("uv.lock"), true, nil},
		{"pdm lock", pdmlock.New, bases("pdm.lock"), true, nil},
		{"pylock", pylock.New, isPylock, true, nil},
		{"julia manifest", manifesttoml.New, bases("Manifest.toml", "JuliaManifest.toml"), true, nil},
		{"luarocks", luarocks.New, isLuaRock, true, nil},
		{"cpan", cpan.New, isCPAN, true, nil},
		{"gem", gemspec.New, isGem, true, nil},
		{"gemfile lock", gemfilelock.New, bases("Gemfile.lock", "gems.locked"), true, nil},
		{"deps.json", depsjson.New, func(f file) bool { return strings.HasSuffix(f.base, ".deps.json") }, true, nil},
		{"nuget lock", packageslockjson.New, bases("packages.lock.json"), true, nil},
	}
}

// ownParsers are the formats that scalibr reads in a way that hostile or merely
// large input can make too dear (npm.go, composer.go, archive.go) or that gives
// wrong names or versions (assembly.go, catalog.go), and the lists of files that
// tell who owns a package (owner.go).
func ownParsers() []parser {
	return append(catalogs(),
		parser{name: "npm lock", wants: isNPMLock, document: true, parse: parseNPMLock},
		parser{name: "composer", wants: isComposer, document: true, parse: parseComposer},
		parser{name: "archive", wants: func(f file) bool { return isArchive(f.base) }, parse: parseArchive},
		parser{name: "assembly", wants: isAssembly, parse: parseAssembly},
		parser{name: "file list", wants: isFileList, parse: readFileList},
		parser{name: "apk files", wants: isAPK, parse: readAPKFiles},
	)
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
			if f.base == w && !inInstalled(f.path) {
				return true
			}
		}
		return false
	}
}

func isExecutable(f file) bool { return f.binary }

func isAPK(f file) bool {
	return f.path == "lib/apk/db/installed" || f.path == "usr/lib/apk/db/installed" || f.path == "var/lib/apk/db/installed"
}

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
// not those further down, which are fixtures and entry-point stubs. Debian and
// Ubuntu install to usr/share/nodejs and usr/lib/ARCH/nodejs.
func isNodePackage(f file) bool {
	if f.base != "package.json" {
		return false
	}
	dir := path.Dir(path.Dir(f.path))
	if strings.HasPrefix(path.Base(dir), "@") {
		dir = path.Dir(dir)
	}
	base := path.Base(dir)
	return base == "node_modules" || base == "nodejs" && (strings.HasPrefix(dir, "usr/share/") || strings.HasPrefix(dir, "usr/lib/"))
}

func isNPMLock(f file) bool {
	return (f.base == "package-lock.json" || f.base == "npm-shrinkwrap.json") && !inInstalled(f.path)
}

// inInstalled reports a path inside an installed package. Lock files there are
// those of its developers.
func inInstalled(p string) bool { return installed.MatchString(p) }

var installed = regexp.MustCompile(`(^|/)(node_modules|site-packages|dist-packages|go/pkg/mod|\.cargo/registry|gems/[^/]+-[0-9][^/]*)/`)

// isPortage accepts the file PF of an installed package, which holds its name,
// version and revision (PMS, "Defined Variables").
func isPortage(f file) bool { return f.base == "PF" && strings.HasPrefix(f.path, "var/db/pkg/") }

// isSnap accepts snap/NAME/REVISION/meta/snap.yaml.
func isSnap(f file) bool {
	return f.base == "snap.yaml" && strings.HasPrefix(f.path, "snap/") && strings.Count(f.path, "/") == 4 && path.Base(path.Dir(f.path)) == "meta"
}

func isFlatpak(f file) bool {
	return strings.HasSuffix(f.base, "metainfo.xml") && strings.Contains(f.path, "flatpak/app/") && strings.Contains(f.path, "/export/share/metainfo/")
}

func isSpack(f file) bool { return f.base == "spec.json" && path.Base(path.Dir(f.path)) == ".spack" }

// isPylock knows pylock.toml and pylock.NAME.toml (PEP 751).
func isPylock(f file) bool {
	return strings.HasPrefix(f.base, "pylock.") && strings.HasSuffix(f.base, ".toml") && !inInstalled(f.path)
}

// isLuaRock accepts rocks-5.1/NAME/VERSION/NAME-VERSION.rockspec, which LuaRocks
// writes when it installs.
func isLuaRock(f file) bool {
	return strings.HasSuffix(f.base, ".rockspec") && strings.Contains(f.path, "/luarocks/rocks")
}

// isCPAN accepts .meta/NAME-VERSION/MYMETA.json, which cpanminus writes when it
// installs; a distribution's own META.json stays in the build directory.
func isCPAN(f file) bool {
	return f.base == "MYMETA.json" && path.Base(path.Dir(path.Dir(f.path))) == ".meta"
}

// isMetadata accepts the fields of an installed Python package: METADATA of a
// wheel, PKG-INFO of an egg, and the file NAME.egg-info of distutils.
func isMetadata(f file) bool {
	switch f.base {
	case "METADATA":
		return strings.HasSuffix(path.Dir(f.path), ".dist-info")
	case "PKG-INFO":
		dir := path.Base(path.Dir(f.path))
		return dir == "EGG-INFO" || strings.HasSuffix(dir, ".egg-info")
	}
	return strings.HasSuffix(f.base, ".egg-info")
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
	return f.base == "composer.lock" && !inInstalled(f.path) || f.base == "installed.json" && path.Base(path.Dir(f.path)) == "composer"
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
