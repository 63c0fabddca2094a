package target

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	godigest "github.com/opencontainers/go-digest"

	"github.com/sluiceproxy/sluice/analyzer"
	"github.com/sluiceproxy/sluice/analyzer/report"
)

func openDocument(t *testing.T, content string) (*Target, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "bom")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return Open(t.Context(), "sbom:"+file, Options{})
}

func cycloneDX(components string) string {
	return `{"bomFormat":"CycloneDX","specVersion":"1.5","version":1,"components":[` + components + `]}`
}

// TestSBOMPackages reads packages as Syft, Trivy and Sluice write them.
func TestSBOMPackages(t *testing.T) {
	layer := godigest.FromString("layer")
	for _, tt := range []struct {
		name, components string
		want             []analyzer.Package
	}{
		{
			"npm with a scope", `{"type":"library","name":"core","group":"@babel","version":"7.0.0","purl":"pkg:npm/%40babel/core@7.0.0"}`,
			[]analyzer.Package{{Type: "npm", Name: "@babel/core", Version: "7.0.0", Ecosystem: "npm", PURL: "pkg:npm/%40babel/core@7.0.0"}},
		},
		{
			"maven", `{"type":"library","name":"log4j-core","group":"org.apache.logging.log4j","version":"2.14.1","purl":"pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1"}`,
			[]analyzer.Package{{Type: "maven", Name: "org.apache.logging.log4j:log4j-core", Version: "2.14.1", Ecosystem: "Maven", PURL: "pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1"}},
		},
		{
			"a Go module keeps its letters", `{"type":"library","name":"github.com/Masterminds/goutils","version":"v1.1.0","purl":"pkg:golang/github.com/Masterminds/goutils@v1.1.0"},{"type":"library","name":"x","purl":"pkg:golang/github.com/BurntSushi/toml@v0.1.0?type=module"}`,
			[]analyzer.Package{
				{Type: "golang", Name: "github.com/BurntSushi/toml", Version: "v0.1.0", Ecosystem: "Go", PURL: "pkg:golang/github.com/BurntSushi/toml@v0.1.0?type=module"},
				{Type: "golang", Name: "github.com/Masterminds/goutils", Version: "v1.1.0", Ecosystem: "Go", PURL: "pkg:golang/github.com/Masterminds/goutils@v1.1.0"},
			},
		},
		{
			"a name in its own letters", `{"type":"library","name":"Flask_Thing","version":"1","purl":"pkg:pypi/flask-thing@1"}`,
			[]analyzer.Package{{Type: "pypi", Name: "Flask_Thing", Version: "1", Ecosystem: "PyPI", PURL: "pkg:pypi/flask-thing@1"}},
		},
		{
			"a source of the same name and another version", `{"type":"library","name":"bash","version":"5.2-2+b8","purl":"pkg:deb/debian/bash@5.2-2%2Bb8?distro=debian-12&upstream=bash%405.2-2"}`,
			[]analyzer.Package{{Type: "deb", Name: "bash", Version: "5.2-2+b8", SourceVersion: "5.2-2", Ecosystem: "Debian:12", PURL: "pkg:deb/debian/bash@5.2-2%2Bb8?distro=debian-12&upstream=bash%405.2-2"}},
		},
		{
			"syft, deb", `{"type":"library","name":"libssl3","version":"3.0.11-1","purl":"pkg:deb/debian/libssl3@3.0.11-1?arch=amd64&distro=debian-12&upstream=openssl","properties":[{"name":"syft:location:0:path","value":"/var/lib/dpkg/status"},{"name":"syft:location:0:layerID","value":"` + layer.String() + `"}]}`,
			[]analyzer.Package{{Type: "deb", Name: "libssl3", Version: "3.0.11-1", Ecosystem: "Debian:12", Source: "openssl", Arch: "amd64", PURL: "pkg:deb/debian/libssl3@3.0.11-1?arch=amd64&distro=debian-12&upstream=openssl", Path: "var/lib/dpkg/status", Layer: layer}},
		},
		{
			"syft, rpm", `{"type":"library","name":"openssl-libs","version":"1:3.0.7-6.el9","purl":"pkg:rpm/almalinux/openssl-libs@3.0.7-6.el9?arch=x86_64&epoch=1&upstream=openssl-3.0.7-6.el9.src.rpm&distro=almalinux-9.2"}`,
			[]analyzer.Package{{Type: "rpm", Name: "openssl-libs", Version: "1:3.0.7-6.el9", Ecosystem: "AlmaLinux:9", Source: "openssl", SourceVersion: "3.0.7-6.el9", Arch: "x86_64", PURL: "pkg:rpm/almalinux/openssl-libs@3.0.7-6.el9?arch=x86_64&epoch=1&upstream=openssl-3.0.7-6.el9.src.rpm&distro=almalinux-9.2"}},
		},
		{
			"trivy, apk", `{"type":"library","name":"libcrypto3","version":"3.1.2-r0","purl":"pkg:apk/alpine/libcrypto3@3.1.2-r0?arch=x86_64&distro=3.18.3","properties":[{"name":"aquasecurity:trivy:SrcName","value":"openssl"},{"name":"aquasecurity:trivy:SrcVersion","value":"3.1.2-r0"}]}`,
			[]analyzer.Package{{Type: "apk", Name: "libcrypto3", Version: "3.1.2-r0", Ecosystem: "Alpine:v3.18", Source: "openssl", Arch: "x86_64", PURL: "pkg:apk/alpine/libcrypto3@3.1.2-r0?arch=x86_64&distro=3.18.3"}},
		},
		{
			"trivy, deb with an epoch apart", `{"type":"library","name":"zlib1g","version":"1:1.2.13.dfsg-1","purl":"pkg:deb/debian/zlib1g@1.2.13.dfsg-1?arch=amd64&distro=debian-12.5&epoch=1","properties":[{"name":"aquasecurity:trivy:SrcName","value":"zlib"},{"name":"aquasecurity:trivy:SrcVersion","value":"1.2.13.dfsg"},{"name":"aquasecurity:trivy:SrcRelease","value":"1"},{"name":"aquasecurity:trivy:SrcEpoch","value":"1"}]}`,
			[]analyzer.Package{{Type: "deb", Name: "zlib1g", Version: "1:1.2.13.dfsg-1", Ecosystem: "Debian:12", Source: "zlib", Arch: "amd64", PURL: "pkg:deb/debian/zlib1g@1.2.13.dfsg-1?arch=amd64&distro=debian-12.5&epoch=1"}},
		},
		{
			"the release of the document's operating system", `{"type":"operating-system","name":"alma","version":"9.3"},{"type":"library","name":"bash","version":"5.1-1.el9","purl":"pkg:rpm/alma/bash@5.1-1.el9"}`,
			[]analyzer.Package{{Type: "rpm", Name: "bash", Version: "5.1-1.el9", Ecosystem: "AlmaLinux:9", PURL: "pkg:rpm/alma/bash@5.1-1.el9"}},
		},
		{
			"a code name", `{"type":"library","name":"bash","version":"5","purl":"pkg:deb/debian/bash@5?distro=bookworm"}`,
			[]analyzer.Package{{Type: "deb", Name: "bash", Version: "5", Ecosystem: "Debian:12", PURL: "pkg:deb/debian/bash@5?distro=bookworm"}},
		},
		{
			"nested, excluded, twice, and not software", `{"type":"application","name":"package-lock.json","components":[{"type":"library","name":"a","purl":"pkg:npm/a@1"}]},{"type":"library","name":"a","purl":"pkg:npm/a@1"},{"type":"library","scope":"excluded","name":"dev","purl":"pkg:npm/dev@1"},{"type":"file","name":"/etc/passwd"}`,
			[]analyzer.Package{{Type: "npm", Name: "a", Version: "1", Ecosystem: "npm", PURL: "pkg:npm/a@1"}},
		},
		{
			"an owner counts if it is there", `{"type":"library","name":"python3-x","version":"1","purl":"pkg:deb/debian/python3-x@1?distro=debian-12"},
				{"type":"library","name":"x","version":"1","purl":"pkg:pypi/x@1","properties":[{"name":"sluice:owner","value":"pkg:deb/debian/python3-x@1?distro=debian-12"}]},
				{"type":"library","name":"y","version":"1","purl":"pkg:pypi/y@1","properties":[{"name":"sluice:owner","value":"pkg:deb/debian/python3-y@1?distro=debian-12"}]},
				{"type":"library","name":"z","version":"1","purl":"pkg:pypi/z@1","properties":[{"name":"sluice:owner","value":"pkg:pypi/x@1"}]}`,
			[]analyzer.Package{
				{Type: "deb", Name: "python3-x", Version: "1", Ecosystem: "Debian:12", PURL: "pkg:deb/debian/python3-x@1?distro=debian-12"},
				{Type: "pypi", Name: "x", Version: "1", Ecosystem: "PyPI", PURL: "pkg:pypi/x@1", Owner: "pkg:deb/debian/python3-x@1?distro=debian-12"},
				{Type: "pypi", Name: "y", Version: "1", Ecosystem: "PyPI", PURL: "pkg:pypi/y@1"},
				{Type: "pypi", Name: "z", Version: "1", Ecosystem: "PyPI", PURL: "pkg:pypi/z@1"},
			},
		},
		{
			"a type that no feed knows stays, to be told of", `{"type":"library","name":"busybox","version":"1.36","purl":"pkg:generic/busybox@1.36"}`,
			[]analyzer.Package{{Type: "generic", Name: "busybox", Version: "1.36", PURL: "pkg:generic/busybox@1.36"}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			target, err := openDocument(t, cycloneDX(tt.components))
			if err != nil {
				t.Fatal(err)
			}
			inv := target.Inventory
			if diff := cmp.Diff(tt.want, inv.Packages); diff != "" {
				t.Error(diff)
			}
			if inv.SBOM != "CycloneDX 1.5" || inv.ArtifactType != "application/vnd.cyclonedx+json" || len(inv.Incomplete) != 0 {
				t.Errorf("SBOM %q, artifact type %q, incomplete %v", inv.SBOM, inv.ArtifactType, inv.Incomplete)
			}
		})
	}
}

// TestSBOMGaps pins what makes a document incomplete.
func TestSBOMGaps(t *testing.T) {
	for name, tt := range map[string]struct{ components, want string }{
		"no purl":            {`{"type":"library","name":"libfoo","version":"1"},{"type":"framework","name":"bar"}`, "2 components of the SBOM have no package URL, so they cannot be matched: libfoo 1, bar"},
		"no release":         {`{"type":"library","name":"bash","purl":"pkg:deb/debian/bash@5"}`, "1 deb packages cannot be matched: the distribution's release is unknown"},
		"an unknown release": {`{"type":"operating-system","name":"nobody","version":"1"},{"type":"library","name":"bash","purl":"pkg:deb/nobody/bash@5"}`, "1 deb packages cannot be matched: no advisories are known for nobody 1"},
	} {
		t.Run(name, func(t *testing.T) {
			target, err := openDocument(t, cycloneDX(tt.components))
			if err != nil {
				t.Fatal(err)
			}
			if inv := target.Inventory; len(inv.Incomplete) != 1 || inv.Incomplete[0].Reason != tt.want {
				t.Errorf("%+v", inv.Incomplete)
			}
		})
	}
}

func TestSBOMSubject(t *testing.T) {
	dgst := godigest.FromString("x")
	for name, doc := range map[string]string{
		"cyclonedx": `{"bomFormat":"CycloneDX","specVersion":"1.6","version":1,"metadata":{"component":{"type":"container","name":"ghcr.io/acme/shop:1.2","version":"` + dgst.String() + `"}}}`,
		"xml":       `<?xml version="1.0"?><bom xmlns="http://cyclonedx.org/schema/bom/1.4" version="1"><metadata><component type="container"><name>ghcr.io/acme/shop:1.2</name><version>` + dgst.String() + `</version></component></metadata></bom>`,
		"spdx":      `{"spdxVersion":"SPDX-2.3","packages":[{"SPDXID":"SPDXRef-i","name":"ghcr.io/acme/shop:1.2","versionInfo":"` + dgst.String() + `","primaryPackagePurpose":"CONTAINER"}],"relationships":[{"spdxElementId":"SPDXRef-DOCUMENT","relationshipType":"DESCRIBES","relatedSpdxElement":"SPDXRef-i"}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			target, err := openDocument(t, doc)
			if err != nil {
				t.Fatal(err)
			}
			if target.Name != "ghcr.io/acme/shop" || cmp.Diff([]string{"1.2"}, target.Tags) != "" || target.Digest != dgst {
				t.Errorf("%s %v %s", target.Name, target.Tags, target.Digest)
			}
			if len(target.Inventory.Incomplete) > 0 || len(target.Inventory.Packages) > 0 {
				t.Errorf("%+v", target.Inventory)
			}
		})
	}
}

// TestSPDXOperatingSystem reads the release in both spellings of its purpose.
func TestSPDXOperatingSystem(t *testing.T) {
	for _, purpose := range []string{"OPERATING_SYSTEM", "OPERATING-SYSTEM"} {
		target, err := openDocument(t, `{"spdxVersion":"SPDX-2.3","packages":[{"SPDXID":"SPDXRef-o","name":"debian","versionInfo":"12","primaryPackagePurpose":"`+purpose+`"},
			{"SPDXID":"SPDXRef-b","name":"bash","versionInfo":"5","externalRefs":[{"referenceType":"purl","referenceLocator":"pkg:deb/debian/bash@5"}]}]}`)
		if err != nil {
			t.Fatal(err)
		}
		if inv := target.Inventory; inv.OS.VersionID != "12" || len(inv.Packages) != 1 || inv.Packages[0].Ecosystem != "Debian:12" {
			t.Errorf("%s: OS %+v, packages %+v", purpose, inv.OS, inv.Packages)
		}
	}
}

func TestSBOMErrors(t *testing.T) {
	for name, tt := range map[string]struct{ doc, want string }{
		"empty":                  {"\n", "empty"},
		"no document":            {"hello", "neither JSON nor XML"},
		"tag-value":              {"SPDXVersion: SPDX-2.3", "tag-value"},
		"other JSON":             {`{"a":1}`, "not an SBOM"},
		"cut JSON":               {`{"bomFormat":"CycloneDX"`, "unexpected end"},
		"two documents":          {cycloneDX("") + "{}", "after top-level value"},
		"an old version":         {`{"bomFormat":"CycloneDX","specVersion":"1.2","version":1}`, `version "1.2" is not read; 1.4 to 1.7`},
		"no version":             {`{"bomFormat":"CycloneDX","version":1}`, "is not read"},
		"SPDX 3":                 {`{"@context":"https://spdx.org/rdf/3.0.1/spdx-context.jsonld"}`, "SPDX 3"},
		"an old SPDX":            {`{"spdxVersion":"SPDX-2.1"}`, `"SPDX-2.1" is not read`},
		"syft":                   {`{"artifacts":[],"descriptor":{}}`, "syft convert"},
		"an attestation":         {`{"payload":"e30=","payloadType":"application/vnd.in-toto+json"}`, "attestation"},
		"a purl that is none":    {cycloneDX(`{"type":"library","name":"a","purl":"npm/a@1"}`), `components[0]: purl "npm/a@1"`},
		"a purl deep down":       {cycloneDX(`{"type":"file","name":"a","components":[{"type":"library","name":"b","purl":"x"}]}`), "components[0].components[0]"},
		"a purl in SPDX":         {`{"spdxVersion":"SPDX-2.3","packages":[{"name":"a","externalRefs":[{"referenceType":"purl","referenceLocator":"x"}]}]}`, "packages[0]"},
		"components of no depth": {cycloneDX(strings.Repeat(`{"type":"file","name":"a","components":[`, 70) + strings.Repeat(`]}`, 70)), "too deeply"},
		"XML that is another's":  {"<html></html>", "CycloneDX"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := openDocument(t, tt.doc)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
	if _, err := Open(t.Context(), "sbom:none", Options{Platform: "linux/amd64"}); err == nil || !strings.Contains(err.Error(), "--platform") {
		t.Errorf("a platform: %v", err)
	}
	if _, err := Open(t.Context(), "sbom:none", Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

// TestSBOMRoundTrip reads what the report writes: the packages come back as far
// as the format has a place for what is known of them.
func TestSBOMRoundTrip(t *testing.T) {
	layer := godigest.FromString("layer")
	packages := []analyzer.Package{
		{Type: "apk", Name: "libcrypto3", Version: "3.1.4-r5", Ecosystem: "Alpine:v3.18", Source: "openssl", Arch: "x86_64", PURL: "pkg:apk/alpine/libcrypto3@3.1.4-r5?arch=x86_64&distro=alpine-3.18.9", Path: "lib/apk/db/installed", Layer: layer},
		{Type: "apk", Name: "py3-x", Version: "1-r0", Ecosystem: "Alpine:v3.18", Source: "py3-all", PURL: "pkg:apk/alpine/py3-x@1-r0?distro=alpine-3.18.9", Path: "lib/apk/db/installed"},
		{Type: "golang", Name: "github.com/Masterminds/goutils", Version: "1.1.0", Ecosystem: "Go", PURL: "pkg:golang/github.com/masterminds/goutils@1.1.0", Path: "usr/bin/helm"},
		{Type: "maven", Name: "org.x:y", Version: "1", Ecosystem: "Maven", PURL: "pkg:maven/org.x/y@1", Path: "a.war", Inner: "WEB-INF/lib/y.jar"},
		{Type: "pypi", Name: "x", Version: "1", Ecosystem: "PyPI", PURL: "pkg:pypi/x@1", Path: "usr/lib/x", Owner: "pkg:apk/alpine/py3-x@1-r0?distro=alpine-3.18.9"},
	}
	r := report.New("x", report.Verdict{Image: "docker.io/library/x", Tags: []string{"1"}}, &analyzer.Report{Inventory: analyzer.Inventory{
		Manifest: godigest.FromString("m"), OS: analyzer.OSRelease{ID: "alpine", VersionID: "3.18.9", Name: "Alpine Linux v3.18"}, Packages: packages,
	}})
	for format, forget := range map[string]func(*analyzer.Package){
		"cyclonedx": func(*analyzer.Package) {},
		"spdx-json": func(p *analyzer.Package) { p.Path, p.Inner, p.Layer = "", "", "" },
	} {
		t.Run(format, func(t *testing.T) {
			var b bytes.Buffer
			if err := report.Write(&b, format, r, report.Options{Time: time.Unix(0, 0)}); err != nil {
				t.Fatal(err)
			}
			target, err := openDocument(t, b.String())
			if err != nil {
				t.Fatal(err)
			}
			var want []analyzer.Package
			for _, p := range packages {
				forget(&p)
				want = append(want, p)
			}
			got := target.Inventory.Packages
			plain := strings.NewReplacer("&upstream=openssl", "", "&upstream=py3-all", "") // the qualifier that tells other tools of the source
			for i := range got {
				got[i].PURL, got[i].Owner = plain.Replace(got[i].PURL), plain.Replace(got[i].Owner)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			if target.Name != "docker.io/library/x" || target.Digest != godigest.FromString("m") || len(target.Inventory.Incomplete) > 0 {
				t.Errorf("%s %s %v", target.Name, target.Digest, target.Inventory.Incomplete)
			}
		})
	}
}

func FuzzSBOM(f *testing.F) {
	f.Add([]byte(cycloneDX(`{"type":"library","name":"a","version":"1","purl":"pkg:deb/debian/a@1:1?distro=debian-12&upstream=b%402"}`)))
	f.Add([]byte(cycloneDX(`{"type":"operating-system","name":"alpine","version":"3.18"},{"type":"library","name":"A/b","purl":"pkg:golang/A/b@v1","evidence":{"occurrences":[{"location":"x"}]}}`)))
	f.Add([]byte(`<bom xmlns="http://cyclonedx.org/schema/bom/1.4" version="1"><components><component type="library"><name>a</name><purl>pkg:npm/a@1</purl></component></components></bom>`))
	f.Add([]byte(`{"spdxVersion":"SPDX-2.3","packages":[{"SPDXID":"SPDXRef-a","name":"a","externalRefs":[{"referenceType":"purl","referenceLocator":"pkg:rpm/redhat/a@1-2?upstream=a-1-2.src.rpm&distro=rhel-9"}]}],"relationships":[{"spdxElementId":"SPDXRef-a","relationshipType":"CONTAINS","relatedSpdxElement":"SPDXRef-a"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := parseSBOM(b)
		if err != nil {
			return
		}
		inv := d.inventory()
		if inv.SBOM == "" || inv.ArtifactType == "" {
			t.Error("an inventory that does not say that it is a document's")
		}
		if len(d.nameless) > 0 && len(inv.Incomplete) == 0 {
			t.Error("software without a purl, and complete")
		}
		for _, p := range inv.Packages {
			if analyzer.IsDistribution(p.Type) && p.Ecosystem == "" && len(inv.Incomplete) == 0 {
				t.Errorf("%s cannot be matched, and the inventory is complete", p.PURL)
			}
		}
	})
}
