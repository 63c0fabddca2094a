package analyzer

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	godigest "github.com/opencontainers/go-digest"
	ociidentity "github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestFileFacts merges the facts of layers: what a later layer hides is gone,
// but its bytes are wasted.
func TestFileFacts(t *testing.T) {
	lower := testLayer("0", "app/", "app/x", "data/", "data/y", "bin/sh", "bin/bash", "usr/sbin/sshd", "big", "old", "kept", "bin/su*", "opt/tool*")
	lower.Hardening = LayerFacts{
		WorldWritable: []string{"app/", "app/x", "data/", "data/y", "tmp2/"}, Shells: []string{"bin/bash", "bin/sh"}, PackageManagers: []string{"sbin/apk"},
		SSH: []string{"usr/sbin/sshd"}, Sizes: map[string]int64{"big": 500, "old": 1000, "kept": 70},
	}
	upper := testLayer("1", "data/", "big", "-old", "-usr/sbin/sshd", "-bin/bash")
	upper.Hardening = LayerFacts{Sizes: map[string]int64{"big": 9}}
	var inv Inventory
	merge(&inv, []*Layer{lower, upper})
	want := Hardening{
		UnusualSetuid: []string{"opt/tool"}, WorldWritable: []string{"app/", "data/y", "tmp2/"}, Shells: []string{"bin/sh"}, PackageManagers: []string{"sbin/apk"},
		Wasted: 1500, WastedFiles: []string{"old", "big"},
	}
	if d := cmp.Diff(want, inv.Hardening); d != "" {
		t.Errorf("facts (-want +got):\n%s", d)
	}
}

func TestUsualSetuid(t *testing.T) {
	for p, want := range map[string]bool{
		"usr/bin/passwd": true, "bin/su": true, "usr/lib/dbus-1.0/dbus-daemon-launch-helper": true, "usr/lib/openssh/ssh-keysign": true, "bin/bbsuid": true,
		"usr/local/bin/su": false, "app/su": false, "usr/bin/sudo": false, "usr/bin/find": false, "su": false, "home/x/bin/su": false,
	} {
		if got := usualSetuid(p); got != want {
			t.Errorf("usualSetuid(%q) = %v", p, got)
		}
	}
}

func TestConfigFacts(t *testing.T) {
	for _, tt := range []struct {
		name, config string
		want         Hardening
	}{
		{"nothing", `{}`, Hardening{Root: true}},
		{"user", `{"config":{"User":"app:root"}}`, Hardening{}},
		{"root by number", `{"config":{"User":"0:1000"}}`, Hardening{Root: true}},
		{"root by a longer number", `{"config":{"User":"00"}}`, Hardening{Root: true}},
		{"ports", `{"config":{"User":"1","ExposedPorts":{"80/tcp":{},"22/tcp":{}}}}`, Hardening{Ports: []string{"22/tcp", "80/tcp"}, SSH: []string{"port 22"}}},
		{"healthcheck", `{"config":{"User":"1","Healthcheck":{"Test":["CMD","/x"]}}}`, Hardening{Healthcheck: true}},
		{"healthcheck off", `{"config":{"User":"1","Healthcheck":{"Test":["NONE"]}}}`, Hardening{}},
		{"ADD", `{"config":{"User":"1"},"history":[
			{"created_by":"ADD rootfs.tar / # buildkit"},
			{"created_by":"ADD --chown=1 https://bob:pw@x.example/a.tgz /a # buildkit"},
			{"created_by":"/bin/sh -c #(nop) ADD http://x.example/b in /b "},
			{"created_by":"RUN /bin/sh -c curl https://x.example/c"},
			{"created_by":"ADD git@x.example:d.git /d"}]}`, Hardening{AddedURLs: []string{"git@x.example:d.git", "http://x.example/b", "https://x.example/a.tgz"}}},
	} {
		config := &configFile{healthcheck: hasHealthcheck([]byte(tt.config))}
		if err := json.Unmarshal([]byte(tt.config), &config.Image); err != nil {
			t.Fatal(err)
		}
		var inv Inventory
		configFacts(&inv, config)
		if d := cmp.Diff(tt.want, inv.Hardening); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, d)
		}
	}
}

func TestBaseOf(t *testing.T) {
	d := godigest.FromString("base")
	deb := []Package{{Type: "deb"}}
	for _, tt := range []struct {
		name                string
		inv                 Inventory
		annotations, labels map[string]string
		want                Base
	}{
		{"scratch", Inventory{}, nil, nil, Base{Kind: BaseScratch}},
		{"scratch with busybox", Inventory{Hardening: Hardening{Shells: []string{"bin/sh"}}}, nil, nil, Base{Kind: BaseScratch}},
		{"distroless", Inventory{Packages: deb}, nil, nil, Base{Kind: BaseDistroless}},
		{"minimal", Inventory{OS: OSRelease{ID: "almalinux"}, Hardening: Hardening{Shells: []string{"bin/sh"}}}, nil, nil, Base{Kind: BaseMinimal}},
		{"distribution", Inventory{Packages: deb, Hardening: Hardening{PackageManagers: []string{"usr/bin/apt"}}}, nil, nil, Base{Kind: BaseDistribution}},
		{"artifact", Inventory{ArtifactType: "x"}, nil, nil, Base{}},
		{"label", Inventory{}, nil, map[string]string{ocispec.AnnotationBaseImageName: "docker.io/library/debian:12"}, Base{Kind: BaseScratch, Name: "docker.io/library/debian:12"}},
		{
			"annotation before label",
			Inventory{},
			map[string]string{ocispec.AnnotationBaseImageName: "a", ocispec.AnnotationBaseImageDigest: d.String()},
			map[string]string{ocispec.AnnotationBaseImageName: "b"},
			Base{Kind: BaseScratch, Name: "a", Digest: d, Pinned: true},
		},
		{"digest in the name", Inventory{}, map[string]string{ocispec.AnnotationBaseImageName: "a@" + d.String()}, nil, Base{Kind: BaseScratch, Name: "a@" + d.String(), Digest: d, Pinned: true}},
		{"no digest", Inventory{}, map[string]string{ocispec.AnnotationBaseImageDigest: "sha256:x"}, nil, Base{Kind: BaseScratch}},
	} {
		if d := cmp.Diff(tt.want, baseOf(&tt.inv, tt.annotations, tt.labels)); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, d)
		}
	}
}

func TestChainIDs(t *testing.T) {
	a, b := godigest.FromString("a"), godigest.FromString("b")
	inv := &Inventory{Layers: []LayerSummary{{DiffID: a}, {DiffID: b}}}
	want := []godigest.Digest{a, godigest.FromString(a.String() + " " + b.String())} // OCI image-spec, config.md
	if d := cmp.Diff(want, inv.ChainIDs()); d != "" || want[1] != ociidentity.ChainID([]godigest.Digest{a, b}) {
		t.Errorf("chainIDs (-want +got):\n%s", d)
	}
	for name, inv := range map[string]*Inventory{
		"unknown": {Layers: []LayerSummary{{DiffID: a}, {}}}, "broken": {Layers: inv.Layers, DiffIDBroken: "x"}, "none": {},
	} {
		if got := inv.ChainIDs(); len(got) > 0 {
			t.Errorf("%s: %v", name, got)
		}
	}
}
