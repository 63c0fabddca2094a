package advisory

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluiceproxy/sluice/analyzer"
)

// smallIndex returns the bytes of an index with a bit of everything.
func smallIndex(t testing.TB) []byte {
	t.Helper()
	dir := t.TempDir()
	_, err := Compile(t.Context(), Source{Base: export(t, map[string][]string{
		"npm":       {osv("GHSA-1", "npm", "a", "introduced 0, fixed 2.0.0", `"aliases": ["CVE-2024-1"], "summary": "one"`), osv("GHSA-2", "npm", "b", "introduced 0", ""), record1("GHSA-3", `[{"package":{"ecosystem":"npm","name":"c"},"versions":["1.0.0","1.0.1"]}]`, "")},
		"Debian":    {osv("DSA-1-1", "Debian:12", "a", "introduced 0, fixed 2", `"upstream": ["CVE-2024-1"]`), osv("DSA-2-1", "Debian", "a", "introduced 0, fixed 3", "")},
		"AlmaLinux": {osv("ALSA-1:1", "AlmaLinux:9", "a", "introduced 0, fixed 2-1.module_el9.3.0+1+a", `"summary": "Low: a:1 security update"`)},
		"Bitnami":   {osv("BIT-1", "Bitnami", "a", "introduced 0", `"aliases": ["CVE-2024-1"], "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H"}]`)},
	})}, CompileOptions{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, indexName))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// everything asks an index for all that smallIndex holds.
func everything(t testing.TB, x *Index) error {
	pkgs := []analyzer.Package{
		{Type: "npm", Ecosystem: "npm", Name: "a", Version: "1.0.0"},
		{Type: "npm", Ecosystem: "npm", Name: "b", Version: "1.0.0"},
		{Type: "npm", Ecosystem: "npm", Name: "c", Version: "1.0.1"},
		{Type: "deb", Ecosystem: "Debian:12", Name: "a", Version: "1"},
		{Type: "rpm", Ecosystem: "AlmaLinux:9", Name: "a", Version: "1-1.module_el9.3.0+1+a", Modularity: "a:1:2:3"},
		{Type: "bitnami", Ecosystem: "Bitnami", Name: "a", Version: "1.0.0"},
	}
	_, err := x.Match(t.Context(), pkgs)
	for _, id := range []string{"GHSA-1", "CVE-2024-1", "none"} {
		_, e := x.Advisory(id)
		err = errors.Join(err, e)
	}
	for _, purl := range []string{"pkg:npm/a", "pkg:deb/debian/a@1?distro=bookworm", "pkg:bitnami/a"} {
		_, e := x.Lookup(purl)
		err = errors.Join(err, e)
	}
	return err
}

// TestDamage flips one bit of each byte in turn: an index that opens either
// gives what it gave before or an error that says so.
func TestDamage(t *testing.T) {
	if testing.Short() {
		t.Skip("long under the race detector")
	}
	good := smallIndex(t)
	dir := t.TempDir()
	want := findingsOf(t, good, dir)
	unnoticed := 0
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1 << (i % 8)
		path := filepath.Join(dir, "damaged")
		if err := os.WriteFile(path, bad, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := Verify(t.Context(), path); !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) {
			t.Fatalf("byte %d: Verify: %v", i, err)
		}
		x, err := Open(path)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) {
				t.Fatalf("byte %d: %v", i, err)
			}
			continue
		}
		if err := everything(t, x); err == nil {
			unnoticed++
			if got := findingsOf(t, bad, dir); !cmp.Equal(want, got) {
				t.Fatalf("byte %d changes what is found without an error:\n%s", i, cmp.Diff(want, got))
			}
		} else if !errors.Is(err, ErrCorrupt) && !strings.Contains(err.Error(), "no advisories") {
			t.Fatalf("byte %d: %v", i, err)
		}
		x.Close()
	}
	// What is left is the checksum of a section that is not read at open, and
	// the table of ids, which serves look-ups only.
	if unnoticed > len(good)/4 {
		t.Errorf("%d of %d damaged bytes went unnoticed without Verify", unnoticed, len(good))
	}
}

func findingsOf(t *testing.T, data []byte, dir string) []string {
	t.Helper()
	path := filepath.Join(dir, "findings")
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	x, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	m, err := x.Match(t.Context(), []analyzer.Package{
		{Type: "npm", Ecosystem: "npm", Name: "a", Version: "1.0.0"},
		{Type: "npm", Ecosystem: "npm", Name: "b", Version: "1.0.0"},
		{Type: "npm", Ecosystem: "npm", Name: "c", Version: "1.0.1"},
		{Type: "deb", Ecosystem: "Debian:12", Name: "a", Version: "1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return brief(m)
}

func TestTruncated(t *testing.T) {
	good := smallIndex(t)
	path := filepath.Join(t.TempDir(), indexName)
	for _, n := range []int{0, 1, headerSize - 1, headerSize, len(good) / 2, len(good) - 1} {
		if err := os.WriteFile(path, good[:n], 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%d of %d bytes: %v", n, len(good), err)
		}
	}
	if err := os.WriteFile(path, append(good, 0), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); !errors.Is(err, ErrCorrupt) {
		t.Errorf("one byte more: %v", err)
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}

func TestAdvisory(t *testing.T) {
	path := filepath.Join(t.TempDir(), indexName)
	if err := os.WriteFile(path, smallIndex(t), 0o644); err != nil {
		t.Fatal(err)
	}
	x, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	for id, want := range map[string][]string{"GHSA-1": {"GHSA-1"}, "CVE-2024-1": {"BIT-1", "DSA-1-1", "GHSA-1"}, "CVE-0": nil, "": nil} {
		all, err := x.Advisory(id)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, a := range all {
			got = append(got, a.ID)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: -want +got:\n%s", id, diff)
		}
	}
}

func TestLookup(t *testing.T) {
	x, _ := compileRecords(t, map[string][]string{
		"npm":    {osv("GHSA-1", "npm", "@scope/a", "introduced 0, fixed 2.0.0, introduced 3.0.0, fixed 3.1.0", ""), osv("GHSA-2", "npm", "@scope/a", "introduced 9.0.0", "")},
		"Maven":  {osv("GHSA-3", "Maven", "org.x:y", "introduced 0, fixed 2.0", "")},
		"Debian": {osv("DSA-1-1", "Debian:11", "glibc", "introduced 0, fixed 2-1", ""), osv("DSA-2-1", "Debian:12", "glibc", "introduced 0, fixed 3-1", "")},
		"Alpine": {osv("ALPINE-1", "Alpine:v3.18", "openssl", "introduced 0, fixed 3.1.4-r0", ""), osv("ALPINE-2", "Alpine:v3.18", "openssl", "introduced 0, fixed bad version", "")},
		"AlmaLinux": {
			osv("ALSA-1:1", "AlmaLinux:9", "zlib", "introduced 0, fixed 1:2-1", ""),
		},
	}, CompileOptions{})
	for _, tt := range []struct {
		purl string
		want []string
		err  string
	}{
		{"pkg:npm/%40scope/a@1.0.0", []string{"GHSA-1 2.0.0 npm introduced 0, fixed 2.0.0"}, ""},
		{"pkg:npm/%40scope/a", []string{"GHSA-1 3.1.0 npm introduced 0, fixed 2.0.0, introduced 3.0.0, fixed 3.1.0", "GHSA-2  npm introduced 9.0.0"}, ""},
		{"pkg:npm/%40scope/a@8.0.0", nil, ""},
		{"pkg:maven/org.x/y@1.0", []string{"GHSA-3 2.0 Maven introduced 0, fixed 2.0"}, ""},
		{"pkg:deb/debian/glibc@1-1", []string{"DSA-1-1 2-1 Debian:11 introduced 0, fixed 2-1", "DSA-2-1 3-1 Debian:12 introduced 0, fixed 3-1"}, ""},
		{"pkg:deb/debian/glibc@1-1?distro=bookworm", []string{"DSA-2-1 3-1 Debian:12 introduced 0, fixed 3-1"}, ""},
		{"pkg:deb/debian/libc6@1-1?distro=debian-11&upstream=glibc", []string{"DSA-1-1 2-1 Debian:11 introduced 0, fixed 2-1"}, ""},
		{"pkg:deb/debian/libc6@9-1?distro=debian-11.7&upstream=glibc%401-1", []string{"DSA-1-1 2-1 Debian:11 introduced 0, fixed 2-1"}, ""},
		{"pkg:apk/alpine/openssl@3.1.3-r0?distro=alpine-3.18.4", []string{"ALPINE-1 3.1.4-r0 Alpine:v3.18 introduced 0, fixed 3.1.4-r0"}, "ALPINE-2 (in the advisory's range"},
		{"pkg:rpm/almalinux/zlib@1-1?epoch=1&distro=almalinux-9.3", []string{"ALSA-1:1 1:2-1 AlmaLinux:9 introduced 0, fixed 1:2-1"}, ""},
		{"pkg:rpm/almalinux/zlib@1-1?epoch=2&distro=almalinux-9.3", nil, ""},
		{"pkg:rpm/almalinux/zlib@1-1?distro=almalinux-8", nil, "the index has no advisories for AlmaLinux 8"},
		{"pkg:apk/alpine/openssl@3.1.3-r0?distro=alpine-3.20", nil, "the index has no advisories for Alpine 3.20"},
		{"pkg:gem/rails@1.0", nil, "the index has no advisories for RubyGems"},
		{"pkg:oci/nginx@1.0", nil, "no feed is known"},
		{"pkg:npm/%40scope/a@latest", nil, "version cannot be read"},
		{"lodash", nil, "lookup"},
	} {
		t.Run(tt.purl, func(t *testing.T) {
			found, err := x.Lookup(tt.purl)
			if (err == nil) != (tt.err == "") || (err != nil && !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
			var got []string
			for _, f := range found {
				got = append(got, f.Advisory+" "+f.Fixed+" "+f.Source)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func FuzzOpen(f *testing.F) {
	good := smallIndex(f)
	f.Add(good, uint32(0), byte(0))
	f.Add(good[:headerSize], uint32(3), byte(1))
	f.Add([]byte(magic), uint32(0), byte(0))
	path := filepath.Join(f.TempDir(), indexName)
	f.Fuzz(func(t *testing.T, data []byte, at uint32, value byte) {
		data = bytes.Clone(data)
		if len(data) > 0 {
			data[int(at)%len(data)] = value
		}
		// With the checksums made right again the fuzzer gets past them, to the
		// decoders.
		for _, fix := range []bool{false, true} {
			if fix {
				seal(data)
			}
			if err := os.WriteFile(path, data, 0o644); err != nil {
				t.Fatal(err)
			}
			x, err := Open(path)
			if err != nil {
				continue
			}
			_ = everything(t, x) // an error is right, a panic is not
			x.Close()
		}
	})
}

// seal makes the checksums of an index fit what it holds, as far as its own
// offsets make sense.
func seal(data []byte) {
	if len(data) < headerSize {
		return
	}
	h, err := decodeHeader(rehead(data), uint64(len(data)))
	if err != nil {
		return
	}
	part := func(n int) []byte {
		s := h.sections[n]
		return data[s.off : s.off+s.length]
	}
	for rows := part(sectionTable); len(rows) >= advRowSize; rows = rows[advRowSize:] {
		if blob, ok := slice(part(sectionAdvisories), le32(rows), le32(rows[4:])); ok {
			putLE32(rows[8:], checksum(blob))
		}
	}
	for rows := part(sectionKeys); len(rows) >= keyRowSize; rows = rows[keyRowSize:] {
		if block, ok := slice(part(sectionPostings), le32(rows[8:]), le32(rows[12:])); ok && len(block) >= 4 {
			putLE32(block, checksum(block[4:]))
		}
	}
	for n := range h.sections {
		h.sections[n].crc = checksum(part(n))
	}
	copy(data, h.encode())
}

// rehead makes the header's size and checksum fit.
func rehead(data []byte) []byte {
	head := bytes.Clone(data[:headerSize])
	for i := range 8 {
		head[16+i] = byte(uint64(len(data)) >> (8 * i))
	}
	putLE32(head[12:], 0)
	putLE32(head[12:], checksum(head))
	return head
}

func putLE32(b []byte, v uint32) {
	b[0], b[1], b[2], b[3] = byte(v), byte(v>>8), byte(v>>16), byte(v>>24)
}
