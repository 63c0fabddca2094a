package analyzer

import (
	"runtime"
	"strings"
	"testing"

	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	someDigest  = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	descriptor  = `{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"` + someDigest + `","size":7}`
	imageConfig = `"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"` + someDigest + `","size":2}`
)

func TestParseManifest(t *testing.T) {
	for _, tt := range []struct {
		name, mediaType, body string
		index                 bool
		members               int
		err                   string
	}{
		{name: "image", body: `{"schemaVersion":2,` + imageConfig + `,"layers":[` + descriptor + `]}`, members: 2},
		{name: "docker image", mediaType: MediaTypeDockerManifest, body: `{"schemaVersion":2,"mediaType":"` + MediaTypeDockerManifest + `",` + imageConfig + `,"layers":[]}`, members: 1},
		{name: "index", body: `{"schemaVersion":2,"manifests":[` + descriptor + `]}`, index: true, members: 1},
		{name: "empty index", mediaType: ocispec.MediaTypeImageIndex, body: `{"schemaVersion":2,"manifests":[]}`, index: true},
		{name: "both", body: `{"schemaVersion":2,` + imageConfig + `,"layers":[],"manifests":[]}`, err: "both manifests and layers"},
		{name: "type of the other kind", mediaType: ocispec.MediaTypeImageIndex, body: `{"schemaVersion":2,` + imageConfig + `}`, err: "without manifests"},
		{name: "types contradict", mediaType: MediaTypeDockerManifest, body: `{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageManifest + `",` + imageConfig + `}`, err: "says that it is"},
		{name: "schema 1", mediaType: "application/vnd.docker.distribution.manifest.v1+json", body: `{"schemaVersion":1,"fsLayers":[]}`, err: "schema version 1"},
		{name: "unknown type", mediaType: "application/x", body: `{"schemaVersion":2,` + imageConfig + `}`, err: "not supported"},
		{name: "no config", body: `{"schemaVersion":2,"layers":[]}`, err: "without config"},
		{name: "key twice", body: `{"schemaVersion":2,` + imageConfig + `,"layers":[],"layers":[` + descriptor + `]}`, err: "stands twice"},
		{name: "key in two cases", body: `{"schemaVersion":2,` + imageConfig + `,"layers":[],"Layers":[]}`, err: "stands twice"},
		{name: "key with a long s", body: `{"schemaVersion":2,` + imageConfig + `,"layers":[],"layerſ":[]}`, err: "stands twice"},
		{name: "key with a Kelvin sign", body: `{"schemaVersion":2,` + imageConfig + `,"layers":[],"k":1,"K":2}`, err: "stands twice"},
		{name: "key twice inside", body: `{"schemaVersion":2,"manifests":[{"digest":"` + someDigest + `","digest":"` + someDigest + `"}]}`, err: "stands twice"},
		{name: "sha512", body: `{"schemaVersion":2,"manifests":[{"digest":"sha512:` + strings.Repeat("a", 128) + `"}]}`, err: "sha512"},
		{name: "short digest", body: `{"schemaVersion":2,"manifests":[{"digest":"sha256:aa"}]}`, err: "sha256:aa"},
		{name: "negative size", body: `{"schemaVersion":2,"manifests":[{"digest":"` + someDigest + `","size":-1}]}`, err: "size -1"},
		{name: "not JSON", body: `{`, err: "unexpected end"},
		{name: "trailing data", body: `{"schemaVersion":2,"manifests":[]}{}`, err: "invalid character"},
		{name: "empty", body: ``, err: "unexpected end"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, err := ParseManifest(tt.mediaType, []byte(tt.body))
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error = %v, want one with %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if m.Index != tt.index || len(m.Members()) != tt.members {
				t.Errorf("index %v, members %v", m.Index, m.Members())
			}
			if want := godigest.FromString(tt.body); m.Descriptor.Digest != want || m.Descriptor.Size != int64(len(tt.body)) || m.Descriptor.MediaType == "" {
				t.Errorf("descriptor %+v, want digest %s", m.Descriptor, want)
			}
		})
	}
}

// TestCostlyManifests: a manifest of the largest size does not cost many times
// its bytes.
func TestCostlyManifests(t *testing.T) {
	const size = 4 << 20
	fill := func(s string) string { return strings.Repeat(s, size/len(s)) }
	for _, tt := range []struct{ name, body, err string }{
		{"deep lists", fill(`[`), "depth"},
		{"deep objects", fill(`{"a":`), "depth"},
		{"layers of nothing", `{"layers":[` + fill("null,") + `null]}`, "more than 4096"},
		{"layers of another type", `{"layers":[` + fill("0,") + `0]}`, "number"},
		{"empty layers", `{"layers":[` + fill("{},") + `{}]}`, "more than 4096"},
		{"empty manifests", `{"manifests":[` + fill("{},") + `{}]}`, "more than 4096"},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := ParseManifest("", []byte(tt.body))
		runtime.ReadMemStats(&after)
		if err == nil || !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %v, want an error with %q", tt.name, err, tt.err)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 8*size {
			t.Errorf("%s: took %d MiB", tt.name, n>>20)
		}
	}
}

func TestManifestURLs(t *testing.T) {
	m, err := ParseManifest("", []byte(`{"schemaVersion":2,`+imageConfig+`,"layers":[{"digest":"`+someDigest+`","size":1,"urls":["https://evil.example/x"]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if len(m.URLs) != 1 || m.URLs[0] != "https://evil.example/x" {
		t.Errorf("URLs = %q", m.URLs)
	}
}

func FuzzParseManifest(f *testing.F) {
	f.Add("", `{"schemaVersion":2,`+imageConfig+`,"layers":[`+descriptor+`]}`)
	f.Add(ocispec.MediaTypeImageIndex, `{"schemaVersion":2,"manifests":[`+descriptor+`]}`)
	f.Add("", `{"schemaVersion":2,"manifests":[],"layers":[]}`)
	f.Add("", `[[[[{"a":1}]]]]`)
	f.Fuzz(func(t *testing.T, mediaType, body string) {
		m, err := ParseManifest(mediaType, []byte(body))
		if err != nil {
			return
		}
		for _, d := range m.Members() {
			if d.Validate() != nil || d.Algorithm() != godigest.SHA256 {
				t.Fatalf("member %q of %q", d, body)
			}
			if got, ok := m.Member(d); !ok || got.Digest != d {
				t.Fatalf("member %q not found again", d)
			}
		}
	})
}
