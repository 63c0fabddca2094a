package advisory

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluiceproxy/sluice/analyzer"
)

const rpmName = "nodejs"

func TestMatch(t *testing.T) {
	deb := func(name, version string) analyzer.Package {
		return analyzer.Package{Type: "deb", Ecosystem: "Debian:12", Name: name, Version: version}
	}
	rpm := func(name, version, modularity string) analyzer.Package {
		return analyzer.Package{Type: "rpm", Ecosystem: "AlmaLinux:9", Name: name, Version: version, Modularity: modularity}
	}
	lang := func(typ, eco, name, version string) analyzer.Package {
		return analyzer.Package{Type: typ, Ecosystem: eco, Name: name, Version: version}
	}
	one := func(eco, record string) map[string][]string {
		return map[string][]string{eco: {record}}
	}
	modular := one("AlmaLinux", osv("ALSA-2024:1", "AlmaLinux:9", rpmName, "introduced 0, fixed 1:20.1.0-1.module_el9.3.0+50+aaaa", `"summary": "Important: nodejs:20 security update"`))
	nostream := one("AlmaLinux", osv("ALSA-2024:2", "AlmaLinux:9", rpmName, "introduced 0, fixed 1:20.1.0-1.module_el9.3.0+50+aaaa", `"summary": "Important: nodejs security update"`))
	for _, tt := range []struct {
		name    string
		records map[string][]string
		pkg     analyzer.Package
		want    []string
	}{
		{"debian below the fix", one("Debian", osv("DSA-1-1", "Debian:12", "openssl", "introduced 0, fixed 3.0.11-1~deb12u2", "")), deb("openssl", "3.0.11-1~deb12u1"), []string{"DSA-1-1 3.0.11-1~deb12u2"}},
		{"debian at the fix", one("Debian", osv("DSA-1-1", "Debian:12", "openssl", "introduced 0, fixed 3.0.11-1~deb12u2", "")), deb("openssl", "3.0.11-1~deb12u2"), nil},
		{
			"debian by source package and its version", one("Debian", osv("DSA-1-1", "Debian:12", "glibc", "introduced 0, fixed 2.36-9+deb12u4", "")),
			analyzer.Package{Type: "deb", Ecosystem: "Debian:12", Name: "libc-bin", Version: "9.9-1", Source: "glibc", SourceVersion: "2.36-9+deb12u3"},
			[]string{"DSA-1-1 2.36-9+deb12u4"},
		},
		{
			"debian source package without its own version", one("Debian", osv("DSA-1-1", "Debian:12", "glibc", "introduced 0, fixed 2.36-9+deb12u4", "")),
			analyzer.Package{Type: "deb", Ecosystem: "Debian:12", Name: "libc-bin", Version: "2.36-9+deb12u3", Source: "glibc"},
			[]string{"DSA-1-1 2.36-9+deb12u4"},
		},
		{
			"debian not by binary package where the source is another", one("Debian", osv("DSA-1-1", "Debian:12", "libc-bin", "introduced 0, fixed 2.36-9+deb12u4", "")),
			analyzer.Package{Type: "deb", Ecosystem: "Debian:12", Name: "libc-bin", Version: "2.36-9+deb12u3", Source: "glibc"},
			nil,
		},
		{
			"a record without a release holds for every release",
			map[string][]string{"Debian": {osv("DSA-1-1", "Debian:12", "a", "introduced 0, fixed 1-1", ""), osv("DSA-2-1", "Debian", "openssl", "introduced 0, fixed 3.0.11-1", "")}},
			deb("openssl", "3.0.10-1"),
			[]string{"DSA-2-1 3.0.11-1"},
		},
		{"another release says nothing", map[string][]string{"Debian": {osv("DSA-1-1", "Debian:11", "openssl", "introduced 0, fixed 9", ""), osv("DSA-2-1", "Debian:12", "a", "introduced 0, fixed 1", "")}}, deb("openssl", "1.0-1"), nil},
		{"release not in the index", one("Debian", osv("DSA-1-1", "Debian:11", "openssl", "introduced 0, fixed 9", "")), deb("openssl", "1.0-1"), []string{"? : the index has no advisories for Debian:12"}},
		{"release unknown", one("Debian", osv("DSA-1-1", "Debian:11", "openssl", "introduced 0, fixed 9", "")), lang("deb", "", "openssl", "1"), []string{"? : the release of the distribution is not known, so no advisories can be chosen"}},
		{"language without its feed", one("Debian", osv("DSA-1-1", "Debian:11", "openssl", "introduced 0, fixed 9", "")), lang("nuget", "NuGet", "a", "1.0.0"), []string{"? : the index has no advisories for NuGet"}},
		{"type without an ecosystem", one("npm", osv("GHSA-1", "npm", "a", "introduced 0", "")), lang("generic", "", "a", "1"), []string{"? : no ecosystem is known for packages of this type"}},
		{"ubuntu names its release with LTS", one("Ubuntu", osv("USN-1-1", "Ubuntu:22.04:LTS", "bash", "introduced 0, fixed 5.1-6ubuntu1.1", "")), lang("deb", "Ubuntu:22.04", "bash", "5.1-6ubuntu1"), []string{"USN-1-1 5.1-6ubuntu1.1"}},

		{
			"alpine by origin", one("Alpine", osv("ALPINE-CVE-2023-1", "Alpine:v3.18", "openssl", "introduced 0, fixed 3.1.4-r0", "")),
			analyzer.Package{Type: "apk", Ecosystem: "Alpine:v3.18", Name: "libcrypto3", Version: "3.1.3-r1", Source: "openssl"},
			[]string{"ALPINE-CVE-2023-1 3.1.4-r0"},
		},
		{
			"alpine with the patch release of os-release", one("Alpine", osv("ALPINE-CVE-2023-1", "Alpine:v3.18", "openssl", "introduced 0, fixed 3.1.4-r10", "")),
			lang("apk", "Alpine:3.18.9", "openssl", "3.1.4-r9"),
			[]string{"ALPINE-CVE-2023-1 3.1.4-r10"},
		},
		{"fixed 0 means never affected", one("Alpine", osv("ALPINE-CVE-2023-1", "Alpine:v3.18", "openssl", "introduced 0, fixed 0", "")), lang("apk", "Alpine:v3.18", "openssl", "3.1.4-r9"), nil},
		{
			"unreadable fix", one("Alpine", osv("ALPINE-CVE-2023-1", "Alpine:v3.18", "openssl", "introduced 0, fixed 4.10-1-r1", "")), lang("apk", "Alpine:v3.18", "openssl", "3.1.4-r9"),
			[]string{`? ALPINE-CVE-2023-1: in the advisory's range: version cannot be read: "4.10-1-r1"`},
		},
		{
			"unreadable installed version", one("Alpine", osv("ALPINE-CVE-2023-1", "Alpine:v3.18", "openssl", "introduced 0, fixed 4.10-r1", "")), lang("apk", "Alpine:v3.18", "openssl", "nightly"),
			[]string{`? ALPINE-CVE-2023-1: the installed version cannot be read: "nightly"`},
		},
		{"no installed version", one("npm", osv("GHSA-1", "npm", "a", "introduced 0, fixed 2.0.0", "")), lang("npm", "npm", "a", ""), []string{`? GHSA-1: the installed version cannot be read: ""`}},

		{
			"rpm by binary package", one("AlmaLinux", osv("ALSA-2023:1", "AlmaLinux:9", "openssl-libs", "introduced 0, fixed 1:3.0.7-16.el9_2", "")),
			analyzer.Package{Type: "rpm", Ecosystem: "AlmaLinux:9", Name: "openssl-libs", Version: "1:3.0.1-43.el9_0", Source: "openssl"},
			[]string{"ALSA-2023:1 1:3.0.7-16.el9_2"},
		},
		{"rpm epoch 0 is no epoch", one("AlmaLinux", osv("ALSA-2023:1", "AlmaLinux:9", "zlib", "introduced 0, fixed 0:1.2.11-40.el9", "")), rpm("zlib", "1.2.11-40.el9", ""), nil},
		{"rpm epoch decides", one("AlmaLinux", osv("ALSA-2023:1", "AlmaLinux:9", "zlib", "introduced 0, fixed 1:1.0-1.el9", "")), rpm("zlib", "1.2.11-40.el9", ""), []string{"ALSA-2023:1 1:1.0-1.el9"}},
		{"rpm that is one of several fixed builds", one("AlmaLinux", record1("ALSA-2021:1", `[
			{"package":{"ecosystem":"AlmaLinux:9","name":"aide"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"0.16-14.el9"}]}]},
			{"package":{"ecosystem":"AlmaLinux:9","name":"aide"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"0.16-14.el9_5.1"}]}]}]`, "")), rpm("aide", "0.16-14.el9", ""), nil},
		{"rpm below several fixed builds names the smallest", one("AlmaLinux", record1("ALSA-2021:1", `[
			{"package":{"ecosystem":"AlmaLinux:9","name":"aide"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"0.16-14.el9_5.1"}]}]},
			{"package":{"ecosystem":"AlmaLinux:9","name":"aide"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"0.16-14.el9"}]}]}]`, "")), rpm("aide", "0.16-12.el9", ""), []string{"ALSA-2021:1 0.16-14.el9"}},
		{"bug fix erratum without a CVE", map[string][]string{"AlmaLinux": {osv("ALBA-2023:1", "AlmaLinux:9", "zlib", "introduced 0, fixed 9-1", "")}, "npm": {osv("GHSA-1", "npm", "a", "introduced 0", "")}}, rpm("zlib", "1-1", ""), nil},
		{"bug fix erratum with a CVE", one("AlmaLinux", osv("ALBA-2023:1", "AlmaLinux:9", "zlib", "introduced 0, fixed 9-1", `"related": ["CVE-2023-1"]`)), rpm("zlib", "1-1", ""), []string{"ALBA-2023:1 9-1"}},

		{"module: same stream", modular, rpm(rpmName, "1:20.0.0-1.module_el9.3.0+40+bbbb", "nodejs:20:9030020230101:rhel9"), []string{"ALSA-2024:1 1:20.1.0-1.module_el9.3.0+50+aaaa"}},
		{"module: other stream", modular, rpm(rpmName, "1:18.0.0-1.module_el9.3.0+40+bbbb", "nodejs:18:9030020230101:rhel9"), nil},
		{"module: plain build", modular, rpm(rpmName, "1:16.0.0-1.el9", ""), nil},
		{"module: plain advisory", one("AlmaLinux", osv("ALSA-2024:3", "AlmaLinux:9", rpmName, "introduced 0, fixed 1:99-1.el9", "")), rpm(rpmName, "1:20.0.0-1.module_el9.3.0+40+bbbb", "nodejs:20:9030020230101:rhel9"), nil},
		{"module: stream of the package unknown", modular, rpm(rpmName, "1:20.0.0-1.module_el9.3.0+40+bbbb", ""), []string{"? ALSA-2024:1: it cannot be told whether the advisory is for the installed module stream"}},
		{"module: stream of the advisory unknown", nostream, rpm(rpmName, "1:20.0.0-1.module_el9.3.0+40+bbbb", "nodejs:20:9030020230101:rhel9"), []string{"? ALSA-2024:2: it cannot be told whether the advisory is for the installed module stream"}},
		{"module: stream unknown but above the fix", nostream, rpm(rpmName, "1:20.2.0-1.module_el9.3.0+60+bbbb", ""), nil},
		{
			"module: a later build of the fix for the same minor release", one("AlmaLinux", record1("ALSA-2024:4", `[
			{"package":{"ecosystem":"AlmaLinux:9","name":"nodejs"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"1:20.1.0-1.module_el9.2.0+30+aaaa"}]}]},
			{"package":{"ecosystem":"AlmaLinux:9","name":"nodejs"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"1:20.1.0-1.module_el9.3.0+50+aaaa"}]}]}]`, `"summary": "Important: nodejs:20 security update"`)),
			rpm(rpmName, "1:20.1.0-1.module_el9.2.0+35+cccc", "nodejs:20:9030020230101:rhel9"), nil,
		},
		{
			"module: two streams in one advisory", one("AlmaLinux", osv("ALSA-2024:5", "AlmaLinux:9", "libiscsi", "introduced 0, fixed 1.19-1.module_el9.3.0+50+aaaa", `"summary": "Moderate: virt:rhel and virt-devel:rhel security update"`)),
			rpm("libiscsi", "1.18-1.module_el9.3.0+50+aaaa", "virt-devel:rhel:9030020230101:rhel9"),
			[]string{"ALSA-2024:5 1.19-1.module_el9.3.0+50+aaaa"},
		},

		{"npm before the range", one("npm", osv("GHSA-1", "npm", "a", "introduced 1.0.0, fixed 1.2.0", "")), lang("npm", "npm", "a", "0.9.9"), nil},
		{"npm first affected", one("npm", osv("GHSA-1", "npm", "a", "introduced 1.0.0, fixed 1.2.0", "")), lang("npm", "npm", "a", "1.0.0"), []string{"GHSA-1 1.2.0"}},
		{"npm names are exact", one("npm", osv("GHSA-1", "npm", "Grid", "introduced 0", "")), lang("npm", "npm", "grid", "1.0.0"), nil},
		{"last affected", one("npm", osv("GHSA-1", "npm", "a", "introduced 0, last_affected 1.2.0", "")), lang("npm", "npm", "a", "1.2.0"), []string{"GHSA-1"}},
		{"after last affected", one("npm", osv("GHSA-1", "npm", "a", "introduced 0, last_affected 1.2.0", "")), lang("npm", "npm", "a", "1.2.1"), nil},
		{"several intervals, out of order", one("npm", osv("GHSA-1", "npm", "a", "introduced 2.0.0, fixed 2.1.0, introduced 0, fixed 1.1.0", "")), lang("npm", "npm", "a", "2.0.5"), []string{"GHSA-1 2.1.0"}},
		{"between intervals", one("npm", osv("GHSA-1", "npm", "a", "introduced 0, fixed 1.1.0, introduced 2.0.0, fixed 2.1.0", "")), lang("npm", "npm", "a", "1.5.0"), nil},
		{"a fix where the next interval starts", one("npm", osv("GHSA-1", "npm", "a", "introduced 0, fixed 2.0.0, introduced 2.0.0, fixed 2.1.0", "")), lang("npm", "npm", "a", "2.0.0"), []string{"GHSA-1 2.1.0"}},
		{"limit", one("npm", osv("GHSA-1", "npm", "a", "introduced 0, limit 2.0.0", "")), lang("npm", "npm", "a", "2.0.0"), nil},
		{"below the limit", one("npm", osv("GHSA-1", "npm", "a", "introduced 0, limit 2.0.0", "")), lang("npm", "npm", "a", "1.9.0"), []string{"GHSA-1"}},
		{"unknown event", one("npm", osv("GHSA-1", "npm", "a", "introduced 0, mended 2.0.0", "")), lang("npm", "npm", "a", "1.9.0"), []string{"? GHSA-1: the advisory has a kind of range that is not known"}},
		{"range without a start", one("npm", osv("GHSA-1", "npm", "a", "fixed 2.0.0", "")), lang("npm", "npm", "a", "1.9.0"), []string{"? GHSA-1: the advisory's range has no start"}},
		{"listed version", one("npm", record1("GHSA-1", `[{"package":{"ecosystem":"npm","name":"a"},"versions":["0.7.29","0.8.0"]}]`, "")), lang("npm", "npm", "a", "0.7.29"), []string{"GHSA-1"}},
		{"not listed", one("npm", record1("GHSA-1", `[{"package":{"ecosystem":"npm","name":"a"},"versions":["0.7.29","0.8.0"]}]`, "")), lang("npm", "npm", "a", "0.7.2"), nil},
		{"listed beside a range that does not hold it", one("PyPI", record1("PYSEC-1", `[{"package":{"ecosystem":"PyPI","name":"a"},"versions":["3.0"],"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"2.0"}]}]}]`, "")), lang("pypi", "PyPI", "a", "3.0"), []string{"PYSEC-1"}},
		{"listed though it cannot be read", one("PyPI", record1("PYSEC-1", `[{"package":{"ecosystem":"PyPI","name":"a"},"versions":["weird"]}]`, "")), lang("pypi", "PyPI", "a", "weird"), []string{"PYSEC-1"}},
		{"commits only", one("PyPI", record1("PYSEC-1", `[{"package":{"ecosystem":"PyPI","name":"a"},"ranges":[{"type":"GIT","events":[{"introduced":"0"}]}]}]`, "")), lang("pypi", "PyPI", "a", "1.0"), []string{"? PYSEC-1: the advisory names no versions that can be compared"}},
		{"neither range nor list", one("PyPI", record1("PYSEC-1", `[{"package":{"ecosystem":"PyPI","name":"a"}}]`, "")), lang("pypi", "PyPI", "a", "1.0"), []string{"? PYSEC-1: the advisory names no versions that can be compared"}},
		{"commits beside versions", one("PyPI", record1("PYSEC-1", `[{"package":{"ecosystem":"PyPI","name":"a"},"ranges":[{"type":"GIT","events":[{"introduced":"0"}]},{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"1.0"}]}]}]`, "")), lang("pypi", "PyPI", "a", "1.0"), nil},
		{"withdrawn", map[string][]string{"npm": {osv("GHSA-1", "npm", "a", "introduced 0", `"withdrawn": "2024-01-01T00:00:00Z"`), osv("GHSA-2", "npm", "b", "introduced 0", "")}}, lang("npm", "npm", "a", "1.0.0"), nil},
		{"order not known", one("Mystery", osv("MY-1", "Mystery", "a", "introduced 0, fixed 2", "")), lang("mystery", "Mystery", "a", "1"), []string{"? MY-1: the order of versions of Mystery is not known"}},

		{"pypi names are normalised", one("PyPI", osv("PYSEC-1", "PyPI", "Zope.Interface", "introduced 0, fixed 5.0", "")), lang("pypi", "PyPI", "zope_interface", "4.0"), []string{"PYSEC-1 5.0"}},
		{"nuget names ignore case", one("NuGet", osv("GHSA-1", "NuGet", "Newtonsoft.Json", "introduced 0, fixed 13.0.1", "")), lang("nuget", "NuGet", "newtonsoft.json", "12.0.3"), []string{"GHSA-1 13.0.1"}},
		{"packagist names ignore case", one("Packagist", osv("GHSA-1", "Packagist", "Symfony/Http-Kernel", "introduced 0, fixed 4.0", "")), lang("composer", "Packagist", "symfony/http-kernel", "v3.0"), []string{"GHSA-1 4.0"}},
		{"crates differ neither by case nor by _", one("crates.io", osv("RUSTSEC-1", "crates.io", "Time_Core", "introduced 0.0.0-0, fixed 0.2.0", "")), lang("cargo", "crates.io", "time-core", "0.1.0"), []string{"RUSTSEC-1 0.2.0"}},
		{"maven by group and artifact", one("Maven", osv("GHSA-1", "Maven", "org.springframework:spring-beans", "introduced 0, fixed 5.2.20.RELEASE", "")), lang("maven", "Maven", "org.springframework:spring-beans", "5.2.19.RELEASE"), []string{"GHSA-1 5.2.20.RELEASE"}},
		{"gem", one("RubyGems", osv("GHSA-1", "RubyGems", "rack", "introduced 0, fixed 2.2.10", "")), lang("gem", "RubyGems", "rack", "2.2.9"), []string{"GHSA-1 2.2.10"}},
		{"go standard library", one("Go", osv("GO-1", "Go", "stdlib", "introduced 1.21.0-0, fixed 1.21.8", "")), lang("golang", "Go", "stdlib", "go1.21rc2"), []string{"GO-1 1.21.8"}},
		{"go pseudo-version", one("Go", osv("GO-1", "Go", "example.com/a", "introduced 0, fixed 0.0.0-20220101000000-bbbbbbbbbbbb", "")), lang("golang", "Go", "example.com/a", "v0.0.0-20210101000000-aaaaaaaaaaaa"), []string{"GO-1 0.0.0-20220101000000-bbbbbbbbbbbb"}},
		{"go development build", one("Go", osv("GO-1", "Go", "example.com/a", "introduced 0, fixed 1.0.0", "")), lang("golang", "Go", "example.com/a", "(devel)"), []string{`? GO-1: the installed version cannot be read: "(devel)"`}},
		{"bitnami build number", one("Bitnami", osv("BIT-nginx-1", "Bitnami", "nginx", "introduced 0, fixed 1.20.1", "")), lang("bitnami", "Bitnami", "nginx", "1.20.1-3"), nil},
		{"bitnami below the fix", one("Bitnami", osv("BIT-nginx-1", "Bitnami", "nginx", "introduced 0, fixed 1.20.1", "")), lang("bitnami", "Bitnami", "nginx", "1.20.0-3"), []string{"BIT-nginx-1 1.20.1"}},
		{"bitnami is for its own packages only", one("Bitnami", osv("BIT-nginx-1", "Bitnami", "nginx", "introduced 0, fixed 1.20.1", "")), lang("deb", "Bitnami", "nginx", "1.20.0"), []string{"? : ecosystem Bitnami is for packages of type bitnami only"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x, _ := compileRecords(t, tt.records, CompileOptions{})
			got, err := x.Match(t.Context(), []analyzer.Package{tt.pkg})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, brief(got)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestMatchReportsEachGapOnce(t *testing.T) {
	x, _ := compileRecords(t, map[string][]string{"npm": {osv("GHSA-1", "npm", "a", "introduced 0", "")}}, CompileOptions{})
	var pkgs []analyzer.Package
	for _, name := range []string{"a", "b", "c"} {
		pkgs = append(pkgs,
			analyzer.Package{Type: "apk", Ecosystem: "Alpine:v3.20", Name: name, Version: "1-r0"},
			analyzer.Package{Type: "deb", Name: name, Version: "1"},
			analyzer.Package{Type: "gem", Ecosystem: "RubyGems", Name: name, Version: "1"})
	}
	got, err := x.Match(t.Context(), pkgs)
	if err != nil {
		t.Fatal(err)
	}
	want := []analyzer.Undecided{
		{Package: analyzer.Package{Type: "apk", Ecosystem: "Alpine:v3.20"}, Reason: "the index has no advisories for Alpine:v3.20"},
		{Package: analyzer.Package{Type: "deb"}, Reason: "the release of the distribution is not known, so no advisories can be chosen"},
		{Package: analyzer.Package{Type: "gem", Ecosystem: "RubyGems"}, Reason: "the index has no advisories for RubyGems"},
	}
	if diff := cmp.Diff(analyzer.Matches{Undecided: want}, got, cmp.Transformer("sorted", func(in []analyzer.Undecided) map[string]analyzer.Undecided {
		out := make(map[string]analyzer.Undecided)
		for _, u := range in {
			out[u.Reason] = u
		}
		return out
	})); diff != "" || len(got.Undecided) != len(want) {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestFinding(t *testing.T) {
	const more = `"aliases": ["GHSA-zz", "CVE-2024-1"], "upstream": ["CVE-2024-2"], "summary": "  A\tproblem ", "published": "2024-05-01T10:00:00Z",
		"severity": [{"type": "CVSS_V2", "score": "AV:N/AC:L/Au:N/C:C/I:C/A:C"}, {"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}]`
	x, _ := compileRecords(t, map[string][]string{"npm": {osv("GHSA-1", "npm", "a", "introduced 1.0.0, fixed 1.2.0", more)}}, CompileOptions{})
	pkg := analyzer.Package{Type: "npm", Ecosystem: "npm", Name: "a", Version: "1.1.0", Path: "app/package.json"}
	got, err := x.Match(t.Context(), []analyzer.Package{pkg})
	if err != nil {
		t.Fatal(err)
	}
	want := analyzer.Matches{Findings: []analyzer.Finding{{
		Advisory: "GHSA-1", Aliases: []string{"CVE-2024-1", "CVE-2024-2", "GHSA-zz"}, Class: analyzer.ClassVulnerability,
		Severity: analyzer.SeverityCritical, Score: 9.8, Vector: "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", RatedBy: "GHSA-1",
		Fixed: "1.2.0", Summary: "A problem", Published: parseTime("2024-05-01T10:00:00Z"),
		Source: "npm introduced 1.0.0, fixed 1.2.0", Package: pkg,
	}}, AsOf: x.Updated()}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestFindingsAreSorted(t *testing.T) {
	severity := func(word, aliases string) string {
		return `"aliases": [` + aliases + `], "database_specific": {"severity": "` + word + `"}`
	}
	base := export(t, map[string][]string{"npm": {
		osv("GHSA-1", "npm", "a", "introduced 0", severity("LOW", "")), osv("GHSA-2", "npm", "a", "introduced 0", severity("HIGH", "")),
		osv("GHSA-3", "npm", "a", "introduced 0", severity("HIGH", `"CVE-2025-48384"`)), osv("GHSA-4", "npm", "b", "introduced 0", severity("CRITICAL", "")),
	}})
	x, _ := compileSource(t, Source{Base: base, KEV: writeFile(t, `{"count": 1, "vulnerabilities": [{"cveID": "CVE-2025-48384"}]}`)}, CompileOptions{})
	got, err := x.Match(t.Context(), []analyzer.Package{
		{Type: "npm", Ecosystem: "npm", Name: "a", Version: "1.0.0", Path: "z"},
		{Type: "npm", Ecosystem: "npm", Name: "b", Version: "1.0.0"},
		{Type: "npm", Ecosystem: "npm", Name: "a", Version: "1.0.0", Path: "b"},
	})
	if err != nil {
		t.Fatal(err)
	}
	var order []string
	for _, f := range got.Findings {
		order = append(order, f.Advisory+" "+f.Package.Path)
	}
	want := []string{"GHSA-4 ", "GHSA-3 b", "GHSA-3 z", "GHSA-2 b", "GHSA-2 z", "GHSA-1 b", "GHSA-1 z"}
	if diff := cmp.Diff(want, order); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if !got.Findings[1].KEV || got.Findings[3].KEV {
		t.Error("known-exploited is set on the wrong finding")
	}
}

func TestCollapse(t *testing.T) {
	const rated = `, "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}]`
	for _, tt := range []struct {
		name    string
		eco     string
		typ     string
		records []string
		want    []string // advisory, fixed and aliases
	}{
		{"by a shared CVE, the rated one stays and learns the fix", "npm", "npm", []string{
			osv("NSWG-1", "npm", "a", "introduced 0, fixed 2.0.0", `"aliases": ["CVE-2024-1"]`), osv("GHSA-1", "npm", "a", "introduced 0", `"aliases": ["CVE-2024-1"]`+rated),
		}, []string{"GHSA-1 2.0.0 CVE-2024-1,NSWG-1"}},
		{"by naming each other", "PyPI", "pypi", []string{
			osv("PYSEC-1", "PyPI", "a", "introduced 0, fixed 2.0.0", `"aliases": ["GHSA-1"]`), osv("GHSA-1", "PyPI", "a", "introduced 0, fixed 2.0.0", ""),
		}, []string{"GHSA-1 2.0.0 PYSEC-1"}},
		{"over a third", "npm", "npm", []string{
			osv("A-1", "npm", "a", "introduced 0", `"aliases": ["CVE-2024-1"]`), osv("B-1", "npm", "a", "introduced 0", `"aliases": ["CVE-2024-2"]`),
			osv("C-1", "npm", "a", "introduced 0", `"aliases": ["CVE-2024-1", "CVE-2024-2"]`),
		}, []string{"A-1  B-1,C-1,CVE-2024-1,CVE-2024-2"}},
		{"upstream and related ids do not make them the same", "npm", "npm", []string{
			osv("A-1", "npm", "a", "introduced 0", `"upstream": ["CVE-2024-1"]`), osv("B-1", "npm", "a", "introduced 0", `"aliases": ["CVE-2024-1"]`),
		}, []string{"A-1  CVE-2024-1", "B-1  CVE-2024-1"}},
		{"errata stay apart", "AlmaLinux:9", "rpm", []string{
			osv("ALSA-1:1", "AlmaLinux:9", "a", "introduced 0, fixed 2.0-1", `"related": ["CVE-2024-1"]`), osv("ALSA-1:2", "AlmaLinux:9", "a", "introduced 0, fixed 3.0-1", `"related": ["CVE-2024-1"]`),
		}, []string{"ALSA-1:1 2.0-1 CVE-2024-1", "ALSA-1:2 3.0-1 CVE-2024-1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			archive, _, _ := strings.Cut(tt.eco, ":")
			x, _ := compileRecords(t, map[string][]string{archive: tt.records}, CompileOptions{})
			m, err := x.Match(t.Context(), []analyzer.Package{{Type: tt.typ, Ecosystem: tt.eco, Name: "a", Version: "1.0.0"}})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range m.Findings {
				got = append(got, f.Advisory+" "+f.Fixed+" "+strings.Join(f.Aliases, ","))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestMatchEnds(t *testing.T) {
	x, _ := compileRecords(t, map[string][]string{"npm": {osv("GHSA-1", "npm", "a", "introduced 0", "")}}, CompileOptions{})
	pkgs := []analyzer.Package{{Type: "npm", Ecosystem: "npm", Name: "a", Version: "1.0.0"}}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := x.Match(ctx, pkgs); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := x.Match(t.Context(), pkgs); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	if _, err := x.Lookup("pkg:npm/a"); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	if _, err := x.Advisory("GHSA-1"); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	if err := x.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
}
