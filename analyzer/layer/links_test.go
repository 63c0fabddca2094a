package layer

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluiceproxy/sluice/analyzer"
)

// scanned packs the entries and scans them.
func scanned(t *testing.T, entries ...entry) *analyzer.Layer {
	t.Helper()
	l, err := newScanner(t, Options{}).Scan(t.Context(), bytes.NewReader(pack(t, entries...)))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestHardLinks gives second names to files whose content has gone by.
func TestHardLinks(t *testing.T) {
	const lodash = `{"name":"lodash","version":"4.17.20"}`
	const second = "app/node_modules/lodash/package.json"
	for _, tt := range []struct {
		name       string
		entries    []entry
		packages   []string
		incomplete string
	}{
		{"from a store", []entry{file("store/v3/files/ab/cdef", lodash), hardlink(second, "store/v3/files/ab/cdef")}, []string{second + "=lodash@4.17.20"}, ""},
		{"of the same name", []entry{file("b/node_modules/lodash/package.json", lodash), hardlink(second, "b/node_modules/lodash/package.json")}, []string{second + "=lodash@4.17.20", "b/node_modules/lodash/package.json=lodash@4.17.20"}, ""},
		{"the target was replaced", []entry{file("store/x", lodash), file("store/x", strings.Repeat("y", 100)), hardlink(second, "store/x")}, nil, "a hard link to"},
		{"the target is large", []entry{file("store/x", "{"+strings.Repeat(" ", maxKept)+lodash[1:]), hardlink(second, "store/x")}, nil, "a hard link to"},
		{"the target is no manifest", []entry{file("store/x", "text"), hardlink(second, "store/x")}, nil, "a hard link to"},
		{"the target is not there", []entry{hardlink(second, "store/x")}, nil, "a hard link to"},
		{"of a file that does not matter", []entry{file("store/x", "text"), hardlink("app/readme", "store/x")}, nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := scanned(t, tt.entries...)
			var got []string
			for _, p := range l.Packages {
				got = append(got, fmt.Sprintf("%s=%s@%s", p.Path, p.Name, p.Version))
			}
			slices.Sort(got)
			slices.Sort(tt.packages)
			if d := cmp.Diff(tt.packages, got); d != "" {
				t.Errorf("packages (-want +got):\n%s", d)
			}
			if (tt.incomplete == "") != (len(l.Incomplete) == 0) || len(l.Incomplete) > 0 && !strings.Contains(l.Incomplete[0].Reason, tt.incomplete) {
				t.Errorf("incomplete: %+v", l.Incomplete)
			}
		})
	}
}

// TestLinks checks which symbolic links a layer keeps.
func TestLinks(t *testing.T) {
	l := scanned(t,
		dir("usr/"), dir("usr/lib/"), file("usr/lib/a.so.1", "x"),
		symlink("lib", "usr/lib"), symlink("usr/lib/a.so", "a.so.1"), symlink("other", "/srv/elsewhere"), symlink("twice", "lib"),
		symlink("was", "usr"), dir("was/"), symlink("now", "usr"), file("now", "x"),
	)
	want := []analyzer.Link{{Path: "lib", Target: "usr/lib"}, {Path: "other", Target: "srv/elsewhere"}, {Path: "twice", Target: "lib"}}
	if d := cmp.Diff(want, l.Links); d != "" {
		t.Errorf("links (-want +got):\n%s", d)
	}
}

// TestOwned checks that files of a distribution's packages are told from others,
// wherever the list stands in the stream.
func TestOwned(t *testing.T) {
	egg := func(p string) entry { return file(p, "Metadata-Version: 1.2\nName: six\nVersion: 1.16.0\n") }
	list := file("var/lib/dpkg/info/python3-six.list", "/.\n/usr/lib/python3/dist-packages/six-1.16.0.egg-info\n")
	for name, entries := range map[string][]entry{
		"list last":  {egg("usr/lib/python3/dist-packages/six-1.16.0.egg-info"), egg("srv/six-1.16.0.egg-info"), list},
		"list first": {list, egg("srv/six-1.16.0.egg-info"), egg("usr/lib/python3/dist-packages/six-1.16.0.egg-info")},
	} {
		got := map[string]string{}
		for _, p := range scanned(t, entries...).Packages {
			got[p.Path] = p.Owner
		}
		want := map[string]string{"usr/lib/python3/dist-packages/six-1.16.0.egg-info": "deb/python3-six", "srv/six-1.16.0.egg-info": ""}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}
