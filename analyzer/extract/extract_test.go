package extract

import (
	"archive/zip"
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluiceproxy/sluice/analyzer"
)

func newExtractor(t testing.TB, opts Options) *Extractor {
	t.Helper()
	if opts.TempDir == "" {
		opts.TempDir = t.TempDir()
	}
	e, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// read runs one file through a session to its end.
func read(t testing.TB, e *Extractor, p string, content []byte) (Result, *analyzer.OSRelease) {
	t.Helper()
	head := content[:min(len(content), 4096)]
	if !e.Wants(p, head) {
		t.Fatalf("%s is not wanted", p)
	}
	s := e.NewSession()
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	res, err := s.File(t.Context(), p, head, Content{bytes.NewReader(content), int64(len(content))})
	if err != nil {
		t.Fatal(err)
	}
	late, rel, err := s.Finish(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	res.Packages = append(res.Packages, late.Packages...)
	res.Problems = append(res.Problems, late.Problems...)
	slices.SortFunc(res.Packages, analyzer.ComparePackages)
	return res, rel
}

// short renders a package: purl where it has one, else type/name@version, then
// what else is set.
func short(p analyzer.Package) string {
	s := p.Type + "/" + p.Name + "@" + p.Version
	if p.PURL != "" {
		s = p.PURL
	}
	for _, f := range []struct{ k, v string }{
		{"eco", p.Ecosystem}, {"src", p.Source}, {"srcver", p.SourceVersion}, {"arch", p.Arch}, {"mod", p.Modularity}, {"inner", p.Inner},
	} {
		if f.v != "" {
			s += " " + f.k + "=" + f.v
		}
	}
	return s
}

func zipped(t testing.TB, files ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	zw := zip.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		w, err := zw.Create(files[i])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, files[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestFormats reads one small file of each format.
func TestFormats(t *testing.T) {
	inner := string(zipped(t, "META-INF/maven/org.b/b/pom.properties", "groupId=org.b\nartifactId=b\nversion=2.0\n"))
	for _, tt := range []struct {
		name, path, content string
		want                []string
	}{
		{
			"apk", "lib/apk/db/installed", "C:Q1x=\nP:musl\nV:1.2.4-r2\nA:x86_64\no:musl\n\nP:libssl3\nV:3.1.4-r1\nA:x86_64\no:openssl\n",
			[]string{"apk/libssl3@3.1.4-r1 src=openssl arch=x86_64", "apk/musl@1.2.4-r2 arch=x86_64"},
		},
		{
			"dpkg", "var/lib/dpkg/status", "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nSource: glibc\nVersion: 2.36-9+deb12u3\nDescription: x\n more\n .\n\n" +
				"Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\nPackage: gpgv\nStatus: install ok installed\nSource: gnupg2 (2.2.40-1.1)\nArchitecture: amd64\nVersion: 2.2.40-1.1+b1\n\n" +
				"Package: bash\nStatus: hold ok installed\nArchitecture: amd64\nVersion: 1:5.2.15-2\n",
			[]string{"deb/bash@1:5.2.15-2 arch=amd64", "deb/gpgv@2.2.40-1.1+b1 src=gnupg2 srcver=2.2.40-1.1 arch=amd64", "deb/libc6@2.36-9+deb12u3 src=glibc arch=amd64"},
		},
		{
			"distroless", "var/lib/dpkg/status.d/tzdata", "Package: tzdata\nVersion: 2024a-0+deb12u1\nArchitecture: all\n",
			[]string{"deb/tzdata@2024a-0+deb12u1 arch=all"},
		},
		{"pacman", "var/lib/pacman/local/bash-5.2/desc", "%NAME%\nbash\n\n%VERSION%\n5.2.026-2\n\n%ARCH%\nx86_64\n", []string{"alpm/bash@5.2.026-2"}},
		{"npm", "app/node_modules/@babel/core/package.json", `{"name":"@babel/core","version":"7.23.0"}`, []string{"pkg:npm/%40babel/core@7.23.0 eco=npm"}},
		{
			"npm lock 3", "app/package-lock.json", `{"lockfileVersion":3,"packages":{"":{"name":"app","version":"1.0.0"},"node_modules/lodash":{"version":"4.17.20"},"node_modules/a/node_modules/@s/b":{"version":"2.0.0"},"node_modules/jest":{"version":"29.0.0","dev":true},"node_modules/w":{"link":true,"resolved":"w"},"node_modules/al":{"name":"real","version":"3.0.0"}}}`,
			[]string{"pkg:npm/%40s/b@2.0.0 eco=npm", "pkg:npm/lodash@4.17.20 eco=npm", "pkg:npm/real@3.0.0 eco=npm"},
		},
		{
			"npm lock 1", "app/npm-shrinkwrap.json", `{"lockfileVersion":1,"dependencies":{"a":{"version":"1.0.0","dependencies":{"b":{"version":"npm:c@2.0.0"}}},"d":{"version":"1.0.0","dev":true}}}`,
			[]string{"pkg:npm/a@1.0.0 eco=npm", "pkg:npm/c@2.0.0 eco=npm"},
		},
		{"yarn", "app/yarn.lock", "# yarn lockfile v1\n\nlodash@^4.17.0:\n  version \"4.17.20\"\n  resolved \"https://registry.yarnpkg.com/lodash/-/lodash-4.17.20.tgz#x\"\n", []string{"pkg:npm/lodash@4.17.20 eco=npm"}},
		{"pnpm", "app/pnpm-lock.yaml", "lockfileVersion: '6.0'\npackages:\n  /lodash@4.17.20:\n    resolution: {integrity: sha512-x}\n    dev: false\n", []string{"pkg:npm/lodash@4.17.20 eco=npm"}},
		{"wheel", "usr/lib/python3/dist-packages/PyYAML-6.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: PyYAML\nVersion: 6.0\n\nlong text: with colons\n", []string{"pkg:pypi/pyyaml@6.0 eco=PyPI"}},
		{"egg", "usr/lib/python3/dist-packages/six.egg-info/PKG-INFO", "Metadata-Version: 1.2\nName: six\nVersion: 1.16.0\n", []string{"pkg:pypi/six@1.16.0 eco=PyPI"}},
		{"wheel file", "usr/share/python-wheels/pip-23.0.whl", string(zipped(t, "pip-23.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: pip\nVersion: 23.0\n")), []string{"pkg:pypi/pip@23.0 eco=PyPI"}},
		{"pipfile", "app/Pipfile.lock", `{"_meta":{},"default":{"django":{"version":"==3.2.0"}},"develop":{"pytest":{"version":"==7.0.0"}}}`, []string{"pkg:pypi/django@3.2.0 eco=PyPI"}},
		{"poetry", "app/poetry.lock", "[[package]]\nname = \"django\"\nversion = \"3.2.0\"\noptional = false\npython-versions = \"*\"\n\n[metadata]\nlock-version = \"2.0\"\n", []string{"pkg:pypi/django@3.2.0 eco=PyPI"}},
		{"uv", "app/uv.lock", "version = 1\n\n[[package]]\nname = \"django\"\nversion = \"3.2.0\"\nsource = { registry = \"https://pypi.org/simple\" }\n", []string{"pkg:pypi/django@3.2.0 eco=PyPI"}},
		{"gem", "usr/lib/ruby/gems/3.1.0/specifications/default/rexml-3.2.5.gemspec", "# -*- encoding: utf-8 -*-\n# stub: rexml 3.2.5 ruby lib\n\nGem::Specification.new do |s|\n  s.name = \"rexml\".freeze\n  s.version = \"3.2.5\"\n\n  s.required_ruby_version = Gem::Requirement.new(\">= 0\".freeze)\nend\n", []string{"pkg:gem/rexml@3.2.5 eco=RubyGems"}},
		{"gemfile", "app/Gemfile.lock", "GEM\n  remote: https://rubygems.org/\n  specs:\n    rack (2.2.3)\n\nPLATFORMS\n  ruby\n\nDEPENDENCIES\n  rack\n", []string{"pkg:gem/rack@2.2.3 eco=RubyGems"}},
		{"deps.json", "app/app.deps.json", `{"libraries":{"app/1.0.0":{"type":"project"},"Newtonsoft.Json/12.0.1":{"type":"package"}}}`, []string{"pkg:nuget/Newtonsoft.Json@12.0.1 eco=NuGet"}},
		{"nuget lock", "app/packages.lock.json", `{"version":1,"dependencies":{"net6.0":{"Newtonsoft.Json":{"type":"Direct","resolved":"12.0.1"}}}}`, []string{"pkg:nuget/Newtonsoft.Json@12.0.1 eco=NuGet"}},
		{"composer", "app/composer.lock", `{"packages":[{"name":"monolog/monolog","version":"1.0.0"}],"packages-dev":[{"name":"phpunit/phpunit","version":"9"}]}`, []string{"pkg:composer/monolog/monolog@1.0.0 eco=Packagist"}},
		{"composer 2", "app/vendor/composer/installed.json", `{"packages":[{"name":"monolog/monolog","version":"1.0.0"}]}`, []string{"pkg:composer/monolog/monolog@1.0.0 eco=Packagist"}},
		{"composer 1", "app/vendor/composer/installed.json", ` [{"name":"monolog/monolog","version":"1.0.0"}]`, []string{"pkg:composer/monolog/monolog@1.0.0 eco=Packagist"}},
		{
			"jar", "app/a.jar", string(zipped(t, "META-INF/MANIFEST.MF", "Manifest-Version: 1.0\r\n\r\nName: x\r\n", "META-INF/maven/org.a/a/pom.properties", "groupId=org.a\nartifactId=a\nversion=1.0\n", "BOOT-INF/lib/b.jar", inner)),
			[]string{"pkg:maven/org.a/a@1.0 eco=Maven", "pkg:maven/org.b/b@2.0 eco=Maven inner=BOOT-INF/lib/b.jar"},
		},
		{"jar by its name", "app/log4j-core-2.14.1.jar", string(zipped(t, "x.class", "x")), []string{"pkg:maven/log4j-core/log4j-core@2.14.1 eco=Maven"}},
		{"jar without a name", "app/x.jar", string(zipped(t, "x.class", "x")), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			res, _ := read(t, newExtractor(t, Options{}), tt.path, []byte(tt.content))
			var got []string
			for _, p := range res.Packages {
				got = append(got, short(p))
				if p.Path != tt.path {
					t.Errorf("path = %q", p.Path)
				}
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("packages (-want +got):\n%s", d)
			}
			if len(res.Problems) > 0 {
				t.Errorf("problems: %+v", res.Problems)
			}
		})
	}
}

// TestGoBinary reads the binary of this very test, whose modules are known.
func TestGoBinary(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		t.Skip("built without build information")
	}
	res, _ := read(t, newExtractor(t, Options{}), "usr/bin/x", b)
	got := map[string]string{}
	for _, p := range res.Packages {
		got[p.Name] = p.Version
	}
	goVersion, _, _ := strings.Cut(strings.TrimPrefix(runtime.Version(), "go"), " ")
	if got["stdlib"] != goVersion {
		t.Errorf("stdlib %q, want %q", got["stdlib"], goVersion)
	}
	for _, d := range info.Deps {
		if d.Replace == nil && got[d.Path] != strings.TrimPrefix(d.Version, "v") {
			t.Errorf("%s %q, want %q", d.Path, got[d.Path], d.Version)
		}
	}
	if len(res.Problems) > 0 {
		t.Errorf("problems: %+v", res.Problems)
	}

	// The same with its build information damaged is a problem, not another language's program.
	for i := bytes.Index(b, goMagic); i >= 0; {
		copy(b[i+len(goMagic):], "\x00\x03\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")
		j := bytes.Index(b[i+1:], goMagic)
		if j < 0 {
			break
		}
		i += 1 + j
	}
	res, _ = read(t, newExtractor(t, Options{}), "usr/bin/x", b)
	if len(res.Packages) > 0 || len(res.Problems) == 0 {
		t.Errorf("a damaged binary: %d packages, problems %+v", len(res.Packages), res.Problems)
	}
}

// moduleData returns a test file of a module that this one depends on.
func moduleData(t *testing.T, module string, elem ...string) []byte {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		t.Skipf("go list: %v", err)
	}
	b, err := os.ReadFile(filepath.Join(append([]string{strings.TrimSpace(string(out))}, elem...)...))
	if err != nil {
		t.Skip(err)
	}
	return b
}

const (
	scalibr = "github.com/google/osv-scalibr"
	gorpmdb = "github.com/erikvarga/go-rpmdb"
)

// TestRPM reads a database in each of rpm's formats. The counts are those of
// rpm -qa (RPM 4.18), and of the blob headers for ndb, which it could not open.
func TestRPM(t *testing.T) {
	scalibrFile := func(name string) []string {
		return []string{scalibr, "extractor", "filesystem", "os", "rpm", "testdata", name}
	}
	for _, tt := range []struct {
		path  string
		file  []string
		count int
		want  []string
	}{
		{"var/lib/rpm/rpmdb.sqlite", scalibrFile("rpmdb.sqlite"), 141, []string{
			"rpm/libgcc@11.3.1-4.3.el9 src=gcc arch=x86_64", "rpm/openssl-libs@1:3.0.7-6.el9_2 src=openssl arch=x86_64",
		}},
		{"usr/lib/sysimage/rpm/Packages.db", scalibrFile("Packages.db"), 137, []string{"rpm/bash@4.4-150400.25.22 arch=x86_64"}},
		{"var/lib/rpm/Packages", scalibrFile("Packages"), 148, []string{"rpm/filesystem@3.2-25.el7 arch=x86_64"}},
		{"usr/share/rpm/Packages", []string{gorpmdb, "pkg", "testdata", "centos8-modularitylabel", "Packages"}, 518, []string{
			"rpm/toolbox@0.0.7-1.module_el8.2.0+305+5e198a41 arch=noarch mod=container-tools:rhel8:8020020200507003530:0d58ad57",
		}},
	} {
		t.Run(tt.path, func(t *testing.T) {
			db := moduleData(t, tt.file[0], tt.file[1:]...)
			if tt.path == "usr/lib/sysimage/rpm/Packages.db" {
				if n := bytes.Count(db, []byte("BlbS")); n != tt.count {
					t.Fatalf("%d blob headers", n)
				}
			}
			dir := t.TempDir()
			res, _ := read(t, newExtractor(t, Options{TempDir: dir}), tt.path, db)
			if len(res.Packages) != tt.count || len(res.Problems) > 0 {
				t.Errorf("%d packages, want %d; problems %+v", len(res.Packages), tt.count, res.Problems)
			}
			var got []string
			for _, p := range res.Packages {
				got = append(got, short(p))
			}
			for _, w := range tt.want {
				if !slices.Contains(got, w) {
					t.Errorf("no %q in %q", w, got)
				}
			}
			if left, _ := os.ReadDir(dir); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// TestRPMCut cuts real databases at many places: no answer may look whole.
func TestRPMCut(t *testing.T) {
	for file, p := range map[string]string{"Packages.db": "var/lib/rpm/Packages.db", "rpmdb.sqlite": "var/lib/rpm/rpmdb.sqlite", "Packages": "var/lib/rpm/Packages"} {
		db := moduleData(t, scalibr, "extractor", "filesystem", "os", "rpm", "testdata", file)
		for n := 100; n < len(db); n += len(db) / 6 {
			res, _ := read(t, newExtractor(t, Options{}), p, db[:n])
			if len(res.Problems) == 0 {
				t.Errorf("%s cut after %d of %d bytes: %d packages and no problem", file, n, len(db), len(res.Packages))
			}
		}
	}
}

// sqliteFile is an SQLite database that fill has filled.
func sqliteFile(t *testing.T, fill func(*sql.DB) error) []byte {
	t.Helper()
	file := filepath.Join(t.TempDir(), "rpmdb.sqlite")
	db, err := sql.Open("sqlite", file)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(fill(db), db.Close()); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestRPMSchema has a database that is no rpm database: its table is a view
// that never ends.
func TestRPMSchema(t *testing.T) {
	b := sqliteFile(t, func(db *sql.DB) error {
		_, err := db.ExecContext(t.Context(), "CREATE VIEW Packages AS WITH RECURSIVE n(hnum, blob) AS (SELECT 1, x'00' UNION ALL SELECT hnum+1, x'00' FROM n) SELECT * FROM n")
		return err
	})
	res, _ := read(t, newExtractor(t, Options{}), "var/lib/rpm/rpmdb.sqlite", b)
	if d := cmp.Diff([]Problem{{"var/lib/rpm/rpmdb.sqlite", "rpm database: packages is a view"}}, res.Problems); d != "" {
		t.Errorf("problems (-want +got):\n%s", d)
	}
}

func TestRust(t *testing.T) {
	b := moduleData(t, scalibr, "extractor", "filesystem", "language", "rust", "cargoauditable", "testdata", "uses_serde_json", "uses_serde_json")
	res, _ := read(t, newExtractor(t, Options{}), "usr/bin/x", b)
	var got []string
	for _, p := range res.Packages {
		got = append(got, short(p))
	}
	if !slices.Contains(got, "pkg:cargo/serde_json@1.0.135 eco=crates.io") || len(res.Problems) > 0 {
		t.Errorf("packages %q, problems %+v", got, res.Problems)
	}
}

func TestRelease(t *testing.T) {
	const debian = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nNAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\nID=debian\n"
	want := analyzer.OSRelease{ID: "debian", VersionID: "12", Codename: "bookworm", Name: "Debian GNU/Linux 12 (bookworm)"}
	at := func(r analyzer.OSRelease, p string) *analyzer.OSRelease { r.Path = p; return &r }
	for _, tt := range []struct {
		name  string
		files []string // path, content; content "->x" is a link to x
		want  *analyzer.OSRelease
	}{
		{"etc", []string{"etc/os-release", debian}, at(want, "etc/os-release")},
		{"usr behind a link", []string{"etc/os-release", "->../usr/lib/os-release", "usr/lib/os-release", debian}, at(want, "etc/os-release")},
		{"usr alone", []string{"usr/lib/os-release", debian}, at(want, "usr/lib/os-release")},
		{"etc before usr", []string{"usr/lib/os-release", "ID=other\n", "etc/os-release", debian}, at(want, "etc/os-release")},
		{"link to another name", []string{"usr/lib/os-release.d/os-release-x", debian, "usr/lib/os-release", "->os-release.d/os-release-x"}, at(want, "usr/lib/os-release")},
		{"link that leads nowhere", []string{"etc/os-release", "->/nix/x"}, nil},
		{"loop", []string{"etc/os-release", "->/usr/lib/os-release", "usr/lib/os-release", "->/etc/os-release"}, nil},
		{"quotes and comments", []string{"etc/os-release", "#ID=no\n ID='debian'\nVERSION_ID=\"1\\\"2\"\nNAME=x\n"}, at(analyzer.OSRelease{ID: "debian", VersionID: `1"2`, Name: "x"}, "etc/os-release")},
		{"no ID", []string{"etc/os-release", "NAME=x\n", "etc/alpine-release", "3.18.9\n"}, at(analyzer.OSRelease{ID: "alpine", VersionID: "3.18.9", Name: "Alpine Linux 3.18.9"}, "etc/alpine-release")},
		{"debian_version", []string{"etc/debian_version", "11.7\n"}, at(analyzer.OSRelease{ID: "debian", VersionID: "11", Name: "Debian 11.7"}, "etc/debian_version")},
		{"debian in the making", []string{"etc/debian_version", "trixie/sid\n"}, at(analyzer.OSRelease{ID: "debian", Codename: "trixie", Name: "Debian trixie/sid"}, "etc/debian_version")},
		{"empty", []string{"etc/alpine-release", "\n"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newExtractor(t, Options{}).NewSession()
			for i := 0; i < len(tt.files); i += 2 {
				p, content := tt.files[i], tt.files[i+1]
				if to, ok := strings.CutPrefix(content, "->"); ok {
					s.Link(p, to)
					continue
				}
				if _, err := s.File(t.Context(), p, []byte(content), Content{strings.NewReader(content), int64(len(content))}); err != nil {
					t.Fatal(err)
				}
			}
			_, got, err := s.Finish(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("release (-want +got):\n%s", d)
			}
		})
	}
}

// TestWants has what must not be buffered beside what must.
func TestWants(t *testing.T) {
	e := newExtractor(t, Options{})
	elf := append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 60)...)
	shared, object := bytes.Clone(elf), bytes.Clone(elf)
	shared[16], object[16] = 3, 1
	for _, tt := range []struct {
		path string
		head []byte
		want bool
	}{
		{"usr/bin/x", shared, true},
		{"usr/lib/x.o", object, false},
		{"usr/bin/x", []byte("#!/bin/sh"), false},
		{"var/lib/dpkg/status", nil, true},
		{"var/lib/dpkg/status-old", nil, false},
		{"var/lib/dpkg/status.d/a.md5sums", nil, true},
		{"var/lib/dpkg/info/a.list", nil, true},
		{"var/lib/dpkg/info/a.postinst", nil, false},
		{"srv/var/lib/dpkg/status", nil, false},
		{"a/node_modules/b/package.json", nil, true},
		{"a/node_modules/b/test/package.json", nil, false},
		{"a/package.json", nil, false},
		{"usr/share/nodejs/semver/package.json", nil, true},
		{"usr/share/nodejs/@babel/core/package.json", nil, true},
		{"usr/share/nodejs/semver/ranges/package.json", nil, false},
		{"home/a/nodejs/b/package.json", nil, false},
		{"a/node_modules/b/package-lock.json", nil, false},
		{"a/node_modules/b/yarn.lock", nil, false},
		{"usr/lib/ruby/gems/3.1.0/gems/rbs-2.1.0/steep/Gemfile.lock", nil, false},
		{"srv/gems/app/Gemfile.lock", nil, true},
		{"usr/lib/ruby/gems/3.1.0/gems/a-1/a.gemspec", nil, false},
		{"usr/lib/ruby/gems/3.1.0/specifications/a-1.gemspec", nil, true},
		{"app/requirements.txt", nil, false},
		{"app/go.mod", nil, false},
		{"x.dist-info/METADATA", nil, true},
		{"METADATA", nil, false},
		{"var/lib/rpm/rpmdb.sqlite-wal", nil, true},
		{"var/lib/rpm/rpmdb.sqlite-shm", nil, false},
	} {
		if got := e.Wants(tt.path, tt.head); got != tt.want {
			t.Errorf("Wants(%q) = %v", tt.path, got)
		}
	}
}

// TestPanic has a parser that panics, and one that fails on this machine.
func TestPanic(t *testing.T) {
	e := newExtractor(t, Options{})
	full := errors.New("disk full")
	e.parsers = []parser{
		{name: "bad", wants: func(f file) bool { return f.base == "a" }, parse: func(context.Context, *Session, string, Content) ([]analyzer.Package, error) {
			panic("index out of range")
		}},
		{name: "full", wants: func(f file) bool { return f.base == "b" }, parse: func(context.Context, *Session, string, Content) ([]analyzer.Package, error) {
			return nil, fmt.Errorf("copy: %w", &machineError{full})
		}},
	}
	res, _ := read(t, e, "x/a", []byte("x"))
	if d := cmp.Diff([]Problem{{"x/a", "bad: panic: index out of range"}}, res.Problems); d != "" {
		t.Errorf("problems (-want +got):\n%s", d)
	}
	if _, err := e.NewSession().File(t.Context(), "b", nil, Content{strings.NewReader("x"), 1}); !errors.Is(err, full) {
		t.Errorf("error = %v", err)
	}
}

// TestLargeLock bounds the time of a lock file that makes scalibr's own
// extractor quadratic.
func TestLargeLock(t *testing.T) {
	var b strings.Builder
	b.WriteString(`{"packages":{"":{}`)
	const n = 50_000
	for i := range n {
		fmt.Fprintf(&b, `,"node_modules/p%d":{"version":"1.0.%d","resolved":"https://registry.npmjs.org/p"}`, i, i)
	}
	b.WriteString("}}")
	res, _ := read(t, newExtractor(t, Options{}), "package-lock.json", []byte(b.String()))
	if len(res.Packages) != n || len(res.Problems) > 0 {
		t.Errorf("%d packages, problems %v", len(res.Packages), res.Problems)
	}
}

func FuzzFile(f *testing.F) {
	e := newExtractor(f, Options{MaxDocument: 1 << 20, MaxArchiveBytes: 1 << 20, MaxArchiveEntries: 1000})
	paths := []string{
		"lib/apk/db/installed", "var/lib/dpkg/status", "var/lib/pacman/local/a/desc", "node_modules/a/package.json", "package-lock.json",
		"yarn.lock", "pnpm-lock.yaml", "a.dist-info/METADATA", "a.whl", "Pipfile.lock", "poetry.lock", "uv.lock", "specifications/a.gemspec",
		"Gemfile.lock", "a.deps.json", "packages.lock.json", "composer.lock", "a.jar", "var/lib/rpm/rpmdb.sqlite", "var/lib/rpm/Packages.db", "etc/os-release", "usr/bin/a",
	}
	for i, content := range []string{
		"P:a\nV:1\n\n", "Package: a\nStatus: install ok installed\nVersion: 1\n\n", "%NAME%\na\n\n%VERSION%\n1\n", `{"name":"a","version":"1"}`,
		`{"packages":{"node_modules/a":{"version":"1"}}}`, "a@1:\n  version \"1\"\n", "lockfileVersion: '6.0'\npackages:\n  /a@1:\n    dev: false\n", "Name: a\nVersion: 1\n",
		string(zipped(f, "a.dist-info/METADATA", "Name: a\nVersion: 1\n")), `{"default":{"a":{"version":"==1"}}}`, "[[package]]\nname = \"a\"\nversion = \"1\"\n", "[[package]]\nname = \"a\"\nversion = \"1\"\n",
		"Gem::Specification.new do |s|\n s.name = \"a\"\n s.version = \"1\"\nend\n", "GEM\n  specs:\n    a (1)\n", `{"libraries":{"a/1":{}}}`, `{"dependencies":{"n":{"a":{"resolved":"1"}}}}`,
		`{"packages":[{"name":"a/b","version":"1"}]}`, string(zipped(f, "b.jar", string(zipped(f, "x", "y")))), "SQLite format 3\x00", "RpmP", "ID=a\n", "\x7fELF\x02\x01\x01",
	} {
		f.Add(uint8(i), []byte(content))
	}
	f.Fuzz(func(t *testing.T, which uint8, content []byte) {
		p := paths[int(which)%len(paths)]
		s := e.NewSession()
		defer s.Close()
		res, err := s.File(t.Context(), p, content[:min(len(content), 4096)], Content{bytes.NewReader(content), int64(len(content))})
		if err != nil {
			t.Fatalf("%s: %v", p, err) // only this machine's faults are errors
		}
		late, _, err := s.Finish(t.Context())
		if err != nil {
			t.Fatalf("%s: %v", p, err)
		}
		for _, pr := range append(res.Problems, late.Problems...) {
			if strings.Contains(pr.Reason, "panic") {
				t.Logf("%s: %s", p, pr.Reason)
			}
		}
	})
}
