package layer

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// entry is a tar entry in short; a regular file unless kind says otherwise.
type entry struct {
	name, body, link string
	kind             byte
	mode             int64
	pax              map[string]string
}

func file(name, body string) entry    { return entry{name: name, body: body} }
func dir(name string) entry           { return entry{name: name, kind: tar.TypeDir} }
func symlink(name, to string) entry   { return entry{name: name, link: to, kind: tar.TypeSymlink} }
func hardlink(name, to string) entry  { return entry{name: name, link: to, kind: tar.TypeLink} }
func device(name string) entry        { return entry{name: name, kind: tar.TypeChar} }
func withMode(e entry, m int64) entry { e.mode = m; return e }

func pack(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Typeflag: e.kind, Linkname: e.link, Mode: e.mode, PAXRecords: e.pax}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if e.kind == 0 {
			h.Typeflag, h.Size = tar.TypeReg, int64(len(e.body))
		}
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(tw, e.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gz(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	zw := gzip.NewWriter(&out)
	if _, err := zw.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func zst(t testing.TB, b []byte) []byte {
	t.Helper()
	zw, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer zw.Close()
	return zw.EncodeAll(b, nil)
}

// bomb is a gzip stream of head and then n zeros (rounded up to 64 MiB), made
// of members so that it costs next to nothing to make: 10 GiB are 10 MB.
func bomb(t testing.TB, head []byte, n int64) io.Reader {
	t.Helper()
	const unit = 64 << 20
	zeros := gz(t, make([]byte, unit))
	parts := []io.Reader{bytes.NewReader(gz(t, head))}
	for ; n > 0; n -= unit {
		parts = append(parts, bytes.NewReader(zeros))
	}
	return io.MultiReader(parts...)
}

// jar makes a Java archive; the names ending in .jar hold what inner returns.
func jar(t testing.TB, files map[string]string) string {
	t.Helper()
	var b bytes.Buffer
	zw := zip.NewWriter(&b)
	for _, name := range sortedKeys(files) {
		w, err := zw.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, files[name]); err != nil {
			t.Fatal(err)
		}
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func pom(group, artifact, version string) string {
	return fmt.Sprintf("groupId=%s\nartifactId=%s\nversion=%s\n", group, artifact, version)
}

// overlapping is a jar whose directory names one inner jar n times.
func overlapping(t testing.TB, n int) string {
	t.Helper()
	files := map[string]string{"0.jar": jar(t, map[string]string{"META-INF/maven/g/a/pom.properties": pom("g", "a", "1"), "pad": strings.Repeat("\x00", 64<<10)})}
	for i := 1; i < n; i++ {
		files[fmt.Sprintf("%05d.jar", i)] = "x"
	}
	b := []byte(jar(t, files))
	first := -1
	for at := bytes.Index(b, []byte("PK\x01\x02")); at >= 0 && at+46 <= len(b); { // each header gets the first one's place and sizes
		if first < 0 {
			first = at
		}
		copy(b[at+10:at+28], b[first+10:first+28])
		copy(b[at+42:at+46], b[first+42:first+46])
		next := bytes.Index(b[at+4:], []byte("PK\x01\x02"))
		if next < 0 {
			break
		}
		at += 4 + next
	}
	return string(b)
}

// nestedJar is a jar in a jar in a jar, depth of them.
func nestedJar(t testing.TB, depth int) string {
	body := jar(t, map[string]string{"META-INF/maven/g/a/pom.properties": pom("g", "deepest", "1")})
	for range depth - 1 {
		body = jar(t, map[string]string{"lib/inner.jar": body})
	}
	return body
}

const (
	apkDB     = "lib/apk/db/installed"
	apkRecord = "P:musl\nV:1.2.4-r2\nA:x86_64\no:musl\n\nP:libcrypto3\nV:3.1.4-r1\nA:x86_64\no:openssl\n\n"
	dpkgDB    = "var/lib/dpkg/status"
	dpkgRec   = "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nSource: glibc (2.36-9)\nVersion: 2.36-9+deb12u3\n\n"
)

// hostile are layers that somebody could send to hurt or to hide. want lists
// what a scan must say of each: packages "type/name@version", "secret rule",
// and parts of the reasons for being incomplete.
type hostile struct {
	name string
	blob []byte
	opts Options
	want []string
	err  string // the stream's error
}

func corpus(t testing.TB) []hostile {
	t.Helper()
	plain := pack(t, file(apkDB, apkRecord))
	musl := []string{"apk/libcrypto3@3.1.4-r1", "apk/musl@1.2.4-r2"}
	and := func(more ...string) []string { return append(append([]string{}, musl...), more...) }
	long := strings.Repeat("d/", 2100) + "f"
	lying := func() []byte { // a header that claims 8 GiB in a stream that ends after it
		b := pack(t, file("big", strings.Repeat("x", 100)), file(apkDB, apkRecord))
		var h bytes.Buffer
		tw := tar.NewWriter(&h)
		if err := tw.WriteHeader(&tar.Header{Name: "big", Size: 8<<30 - 1, Mode: 0o644, Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		return append(h.Bytes()[:512], b[512:]...)
	}
	many := make([]entry, 3000)
	for i := range many {
		many[i] = file(fmt.Sprintf("f%d", i), "")
	}
	var chain []entry
	for i := range 500 {
		chain = append(chain, symlink(fmt.Sprintf("l%d", i), fmt.Sprintf("l%d", i+1)), hardlink(fmt.Sprintf("h%d", i), fmt.Sprintf("h%d", i+1)))
	}
	deep := strings.Repeat("[", 100_000)
	return []hostile{
		{name: "plain tar", blob: plain, want: musl},
		{name: "gzip", blob: gz(t, plain), want: musl},
		{name: "gzip of many members", blob: append(append(gz(t, plain[:700]), gz(t, nil)...), gz(t, plain[700:])...), want: musl},
		{name: "zstd", blob: zst(t, plain), want: musl},
		{name: "zstd with a skippable frame first", blob: append([]byte{0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3}, zst(t, plain)...), want: musl},
		{name: "empty blob", blob: nil},
		{name: "empty gzip", blob: gz(t, nil)},
		{name: "gzip cut", blob: gz(t, plain)[:100], err: "unexpected EOF"},
		{name: "gzip with a wrong checksum", blob: flip(gz(t, plain), -8), err: "checksum"},
		{name: "gzip magic only", blob: []byte{0x1f, 0x8b}, err: "EOF"},
		{name: "zstd cut", blob: zst(t, plain)[:60], err: "EOF"},
		{name: "no tar", blob: bytes.Repeat([]byte("not a tar "), 200), want: []string{"tar: "}},
		{name: "padding after the gzip stream", blob: append(gz(t, plain), make([]byte, 1000)...), want: musl},
		{name: "garbage after the gzip stream", blob: append(gz(t, plain), "garbage"...), want: and("data after the end of the compressed stream")},
		{name: "padding after the tar", blob: append(bytes.Clone(plain), make([]byte, 1<<20)...), want: musl},
		{name: "a second tar after the end", blob: append(bytes.Clone(plain), pack(t, file(dpkgDB, dpkgRec))...), want: and("data after the end of the tar archive")},
		{name: "tar cut in a file", blob: plain[:560], want: []string{"tar: unexpected EOF"}},
		{name: "tar without an end", blob: plain[:1024], want: musl},
		{name: "traversal", blob: pack(t, file("../../etc/passwd", "root"), file("a/../../../lib/apk/db/installed", apkRecord)), want: and("leaves the root", "leaves the root")},
		{name: "absolute and dotted", blob: pack(t, file("/lib/./apk/x/../db/installed", apkRecord)), want: musl},
		{name: "path too long", blob: pack(t, file(long, "x"), file(apkDB, apkRecord)), want: and("more than 4096 bytes")},
		{name: "zero byte in a PAX path", blob: bytes.Replace(pack(t, file(strings.Repeat("n", 200)+"é@", "x")), []byte("é@\n"), []byte("é\x00\n"), 1), want: []string{"tar: "}},
		{name: "link chains and loops", blob: pack(t, append(chain, symlink("l500", "l0"), hardlink("h500", "h0"), symlink("self", "self"), symlink("up", "../../.."), file(apkDB, apkRecord))...), want: musl},
		{name: "OS release in a loop", blob: pack(t, symlink("etc/os-release", "/usr/lib/os-release"), symlink("usr/lib/os-release", "/etc/os-release"))},
		{name: "database behind a hard link", blob: pack(t, file("srv/a", apkRecord), hardlink(apkDB, "srv/a")), want: []string{"hard link"}},
		{name: "hard link between databases", blob: pack(t, file("usr/"+apkDB, apkRecord), hardlink(apkDB, "usr/"+apkDB)), want: append(and(), musl...)},
		{name: "database behind a symbolic link", blob: pack(t, symlink(apkDB, "/srv/a"), file("srv/a", apkRecord)), want: []string{"not recognised"}},
		{name: "directory of a database moved", blob: pack(t, symlink("var/lib/dpkg", "/srv/dpkg"), file("srv/dpkg/status", dpkgRec)), want: []string{"not recognised"}},
		{name: "merged usr", blob: pack(t, symlink("lib", "usr/lib"), file("usr/"+apkDB, apkRecord)), want: musl},
		{name: "devices", blob: pack(t, device(apkDB), device("dev/sda"), entry{name: "p", kind: tar.TypeFifo}, entry{name: "b", kind: tar.TypeBlock})},
		{name: "unknown entry type", blob: pack(t, entry{name: "x", kind: 'Z'}), want: []string{`type 'Z'`}},
		{name: "last of two wins", blob: pack(t, file(apkDB, "P:old\nV:1\n\n"), file("./"+apkDB, apkRecord)), want: musl},
		{name: "file replaces a directory", blob: pack(t, file(apkDB, apkRecord), file("lib", "x")), want: nil},
		{name: "lying size", blob: lying(), want: []string{"tar: unexpected EOF"}},
		{name: "many entries", blob: pack(t, append(many, file(apkDB, apkRecord))...), opts: Options{MaxEntries: 3000}, want: []string{"more than 3000 entries"}},
		{name: "as many entries as allowed", blob: pack(t, append(many, file(apkDB, apkRecord))...), opts: Options{MaxEntries: 3001}, want: musl},
		{name: "long paths", blob: pack(t, append(many, file(apkDB, apkRecord))...), opts: Options{MaxPathBytes: 5000}, want: []string{"more than 5000 bytes of paths"}},
		{name: "total limit", blob: gz(t, append(bytes.Clone(plain), make([]byte, 4<<20)...)), opts: Options{MaxUncompressed: 1 << 20}, want: and("more than 1048576 uncompressed bytes")},
		{name: "file limit", blob: pack(t, file(apkDB, apkRecord)), opts: Options{MaxFile: 10}, want: []string{"a file of more than 10 bytes"}},
		{name: "spilled to a file", blob: pack(t, file(apkDB, apkRecord)), opts: Options{MaxMemory: 10}, want: musl},
		{name: "sparse terabyte", blob: sparse(t, apkDB, 1<<40), want: []string{"a file of more than"}},
		{name: "whiteouts of nothing", blob: pack(t, file("a/.wh.", ""), file(".wh..", ""), file(".wh...", "")), want: []string{"invalid whiteout", "invalid whiteout", "invalid whiteout"}},
		{name: "AUFS metadata", blob: pack(t, dir(".wh..wh.plnk/"), file(".wh..wh.plnk/12.34", "x"), file(".wh..wh.aufs", ""), hardlink(apkDB, ".wh..wh.plnk/12.34")), want: []string{"hard link"}},
		{name: "nested jars", blob: pack(t, file("app/a.jar", nestedJar(t, 6))), want: []string{"maven/g:deepest@1"}},
		{name: "jars nested too deep", blob: pack(t, file("app/a.jar", nestedJar(t, 7))), want: []string{"nested deeper than 6"}},
		{name: "jar bomb", blob: pack(t, file("app/a.jar", jar(t, map[string]string{"b.jar": strings.Repeat("\x00", 2<<20)}))), opts: bounded(1 << 20), want: []string{"more than 1048576 bytes"}},
		{name: "jar whose entries overlap", blob: pack(t, file("app/a.jar", overlapping(t, 2000))), want: []string{"share bytes"}},
		{name: "jar with a huge manifest", blob: pack(t, file("app/a.jar", jar(t, map[string]string{"META-INF/MANIFEST.MF": strings.Repeat("A", 2<<20)}))), want: []string{"larger than 1048576 bytes"}},
		{name: "jar that is no zip", blob: pack(t, file("app/a.jar", strings.Repeat("no zip", 100))), want: []string{"not a valid zip"}},
		{name: "JSON nested deep", blob: pack(t, file("app/node_modules/a/package.json", deep), file("app/package-lock.json", deep), file("app/poetry.lock", "a = "+deep), file("app/pnpm-lock.yaml", deep)), want: []string{"nested deeper", "nested deeper", "nested deeper", "nested deeper"}},
		{name: "a status without installed packages' versions", blob: pack(t, file(dpkgDB, dpkgRec+"Package: hidden\nStatus: install ok installed\n\n")), want: []string{"deb/libc6@2.36-9+deb12u3", "1 of 2 installed"}},
		{name: "apk database that is none", blob: pack(t, file(apkDB, "<html>")), want: []string{"invalid line"}},
		{name: "apk database with a value without end", blob: pack(t, file(apkDB, "P:"+strings.Repeat("m", 2<<20)+"\nV:1\n\n")), want: []string{"apk"}},
		{name: "dpkg database that is none", blob: pack(t, file(dpkgDB, "Title: x\n")), want: []string{"no record found"}},
		{name: "rpm database that is none", blob: pack(t, file("var/lib/rpm/rpmdb.sqlite", "SQLite format 3\x00garbage"), file("var/lib/rpm/Packages", "x"), file("usr/lib/sysimage/rpm/Packages.db", strings.Repeat("RpmP", 99))), want: []string{"rpm database", "rpm database", "rpm database"}},
		{name: "bytes that are no text", blob: pack(t, file(dpkgDB, "Package: a\xff\nStatus: install ok installed\nVersion: 1\xfe\n\n")), want: []string{"deb/a\uFFFD@1\uFFFD"}},
		{name: "rpm log without its database", blob: pack(t, file("var/lib/rpm/rpmdb.sqlite-wal", "x")), want: []string{"write-ahead log"}},
	}
}

func bounded(n int64) Options {
	var o Options
	o.Extract.MaxArchiveBytes = n
	return o
}

func flip(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[len(b)+at] ^= 0xff
	return b
}

// sparse is a PAX sparse file (GNU tar manual, "PAX Format, Version 1.0") of
// size bytes that has no data at all.
func sparse(t testing.TB, name string, size int64) []byte {
	t.Helper()
	m := "0\n"
	body := m + strings.Repeat("\x00", 512-len(m))
	records := ""
	for _, kv := range [][2]string{
		{"GNU.sparse.major", "1"},
		{"GNU.sparse.minor", "0"},
		{"GNU.sparse.name", name},
		{"GNU.sparse.realsize", fmt.Sprint(size)},
	} {
		rest := " " + kv[0] + "=" + kv[1] + "\n"
		n := len(rest) + 2
		if n >= 100 {
			n++
		}
		records += fmt.Sprintf("%d%s", n, rest)
	}
	// The writer refuses these keys: write the header of type x by hand.
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, e := range []struct{ name, body string }{{"PaxHeaders/x", records}, {"GNUSparseFile.0/x", body}} {
		if err := tw.WriteHeader(&tar.Header{Name: e.name, Size: int64(len(e.body)), Mode: 0o644, Typeflag: tar.TypeReg, Format: tar.FormatUSTAR}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(tw, e.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	out := b.Bytes()
	out[156] = 'x'
	copy(out[148:156], fmt.Sprintf("%06o\x00 ", checksum(out[:512])))
	return out
}

// checksum is a tar header's, its own field counted as spaces.
func checksum(h []byte) int {
	sum := 0
	for i, c := range h {
		if i >= 148 && i < 156 {
			c = ' '
		}
		sum += int(c)
	}
	return sum
}
