package analyzer

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	godigest "github.com/opencontainers/go-digest"
)

// TestLinks merges layers whose paths lead through symbolic links.
func TestLinks(t *testing.T) {
	link := func(l *Layer, pairs ...string) *Layer {
		for i := 0; i < len(pairs); i += 2 {
			l.Links = append(l.Links, Link{pairs[i], pairs[i+1]})
		}
		return l
	}
	base := func() *Layer { return link(testLayer("base", "lib", "usr/lib/", "usr/lib/a=x@1"), "lib", "usr/lib") }
	for _, tt := range []struct {
		name   string
		layers []*Layer
		want   []string
	}{
		{"an upper layer replaces through a link", []*Layer{base(), testLayer("1", "lib/a=x@2")}, []string{"usr/lib/a=x@2"}},
		{"an upper layer adds through a link", []*Layer{base(), testLayer("1", "lib/b=y@1")}, []string{"usr/lib/a=x@1", "usr/lib/b=y@1"}},
		{"a whiteout through a link", []*Layer{base(), testLayer("1", "-lib/a")}, nil},
		{"an opaque directory through a link", []*Layer{link(base(), "d", "lib"), testLayer("1", "d/--", "d/n=n@1")}, []string{"usr/lib/n=n@1"}},
		{"a directory replaces the link", []*Layer{base(), testLayer("1", "lib/", "lib/a=x@2")}, []string{"lib/a=x@2", "usr/lib/a=x@1"}},
		{"the link is removed and made again", []*Layer{base(), testLayer("1", "-lib"), testLayer("2", "lib/", "lib/a=x@2")}, []string{"lib/a=x@2", "usr/lib/a=x@1"}},
		{"a link of the same layer", []*Layer{link(testLayer("0", "d", "d/a=x@1"), "d", "e")}, []string{"e/a=x@1"}},
		{"link to link", []*Layer{link(testLayer("0", "a", "b", "c/", "c/f=x@1"), "a", "b", "b", "c"), testLayer("1", "a/f=x@2")}, []string{"c/f=x@2"}},
		{"link below a link", []*Layer{base(), link(testLayer("1", "lib/j", "usr/share/j/"), "lib/j", "usr/share/j"), testLayer("2", "usr/lib/j/f=x@1")}, []string{"usr/lib/a=x@1", "usr/share/j/f=x@1"}},
		{"link to the root", []*Layer{link(testLayer("0", "r", "a=x@1"), "r", ""), testLayer("1", "r/a=x@2")}, []string{"a=x@2"}},
		{"a circle", []*Layer{link(testLayer("0", "a", "b"), "a", "b", "b", "a"), testLayer("1", "a/f=x@1")}, []string{"a/f=x@1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := len(tt.layers[len(tt.layers)-1].Paths)
			var inv Inventory
			merge(&inv, tt.layers)
			var got []string
			for _, p := range inv.Packages {
				got = append(got, p.Path+"="+p.Name+"@"+p.Version)
			}
			if d := cmp.Diff(sortedStrings(tt.want), sortedStrings(got)); d != "" {
				t.Errorf("packages (-want +got):\n%s", d)
			}
			if len(tt.layers[len(tt.layers)-1].Paths) != before {
				t.Error("a layer was changed")
			}
		})
	}
}

// TestRemoved checks what is told of packages that only lower layers have.
func TestRemoved(t *testing.T) {
	layers := []*Layer{
		testLayer("0", "db=x@1", "db=y@1", "app/a=z@1", "app/b=w@1"),
		testLayer("1", "db=x@2", "db=y@1"),
		testLayer("2", "-app", "app/b=w@1"),
		testLayer("3", "-app/b"),
	}
	var inv Inventory
	merge(&inv, layers)
	got := map[string]godigest.Digest{}
	for _, p := range inv.Removed {
		got[p.Path+"="+p.Name+"@"+p.Version] = p.Layer
	}
	want := map[string]godigest.Digest{"db=x@1": layers[0].DiffID, "app/a=z@1": layers[0].DiffID, "app/b=w@1": layers[0].DiffID}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("removed (-want +got):\n%s", d)
	}
	if len(inv.Packages) != 2 {
		t.Errorf("packages: %v", inv.Packages)
	}
}

// TestOwners checks which distribution package a language's package belongs to.
func TestOwners(t *testing.T) {
	deb := func(name, version string) Package {
		return Package{Type: "deb", Name: name, Version: version, Path: "var/lib/dpkg/status"}
	}
	egg := func(version, owner string) Package {
		return Package{Type: "pypi", Name: "django", Version: version, Path: "usr/lib/django.egg-info", Owner: owner}
	}
	layer := func(id string, pkgs ...Package) *Layer {
		l := testLayer(id)
		for _, p := range pkgs {
			l.Paths = append(l.Paths, p.Path)
		}
		l.Paths = sortedStrings(l.Paths)
		l.Packages, l.OSRelease = pkgs, &OSRelease{ID: "debian", VersionID: "12", Path: "etc/os-release"}
		return l
	}
	const owner, purl = "deb/python3-django", "pkg:deb/debian/python3-django@3:3.2.19-1?distro=debian-12"
	installed := deb("python3-django", "3:3.2.19-1")
	for _, tt := range []struct {
		name   string
		layers []*Layer
		want   string
	}{
		{"owned", []*Layer{layer("0", installed, egg("3.2.19", owner))}, purl},
		{"not owned", []*Layer{layer("0", installed, egg("3.2.19", ""))}, ""},
		{"the owner is not installed any more", []*Layer{layer("0", installed, egg("3.2.19", owner)), layer("1", deb("bash", "5"))}, ""},
		{"the owner was upgraded", []*Layer{layer("0", deb("python3-django", "3:3.2.18-1"), egg("3.2.19", owner)), layer("1", installed)}, purl},
		{"only touched by an upper layer", []*Layer{layer("0", installed, egg("3.2.19", owner)), layer("1", egg("3.2.19", ""))}, purl},
		{"replaced by hand", []*Layer{layer("0", installed, egg("3.2.19", owner)), layer("1", egg("4.2.0", ""))}, ""},
		{"removed and brought back by hand", []*Layer{layer("0", installed, egg("3.2.19", owner)), {DiffID: godigest.FromString("w"), Whiteouts: []string{"usr/lib/django.egg-info"}}, layer("2", egg("3.2.19", ""))}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var inv Inventory
			merge(&inv, tt.layers)
			for _, p := range inv.Packages {
				if p.Type == "pypi" && p.Owner != tt.want {
					t.Errorf("owner = %q, want %q", p.Owner, tt.want)
				}
			}
		})
	}
}

func TestEndOfLife(t *testing.T) {
	for day := range lifetimes {
		if _, err := time.Parse(time.DateOnly, lifetimes[day]); err != nil {
			t.Errorf("%s: %v", day, err)
		}
	}
	for _, tt := range []struct{ id, version, codename, name, want string }{
		{"debian", "12", "bookworm", "", "2028-07-01"},
		{"debian", "", "bookworm", "", "2028-07-01"},
		{"debian", "", "sid", "", ""},
		{"ubuntu", "20.04", "focal", "", "2025-05-30"},
		{"alpine", "3.18.9", "", "", "2025-05-10"},
		{"alpine", "3.10.9", "", "", "2021-05-02"},
		{"alpine", "3.21_alpha20240923", "", "", "2026-11-02"},
		{"almalinux", "9.3", "", "", "2032-06-01"},
		{"centos", "8", "", "CentOS Linux 8", "2022-01-01"},
		{"centos", "8", "", "CentOS Stream 8", "2024-06-01"},
		{"fedora", "40", "", "", "2025-05-14"},
		{"fedora", "99", "", "", ""},
		{"azurelinux", "3.0", "", "", "2027-09-01"},
		{"wolfi", "20230201", "", "", ""},
		{"", "", "", "", ""},
	} {
		want := time.Time{}
		if tt.want != "" {
			want, _ = time.Parse(time.DateOnly, tt.want)
		}
		if got := endOfLife(OSRelease{ID: tt.id, VersionID: tt.version, Codename: tt.codename, Name: tt.name}); !got.Equal(want) {
			t.Errorf("%s %s%s: %v, want %v", tt.id, tt.version, tt.codename, got, want)
		}
	}
}

func sortedStrings(s []string) []string {
	s = slices.Sorted(slices.Values(s))
	return slices.Compact(s)
}
