package integration

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	godigest "github.com/opencontainers/go-digest"
)

// client is a tool that pulls images.
type client struct {
	name string
	// pull pulls reference for linux/amd64 and returns what the tool printed.
	// After a success the pulled content is compared with want, the digest of the
	// image's own manifest.
	pull func(t *testing.T, reference string, want godigest.Digest) (out string, err error)
}

func clients() []client {
	return []client{{"crane", cranePull}, {"skopeo", skopeoPull}, {"podman", podmanPull}}
}

// cranePull writes an OCI layout, whose blobs are named after their digests.
func cranePull(t *testing.T, reference string, want godigest.Digest) (string, error) {
	dir := filepath.Join(t.TempDir(), "layout")
	out, err := command(t, tool(t, "crane"), "pull", "--insecure", "--platform", "linux/amd64", "--format", "oci", reference, dir)
	if err != nil {
		return out, err
	}
	blobs := filepath.Join(dir, "blobs", "sha256")
	if _, err := os.Stat(filepath.Join(blobs, want.Encoded())); err != nil {
		t.Errorf("crane did not get manifest %s: %v", want, err)
	}
	return out, compareNames(blobs, "")
}

// skopeoPull writes skopeo's dir format: the manifest as it came, and blobs
// named after their digests.
func skopeoPull(t *testing.T, reference string, want godigest.Digest) (string, error) {
	dir := t.TempDir()
	out, err := command(t, tool(t, "skopeo"), "--insecure-policy", "--override-os", "linux", "--override-arch", "amd64",
		"copy", "--preserve-digests", "--src-tls-verify=false", "docker://"+reference, "dir:"+dir)
	if err != nil {
		return out, err
	}
	raw, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err != nil {
		return out, err
	}
	if got := godigest.FromBytes(raw); got != want {
		t.Errorf("skopeo got manifest %s, want %s", got, want)
	}
	return out, compareNames(dir, "version")
}

// podmanPull pulls into a store of its own and asks it for the digests. Podman
// verifies layers and config itself.
func podmanPull(t *testing.T, reference string, want godigest.Digest) (string, error) {
	bin := tool(t, "podman")
	root := must(os.MkdirTemp("", "podman"))(t) // t.TempDir's names are too long for podman's sockets
	t.Cleanup(func() {
		if err := os.RemoveAll(root); err != nil {
			t.Error(err)
		}
	})
	policy := filepath.Join(root, "policy.json")
	write(t, policy, []byte(`{"default":[{"type":"insecureAcceptAnything"}]}`))
	store := []string{"--root", filepath.Join(root, "root"), "--runroot", filepath.Join(root, "run"), "--storage-driver", "vfs"}
	podman := func(args ...string) (string, error) { return command(t, bin, append(store, args...)...) }
	out, err := podman("pull", "--arch", "amd64", "--tls-verify=false", "--signature-policy", policy, reference)
	if err != nil {
		return out, err
	}
	got, err := podman("image", "inspect", "--format", "{{join .RepoDigests \" \"}}", reference)
	if err != nil {
		return out, fmt.Errorf("inspect: %s %w", got, err)
	}
	if !strings.Contains(got, "@"+want.String()) {
		t.Errorf("podman got %s, want %s", strings.TrimSpace(got), want)
	}
	return out, nil
}

// compareNames verifies that each file of a directory has the digest that its
// name says; files with an extension, and skip, are not blobs.
func compareNames(dir, skip string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	n := 0
	for _, e := range entries {
		if e.IsDir() || e.Name() == skip || strings.Contains(e.Name(), ".") {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		if got := godigest.FromBytes(data).Encoded(); got != e.Name() {
			return fmt.Errorf("blob %s has the digest %s", e.Name(), got)
		}
		n++
	}
	if n == 0 {
		return fmt.Errorf("no blobs in %s", dir)
	}
	return nil
}

// command runs a program and returns all that it printed.
func command(t *testing.T, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(t.Context(), 4*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = environment()
	out, err := cmd.CombinedOutput()
	return string(out), err
}
