package records

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	godigest "github.com/opencontainers/go-digest"
	"go.uber.org/zap"

	"github.com/sluiceproxy/sluice/analyzer"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

var (
	zlib   = analyzer.Package{Type: "deb", Name: "zlib1g", Version: "1.2.13", Source: "zlib", Ecosystem: "Debian:12", PURL: "pkg:deb/debian/zlib1g@1.2.13?arch=amd64"}
	lodash = analyzer.Package{Type: "npm", Name: "lodash", Version: "4.17.20", Ecosystem: "npm", PURL: "pkg:npm/lodash@4.17.20"}
	newer  = analyzer.Package{Type: "npm", Name: "lodash", Version: "4.17.21", Ecosystem: "npm", PURL: "pkg:npm/lodash@4.17.21"}
	scoped = analyzer.Package{Type: "pypi", Name: "Flask_Login", Version: "1", Ecosystem: "PyPI", PURL: "pkg:pypi/flask-login@1"}
)

// place makes an image with packages, under a name and tag.
func place(t *testing.T, db *DB, name, tag, content string, pkgs ...analyzer.Package) godigest.Digest {
	t.Helper()
	d := digest(content)
	if _, err := db.SeenImage(t.Context(), name, tag, d, "type", clock); err != nil {
		t.Fatal(err)
	}
	if err := db.PutInventory(t.Context(), &analyzer.Inventory{Manifest: d, Revision: "r1", Packages: pkgs}); err != nil {
		t.Fatal(err)
	}
	return d
}

func names(places []Place) string {
	var out []string
	for _, p := range places {
		out = append(out, p.Name+" "+strings.Join(p.Packages, " "))
	}
	return strings.Join(out, "; ")
}

// TestSignedKernelKey finds a signed kernel when an advisory for its source comes.
func TestSignedKernelKey(t *testing.T) {
	p := analyzer.Package{
		Type: "deb", Name: "linux-image-6.1.0-56-amd64", Version: "6.1.192-2", Source: "linux-signed-amd64", SourceVersion: "6.1.192+2",
		Ecosystem: "Debian:12", PURL: "pkg:deb/debian/linux-image-6.1.0-56-amd64@6.1.192-2",
	}
	if got, want := rowOf(&p).source, (PackageKey{"Debian:12", "linux"}).text(); got != want {
		t.Errorf("key %q, want %q", got, want)
	}
	if got := rowOf(&lodash).source; got != "" {
		t.Errorf("key %q of a package without a source", got)
	}
}

func TestImages(t *testing.T) {
	db := openNew(t)
	one := place(t, db, "docker.io/library/a", "1", "one", zlib, lodash, lodash)
	two := place(t, db, "docker.io/library/b", "", "two", newer, scoped)
	finding := analyzer.Finding{Advisory: "GHSA-1", Aliases: []string{"CVE-2021-1"}, Package: lodash}
	for d, findings := range map[godigest.Digest][]analyzer.Finding{
		one: {finding, {Advisory: "DSA-1", Aliases: []string{"CVE-2021-1"}, Package: zlib}}, two: nil,
	} {
		if err := db.PutFindings(t.Context(), d, findings); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.PutVerdict(t.Context(), policy.Verdict{ID: "v-1", Decision: policy.Deny, Image: "docker.io/library/a", Digest: one, At: clock}); err != nil {
		t.Fatal(err)
	}
	// The index of b is tagged; its platform's manifest has no tag of its own.
	index := digest("index")
	if _, err := db.SeenImage(t.Context(), "docker.io/library/b", "2", index, "index", clock); err != nil {
		t.Fatal(err)
	}
	if err := db.PutMembers(t.Context(), "docker.io/library/b", index, []godigest.Digest{two}); err != nil {
		t.Fatal(err)
	}
	for i, client := range []string{"10.0.0.1", "10.0.0.2", "10.0.0.1"} {
		if err := db.Pulled(t.Context(), "docker.io/library/b", two, client, clock.Add(time.Duration(i)*time.Hour), 2); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name   string
		filter ImageFilter
		want   string
	}{
		{"all", ImageFilter{}, "docker.io/library/a ; docker.io/library/b ; docker.io/library/b "},
		{"alias in any case", ImageFilter{Advisory: "cve-2021-1"}, "docker.io/library/a pkg:deb/debian/zlib1g@1.2.13?arch=amd64 pkg:npm/lodash@4.17.20"},
		{"advisory", ImageFilter{Advisory: "GHSA-1"}, "docker.io/library/a pkg:npm/lodash@4.17.20"},
		{"no such advisory", ImageFilter{Advisory: "CVE-0"}, ""},
		{"package", ImageFilter{Package: "pkg:npm/lodash"}, "docker.io/library/a pkg:npm/lodash@4.17.20; docker.io/library/b pkg:npm/lodash@4.17.21"},
		{"version", ImageFilter{Package: "pkg:npm/lodash@4.17.21"}, "docker.io/library/b pkg:npm/lodash@4.17.21"},
		{"qualifier", ImageFilter{Package: "pkg:deb/debian/zlib1g?arch=arm64"}, ""},
		{"both", ImageFilter{Package: "pkg:npm/lodash", Advisory: "CVE-2021-1"}, "docker.io/library/a pkg:npm/lodash@4.17.20"},
		{"decision", ImageFilter{Decision: policy.Deny}, "docker.io/library/a "},
		{"image", ImageFilter{Image: "docker.io/library/b:2", Package: "pkg:npm/lodash"}, "docker.io/library/b pkg:npm/lodash@4.17.21"},
	} {
		items, next, err := db.Images(t.Context(), tt.filter)
		if err != nil || next != "" || names(items) != tt.want {
			t.Errorf("%s: %q, %q, %v, want %q", tt.name, names(items), next, err, tt.want)
		}
	}
	got, _, err := db.Images(t.Context(), ImageFilter{Package: "pkg:pypi/flask-login"})
	if err != nil || len(got) != 1 {
		t.Fatal(got, err)
	}
	want := []Client{{"10.0.0.1", clock.Add(2 * time.Hour), 4}, {"10.0.0.2", clock.Add(time.Hour), 2}}
	if d := cmp.Diff(want, got[0].Clients); d != "" || got[0].Pulls != 6 || !slices.Equal(got[0].Tags, []string{"2"}) {
		t.Errorf("%+v: %s", got[0], d)
	}
	// What is fixed is found no more.
	if err := db.PutFindings(t.Context(), one, []analyzer.Finding{finding}); err != nil {
		t.Fatal(err)
	}
	if got, _, err := db.Images(t.Context(), ImageFilter{Advisory: "DSA-1"}); err != nil || len(got) != 0 {
		t.Errorf("DSA-1 is still in %v, %v", names(got), err)
	}
	for _, f := range []ImageFilter{{Image: "***"}, {Package: "lodash"}, {PageToken: "x"}} {
		if _, _, err := db.Images(t.Context(), f); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v, want ErrInvalid", f, err)
		}
	}
}

func TestImagesPages(t *testing.T) {
	db := openNew(t)
	var want []string
	for i := range 25 {
		name := fmt.Sprintf("docker.io/library/a%02d", i)
		pkg := newer
		if i%3 == 0 { // rows that fall out only after the SQL
			pkg = lodash
			want = append(want, name)
		}
		place(t, db, name, "1", name, pkg)
	}
	var got []string
	f := ImageFilter{Package: "pkg:npm/lodash@4.17.20", Limit: 2}
	for pages := 0; ; pages++ {
		items, next, err := db.Images(t.Context(), f)
		if err != nil || len(items) > 2 || pages > 20 {
			t.Fatal(items, err)
		}
		for _, p := range items {
			got = append(got, p.Name)
		}
		if f.PageToken = next; next == "" {
			break
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestImagesWithPackages(t *testing.T) {
	db := openNew(t)
	place(t, db, "docker.io/library/a", "1", "one", zlib)
	place(t, db, "docker.io/library/b", "1", "two", lodash, scoped)
	place(t, db, "ghcr.io/acme/b", "1", "two", lodash, scoped)
	if _, err := db.SeenImage(t.Context(), "docker.io/library/unread", "1", digest("unread"), "type", clock); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		keys []PackageKey
		want string
	}{
		{"source package", []PackageKey{{"Debian:12", "zlib"}}, "docker.io/library/a"},
		{"without a release", []PackageKey{{"Debian", "zlib"}}, "docker.io/library/a"},
		{"binary package", []PackageKey{{"Debian:12", "zlib1g"}}, "docker.io/library/a"},
		{"normal form of a name", []PackageKey{{"PyPI", "flask-login"}}, "docker.io/library/b ghcr.io/acme/b"},
		{"several", []PackageKey{{"npm", "lodash"}, {"npm", "none"}, {"Debian:12", "zlib"}}, "docker.io/library/a docker.io/library/b ghcr.io/acme/b"},
		{"another ecosystem", []PackageKey{{"PyPI", "lodash"}}, ""},
		{"whole ecosystem", []PackageKey{{"Debian:12", ""}}, "docker.io/library/a"},
		{"no keys", []PackageKey{}, ""},
		{"all", nil, "docker.io/library/a docker.io/library/b ghcr.io/acme/b"},
	} {
		found, err := db.ImagesWithPackages(t.Context(), tt.keys)
		var got []string
		for _, i := range found {
			got = append(got, i.Name)
		}
		if err != nil || strings.Join(got, " ") != tt.want {
			t.Errorf("%s: %v, %v, want %s", tt.name, got, err, tt.want)
		}
	}
}

// BenchmarkPutInventory writes the inventory of an image with 1500 packages,
// none of which is known.
func BenchmarkPutInventory(b *testing.B) {
	db, err := Open(b.Context(), filepath.Join(b.TempDir(), "records.db"), zap.NewNop())
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	n := 0
	for b.Loop() {
		inv := &analyzer.Inventory{Manifest: digest(fmt.Sprint(n)), Revision: "r1"}
		for i := range 1500 {
			name := fmt.Sprintf("p%d-%d", n, i)
			inv.Packages = append(inv.Packages, analyzer.Package{Type: "npm", Name: name, Version: "1.2.3", Ecosystem: "npm", PURL: "pkg:npm/" + name + "@1.2.3"})
		}
		if err := db.PutInventory(b.Context(), inv); err != nil {
			b.Fatal(err)
		}
		n++
	}
}
