package local

import (
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	godigest "github.com/opencontainers/go-digest"

	"github.com/sluiceproxy/sluice/proxy/records"
)

const day = 24 * time.Hour

func d(name string) godigest.Digest { return godigest.FromString(name) }

// kept makes a manifest that was pushed so many days ago.
func kept(now time.Time, name string, days int, change ...func(*records.Kept)) records.Kept {
	k := records.Kept{Name: "local/app", Digest: d(name), Pushed: now.Add(-time.Duration(days) * day)}
	for _, f := range change {
		f(&k)
	}
	return k
}

func tag(tags ...string) func(*records.Kept) { return func(k *records.Kept) { k.Tags = tags } }

func subject(name string) func(*records.Kept) { return func(k *records.Kept) { k.Subject = d(name) } }

func parents(names ...string) func(*records.Kept) {
	return func(k *records.Kept) {
		for _, n := range names {
			k.Parents = append(k.Parents, d(n))
		}
	}
}

func TestExpired(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	pulled := func(days int) func(*records.Kept) {
		return func(k *records.Kept) { k.LastPull = now.Add(-time.Duration(days) * day) }
	}
	signature := "sha256-" + d("a").Encoded() + ".sig"
	for _, tt := range []struct {
		name string
		rule Retention
		all  []records.Kept
		want string // names, in the order in which they go
	}{
		{"keep the last two", Retention{KeepLast: 2}, []records.Kept{
			kept(now, "c", 2, tag("3")), kept(now, "b", 3, tag("2")), kept(now, "a", 4, tag("1")),
		}, "a"},
		{"images without a tag do not count as kept", Retention{KeepLast: 1}, []records.Kept{
			kept(now, "d", 2), kept(now, "c", 2), kept(now, "b", 3, tag("2")), kept(now, "a", 4, tag("1")),
		}, "d c a"},
		{"what is younger than the grace stays: a push may be under way", Retention{KeepLast: 1}, []records.Kept{
			kept(now, "c", 0), kept(now, "b", 0, tag("2")), kept(now, "a", 0, tag("1")),
		}, ""},
		{"by age", Retention{MaxAge: 30 * day}, []records.Kept{
			kept(now, "b", 29, tag("2")), kept(now, "a", 30, tag("1")),
		}, "a"},
		{"both keep", Retention{KeepLast: 1, MaxAge: 30 * day}, []records.Kept{
			kept(now, "c", 40, tag("3")), kept(now, "b", 41, tag("2")), kept(now, "a", 29, tag("1")),
		}, "b"},
		{"tags by pattern", Retention{KeepLast: 1}, []records.Kept{
			kept(now, "c", 2, tag("main")), kept(now, "b", 3, tag("other", "v1")), kept(now, "a", 4, tag("x")),
		}, "a"},
		{"pulled lately", Retention{MaxAge: day, UnlessPulledWithin: 7 * day}, []records.Kept{
			kept(now, "b", 30, tag("2"), pulled(6)), kept(now, "a", 30, tag("1"), pulled(7)),
		}, "a"},
		{"an index goes before its children", Retention{MaxAge: day}, []records.Kept{
			kept(now, "index", 30, tag("1")), kept(now, "amd64", 30, parents("index")), kept(now, "arm64", 30, parents("index")),
		}, "index amd64 arm64"},
		{"a pull of a child keeps the index", Retention{MaxAge: day, UnlessPulledWithin: 7 * day}, []records.Kept{
			kept(now, "index", 30, tag("1")), kept(now, "amd64", 30, parents("index"), pulled(1)), kept(now, "arm64", 30, parents("index")),
		}, ""},
		{"a child of two goes with the last", Retention{MaxAge: 10 * day}, []records.Kept{
			kept(now, "new", 1, tag("2")), kept(now, "old", 30, tag("1")), kept(now, "both", 30, parents("new", "old")), kept(now, "one", 30, parents("old")),
		}, "old one"},
		{"a child with a tag stays", Retention{MaxAge: 10 * day}, []records.Kept{
			kept(now, "index", 30, tag("1")), kept(now, "amd64", 30, parents("index"), tag("amd64")),
		}, "index"},
		{"what refers to an image goes before it", Retention{MaxAge: day}, []records.Kept{
			kept(now, "a", 30, tag("1")), kept(now, "signature", 30, subject("a")), kept(now, "of the signature", 30, subject("signature")),
		}, "of the signature signature a"},
		{"cosign's tags too", Retention{KeepLast: 1}, []records.Kept{
			kept(now, "b", 2, tag("2")), kept(now, "a", 30, tag("1")), kept(now, "signature", 30, tag(signature)),
		}, "signature a"},
		{"a signature of lately keeps its image", Retention{MaxAge: 10 * day}, []records.Kept{
			kept(now, "signature", 1, subject("a")), kept(now, "a", 30, tag("1")),
		}, ""},
		{"a referrer whose tag is kept keeps its image", Retention{MaxAge: day}, []records.Kept{
			kept(now, "a", 30, tag("1")), kept(now, "chart", 30, subject("a"), tag("v1")),
		}, ""},
		{"a referrer of nothing stands for itself", Retention{MaxAge: day}, []records.Kept{
			kept(now, "lone", 30, subject("not here")),
		}, "lone"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.rule.KeepTags = func(name, tag string) bool { return name == "local/app" && strings.HasPrefix(tag, "v") }
			names := map[godigest.Digest]string{}
			for _, n := range []string{"a", "b", "c", "d", "index", "amd64", "arm64", "new", "old", "both", "one", "signature", "of the signature", "chart", "lone"} {
				names[d(n)] = n
			}
			var got []string
			for _, e := range expired(&tt.rule, tt.all, now, time.Hour) {
				got = append(got, names[e.Digest])
			}
			if diff := gocmp.Diff(tt.want, strings.Join(got, " ")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestOrphaned(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	cosign := "sha256-" + d("gone").Encoded()
	for _, tt := range []struct {
		name string
		all  []records.Kept
		want string // names, in the order in which they go
		kept bool   // the deleted manifest must be looked at again
	}{
		{"nothing refers to it", []records.Kept{kept(now, "a", 9, tag("1"))}, "", false},
		{"a referrer", []records.Kept{kept(now, "signature", 9, subject("gone"))}, "signature", true},
		{"cosign's tags", []records.Kept{kept(now, "signature", 9, tag(cosign+".sig")), kept(now, "b", 9, tag(cosign))}, "signature b", true},
		{"of something else that is not here", []records.Kept{kept(now, "signature", 9, subject("elsewhere"))}, "", false},
		{"of an image that is here", []records.Kept{kept(now, "a", 9), kept(now, "signature", 9, subject("a"))}, "", false},
		{"pushed lately", []records.Kept{kept(now, "signature", 0, subject("gone"))}, "", true},
		{"with a tag of its own", []records.Kept{kept(now, "chart", 9, subject("gone"), tag("v1"))}, "", true},
		{"what refers to it goes first", []records.Kept{
			kept(now, "signature", 9, subject("gone")), kept(now, "of the signature", 9, subject("signature")),
		}, "of the signature signature", true},
		{"unless that came lately", []records.Kept{
			kept(now, "signature", 9, subject("gone")), kept(now, "of the signature", 0, subject("signature")),
		}, "", true},
		{"a child of an index stays with it", []records.Kept{
			kept(now, "index", 9, tag("1")), kept(now, "signature", 9, subject("gone"), parents("index")),
		}, "", false},
		{"an index with its children", []records.Kept{
			kept(now, "index", 9, subject("gone")), kept(now, "amd64", 9, parents("index")),
		}, "index amd64", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			names := map[godigest.Digest]string{}
			for _, n := range []string{"a", "b", "index", "amd64", "signature", "of the signature", "chart"} {
				names[d(n)] = n
			}
			wanted := map[godigest.Digest]bool{}
			var got []string
			for _, e := range orphaned(tt.all, map[godigest.Digest]bool{d("gone"): true}, wanted, now.Add(-day)) {
				got = append(got, names[e.Digest])
				if e.Orphan != d("gone") {
					t.Errorf("%s refers to %s", names[e.Digest], e.Orphan)
				}
			}
			if diff := gocmp.Diff(tt.want, strings.Join(got, " ")); diff != "" {
				t.Error(diff)
			}
			if wanted[d("gone")] != tt.kept {
				t.Errorf("kept on the list: %v", !tt.kept)
			}
		})
	}
}

// TestOrphansGo: what refers to a deleted image goes after the grace, what Sluice
// says of it too, and nothing goes of an image that came back.
func TestOrphansGo(t *testing.T) {
	b := newBench(t, nil)
	refer := func(name, text, to string) {
		t.Helper()
		err := b.Put(t.Context(), records.Push{Manifest: records.LocalManifest{Name: name, Digest: d(text), MediaType: "m", Size: 1, Subject: d(to)}}, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, text := range []string{"gone", "back"} {
		if _, err := b.put("local/app", text, text); err != nil {
			t.Fatal(err)
		}
		refer("local/app", "signature of "+text, text)
		refer("_attest/local/app", "approval of "+text, text)
		refer("_attest/docker.io/app", "approval of upstream's "+text, text)
	}
	refer("local/app", "of nothing that was ever here", "elsewhere")
	b.forward(day)
	for _, text := range []string{"gone", "back"} {
		if err := b.opts.Records.DeleteLocalManifest(t.Context(), "local/app", d(text), b.clock(), nil); err != nil {
			t.Fatal(err)
		}
	}
	if list, err := b.Expired(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("within the grace: %+v, %v", list, err)
	}
	b.forward(2 * time.Hour)
	list, err := b.Expired(t.Context())
	if err != nil || len(list) != 4 {
		t.Fatalf("after the grace: %+v, %v", list, err)
	}
	if _, err := b.put("local/app", "back", "back"); err != nil {
		t.Fatal(err)
	}
	expire := func(e Expired) bool {
		t.Helper()
		k := records.Kept{Name: e.Name, Digest: e.Digest, Tags: e.Tags, Pushed: e.Pushed, LastPull: e.LastPull, Orphan: e.Orphan}
		gone, err := b.opts.Records.Expire(t.Context(), k, b.clock())
		if err != nil {
			t.Error(err)
		}
		return gone
	}
	for _, e := range list {
		if e.Name == "local/app" && expire(e) != (e.Orphan == d("gone")) {
			t.Errorf("removed or kept wrongly: %+v", e)
		}
	}
	if list, err = b.Expired(t.Context()); err != nil || len(list) != 1 || list[0].Digest != d("approval of gone") || list[0].Name != "_attest/local/app" {
		t.Fatalf("next time: %+v, %v", list, err)
	}
	if !expire(list[0]) {
		t.Error("what Sluice says of a deleted image stays")
	}
	b.forward(2 * time.Hour)
	if _, err := b.Collect(t.Context(), nil, true); err != nil {
		t.Fatal(err)
	}
	if n, err := b.opts.Records.Deleted(t.Context(), b.clock()); err != nil || len(n) == 0 {
		t.Errorf("a dry run forgets what was deleted: %v, %v", n, err)
	}
	if _, err := b.Collect(t.Context(), nil, false); err != nil {
		t.Fatal(err)
	}
	if n, err := b.opts.Records.Deleted(t.Context(), b.clock()); err != nil || len(n) != 0 {
		t.Errorf("deleted manifests to which nothing refers are kept in mind: %v, %v", n, err)
	}
	for name, want := range map[string]int{"local/app": 3, "_attest/local/app": 1, "_attest/docker.io/app": 2} {
		if all, err := b.opts.Records.Kept(t.Context(), name); err != nil || len(all) != want {
			t.Errorf("%s has %d manifests, %v; want %d", name, len(all), err, want)
		}
	}
}

// TestRetention runs the rules over the records: the first rule for a repository
// counts, and what happens after the look keeps an image.
func TestRetention(t *testing.T) {
	b := newBench(t, nil)
	b.opts.Retention = []Retention{
		{Repositories: func(n string) bool { return n == "local/kept" }, MaxAge: 1000 * day},
		{Repositories: func(n string) bool { return strings.HasPrefix(n, "local/") }, KeepLast: 1},
	}
	for _, name := range []string{"local/app", "local/kept"} {
		blob := b.mustPush(name, "blob")
		for i, body := range []string{"one", "two", "three"} {
			if _, err := b.put(name, body, []string{"1", "2", "3"}[i], blob); err != nil {
				t.Fatal(err)
			}
			b.forward(time.Second)
		}
	}
	if none, err := b.Expired(t.Context()); err != nil || len(none) != 0 {
		t.Errorf("within the grace: %+v, %v", none, err)
	}
	b.forward(2 * time.Hour)
	list, err := b.Expired(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 2 || list[0].Digest != d("two") || list[1].Digest != d("one") || !slices.Equal(list[1].Tags, []string{"1"}) {
		t.Fatalf("expired %+v", list)
	}
	dry, err := b.Collect(t.Context(), list, true)
	if err != nil || len(dry.Images) != 2 || len(dry.Blobs) != 0 { // the other repository has the same manifests
		t.Errorf("dry run: %+v, %v", dry, err)
	}
	if _, err := b.put("local/app", "one", "again", d("blob")); err != nil { // pushed since
		t.Fatal(err)
	}
	for i, want := range []bool{true, false} {
		e := list[i]
		k := records.Kept{Name: e.Name, Digest: e.Digest, Tags: e.Tags, Pushed: e.Pushed, LastPull: e.LastPull}
		if gone, err := b.opts.Records.Expire(t.Context(), k, b.clock()); gone != want || err != nil {
			t.Errorf("%s: gone = %v, %v, want %v", e.Digest, gone, err, want)
		}
	}
	g, err := b.Collect(t.Context(), nil, false)
	if err != nil || len(g.Links) != 0 || len(g.Blobs) != 0 {
		t.Errorf("collected %+v, %v", g, err)
	}
}
