package extract

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/sluiceproxy/sluice/analyzer"
)

func compressed(t testing.TB, text string) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll([]byte(text), nil)
}

const manifestWall = `{"jsonwall":"1.0","schema":"1.0","count":4}
{"kind":"content","slice":"libc6_libs","path":"/usr/lib/x86_64-linux-gnu/libc.so.6"}
{"kind":"package","name":"libc6","version":"2.39-0ubuntu8.4","sha256":"aa","arch":"amd64"}
{"kind":"path","path":"/usr/lib/python3/dist-packages/six-1.16.0.egg-info","mode":"0644","slices":["python3-six_all"]}
{"kind":"slice","name":"libc6_libs"}
`

// TestCatalogs reads one small file of each format that an installer leaves.
func TestCatalogs(t *testing.T) {
	metadata := func(name, version string) string {
		return "Metadata-Version: 2.1\nName: " + name + "\nVersion: " + version + "\n\nText: with a colon\n"
	}
	jar := string(zipped(t, "META-INF/maven/org.b/b/pom.properties", "groupId=org.b\nartifactId=b\nversion=2.0\n"))
	wheel := string(zipped(t, "idna-3.4.dist-info/METADATA", metadata("idna", "3.4")))
	for _, tt := range []struct {
		name, path, content string
		want                []string
	}{
		{"chisel", chiselManifest, string(compressed(t, manifestWall)), []string{"deb/libc6@2.39-0ubuntu8.4 arch=amd64"}},
		{
			"bitnami", "opt/bitnami/nginx/.spdx-nginx.spdx",
			`{"spdxVersion":"SPDX-2.3","packages":[{"name":"nginx","externalRefs":[{"referenceType":"cpe23Type","referenceLocator":"cpe:2.3:x"},{"referenceType":"purl","referenceLocator":"pkg:bitnami/nginx@1.25.3-0?arch=amd64&distro=debian-11"}]},{"name":"zlib","externalRefs":[{"referenceType":"purl","referenceLocator":"pkg:generic/zlib@1.3"}]}]}`,
			[]string{"pkg:bitnami/nginx@1.25.3-0?arch=amd64&distro=debian-11 eco=Bitnami arch=amd64"},
		},
		{"conda", "opt/conda/conda-meta/openssl-3.0.8-h7f8727e_0.json", `{"name":"openssl","version":"3.0.8","build":"h7f8727e_0","subdir":"linux-64"}`, []string{"pkg:conda/openssl@3.0.8 arch=linux-64"}},
		{"r", "usr/local/lib/R/site-library/jsonlite/DESCRIPTION", "Package: jsonlite\nVersion: 1.8.4\nDescription: a\n b\nBuilt: R 4.2.2; x86_64; 2023; unix\n", []string{"pkg:cran/jsonlite@1.8.4 eco=CRAN"}},
		{"r itself", "usr/lib/R/library/stats/DESCRIPTION", "Package: stats\nVersion: 4.2.2\nPriority: base\nBuilt: R 4.2.2; ; 2023; unix\n", nil},
		{"r source", "usr/lib/R/library/a/DESCRIPTION", "Package: a\nVersion: 1\n", nil},
		{"erlang", "app/lib/plug-1.14.0/ebin/plug.app", "{application,plug,\n [{description,\"x\"},{vsn,\"1.14.0\"}]}.\n", []string{"pkg:hex/plug@1.14.0 eco=Hex"}},
		{"erlang itself", "app/lib/ssl-10.9/ebin/ssl.app", "{application, ssl, [{vsn, \"10.9\"}]}.\n", nil},
		{"wordpress", "var/www/html/wp-content/plugins/akismet/akismet.php", "<?php\n/**\n * Plugin Name: Akismet Anti-Spam\n * Plugin URI: https://x\n * Version: 5.0.1\n */\n$a = 'Version: 9';\n", []string{"pkg:wordpress/akismet@5.0.1"}},
		{"wordpress other file", "wp-content/plugins/akismet/class.php", "<?php\n// Version: 3\n", nil},
		{"portage", "var/db/pkg/dev-libs/openssl-3.0.13-r2/PF", "openssl-3.0.13-r2\n", []string{"portage/openssl@3.0.13-r2"}},
		{"cos", "etc/cos-package-info.json", `{"installedPackages":[{"category":"app-arch","name":"gzip","version":"1.9","ebuild_version":"1.9-r1"}],"buildTimePackages":[{"name":"gcc","version":"1"}]}`, []string{"cos/gzip@1.9"}},
		{"snap", "snap/core/16574/meta/snap.yaml", "name: core\nversion: 16-2.61.1\narchitectures: [amd64]\n", []string{"pkg:snap/core@16-2.61.1"}},
		{"lua", "usr/local/lib/luarocks/rocks-5.1/luasocket/3.1.0-1/luasocket-3.1.0-1.rockspec", "package = 'luasocket'\nversion = '3.1.0-1'\n", []string{"pkg:luarocks/luasocket@3.1.0-1"}},
		{"cpan", "usr/local/lib/perl5/site_perl/x86_64/.meta/JSON-4.10/MYMETA.json", `{"name":"JSON","version":"4.10"}`, []string{"pkg:cpan/JSON@4.10"}},
		{"julia", "app/Manifest.toml", "julia_version = \"1.9.0\"\nmanifest_format = \"2.0\"\n\n[[deps.JSON]]\ngit-tree-sha1 = \"x\"\nuuid = \"682c06a0-de6a-54ab-a142-c8b1cf79cde6\"\nversion = \"0.21.4\"\n", []string{"pkg:julia/JSON@0.21.4 eco=Julia"}},
		{"pdm", "app/pdm.lock", "[metadata]\nlock_version = \"4.4\"\n\n[[package]]\nname = \"django\"\nversion = \"3.2.0\"\n", []string{"pkg:pypi/django@3.2.0 eco=PyPI"}},
		{"pylock", "app/pylock.toml", "lock-version = \"1.0\"\ncreated-by = \"x\"\n\n[[packages]]\nname = \"django\"\nversion = \"3.2.0\"\n", []string{"pkg:pypi/django@3.2.0 eco=PyPI"}},
		{
			"zipapp", "usr/local/bin/tool.pyz", "#!/usr/bin/env python3\n" + string(zipped(t, "__main__.py", "x", "site-packages/requests-2.28.0.dist-info/METADATA", metadata("requests", "2.28.0"), "site-packages/six.egg-info/PKG-INFO", metadata("six", "1.16.0"))),
			[]string{"pkg:pypi/requests@2.28.0 eco=PyPI", "pkg:pypi/six@1.16.0 eco=PyPI"},
		},
		{"egg file", "x/a-1.0-py3.egg", string(zipped(t, "EGG-INFO/PKG-INFO", metadata("a", "1.0"))), []string{"pkg:pypi/a@1.0 eco=PyPI"}},
		{"wheel in zip", "srv/layer.zip", string(zipped(t, "wheels/idna-3.4-py3-none-any.whl", wheel)), []string{"pkg:pypi/idna@3.4 eco=PyPI inner=wheels/idna-3.4-py3-none-any.whl"}},
		{
			"jar in war in ear in zip", "srv/all.zip", string(zipped(t, "a.ear", string(zipped(t, "b.war", string(zipped(t, "WEB-INF/lib/c.jar", jar)))))),
			[]string{"pkg:maven/org.b/b@2.0 eco=Maven inner=a.ear/b.war/WEB-INF/lib/c.jar"},
		},
		{"spring boot", "app/app.jar", string(zipped(t, "META-INF/MANIFEST.MF", "Manifest-Version: 1.0\r\n\r\n", "BOOT-INF/lib/log4j-core-2.14.1.jar", string(zipped(t, "META-INF/maven/org.apache.logging.log4j/log4j-core/pom.properties", "groupId=org.apache.logging.log4j\nartifactId=log4j-core\nversion=2.14.1\n")))), []string{"pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1 eco=Maven inner=BOOT-INF/lib/log4j-core-2.14.1.jar"}},
		{"no zip in a jar", "srv/x.jar", string(zipped(t, "META-INF/maven/org.b/b/pom.properties", "groupId=org.b\nartifactId=b\nversion=2.0\n", "test/broken.zip", "this is not a zip file, whatever it is called")), []string{"pkg:maven/org.b/b@2.0 eco=Maven"}},
		{"no zip", "srv/a.zip", "this is not a zip file, whatever it is called", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			res, _ := read(t, newExtractor(t, Options{}), tt.path, []byte(tt.content))
			var got []string
			for _, p := range res.Packages {
				got = append(got, short(p))
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

// TestCatalogsBroken has content that must not pass as an empty list.
func TestCatalogsBroken(t *testing.T) {
	for _, tt := range []struct{ path, content string }{
		{chiselManifest, "not zstd"},
		{chiselManifest, string(compressed(t, "{}\n"))},
		{chiselManifest, string(compressed(t, manifestWall)[:40])},
		{chiselManifest, string(compressed(t, strings.Replace(manifestWall, `"version":"2.39-0ubuntu8.4"`, `"version":""`, 1)))},
		{"opt/bitnami/a/.spdx-a.spdx", `{"packages":[]}`},
		{"opt/bitnami/a/.spdx-a.spdx", `{"spdxVersion":"SPDX-2.3","packages":[{"externalRefs":[{"referenceType":"purl","referenceLocator":"pkg:bitnami/a"}]}]}`},
		{"conda-meta/a.json", `{"name":"a"}`},
		{"lib/a-1/ebin/a.app", "{application,a,[]}."},
		{"R/library/a/DESCRIPTION", "Package: a\nBuilt: x\n"},
		{"wp-content/plugins/a/a.php", "/* Plugin Name: A */"},
		{"a.pyz", "#!/usr/bin/python3\nnot a zip archive"},
		{"a.pyz", string(zipped(t, "a.dist-info/METADATA", "Nothing: here\n\n"))},
	} {
		res, _ := read(t, newExtractor(t, Options{}), tt.path, []byte(tt.content))
		if len(res.Problems) == 0 {
			t.Errorf("%s: %q gives %v and no problem", tt.path, tt.content, res.Packages)
		}
	}
}

// TestMetadataBomb has a zipapp whose manifests unpack to more than the limit.
func TestMetadataBomb(t *testing.T) {
	if testing.Short() {
		t.Skip("long under the race detector")
	}
	var files []string
	for i := range 40 {
		files = append(files, fmt.Sprintf("p%d.dist-info/METADATA", i), "Name: a\nVersion: 1\n\n"+strings.Repeat(" ", maxManifest))
	}
	res, _ := read(t, newExtractor(t, Options{MaxArchiveBytes: 8 << 20}), "a.pyz", zipped(t, files...))
	if len(res.Packages) != 8 || len(res.Problems) != 32 || !strings.Contains(res.Problems[0].Reason, "hold more than 8388608 bytes") {
		t.Errorf("%d packages, problems %+v", len(res.Packages), res.Problems)
	}
}

// TestOwner reads file lists in each format and asks for one file of each.
func TestOwner(t *testing.T) {
	for _, tt := range []struct {
		name, path, content, file, want string
	}{
		{"dpkg", "var/lib/dpkg/info/python3-django.list", "/.\n/usr\n/usr/lib/python3/dist-packages/Django-3.2.19.egg-info/PKG-INFO\n", "usr/lib/python3/dist-packages/Django-3.2.19.egg-info/PKG-INFO", "deb/python3-django"},
		{"dpkg arch", "var/lib/dpkg/info/libssl3:amd64.list", "/usr/lib/x/a.jar\n", "usr/lib/x/a.jar", "deb/libssl3"},
		{"merged usr", "var/lib/dpkg/info/a.list", "/lib/x/tool\n", "usr/lib/x/tool", "deb/a"},
		{"merged usr, the other way", "var/lib/dpkg/info/a.list", "/usr/sbin/tool\n", "sbin/tool", "deb/a"},
		{"distroless", "var/lib/dpkg/status.d/base.md5sums", "0123456789abcdef0123456789abcdef  usr/lib/os-release\n", "usr/lib/os-release", "deb/base"},
		{"opkg", "usr/lib/opkg/info/lua.list", "/usr/bin/lua\n", "usr/bin/lua", "opkg/lua"},
		{"pacman", "var/lib/pacman/local/python-six-1.16.0-1/files", "%FILES%\nusr/\nusr/lib/six.egg-info\n", "usr/lib/six.egg-info", "alpm/python-six"},
		{"apk", "lib/apk/db/installed", "P:py3-six\nV:1.16.0-r0\nF:usr/lib/python3.11/site-packages/six.egg-info\nR:PKG-INFO\nZ:Q1x=\n\nP:musl\nV:1\nF:lib\nR:ld\n", "usr/lib/python3.11/site-packages/six.egg-info/PKG-INFO", "apk/py3-six"},
		{"apk, another", "lib/apk/db/installed", "P:py3-six\nV:1\nF:usr\nR:a\n\nP:musl\nV:1\nF:lib\nR:ld\n", "usr/lib/ld", "apk/musl"},
		{"chisel", chiselManifest, string(compressed(t, manifestWall)), "usr/lib/python3/dist-packages/six-1.16.0.egg-info", "deb/python3-six"},
		{"nobody", "var/lib/dpkg/info/a.list", "/usr/bin/a\n", "usr/bin/b", ""},
		{"no list", "etc/os-release", "ID=a\n", "usr/bin/b", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newExtractor(t, Options{}).NewSession()
			defer s.Close()
			res, err := s.File(t.Context(), tt.path, []byte(tt.content), Content{strings.NewReader(tt.content), int64(len(tt.content))})
			if err != nil || len(res.Problems) > 0 {
				t.Fatalf("%v, problems %+v", err, res.Problems)
			}
			if got := s.Owner(tt.file); got != tt.want {
				t.Errorf("owner = %q, want %q", got, tt.want)
			}
		})
	}
}

// TestOwnerRPM asks for files of a real database.
func TestOwnerRPM(t *testing.T) {
	db := moduleData(t, scalibr, "extractor", "filesystem", "os", "rpm", "testdata", "rpmdb.sqlite")
	s := newExtractor(t, Options{}).NewSession()
	defer s.Close()
	if _, err := s.File(t.Context(), "var/lib/rpm/rpmdb.sqlite", db, Content{bytes.NewReader(db), int64(len(db))}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{"usr/bin/bash": "rpm/bash", "bin/bash": "rpm/bash", "etc/os-release": "rpm/rocky-release", "usr/local/bin/mine": ""} {
		if got := s.Owner(file); got != want {
			t.Errorf("owner of %s = %q, want %q", file, got, want)
		}
	}
}

// TestAssembly reads real PE files, and one with the version of a NuGet package.
func TestAssembly(t *testing.T) {
	e := newExtractor(t, Options{})
	dir := []string{"extractor", "filesystem", "language", "dotnet", "dotnetpe", "testdata"}
	for name, want := range map[string][]string{
		"HelloWorldApp.dll": {"pkg:nuget/HelloWorldApp@1.0.0 eco=NuGet"},
		"HelloWorldApp.exe": nil, // a native launcher
	} {
		b := moduleData(t, scalibr, append(slices.Clone(dir), name)...)
		res, _ := read(t, e, "app/"+name, b)
		var got []string
		for _, p := range res.Packages {
			got = append(got, short(p))
		}
		if d := cmp.Diff(want, got); d != "" || len(res.Problems) > 0 {
			t.Errorf("%s (-want +got):\n%s problems %v", name, d, res.Problems)
		}
		if name == "HelloWorldApp.dll" {
			for n := 512; n < len(b); n += 97 { // no cut may panic
				read(t, e, "app/"+name, b[:n])
			}
		}
	}
	for version, want := range map[string]string{
		"8.0.1+bf5e279d92": "8.0.1", "13.0.3": "13.0.3", "4.6.26328.01 @BuiltBy: dlab": "4.6.26328.01", "6.0.0-rc.2": "6.0.0-rc.2", "v1": "", "": "", "1": "",
	} {
		if got := assemblyVersion(version); got != want {
			t.Errorf("%q: %q, want %q", version, got, want)
		}
	}
}

func TestNixStore(t *testing.T) {
	const hash = "1ddf3x30m0z6kknmrmapsc7liz8npi1w"
	got := NixStore([]string{
		"nix/", "nix/store/", "nix/store/" + hash + "-openssl-3.0.13-bin/", "nix/store/" + hash + "-openssl-3.0.13-bin/bin/openssl",
		"nix/store/" + hash + "-openssl-3.0.13-bin/etc/x", "nix/store/" + hash + "-perl5.38.2-Net-SSLeay-1.92/lib/a", "nix/store/" + hash + "-source/a", "usr/bin/a",
	})
	want := []analyzer.Package{
		{Type: "nix", Name: "openssl", Version: "3.0.13", Path: "nix/store/" + hash + "-openssl-3.0.13-bin/bin/openssl", PURL: "pkg:nix/openssl@3.0.13"},
		{Type: "nix", Name: "perl5.38.2-Net-SSLeay", Version: "1.92", Path: "nix/store/" + hash + "-perl5.38.2-Net-SSLeay-1.92/lib/a", PURL: "pkg:nix/perl5.38.2-Net-SSLeay@1.92"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("packages (-want +got):\n%s", d)
	}
}

// rpmHeaderOf is a header with one file, in rpm's form.
func rpmHeaderOf() []byte {
	data := []byte("a\x001\x001\x00/usr/bin/\x00tool\x00\x00\x00\x00\x00\x00\x00")
	index := [][4]uint32{
		{tagName, typeString, 0, 1},
		{tagVersion, typeString, 2, 1},
		{tagRelease, typeString, 4, 1},
		{tagDirNames, typeStringArray, 6, 1},
		{tagBasenames, typeStringArray, 16, 1},
		{tagDirIndexes, typeInt32, 21, 1},
	}
	b := binary.BigEndian.AppendUint32(nil, uint32(len(index)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	for _, e := range index {
		for _, v := range e {
			b = binary.BigEndian.AppendUint32(b, v)
		}
	}
	return append(b, data...)
}

func TestRPMFiles(t *testing.T) {
	h, err := parseHeader(rpmHeaderOf())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	if err := h.eachFile(func(p string) { got = append(got, p) }); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"/usr/bin/tool"}, got); d != "" {
		t.Errorf("files (-want +got):\n%s", d)
	}
	for name, change := range map[string]func(*header){
		"directory out of range": func(h *header) { h.dirIndexes.data = []byte{0, 0, 0, 9} },
		"fewer directories":      func(h *header) { h.dirIndexes.count = 0 },
		"no end":                 func(h *header) { h.baseNames.data = []byte("tool") },
		"a name too long":        func(h *header) { h.baseNames.data = append(bytes.Repeat([]byte("t"), 5000), 0) },
		"a directory too long":   func(h *header) { h.dirNames.data = append(bytes.Repeat([]byte("d"), 1<<20), 0) },
	} {
		h, err := parseHeader(rpmHeaderOf())
		if err != nil {
			t.Fatal(err)
		}
		change(h)
		if err := h.eachFile(func(string) {}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func FuzzRPMHeader(f *testing.F) {
	f.Add(rpmHeaderOf())
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parseHeader(b)
		if err != nil {
			return
		}
		_ = h.eachFile(func(string) {}) // it may fail, it must not panic
		h.pkg("db")
	})
}

// FuzzCatalog feeds the own parsers of this package that FuzzFile does not reach.
func FuzzCatalog(f *testing.F) {
	e := newExtractor(f, Options{MaxDocument: 1 << 20, MaxArchiveBytes: 1 << 20, MaxArchiveEntries: 1000})
	paths := []string{
		chiselManifest, "opt/bitnami/a/.spdx-a.spdx", "conda-meta/a.json", "library/a/DESCRIPTION", "lib/a-1/ebin/a.app", "wp-content/plugins/a/a.php",
		"var/lib/dpkg/info/a.list", "lib/apk/db/installed", "a.pyz", "a.dll",
	}
	var pyz bytes.Buffer
	zw := zip.NewWriter(&pyz)
	w, err := zw.Create("a.dist-info/METADATA")
	if err != nil {
		f.Fatal(err)
	}
	if _, err := io.WriteString(w, "Name: a\nVersion: 1\n"); err != nil {
		f.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		f.Fatal(err)
	}
	for i, content := range [][]byte{
		compressed(f, manifestWall), []byte(`{"spdxVersion":"SPDX-2.3"}`), []byte(`{"name":"a","version":"1"}`), []byte("Package: a\nVersion: 1\nBuilt: x\n"), []byte(`{application,a,[{vsn,"1"}]}.`),
		[]byte("Plugin Name: a\nVersion: 1\n"), []byte("/usr/bin/a\n"), []byte("P:a\nV:1\nF:usr\nR:b\n"), pyz.Bytes(), append([]byte("MZ"), make([]byte, 100)...),
	} {
		f.Add(uint8(i), content)
	}
	f.Fuzz(func(t *testing.T, which uint8, content []byte) {
		p := paths[int(which)%len(paths)]
		s := e.NewSession()
		defer s.Close()
		if _, err := s.File(t.Context(), p, content[:min(len(content), 4096)], Content{bytes.NewReader(content), int64(len(content))}); err != nil {
			t.Fatalf("%s: %v", p, err)
		}
		s.Owner("usr/bin/a")
	})
}
