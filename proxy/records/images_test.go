package records

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	godigest "github.com/opencontainers/go-digest"

	"github.com/sluiceproxy/sluice/proxy/policy"
)

const nginx = "docker.io/library/nginx"

func TestSeenImage(t *testing.T) {
	db := openNew(t)
	seen := func(tag, content string, after time.Duration) Image {
		t.Helper()
		img, err := db.SeenImage(t.Context(), nginx, tag, digest(content), "type", clock.Add(after))
		if err != nil {
			t.Fatal(err)
		}
		return img
	}
	seen("1.25", "one", 0)
	seen("latest", "one", time.Hour)
	got := seen("", "one", 2*time.Hour)
	want := Image{Name: nginx, Digest: digest("one"), MediaType: "type", Tags: []string{"1.25", "latest"}, FirstSeen: clock}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}

	got = seen("latest", "two", 3*time.Hour)
	want = Image{Name: nginx, Digest: digest("two"), MediaType: "type", Tags: []string{"latest"}, FirstSeen: clock.Add(3 * time.Hour)}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	old, ok, err := db.Image(t.Context(), nginx, digest("one"))
	if err != nil || !ok {
		t.Fatalf("Image = %v, %v", ok, err)
	}
	if d := cmp.Diff([]string{"1.25"}, old.Tags); d != "" {
		t.Errorf("the moved tag stayed: %s", d)
	}
	dgst, since, ok, err := db.Tag(t.Context(), nginx, "latest")
	if err != nil || !ok || dgst != digest("two") || !since.Equal(clock.Add(3*time.Hour)) {
		t.Errorf("Tag = %v, %v, %v, %v", dgst, since, ok, err)
	}
	for _, c := range []struct {
		dgst string
		at   time.Duration
		want time.Duration
	}{{"two", 5 * time.Hour, 5 * time.Hour}, {"two", 4 * time.Hour, 5 * time.Hour}, {"one", 6 * time.Hour, 5 * time.Hour}} {
		if err := db.ConfirmTag(t.Context(), nginx, "latest", digest(c.dgst), clock.Add(c.at)); err != nil {
			t.Fatal(err)
		}
		if dgst, at, _, err := db.Tag(t.Context(), nginx, "latest"); err != nil || dgst != digest("two") || !at.Equal(clock.Add(c.want)) {
			t.Errorf("Tag after %+v = %v, %v, %v", c, dgst, at, err)
		}
	}
	if _, _, ok, err := db.Tag(t.Context(), nginx, "none"); ok || err != nil {
		t.Errorf("unknown tag: %v, %v", ok, err)
	}
	var history int
	if err := db.read.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM tag_history WHERE tag = 'latest'").Scan(&history); err != nil || history != 2 {
		t.Errorf("history of latest has %d entries, %v, want 2", history, err)
	}

	if _, err := db.SeenImage(t.Context(), "ghcr.io/acme/mirror", "x", digest("one"), "type", clock); err != nil {
		t.Fatal(err)
	}
	images, err := db.ImagesOf(t.Context(), digest("one"))
	if err != nil || len(images) != 2 || images[0].Name != nginx || images[1].Name != "ghcr.io/acme/mirror" {
		t.Errorf("ImagesOf = %v, %v", images, err)
	}
	if _, ok, err := db.Image(t.Context(), nginx, digest("none")); ok || err != nil {
		t.Errorf("unknown image: %v, %v", ok, err)
	}
}

// TestPulledByMany: nodes with ever new addresses do not fill the table.
func TestPulledByMany(t *testing.T) {
	db := openNew(t)
	one := digest("one")
	if _, err := db.SeenImage(t.Context(), nginx, "1", one, "m", clock); err != nil {
		t.Fatal(err)
	}
	for i := range keepClients + 5 {
		if err := db.Pulled(t.Context(), nginx, one, fmt.Sprintf("client-%03d", i), clock.Add(time.Duration(i)*time.Second), 1); err != nil {
			t.Fatal(err)
		}
	}
	var rows, pulls int
	var first string
	if err := db.read.QueryRowContext(t.Context(), "SELECT COUNT(*), MIN(client) FROM pulls").Scan(&rows, &first); err != nil {
		t.Fatal(err)
	}
	if err := db.read.QueryRowContext(t.Context(), "SELECT pulls FROM images").Scan(&pulls); err != nil {
		t.Fatal(err)
	}
	if rows != keepClients || first != "client-005" || pulls != keepClients+5 {
		t.Errorf("%d clients from %s, %d pulls; want the last %d, and all pulls counted", rows, first, pulls, keepClients)
	}
}

func TestPulled(t *testing.T) {
	db := openNew(t)
	if err := db.Pulled(t.Context(), nginx, digest("one"), "10.0.0.1", clock, 1); !errors.Is(err, ErrNotFound) {
		t.Errorf("unknown image: %v", err)
	}
	if _, err := db.SeenImage(t.Context(), nginx, "", digest("one"), "type", clock); err != nil {
		t.Fatal(err)
	}
	for _, p := range []struct {
		client string
		after  time.Duration
		count  int64
	}{{"10.0.0.1", time.Minute, 3}, {"10.0.0.2", time.Hour, 2}, {"10.0.0.3", 0, 1}} { // the last comes late
		if err := db.Pulled(t.Context(), nginx, digest("one"), p.client, clock.Add(p.after), p.count); err != nil {
			t.Fatal(err)
		}
	}
	img, _, err := db.Image(t.Context(), nginx, digest("one"))
	if err != nil || img.Pulls != 6 || img.LastClient != "10.0.0.2" || !img.LastPull.Equal(clock.Add(time.Hour)) {
		t.Errorf("Image = %+v, %v", img, err)
	}
}

func TestMembers(t *testing.T) {
	db := openNew(t)
	layer := digest("layer")
	for manifest, members := range map[string][]godigest.Digest{
		"one": {layer, digest("config one")}, "two": {digest("config two"), layer}, "none": nil,
	} {
		for range 2 {
			if err := db.PutMembers(t.Context(), nginx, digest(manifest), members); err != nil {
				t.Fatal(err)
			}
		}
	}
	got, err := db.ManifestsWith(t.Context(), nginx, layer)
	if err != nil || len(got) != 2 {
		t.Errorf("ManifestsWith = %v, %v", got, err)
	}
	if got, err := db.ManifestsWith(t.Context(), "docker.io/library/other", layer); err != nil || len(got) != 0 {
		t.Errorf("another repository: %v, %v", got, err)
	}
}

func TestKnownFindings(t *testing.T) {
	db := openNew(t)
	a, b := policy.FindingKey{Advisory: "DSA-1", Package: "zlib1g"}, policy.FindingKey{Advisory: "DSA-2", Package: "zlib1g"}
	known := func(after time.Duration, keys ...policy.FindingKey) map[policy.FindingKey]time.Time {
		t.Helper()
		m, err := db.KnownFindings(t.Context(), nginx, digest("one"), keys, clock.Add(after))
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	known(0, a, a)
	want := map[policy.FindingKey]time.Time{a: clock, b: clock.Add(time.Hour)}
	if d := cmp.Diff(want, known(time.Hour, a, b)); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(want, known(2*time.Hour, b, a)); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(map[policy.FindingKey]time.Time{b: clock.Add(time.Hour)}, known(3*time.Hour, b)); d != "" {
		t.Errorf("a key that was not asked for: %s", d)
	}
}
