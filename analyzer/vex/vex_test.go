package vex

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	godigest "github.com/opencontainers/go-digest"

	"github.com/sluiceproxy/sluice/analyzer"
)

const (
	shop     = "ghcr.io/acme/shop"
	shopHash = godigest.Digest("sha256:7d5d2d3e6b8c2ab7a1d2d5c5b5c1c0b5d1a0c9d8e7f6a5b4c3d2e1f0a9b8c7d6")
	other    = godigest.Digest("sha256:0000000000000000000000000000000000000000000000000000000000000000")
)

var (
	lodash = analyzer.Package{Type: "npm", Name: "lodash", Version: "4.17.20", PURL: "pkg:npm/lodash@4.17.20", Path: "app/node_modules/lodash/package.json"}
	zlib   = analyzer.Package{Type: "deb", Name: "zlib1g", Version: "1.2.13", Source: "zlib", SourceVersion: "1:1.2.13", PURL: "pkg:deb/debian/zlib1g@1.2.13?arch=amd64"}
	image  = analyzer.VEXImage{Name: shop, Tags: []string{"1"}, Digests: []godigest.Digest{shopHash}}
)

func parseFile(t *testing.T, name string) Document {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	d, err := Parse(name, b)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// find asks for what is said of a package in an image that holds all.
func find(s *Set, img analyzer.VEXImage, pkg analyzer.Package, ids ...string) string {
	rep := &analyzer.Report{Inventory: analyzer.Inventory{Platform: "linux/amd64", Packages: []analyzer.Package{lodash, zlib, pkg}}}
	st := s.Find(ids[0], ids[1:], &pkg, rep, img)
	if st == nil {
		return ""
	}
	return string(st.Status)
}

func at(p analyzer.Package, version string) analyzer.Package {
	p.PURL = strings.Replace(p.PURL, "@"+p.Version, "@"+version, 1)
	p.Version = version
	return p
}

func TestOpenVEX(t *testing.T) {
	d := parseFile(t, "openvex.json")
	want := analyzer.VEXStatement{
		Status: analyzer.VEXNotAffected, Vulnerability: "CVE-2021-23337", Justification: "vulnerable_code_not_in_execute_path",
		Impact: "template() is never called", Author: "Acme Security", Document: "https://acme.example/vex/1",
		Source: "openvex.json: statements[0]", Time: time.Date(2026, 1, 10, 0, 0, 0, 0, time.UTC),
	}
	if diff := cmp.Diff(want, d.Statements[0].VEXStatement); diff != "" {
		t.Error(diff)
	}
	warnings := []string{
		"statements[3].products[1]: fixed without a version or digest: it matches nothing",
		"statements[4].products[0]: no purl and no sha-256: it matches nothing",
	}
	if diff := cmp.Diff(warnings, d.Warnings); diff != "" {
		t.Error(diff)
	}
	s := NewSet(d)
	elsewhere := analyzer.VEXImage{Name: shop, Tags: []string{"1"}, Digests: []godigest.Digest{other}}
	for _, tt := range []struct {
		name string
		img  analyzer.VEXImage
		pkg  analyzer.Package
		ids  []string
		want string
	}{
		{"version and alias", elsewhere, lodash, []string{"GHSA-35jh-r3h4-6jhm", "CVE-2021-23337"}, "not_affected"},
		{"alias in another case", elsewhere, lodash, []string{"ghsa-35jh-r3h4-6jhm"}, "not_affected"},
		{"another version", elsewhere, at(lodash, "4.17.19"), []string{"CVE-2021-23337"}, ""},
		{"another package", elsewhere, zlib, []string{"CVE-2021-23337"}, ""},
		{"another vulnerability", elsewhere, lodash, []string{"CVE-2021-2333"}, ""},
		{"image by digest", image, zlib, []string{"DEBIAN-CVE-2023-45853", "CVE-2023-45853"}, "not_affected"},
		{"a package beside the subcomponent", image, lodash, []string{"CVE-2023-45853"}, ""},
		{"another image", elsewhere, zlib, []string{"CVE-2023-45853"}, ""},
		{"every version", elsewhere, at(lodash, "1"), []string{"CVE-2024-1"}, "under_investigation"},
		{"fixed in the version", elsewhere, lodash, []string{"CVE-2024-2"}, "fixed"},
		{"fixed without one", elsewhere, at(lodash, "4"), []string{"CVE-2024-2"}, ""},
	} {
		if got := find(s, tt.img, tt.pkg, tt.ids...); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestCSAF(t *testing.T) {
	d := parseFile(t, "csaf.json")
	var got []string
	for _, s := range d.Statements {
		got = append(got, strings.Join([]string{s.Vulnerability, string(s.Status), s.Justification, s.Impact, s.Action, s.Author}, "|"))
	}
	want := []string{
		"CVE-2023-45853|not_affected|vulnerable_code_not_present|||Acme", "CVE-2023-45853|fixed||||Acme",
		"CVE-2024-9|not_affected||not built||Acme", "CVE-2024-9|affected|||unset it|Acme",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if text := strings.Join(d.Warnings, "\n"); !strings.Contains(text, "debian:zlib: any version, but debian:zlib-1.2.13 is under fixed") ||
		!strings.Contains(text, "zlib has neither a flag nor a threat") || len(d.Warnings) != 2 {
		t.Errorf("warnings %q", d.Warnings)
	}
	s := NewSet(d)
	elsewhere := analyzer.VEXImage{Name: "ghcr.io/acme/other", Tags: []string{"1"}}
	untagged := analyzer.VEXImage{Name: shop}
	for _, tt := range []struct {
		name string
		img  analyzer.VEXImage
		pkg  analyzer.Package
		id   string
		want string
	}{
		{"component of an image", image, at(zlib, "1.2.12"), "CVE-2023-45853", "not_affected"},
		{"by another id", image, at(zlib, "1.2.12"), "ACME-1", "not_affected"},
		{"without the tag", untagged, at(zlib, "1.2.12"), "CVE-2023-45853", ""},
		{"in another image", elsewhere, at(zlib, "1.2.12"), "CVE-2023-45853", ""},
		{"version within a stream", elsewhere, zlib, "CVE-2023-45853", "fixed"},
		{"version alone", elsewhere, zlib, "CVE-2024-9", "not_affected"},
		{"of one time the last counts", image, zlib, "CVE-2024-9", "affected"},
	} {
		if got := find(s, tt.img, tt.pkg, tt.id); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// TestCSAFReleases reads a document as Red Hat writes them: products are
// packages in releases, modules and streams, which have CPEs.
func TestCSAFReleases(t *testing.T) {
	d := parseFile(t, "redhat.json")
	if text := strings.Join(d.Warnings, "\n"); len(d.Warnings) != 2 ||
		!strings.Contains(text, "red_hat_enterprise_linux_9:expat: any version, but AppStream-9.2.0.Z.EUS:expat-0:2.5.0-1.el9_2.x86_64 is under fixed") ||
		!strings.Contains(text, "red_hat_openshift_4:openssl: neither a version nor a purl of what it is in, nor the CPE of") {
		t.Errorf("warnings %q", d.Warnings)
	}
	s := NewSet(d)
	rhel := func(name, source, version, modularity string) analyzer.Package {
		return analyzer.Package{Type: "rpm", Name: name, Source: source, Version: version, Modularity: modularity, PURL: "pkg:rpm/rhel/" + name + "@" + version + "?arch=x86_64&distro=rhel-8.9"}
	}
	libs := rhel("openssl-libs", "openssl", "1.1.1k-9.el8", "")
	const (
		rhel8  = "cpe:/o:redhat:enterprise_linux:8::baseos"
		node18 = "nodejs:18:8090020230915210155:a75119d5"
		node20 = "nodejs:20:8090020230915210155:a75119d5"
	)
	for _, tt := range []struct {
		name string
		cpe  string
		pkg  analyzer.Package
		want string
	}{
		{"any version in the release", rhel8, libs, "not_affected"},
		{"CPE 2.3", "cpe:2.3:o:redhat:enterprise_linux:8:*:baseos:*:*:*:*:*", libs, "not_affected"},
		{"in another release", "cpe:/o:redhat:enterprise_linux:9::baseos", libs, ""},
		{"in a release whose version begins so", "cpe:/o:redhat:enterprise_linux:80", libs, ""},
		{"in another distribution", "cpe:/o:almalinux:almalinux:8::baseos", libs, ""},
		{"in an image without a CPE", "", libs, ""},
		{"in an image with a broken CPE", "cpe:/o:redhat:enterprise_linux:%38", libs, ""},
		{"of another vendor", rhel8, analyzer.Package{Type: "rpm", Name: "openssl", PURL: "pkg:rpm/acme/openssl@1"}, ""},
		{"said otherwise of a minor release", "cpe:/o:redhat:enterprise_linux:9::baseos", rhel("expat", "", "2.5.0-1.el9", ""), ""},
		{"a module", rhel8, rhel("nodejs", "", "1", node18), "not_affected"},
		{"another stream of it", rhel8, rhel("nodejs", "", "1", node20), ""},
		{"the package of no module", rhel8, rhel("nodejs", "", "1", ""), ""},
		{"a module's package, where the plain one is meant", rhel8, rhel("openssl-libs", "openssl", "1", node18), ""},
		{"a fixed build", rhel8, rhel("nodejs", "", "20.9.0-1.el8", node20), "fixed"},
		{"a fixed build of another module", rhel8, rhel("nodejs", "", "20.9.0-1.el8", node18), "not_affected"},
		{"a build before it", rhel8, rhel("nodejs", "", "20.8.0-1.el8", node20), ""},
	} {
		rep := &analyzer.Report{Inventory: analyzer.Inventory{OS: analyzer.OSRelease{ID: "rhel", CPE: tt.cpe}}}
		got := ""
		if st := s.Find("CVE-2026-1", nil, &tt.pkg, rep, image); st != nil {
			got = string(st.Status)
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// statement makes a document of one statement; parts replace parts of it.
func statement(t *testing.T, product, status, when string, ids ...string) Document {
	t.Helper()
	text := `{"@context":"https://openvex.dev/ns/v0.2.0","@id":"x","author":"a","timestamp":"` + when + `","version":1,"statements":[
		{"vulnerability":{"name":"` + ids[0] + `"},"products":[` + product + `],"status":"` + status + `","impact_statement":"i"}]}`
	d, err := Parse("test.json", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

const (
	early = "2026-01-01T00:00:00Z"
	late  = "2026-06-01T00:00:00+02:00"
)

func TestMatching(t *testing.T) {
	jar := analyzer.Package{Type: "maven", Name: "a:core", Version: "2", PURL: "pkg:maven/a/core@2", Path: "app/app.jar", Inner: "lib/core.jar"}
	app := analyzer.Package{Type: "maven", Name: "a:app", Version: "1", PURL: "pkg:maven/a/app@1", Path: "app/app.jar"}
	goMod := analyzer.Package{Type: "golang", Name: "github.com/a/b", Version: "1.2.3", PURL: "pkg:golang/github.com/a/b@1.2.3"}
	for _, tt := range []struct {
		name    string
		product string
		img     analyzer.VEXImage
		pkg     analyzer.Package
		want    bool
	}{
		{"whole image", `{"@id":"pkg:oci/shop@` + string(shopHash) + `"}`, image, lodash, true},
		{"escaped digest", `{"@id":"pkg:oci/shop@sha256%3A` + shopHash.Encoded() + `"}`, image, lodash, true},
		{"hash of the manifest", `{"hashes":{"sha-256":"` + shopHash.Encoded() + `"}}`, image, lodash, true},
		{"hash of another", `{"hashes":{"sha-256":"` + other.Encoded() + `"}}`, image, lodash, false},
		{"repository", `{"@id":"pkg:oci/shop?repository_url=ghcr.io/acme/shop"}`, image, lodash, true},
		{"repository without the name", `{"@id":"pkg:oci/shop?repository_url=ghcr.io/acme"}`, image, lodash, true},
		{"another repository", `{"@id":"pkg:oci/shop?repository_url=ghcr.io/evil"}`, image, lodash, false},
		{"Docker Hub", `{"@id":"pkg:oci/nginx?repository_url=index.docker.io/library/nginx"}`, analyzer.VEXImage{Name: "docker.io/library/nginx"}, lodash, true},
		{"Docker Hub, short", `{"@id":"pkg:oci/nginx?repository_url=docker.io"}`, analyzer.VEXImage{Name: "docker.io/library/nginx"}, lodash, true},
		{"name alone", `{"@id":"pkg:oci/shop"}`, image, lodash, false},
		{"tag", `{"@id":"pkg:oci/shop?repository_url=ghcr.io/acme/shop&tag=1"}`, image, lodash, true},
		{"another tag", `{"@id":"pkg:oci/shop?repository_url=ghcr.io/acme/shop&tag=2"}`, image, lodash, false},
		{"architecture", `{"@id":"pkg:oci/shop?arch=amd64&repository_url=ghcr.io/acme/shop"}`, image, lodash, true},
		{"another architecture", `{"@id":"pkg:oci/shop?arch=arm64&repository_url=ghcr.io/acme/shop"}`, image, lodash, false},
		{"qualifier", `{"@id":"pkg:deb/debian/zlib1g?arch=amd64"}`, image, zlib, true},
		{"another qualifier", `{"@id":"pkg:deb/debian/zlib1g?arch=arm64"}`, image, zlib, false},
		{"qualifier that the package lacks", `{"@id":"pkg:deb/debian/zlib1g?distro=debian-12"}`, image, zlib, false},
		{"another namespace", `{"@id":"pkg:deb/ubuntu/zlib1g"}`, image, zlib, false},
		{"source package", `{"@id":"pkg:deb/debian/zlib@1:1.2.13?arch=source"}`, image, zlib, true},
		{"another version of the source", `{"@id":"pkg:deb/debian/zlib@1:1.2.12?arch=source"}`, image, zlib, false},
		{"source without saying so", `{"@id":"pkg:deb/debian/zlib"}`, image, zlib, false},
		{"v of a Go version", `{"@id":"pkg:golang/github.com/a/b@v1.2.3"}`, image, goMod, true},
		{"in the same archive", `{"@id":"pkg:maven/a/app@1","subcomponents":[{"@id":"pkg:maven/a/core"}]}`, image, jar, true},
		{"in another version of it", `{"@id":"pkg:maven/a/app@2","subcomponents":[{"@id":"pkg:maven/a/core"}]}`, image, jar, false},
		{"elsewhere", `{"@id":"pkg:npm/lodash","subcomponents":[{"@id":"pkg:maven/a/core"}]}`, image, jar, false},
		{"subcomponent without purl", `{"@id":"pkg:oci/shop@` + string(shopHash) + `","subcomponents":[{"@id":"https://x"}]}`, image, lodash, false},
		{"no purl in the image", `{"@id":"pkg:npm/lodash"}`, image, analyzer.Package{Name: "lodash"}, false},
	} {
		s := NewSet(statement(t, tt.product, "not_affected", early, "CVE-1"))
		rep := &analyzer.Report{Inventory: analyzer.Inventory{Platform: "linux/amd64", Packages: []analyzer.Package{app, lodash, tt.pkg}}}
		if got := s.Find("CVE-1", nil, &tt.pkg, rep, tt.img) != nil; got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestLatestCounts(t *testing.T) {
	const product = `{"@id":"pkg:npm/lodash"}`
	before := statement(t, product, "not_affected", early, "CVE-1")
	after := statement(t, product, "affected", late, "CVE-1")
	for _, s := range []*Set{NewSet(before, after), NewSet(after, before)} {
		if got := find(s, image, lodash, "CVE-1"); got != "affected" {
			t.Errorf("%q, want the later one", got)
		}
	}
	if a, b := NewSet(before).Revision(), NewSet(after).Revision(); a == b || NewSet().Revision() != "" {
		t.Errorf("revisions %q and %q", a, b)
	}
}

// An advisory for several CVEs is not harmless for one of them.
func TestSeveralCVEs(t *testing.T) {
	const product = `{"@id":"pkg:deb/debian/zlib1g"}`
	one := statement(t, product, "not_affected", early, "CVE-1")
	two := statement(t, product, "not_affected", early, "CVE-2")
	open := statement(t, product, "under_investigation", late, "CVE-2")
	whole := statement(t, product, "not_affected", early, "DSA-1")
	for _, tt := range []struct {
		name string
		docs []Document
		want string
	}{
		{"one of two", []Document{one}, ""},
		{"both", []Document{one, two}, "not_affected"},
		{"one suppressed, one open", []Document{open, one}, "under_investigation"},
		{"the advisory itself", []Document{whole}, "not_affected"},
	} {
		if got := find(NewSet(tt.docs...), image, zlib, "DSA-1", "CVE-1", "CVE-2"); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestMark(t *testing.T) {
	s := NewSet(parseFile(t, "openvex.json"))
	rep := &analyzer.Report{
		Inventory: analyzer.Inventory{Packages: []analyzer.Package{lodash}},
		Matches: analyzer.Matches{
			Findings:  []analyzer.Finding{{Advisory: "CVE-2021-23337", Package: lodash}, {Advisory: "CVE-9", Package: lodash, VEX: &analyzer.VEXStatement{}}},
			Undecided: []analyzer.Undecided{{Advisory: "CVE-2024-1", Package: lodash}, {Package: lodash}},
		},
	}
	s.Mark(rep, image)
	if !rep.Findings[0].VEX.Suppresses() || rep.Findings[1].VEX != nil {
		t.Errorf("findings %+v", rep.Findings)
	}
	if rep.Undecided[0].VEX == nil || rep.Undecided[0].VEX.Suppresses() || rep.Undecided[1].VEX != nil {
		t.Errorf("undecided %+v", rep.Undecided)
	}
	new(Set).Mark(rep, image)
	if rep.Findings[0].VEX != nil {
		t.Error("the zero Set says something")
	}
}

// TestParseRefuses changes one thing at a time in a good document.
func TestParseRefuses(t *testing.T) {
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	openVEX, csaf := read("openvex.json"), read("csaf.json")
	for _, tt := range []struct{ text, from, to, want string }{
		{openVEX, `v0.2.0`, `v0.3.0`, `@context: "https://openvex.dev/ns/v0.3.0" is not`},
		{openVEX, `/ns/v0.2.0`, `/ns`, "OpenVEX before version 0.2"},
		{openVEX, `"author": "Acme Security",`, ``, "author: missing"},
		{openVEX, `"timestamp": "2026-01-10T00:00:00Z",`, ``, "timestamp: missing"},
		{openVEX, `"timestamp": "2026-02-01T00:00:00Z"`, `"timestamp": "yesterday"`, "statements[1]: "},
		{openVEX, `"tooling"`, `"tools"`, `unknown field "tools"`},
		{openVEX, `"role": "Document Creator",`, `"role": "Document Creator"`, "line 6"},
		{openVEX, `"status": "under_investigation"`, `"status": "harmless"`, `statements[2].status: "harmless"`},
		{openVEX, `"justification": "component_not_present",`, ``, "statements[1].status: not_affected needs a justification"},
		{openVEX, `"component_not_present"`, `"trust_me"`, `statements[1].justification: "trust_me"`},
		{openVEX, `"aliases"`, `"alias"`, `statements[0]: unknown field "alias"`},
		{openVEX, `"products": [{"@id": "pkg:npm/lodash@4.17.20"}],`, ``, "statements[0].products: there are none"},
		{openVEX, `pkg:npm/lodash@4.17.20"}],`, `pkg:npm"}],`, "statements[0].products[0]: purl"},
		{openVEX, `shop@sha256:7d`, `shop@sha256:7`, "the version of an image is its digest"},
		{openVEX, `"name": "CVE-2024-3"`, `"name": " "`, "statements[4].vulnerability.name: missing"},
		{openVEX + "{}", ``, ``, "after the document"},
		{"", ``, ``, "it is empty"},
		{"[]", ``, ``, "cannot unmarshal"},
		{`{"bomFormat":"CycloneDX"}`, ``, ``, "CycloneDX"},
		{`{"predicateType":"https://openvex.dev/ns"}`, ``, ``, "attestation"},
		{`{}`, ``, ``, "neither OpenVEX"},
		{csaf, `"csaf_vex"`, `"csaf_security_advisory"`, "document.category"},
		{csaf, `"csaf_version": "2.0"`, `"csaf_version": "2.1"`, "document.csaf_version"},
		{csaf, `"status": "final"`, `"status": "draft"`, "document.tracking.status"},
		{csaf, `"product_reference": "zlib-1.2.13"`, `"product_reference": "nothing"`, `product_id "nothing" is not in the product_tree`},
		{csaf, `"product_reference": "zlib-1.2.13"`, `"product_reference": "debian:zlib-1.2.13"`, "nested more than"},
		{csaf, `"product_id": "zlib-1.2.13"`, `"product_id": "zlib"`, "there twice"},
		{csaf, `"known_affected"`, `"affected"`, `vulnerabilities[1].product_status: unknown key "affected"`},
		{csaf, `"vulnerable_code_not_present"`, `"fine"`, `vulnerabilities[0].flags[0].label: "fine"`},
		{csaf, `"cve": "CVE-2024-9",`, ``, "vulnerabilities[1]: neither cve nor ids"},
		{csaf, `pkg:deb/debian/zlib1g@1.2.13`, `pkg:`, `product_id "zlib-1.2.13": purl`},
	} {
		text := strings.Replace(tt.text, tt.from, tt.to, 1)
		if tt.from != "" && text == tt.text {
			t.Fatalf("%s is not in the document", tt.from)
		}
		d, err := Parse("bad.json", []byte(text))
		if err == nil || !strings.HasPrefix(err.Error(), "VEX bad.json: ") || !strings.Contains(err.Error(), tt.want) || len(d.Statements) > 0 {
			t.Errorf("%s → %s: %v, want %s", tt.from, tt.to, err, tt.want)
		}
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile("testdata/openvex.json")
	if err != nil {
		t.Fatal(err)
	}
	write("a.json", string(b))
	write("notes.txt", "not VEX")
	s, docs, err := Load([]string{dir, "testdata/csaf.json"})
	if err != nil || len(docs) != 2 || s.Len() != 9 {
		t.Fatalf("%d documents, %v", len(docs), err)
	}
	write("b.json", "{}")
	write("c.json", "[")
	_, _, err = Load([]string{dir, filepath.Join(dir, "none.json")})
	if err == nil || !strings.Contains(err.Error(), "b.json") || !strings.Contains(err.Error(), "c.json") || !strings.Contains(err.Error(), "none.json") {
		t.Errorf("%v does not tell of all three", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, name := range []string{"openvex.json", "csaf.json", "redhat.json"} {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"@context":"https://openvex.dev/ns/v0.2.0","@id":"x","author":"a","timestamp":"2026-01-01T00:00:00Z","version":1,"statements":[{"vulnerability":{"name":"CVE-1"},"products":[{"@id":"pkg:npm/lodash"}],"status":"fixed"}]}`))
	f.Add([]byte(`{"document":{"category":"csaf_vex","csaf_version":"2.0","publisher":{"name":"a"},"tracking":{"id":"1","status":"final","current_release_date":"2026-01-01T00:00:00Z"}},"product_tree":{"full_product_names":[{"product_id":"p","product_identification_helper":{"purl":"pkg:npm/lodash"}}]},"vulnerabilities":[{"cve":"CVE-1","product_status":{"known_affected":["p"]}}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := Parse("fuzz.json", b)
		if err != nil {
			if len(d.Statements) > 0 {
				t.Fatal("a broken document has statements")
			}
			return
		}
		s := NewSet(d)
		rep := &analyzer.Report{Inventory: analyzer.Inventory{Platform: "linux/amd64", Packages: []analyzer.Package{lodash, zlib}}}
		for _, st := range d.Statements {
			if !json.Valid(b) || st.Author == "" || len(st.IDs) == 0 || st.Time.IsZero() {
				t.Fatalf("statement %+v", st)
			}
			got := s.Find(st.IDs[0], nil, &lodash, rep, image)
			if got != nil && !slices.Contains([]analyzer.VEXStatus{"not_affected", "affected", "fixed", "under_investigation"}, got.Status) {
				t.Fatalf("status %q", got.Status)
			}
		}
	})
}
