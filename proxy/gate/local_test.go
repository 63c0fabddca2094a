package gate

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	godigest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/sluiceproxy/sluice/proxy/local"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/records"
	"github.com/sluiceproxy/sluice/proxy/route"
	"github.com/sluiceproxy/sluice/proxy/store"
	"github.com/sluiceproxy/sluice/proxy/upload"
)

// newPushWorld is a world with a gated registry, in which the mode of a
// repository is its name.
func newPushWorld(t *testing.T) *world {
	t.Helper()
	dir := t.TempDir()
	return newWorldWith(t, dir, func(o *Options) {
		st, err := store.Open(filepath.Join(dir, "registry"), store.Options{Keep: true, Name: "registry", Metrics: prometheus.NewRegistry(), Log: zap.NewNop()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(st.Close)
		ups := upload.New(upload.Options{NewSpool: func() (upload.Spool, error) { return st.NewSpool(-1) }, Log: zap.NewNop()})
		o.Local = local.New(local.Options{Store: st, Records: o.Records, Uploads: ups, Grace: time.Hour, Log: zap.NewNop()})
		o.PushHold = 10 * time.Second
		o.Mode = func(name string) Mode {
			return map[string]Mode{"local/quarantine": Quarantine, "local/annotate": Annotate, "up/bad": Annotate}[name]
		}
	})
}

func localRoute(name, tag string) route.Route {
	return route.Route{Kind: route.Manifest, Local: true, Repository: name, Name: "local/" + name, Tag: tag}
}

// push pushes an image whose layer has files of these names.
func (w *world) push(name, tag string, names ...string) (Pushed, error) {
	w.t.Helper()
	layer := w.layer(names)
	config := ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}, RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []godigest.Digest{godigest.FromBytes(layer)}}}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	add := func(mediaType string, b []byte) ocispec.Descriptor {
		if err := w.opts.Local.PutBlob(w.t.Context(), "local/"+name, b); err != nil {
			w.t.Fatal(err)
		}
		return ocispec.Descriptor{MediaType: mediaType, Digest: godigest.FromBytes(b), Size: int64(len(b))}
	}
	m.Config = add(ocispec.MediaTypeImageConfig, w.json(config))
	m.Layers = []ocispec.Descriptor{add(ocispec.MediaTypeImageLayer, layer)}
	return w.Push(w.t.Context(), localRoute(name, tag), PushRequest{
		Bytes: w.json(m), MediaType: m.MediaType, Pusher: "user:alice", Tags: []records.PushedTag{{Name: tag}},
	})
}

func TestPushByMode(t *testing.T) {
	w := newPushWorld(t)
	for _, tt := range []struct {
		name, file string
		refused    bool            // the push
		verdict    policy.Decision // on what is stored
		served     bool            // to everyone
	}{
		{"reject", "fine", false, policy.Allow, true},
		{"reject", "meh", false, policy.Annotate, true},
		{"reject", "bad", true, 0, false},
		{"quarantine", "bad", false, policy.Deny, false},
		{"quarantine", "fine", false, policy.Allow, true},
		{"annotate", "bad", false, policy.Annotate, true},
	} {
		t.Run(tt.name+" "+tt.file, func(t *testing.T) {
			p, err := w.push(tt.name, tt.file, tt.file)
			var denied *policy.DeniedError
			if errors.As(err, &denied) != tt.refused || !tt.refused && err != nil {
				t.Fatalf("push: %v", err)
			}
			rt := localRoute(tt.name, tt.file)
			_, err = w.Manifest(t.Context(), rt)
			if tt.refused {
				if !errors.Is(err, ErrManifestUnknown) {
					t.Errorf("after the refusal: %v", err)
				}
				return
			}
			if p.Verdict.Decision != tt.verdict || (p.Warning == "") != (tt.verdict == policy.Allow) {
				t.Errorf("verdict %s, warning %q", p.Verdict.Decision, p.Warning)
			}
			if (err == nil) != tt.served {
				t.Errorf("served: %v", err)
			}
			if a, err := w.Inspect(t.Context(), rt); err != nil || a.Manifest.Descriptor.Digest != p.Digest || a.Verdict.Decision != tt.verdict {
				t.Errorf("Inspect = %s, %v", a.Verdict.Decision, err)
			}
			if d, v, err := w.Judge(t.Context(), rt, ocispec.Platform{}); err != nil || d != p.Digest || v.Decision != tt.verdict {
				t.Errorf("Judge = %s, %s, %v", d, v.Decision, err)
			}
		})
	}
	w.image("bad:1", []string{"bad"})
	if _, v, err := w.Judge(t.Context(), route.Route{Kind: route.Manifest, Upstream: "up", Repository: "bad", Name: "up/bad", Tag: "1"}, ocispec.Platform{}); err != nil || v.Decision != policy.Deny {
		t.Errorf("a mode of the gated registry on an upstream image: %s, %v", v.Decision, err)
	}
}

// TestJudgeIndex: of an index the image for the platform decides.
func TestJudgeIndex(t *testing.T) {
	w := newPushWorld(t)
	amd64, arm64 := w.image("multi:a", []string{"fine"}), w.image("multi:b", []string{"bad"})
	idx := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for arch, m := range map[string]ocispec.Manifest{"amd64": amd64, "arm64": arm64} {
		b := w.json(m)
		idx.Manifests = append(idx.Manifests, ocispec.Descriptor{
			MediaType: m.MediaType, Digest: godigest.FromBytes(b), Size: int64(len(b)), Platform: &ocispec.Platform{OS: "linux", Architecture: arch},
		})
	}
	want := w.put("multi", "1", idx.MediaType, w.json(idx))
	rt := route.Route{Kind: route.Manifest, Upstream: "up", Repository: "multi", Name: "up/multi", Tag: "1"}
	for arch, decision := range map[string]policy.Decision{"amd64": policy.Allow, "arm64": policy.Deny} {
		d, v, err := w.Judge(t.Context(), rt, ocispec.Platform{OS: "linux", Architecture: arch})
		if err != nil || d != want || v.Decision != decision {
			t.Errorf("%s: %s %s, %v, want %s", arch, d, v.Decision, err, decision)
		}
	}
	var none *PlatformError
	if _, _, err := w.Judge(t.Context(), rt, ocispec.Platform{OS: "linux", Architecture: "s390x"}); !errors.As(err, &none) || len(none.Have) != 2 {
		t.Errorf("no such platform: %v", err)
	}
}

// TestDeleteWithoutBytes: a manifest whose bytes a damaged disk lost can be
// deleted, and pushed again.
func TestDeleteWithoutBytes(t *testing.T) {
	w := newPushWorld(t)
	p, err := w.push("reject", "1", "fine")
	if err != nil {
		t.Fatal(err)
	}
	rt := localRoute("reject", "1")
	w.stop()
	w.start(rules) // with nothing in memory
	path := filepath.Join(w.dir, "registry", "docker/registry/v2/blobs/sha256", p.Digest.Encoded()[:2], p.Digest.Encoded(), "data")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Manifest(t.Context(), rt); !errors.Is(err, ErrManifestUnknown) {
		t.Fatalf("without its bytes: %v", err)
	}
	if err := w.Delete(t.Context(), rt.Name, p.Digest, nil); err != nil {
		t.Fatal(err)
	}
	if err := w.Delete(t.Context(), rt.Name, p.Digest, nil); !errors.Is(err, ErrManifestUnknown) {
		t.Errorf("once more: %v", err)
	}
	if _, err := w.push("reject", "1", "fine"); err != nil {
		t.Error(err)
	}
	if _, err := w.Manifest(t.Context(), rt); err != nil {
		t.Errorf("pushed again: %v", err)
	}
}

// TestExpire: what the retention rules let go is unknown at once, and what was
// pushed since stays.
func TestExpire(t *testing.T) {
	w := newPushWorld(t)
	p, err := w.push("reject", "1", "fine")
	if err != nil {
		t.Fatal(err)
	}
	rt := localRoute("reject", "1")
	if _, err := w.Manifest(t.Context(), rt); err != nil {
		t.Fatal(err)
	}
	m, _, err := w.opts.Records.LocalManifest(t.Context(), rt.Name, p.Digest)
	if err != nil {
		t.Fatal(err)
	}
	e := local.Expired{Name: rt.Name, Digest: p.Digest, Pushed: m.Pushed.Add(-time.Second)}
	if gone, err := w.Expire(t.Context(), e); gone || err != nil {
		t.Errorf("of an older push: %v, %v", gone, err)
	}
	e.Pushed = m.Pushed
	if gone, err := w.Expire(t.Context(), e); !gone || err != nil {
		t.Errorf("Expire = %v, %v", gone, err)
	}
	if _, err := w.Manifest(t.Context(), rt); !errors.Is(err, ErrManifestUnknown) {
		t.Errorf("afterwards: %v", err)
	}
}

// TestDeletedTag: a verdict that rested on a tag is taken anew when the tag goes.
func TestDeletedTag(t *testing.T) {
	w := newPushWorld(t)
	p, err := w.push("quarantine", "waived", "bad")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.records.AddWaiver(t.Context(), policy.Waiver{
		Advisory: "CVE-2026-0001", Images: []string{"local/quarantine:waived"}, Owner: "o", Reason: "r", Expires: time.Now().Add(time.Hour),
	}, "o"); err != nil {
		t.Fatal(err)
	}
	tagged := localRoute("quarantine", "waived")
	if _, err := w.Manifest(t.Context(), tagged); err != nil {
		t.Fatal(err)
	}
	if err := w.DeleteTag(t.Context(), tagged.Name, "waived"); err != nil {
		t.Fatal(err)
	}
	var denied *policy.DeniedError
	if _, err := w.Manifest(t.Context(), byDigest(tagged, p.Digest)); !errors.As(err, &denied) {
		t.Errorf("by digest, without the tag: %v", err)
	}
	if err := w.DeleteTag(t.Context(), tagged.Name, "waived"); !errors.Is(err, records.ErrNotFound) {
		t.Errorf("again: %v", err)
	}
}
