package analyzer

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	godigest "github.com/opencontainers/go-digest"
)

// testLayer builds a layer from entries: "p=name@version" is a file with a
// package, "p!" one with a secret, "p*" a setuid file, "p/" a directory, "-p" a
// whiteout, "p/--" an opaque directory, anything else a plain file.
func testLayer(id string, entries ...string) *Layer {
	l := &Layer{DiffID: godigest.FromString(id), Digest: godigest.FromString("blob " + id)}
	for _, e := range entries {
		switch p, pkg, ok := strings.Cut(e, "="); {
		case ok:
			name, version, _ := strings.Cut(pkg, "@")
			l.Packages = append(l.Packages, Package{Type: "npm", Name: name, Version: version, Path: p})
			l.Paths = append(l.Paths, p)
		case strings.HasSuffix(e, "!"):
			l.Secrets = append(l.Secrets, Secret{Path: e[:len(e)-1], Rule: "r"})
			l.Paths = append(l.Paths, e[:len(e)-1])
		case strings.HasSuffix(e, "*"):
			l.Setuid = append(l.Setuid, e[:len(e)-1])
			l.Paths = append(l.Paths, e[:len(e)-1])
		case strings.HasPrefix(e, "-"):
			l.Whiteouts = append(l.Whiteouts, e[1:])
		case strings.HasSuffix(e, "/--"):
			l.Opaque = append(l.Opaque, strings.TrimSuffix(strings.TrimSuffix(e, "--"), "/"))
		default:
			l.Paths = append(l.Paths, e)
		}
	}
	slices.Sort(l.Paths)
	l.Paths = slices.Compact(l.Paths)
	return l
}

// TestMerge has one case per rule. want lists packages as path=name@version of
// the layer that introduced it, secrets as path! with ~ if deleted, setuid files as path*.
func TestMerge(t *testing.T) {
	for _, tt := range []struct {
		name   string
		layers [][]string
		want   []string
	}{
		{"added", [][]string{{"a=x@1"}, {"b=y@1"}}, []string{"a=x@1 of 0", "b=y@1 of 1"}},
		{"replaced", [][]string{{"a=x@1"}, {"a=x@2"}}, []string{"a=x@2 of 1"}},
		{"replaced by a file without packages", [][]string{{"a=x@1"}, {"a"}}, nil},
		{"rewritten with the same version", [][]string{{"db=x@1"}, {"db=x@1", "db=y@1"}, {"other"}, {"db=x@1"}}, []string{"db=x@1 of 0"}},
		{"upgraded and downgraded", [][]string{{"db=x@1"}, {"db=x@2"}, {"db=x@1"}}, []string{"db=x@1 of 2"}},
		{"removed and brought back", [][]string{{"db=x@1"}, {"-db"}, {"db=x@1"}}, []string{"db=x@1 of 2"}},
		{"removed with its directory and brought back", [][]string{{"d/db=x@1"}, {"-d"}, {"d/db=x@1"}}, []string{"d/db=x@1 of 2"}},
		{"whiteout", [][]string{{"d/a=x@1"}, {"-d/a"}}, nil},
		{"whiteout of a directory", [][]string{{"d/e/a=x@1", "d2/a=y@1"}, {"-d"}}, []string{"d2/a=y@1 of 0"}},
		{"whiteout of the same layer keeps its file", [][]string{{"a=x@1"}, {"-a", "a=x@2"}}, []string{"a=x@2 of 1"}},
		{"whiteout of lower layers only", [][]string{{"-a"}, {"a=x@1"}}, []string{"a=x@1 of 1"}},
		{"opaque", [][]string{{"d/a=x@1", "d/e/b=y@1", "c=z@1"}, {"d/--", "d/n=n@1"}}, []string{"c=z@1 of 0", "d/n=n@1 of 1"}},
		{"opaque root", [][]string{{"a=x@1", "d/b=y@1"}, {"/--", "n=n@1"}}, []string{"n=n@1 of 1"}},
		{"opaque does not hide its own directory's siblings", [][]string{{"d=x@1"}, {"de/--"}}, []string{"d=x@1 of 0"}},
		{"file in the way", [][]string{{"d/a=x@1"}, {"d"}}, nil},
		{"directory in the way", [][]string{{"d=x@1"}, {"d/"}}, nil},
		{"directory again", [][]string{{"d/", "d/a=x@1"}, {"d/"}}, []string{"d/a=x@1 of 0"}},
		{"secret kept", [][]string{{"k!"}, {"b"}}, []string{"k!"}},
		{"secret deleted", [][]string{{"k!"}, {"-k"}}, []string{"k!~"}},
		{"secret replaced", [][]string{{"k!"}, {"k!"}}, []string{"k!~", "k!"}},
		{"secret under an opaque directory", [][]string{{"d/k!"}, {"d/--"}}, []string{"d/k!~"}},
		{"setuid", [][]string{{"su*", "old*"}, {"old", "-gone"}, {"new*"}}, []string{"new*", "su*"}},
		{"found twice", [][]string{{"a=x@1", "a=x@1"}}, []string{"a=x@1 of 0"}},
		{"no layers", nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var layers []*Layer
			index := map[godigest.Digest]int{}
			for i, entries := range tt.layers {
				l := testLayer(fmt.Sprint(i), entries...)
				index[l.DiffID] = i
				layers = append(layers, l)
			}
			var inv Inventory
			merge(&inv, layers)
			var got []string
			for _, p := range inv.Packages {
				got = append(got, fmt.Sprintf("%s=%s@%s of %d", p.Path, p.Name, p.Version, index[p.Layer]))
			}
			for _, s := range inv.Secrets {
				mark := s.Path + "!"
				if s.Deleted {
					mark += "~"
				}
				got = append(got, mark)
			}
			for _, p := range inv.Setuid {
				got = append(got, p+"*")
			}
			slices.Sort(got)
			want := slices.Sorted(slices.Values(tt.want))
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("merged (-want +got):\n%s", d)
			}
		})
	}
}

// TestMergeProperty compares merge with a model that applies random layers, one
// after the other, to a map of paths.
func TestMergeProperty(t *testing.T) {
	const rounds = 2000
	for seed := range uint64(rounds) {
		r := rand.New(rand.NewPCG(seed, 7))
		var layers []*Layer
		model := map[string]string{} // path → the layer's own mark; directories have ""
		for i := range 1 + r.IntN(6) {
			l, spec := randomLayer(r, i)
			apply(model, spec)
			layers = append(layers, l)
		}
		var inv Inventory
		merge(&inv, layers)
		want, got := map[string]string{}, map[string]string{}
		for p, mark := range model {
			if mark != "" {
				want[p] = mark
			}
		}
		for _, p := range inv.Packages {
			got[p.Path] = p.Version
		}
		if !maps.Equal(want, got) {
			d := cmp.Diff(want, got)
			for i, l := range layers {
				t.Logf("layer %d: %q without %q, opaque %q", i, l.Paths, l.Whiteouts, l.Opaque)
			}
			t.Fatalf("seed %d: final file system (-model +merge):\n%s", seed, d)
		}
	}
}

type randomSpec struct {
	files     []string
	dirs      []string
	whiteouts []string
	opaque    []string
	mark      string
}

// randomLayer is consistent in itself: no path is a file and a directory.
func randomLayer(r *rand.Rand, i int) (*Layer, randomSpec) {
	spec := randomSpec{mark: fmt.Sprintf("layer %d", i)}
	name := func() string {
		parts := make([]string, 1+r.IntN(4))
		for k := range parts {
			parts[k] = string(rune('a' + r.IntN(3)))
		}
		return strings.Join(parts, "/")
	}
	kind := map[string]bool{} // path → is a directory
	for range r.IntN(8) {
		p, asDir := name(), r.IntN(4) == 0
		if k, ok := kind[p]; ok && k != asDir {
			continue
		}
		clash := false
		for at := path.Dir(p); at != "."; at = path.Dir(at) {
			if isDir, ok := kind[at]; ok && !isDir {
				clash = true
			}
		}
		for q := range kind {
			clash = clash || !asDir && strings.HasPrefix(q, p+"/")
		}
		if clash {
			continue
		}
		kind[p] = asDir
		for at := path.Dir(p); at != "."; at = path.Dir(at) {
			kind[at] = true // builders write the directories on the way
		}
	}
	l := &Layer{DiffID: godigest.FromString(spec.mark)}
	for p, asDir := range kind {
		if asDir {
			spec.dirs = append(spec.dirs, p)
			l.Paths = append(l.Paths, p+"/")
			continue
		}
		spec.files = append(spec.files, p)
		l.Paths = append(l.Paths, p)
		l.Packages = append(l.Packages, Package{Type: "npm", Name: "x", Version: spec.mark, Path: p})
	}
	slices.Sort(l.Paths)
	for range r.IntN(3) {
		spec.whiteouts = append(spec.whiteouts, name())
	}
	if r.IntN(3) == 0 {
		p := name()
		if r.IntN(10) == 0 {
			p = ""
		}
		spec.opaque = append(spec.opaque, p)
	}
	l.Whiteouts, l.Opaque = spec.whiteouts, spec.opaque
	return l, spec
}

// apply is the model: first the removals, which concern lower layers, then the
// additions.
func apply(model map[string]string, s randomSpec) {
	remove := func(p string, self bool) {
		maps.DeleteFunc(model, func(q, _ string) bool {
			return self && q == p || p == "" || strings.HasPrefix(q, p+"/")
		})
	}
	for _, p := range s.whiteouts {
		remove(p, true)
	}
	for _, p := range s.opaque {
		remove(p, false)
	}
	for _, p := range s.dirs {
		if model[p] != "" {
			delete(model, p) // a directory replaces a file
		}
		model[p] = ""
	}
	for _, p := range s.files {
		remove(p, true)
		model[p] = s.mark
	}
}

func TestRelease(t *testing.T) {
	rel := func(id, p string) *Layer { return &Layer{OSRelease: &OSRelease{ID: id, Path: p}} }
	for _, tt := range []struct {
		name   string
		layers []*Layer
		want   string
	}{
		{"none", []*Layer{{}}, ""},
		{"topmost", []*Layer{rel("debian", "etc/os-release"), rel("ubuntu", "usr/lib/os-release"), {}}, "ubuntu"},
		{"a version file does not replace it", []*Layer{rel("alpine", "etc/os-release"), rel("debian", "etc/debian_version")}, "alpine"},
		{"version files", []*Layer{rel("alpine", "etc/alpine-release"), rel("debian", "etc/debian_version")}, "debian"},
		{"deleted", []*Layer{rel("debian", "etc/os-release"), {Whiteouts: []string{"etc/os-release"}}}, "debian"},
	} {
		if got := release(tt.layers).ID; got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestEcosystem(t *testing.T) {
	for _, tt := range []struct {
		purlType, id, version, codename, name, want string
	}{
		{"deb", "debian", "12", "bookworm", "", "Debian:12"},
		{"deb", "debian", "", "forky", "", "Debian:14"},
		{"deb", "debian", "", "sid", "", ""},
		{"deb", "ubuntu", "22.04", "jammy", "", "Ubuntu:22.04:LTS"},
		{"deb", "ubuntu", "23.10", "mantic", "", "Ubuntu:23.10"},
		{"deb", "ubuntu", "23.04", "lunar", "", "Ubuntu:23.04"},
		{"deb", "kali", "2024.1", "", "", ""},
		{"apk", "alpine", "3.18.9", "", "", "Alpine:v3.18"},
		{"apk", "alpine", "3.21_alpha20240923", "", "", "Alpine:v3.21"},
		{"apk", "alpine", "", "", "", ""},
		{"apk", "wolfi", "20230201", "", "", "Wolfi"},
		{"apk", "chainguard", "20230214", "", "", "Chainguard"},
		{"rpm", "almalinux", "9.3", "", "", "AlmaLinux:9"},
		{"rpm", "rocky", "8.9", "", "", "Rocky Linux:8"},
		{"rpm", "rhel", "9.3", "", "", "Red Hat:enterprise_linux:9"},
		{"rpm", "opensuse-leap", "15.5", "", "", "openSUSE:Leap 15.5"},
		{"rpm", "opensuse-tumbleweed", "20240101", "", "", "openSUSE:Tumbleweed"},
		{"rpm", "sles", "15.5", "", "", "SUSE:Linux Enterprise Server 15 SP5"},
		{"rpm", "sles", "15", "", "", "SUSE:Linux Enterprise Server 15"},
		{"rpm", "azurelinux", "3.0", "", "", "Azure Linux:3"},
		{"rpm", "photon", "5.0", "", "", "Photon OS:5.0"},
		{"rpm", "openEuler", "24.03", "", "openEuler 24.03 (LTS-SP1)", "openEuler:24.03-LTS-SP1"},
		{"rpm", "fedora", "40", "", "", ""},
		{"rpm", "amzn", "2023", "", "", ""},
		{"rpm", "", "", "", "", ""},
		{"deb", "alpine", "3.18.9", "", "", ""},
	} {
		got := EcosystemOf(tt.purlType, OSRelease{ID: tt.id, VersionID: tt.version, Codename: tt.codename, Name: tt.name})
		if got != tt.want {
			t.Errorf("%s of %s %s: %q, want %q", tt.purlType, tt.id, tt.version, got, tt.want)
		}
	}
}

// TestUnmatchable checks that packages without an ecosystem are evidence.
func TestUnmatchable(t *testing.T) {
	for _, tt := range []struct{ id, version, want string }{
		{"debian", "12", ""},
		{"", "", "2 deb packages cannot be matched: the distribution's release is unknown"},
		{"kali", "2024.1", "2 deb packages cannot be matched: no advisories are known for kali 2024.1"},
	} {
		l := testLayer("0", "db")
		l.Packages = []Package{{Type: "deb", Name: "a", Version: "1", Path: "db"}, {Type: "deb", Name: "b", Version: "1", Path: "db"}}
		if tt.id != "" {
			l.OSRelease = &OSRelease{ID: tt.id, VersionID: tt.version, Path: "etc/os-release"}
		}
		var inv Inventory
		merge(&inv, []*Layer{l})
		got := ""
		if len(inv.Incomplete) > 0 {
			got = inv.Incomplete[0].Reason
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", tt.id, got, tt.want)
		}
	}
}

func TestDistributionPURL(t *testing.T) {
	for _, tt := range []struct {
		pkg  Package
		rel  OSRelease
		want string
	}{
		{Package{Type: "deb", Name: "zlib1g", Version: "1:1.2.13.dfsg-1", Arch: "amd64"}, OSRelease{ID: "debian", VersionID: "12"}, "pkg:deb/debian/zlib1g@1:1.2.13.dfsg-1?arch=amd64&distro=debian-12"},
		{Package{Type: "rpm", Name: "openssl-libs", Version: "1:3.0.7-6.el9_2", Arch: "x86_64"}, OSRelease{ID: "almalinux", VersionID: "9.3"}, "pkg:rpm/almalinux/openssl-libs@3.0.7-6.el9_2?arch=x86_64&distro=almalinux-9.3&epoch=1"},
		{Package{Type: "apk", Name: "musl", Version: "1.2.4-r2"}, OSRelease{}, "pkg:apk/musl@1.2.4-r2"},
	} {
		if got := distributionPURL(tt.pkg, tt.rel); got != tt.want {
			t.Errorf("%s, want %s", got, tt.want)
		}
	}
}
