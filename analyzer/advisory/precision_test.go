package advisory

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluiceproxy/sluice/analyzer"
)

// realRecords reads testdata/precision: records of the public feeds as they
// are, without their prose.
func realRecords(t *testing.T) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	files, err := filepath.Glob(filepath.Join("testdata", "precision", "*", "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no records: %v", err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		eco := filepath.Base(filepath.Dir(f))
		out[eco] = append(out[eco], string(b))
	}
	// What the data at hand has no record of: malware, and the same
	// vulnerability in two databases.
	out["PyPI"] = append(out["PyPI"],
		osv("GHSA-2gwj-7jmv-h26r", "PyPI", "Django", "introduced 3.2, fixed 3.2.13", `"aliases": ["CVE-2022-28346"], "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}]`),
		osv("MAL-2024-1", "PyPI", "djang0", "introduced 0", ""))
	return out
}

// TestPrecision has one line for each way to raise a false alarm, or to miss a
// true one, with the records that real feeds have.
func TestPrecision(t *testing.T) {
	x, _ := compileRecords(t, realRecords(t), CompileOptions{})
	deb := func(name, version, source string) analyzer.Package {
		return analyzer.Package{Type: "deb", Name: name, Version: version, Source: source, Ecosystem: "Debian:11", PURL: "pkg:deb/debian/" + name + "@" + version}
	}
	rpm := func(name, version, modularity string) analyzer.Package {
		return analyzer.Package{Type: "rpm", Name: name, Version: version, Modularity: modularity, Ecosystem: "AlmaLinux:8"}
	}
	apk := func(name, version, source string) analyzer.Package {
		return analyzer.Package{Type: "apk", Name: name, Version: version, Source: source, Ecosystem: "Alpine:v3.10"}
	}
	lang := func(typ, eco, name, version, owner string) analyzer.Package {
		return analyzer.Package{Type: typ, Name: name, Version: version, Ecosystem: eco, Owner: owner}
	}
	const module18 = "nodejs:18:8080020230306170312:63b34585"
	for _, tt := range []struct {
		name string
		pkgs []analyzer.Package
		want []string
	}{
		{"epoch: below the fix", []analyzer.Package{deb("zlib1g", "1:1.2.11.dfsg-2", "zlib")}, []string{"DSA-5111-1 1:1.2.11.dfsg-2+deb11u1"}},
		{"epoch: a higher upstream version without it is older", []analyzer.Package{deb("zlib1g", "1.3.1-1", "zlib")}, []string{"DSA-5111-1 1:1.2.11.dfsg-2+deb11u1"}},
		{"+deb11u1 is the fix", []analyzer.Package{deb("zlib1g", "1:1.2.11.dfsg-2+deb11u1", "zlib")}, nil},
		{"+deb11u1 is below +deb11u2", []analyzer.Package{deb("git", "1:2.30.2-1+deb11u1", "")}, []string{"DSA-5357-1 1:2.30.2-1+deb11u2"}},
		{"a rebuild of the fixed source", []analyzer.Package{func() analyzer.Package {
			p := deb("git", "1:2.30.2-1+deb11u2+b1", "git")
			p.SourceVersion = "1:2.30.2-1+deb11u2"
			return p
		}()}, nil},
		{"~deb11u1 is the fix", []analyzer.Package{deb("python3-django", "2:2.2.28-1~deb11u1", "python-django")}, nil},
		{"~deb11u1 comes before the plain version", []analyzer.Package{deb("python3-django", "2:2.2.28-1", "python-django")}, nil},
		{"a tilde before the fix", []analyzer.Package{deb("python3-django", "2:2.2.28~rc1-1", "python-django")}, []string{"DSA-5254-1 2:2.2.28-1~deb11u1"}},
		{"another release of the distribution", []analyzer.Package{func() analyzer.Package {
			p := deb("zlib1g", "1:1.2.11.dfsg-2", "zlib")
			p.Ecosystem = "Debian:12"
			return p
		}()}, []string{"? : the index has no advisories for Debian:12"}},

		{"the kernel", []analyzer.Package{deb("linux-image-5.10.0-20-amd64", "5.10.158-2", "linux")}, []string{"DSA-5324-1 5.10.162-1"}},
		{"the kernel, signed", []analyzer.Package{func() analyzer.Package {
			p := deb("linux-image-5.10.0-20-amd64", "5.10.158-2", "linux-signed-amd64")
			p.SourceVersion = "5.10.158+2"
			return p
		}()}, []string{"DSA-5324-1 5.10.162-1"}},
		{"the kernel, signed, with the fix", []analyzer.Package{func() analyzer.Package {
			p := deb("linux-image-5.10.0-21-amd64", "5.10.162-1", "linux-signed-amd64")
			p.SourceVersion = "5.10.162+1"
			return p
		}()}, nil},
		{"its headers, from the signed source", []analyzer.Package{deb("linux-headers-amd64", "5.10.158-2", "linux-signed-amd64")}, nil},
		{"its headers for user space", []analyzer.Package{deb("linux-libc-dev", "5.10.158-2", "linux")}, nil},
		{"its headers for modules", []analyzer.Package{deb("linux-headers-5.10.0-20-common", "5.10.158-2", "linux"), deb("linux-kbuild-5.10", "5.10.158-2", "linux")}, nil},
		{"its tools count", []analyzer.Package{deb("bpftool", "5.10.158-2", "linux")}, []string{"DSA-5324-1 5.10.162-1"}},
		{"rpm: kernel and headers", []analyzer.Package{rpm("kernel-headers", "4.18.0-348.el8", ""), rpm("bpftool", "4.18.0-348.el8", "")}, []string{"ALSA-2022:1988 4.18.0-372.9.1.el8"}},
		{"rpm: the release decides", []analyzer.Package{rpm("bpftool", "4.18.0-372.9.1.el8", "")}, nil},
		{"rpm: a longer release is newer", []analyzer.Package{rpm("bpftool", "4.18.0-372.9.1.el8_6", "")}, nil},

		{"module: the stream's own advisory", []analyzer.Package{rpm("nodejs", "1:18.9.0-1.module_el8.7.0+1+a", module18)}, []string{"ALSA-2022:7821 1:18.9.1-1.module_el8.7.0+3343+ea2b7901"}},
		{"module: not that of another stream", []analyzer.Package{rpm("nodejs", "1:18.20.8-1.module_el8.10.0+9+b", module18)}, nil},

		{"-r0 is the fix", []analyzer.Package{apk("libssl1.1", "1.1.1d-r0", "openssl")}, nil},
		{"a letter below it", []analyzer.Package{apk("libssl1.1", "1.1.1c-r9", "openssl")}, []string{"ALPINE-CVE-2019-1563 1.1.1d-r0"}},
		{"-r2 is above -r10 of an older version", []analyzer.Package{apk("busybox", "1.30.1-r2", "")}, nil},
		{"-r9 is below -r10", []analyzer.Package{apk("busybox", "1.29.3-r9", "")}, []string{"ALPINE-CVE-2018-20679 1.29.3-r10"}},

		{"pseudo-version below", []analyzer.Package{lang("golang", "Go", "golang.org/x/crypto", "0.0.0-20200622213623-75b288015ac9", "")}, []string{"GO-2021-0227 0.0.0-20201216223049-8b5274cf687f"}},
		{"pseudo-version of the fix", []analyzer.Package{lang("golang", "Go", "golang.org/x/crypto", "0.0.0-20201216223049-8b5274cf687f", "")}, nil},
		{"a release is above all pseudo-versions", []analyzer.Package{lang("golang", "Go", "golang.org/x/crypto", "0.1.0", "")}, nil},
		{"(devel) cannot be compared", []analyzer.Package{lang("golang", "Go", "golang.org/x/crypto", "(devel)", "")}, []string{`? GO-2021-0227: the installed version cannot be read: "(devel)"`}},
		{"standard library", []analyzer.Package{lang("golang", "Go", "stdlib", "1.16", ""), lang("golang", "Go", "stdlib", "1.16.1", "")}, []string{"GO-2021-0067 1.16.1"}},

		{"aliases are one finding", []analyzer.Package{lang("pypi", "PyPI", "Django", "3.2.0", "")}, []string{"GHSA-2gwj-7jmv-h26r 3.2.13"}},
		{"malware", []analyzer.Package{lang("pypi", "PyPI", "djang0", "1.0", "")}, []string{"MAL-2024-1"}},

		{"owned: the distribution has fixed it", []analyzer.Package{
			deb("python3-django", "2:2.2.28-1~deb11u1", "python-django"), lang("pypi", "PyPI", "Django", "2.2.20", "pkg:deb/debian/python3-django@2:2.2.28-1~deb11u1"),
		}, nil},
		{"owned: the distribution has not", []analyzer.Package{
			deb("python3-django", "2:2.2.24-1", "python-django"), lang("pypi", "PyPI", "Django", "2.2.24", "pkg:deb/debian/python3-django@2:2.2.24-1"),
		}, []string{"DSA-5254-1 2:2.2.28-1~deb11u1"}},
		{"owned by a release without advisories", []analyzer.Package{
			{Type: "deb", Name: "python3-django", Version: "3:3.2.0-1", Source: "python-django", Ecosystem: "Debian:12", PURL: "pkg:deb/debian/python3-django@3:3.2.0-1"},
			lang("pypi", "PyPI", "Django", "3.2.0", "pkg:deb/debian/python3-django@3:3.2.0-1"),
		}, []string{"GHSA-2gwj-7jmv-h26r 3.2.13", "? : the index has no advisories for Debian:12"}},
		{"owned by what is not installed", []analyzer.Package{lang("pypi", "PyPI", "Django", "3.2.0", "pkg:deb/debian/python3-django@9")}, []string{"GHSA-2gwj-7jmv-h26r 3.2.13"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, err := x.Match(t.Context(), tt.pkgs)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, brief(m)); d != "" {
				t.Errorf("matches (-want +got):\n%s", d)
			}
			for _, f := range m.Findings {
				if got := f.Class == analyzer.ClassMalware; got != (f.Advisory == "MAL-2024-1") {
					t.Errorf("%s is of class %s", f.Advisory, f.Class)
				}
			}
		})
	}
}
