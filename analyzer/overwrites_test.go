package analyzer

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestOverwrites(t *testing.T) {
	sorted := func(l *Layer) *Layer {
		slices.Sort(l.Paths)
		return l
	}
	for _, tt := range []struct {
		name   string
		layers []*Layer
		want   []Overwrites
	}{
		{"nothing", []*Layer{{Paths: []string{"a", "d/", "d/x"}}, {Paths: []string{"b", "d/", "d/y"}}}, nil},
		{"replaced", []*Layer{{Paths: []string{"a", "b"}}, {Paths: []string{"a"}}}, []Overwrites{{1, 1, []string{"a"}}}},
		{"of the second layer", []*Layer{{Paths: []string{"a"}}, {Paths: []string{"b"}}, {Paths: []string{"b"}}}, []Overwrites{{2, 1, []string{"b"}}}},
		{"of every base that has it", []*Layer{{Paths: []string{"a"}}, {Paths: []string{"b"}}, {Paths: []string{"a"}}}, []Overwrites{{1, 1, []string{"a"}}, {2, 1, []string{"a"}}}},
		{"twice", []*Layer{{Paths: []string{"a"}}, {Paths: []string{"a"}}, {Paths: []string{"a"}}}, []Overwrites{{1, 1, []string{"a"}}, {2, 1, []string{"a"}}}},
		{"removed", []*Layer{{Paths: []string{"a"}}, {Whiteouts: []string{"a"}}}, []Overwrites{{1, 1, []string{"a"}}}},
		{"removed and made again", []*Layer{{Paths: []string{"a"}}, {Whiteouts: []string{"a"}}, {Paths: []string{"a"}}}, []Overwrites{{1, 1, []string{"a"}}}},
		{"a folder removed", []*Layer{{Paths: []string{"d/", "d/x", "d/y/", "d/y/z", "dd"}}, {Whiteouts: []string{"d"}}}, []Overwrites{{1, 2, []string{"d/x", "d/y/z"}}}},
		{"a folder hidden", []*Layer{{Paths: []string{"d/", "d/x"}}, {Opaque: []string{"d"}, Paths: []string{"d/", "d/y"}}}, []Overwrites{{1, 1, []string{"d/x"}}}},
		{"everything hidden", []*Layer{{Paths: []string{"a", "d/", "d/x"}}, {Opaque: []string{""}}}, []Overwrites{{1, 2, []string{"a", "d/x"}}}},
		{"a folder becomes a file", []*Layer{{Paths: []string{"d/", "d/x"}}, {Paths: []string{"d"}}}, []Overwrites{{1, 1, []string{"d/x"}}}},
		{"a file becomes a folder", []*Layer{{Paths: []string{"d"}}, {Paths: []string{"d/", "d/x"}}}, []Overwrites{{1, 1, []string{"d"}}}},
		{"in the layer itself", []*Layer{{Paths: []string{"a"}, Whiteouts: []string{"a"}}}, nil},
	} {
		for _, l := range tt.layers {
			sorted(l)
		}
		if d := cmp.Diff(tt.want, overwrites(tt.layers)); d != "" && !(len(tt.want) == 0 && len(overwrites(tt.layers)) == 0) {
			t.Errorf("%s (-want +got):\n%s", tt.name, d)
		}
	}
	base, upper := &Layer{}, &Layer{}
	for i := range 1000 {
		base.Paths = append(base.Paths, fmt.Sprintf("f%03d", i))
		upper.Whiteouts = append(upper.Whiteouts, fmt.Sprintf("f%03d", 999-i))
	}
	got := overwrites([]*Layer{base, upper})
	if len(got) != 1 || got[0].Count != 1000 || len(got[0].Paths) != maxOverwritten || got[0].Paths[0] != "f000" {
		t.Errorf("%+v", got)
	}
}

// BenchmarkOverwrites is an image of 100,000 files in ten layers, of which a
// tenth is replaced in the next.
func BenchmarkOverwrites(b *testing.B) {
	var layers []*Layer
	for i := range 10 {
		l := &Layer{}
		for j := range 10_000 {
			l.Paths = append(l.Paths, fmt.Sprintf("usr/share/doc/package-%d/file-%05d", (i*10_000+j-i%2*1000)/100, i*10_000+j-i%2*1000))
		}
		slices.Sort(l.Paths)
		layers = append(layers, l)
	}
	for b.Loop() {
		overwrites(layers)
	}
}
