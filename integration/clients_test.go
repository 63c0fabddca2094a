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
	name    string
	mirrors bool // can be configured to ask the program for images of other registries
	tells   bool // prints the reason of a refusal
	// into pulls reference for linux/amd64 on m and returns what the tool printed.
	// After a success the pulled content is compared with want, the digest of the
	// image's own manifest.
	into func(t *testing.T, m machine, reference string, want godigest.Digest) (out string, err error)
}

// pull is into on a machine of its own.
func (c client) pull(t *testing.T, reference string, want godigest.Digest) (string, error) {
	t.Helper()
	return c.into(t, newMachine(t), reference, want)
}

// clients are those that print the reason of a refusal.
func clients() []client {
	return []client{
		{name: "crane", tells: true, into: cranePull},
		{name: "skopeo", mirrors: true, tells: true, into: skopeoPull},
		{name: "podman", mirrors: true, tells: true, into: podmanPull},
	}
}

// machine is a place for a client's configuration and images.
type machine struct {
	dir string // all files are below it
}

func newMachine(t *testing.T) machine {
	t.Helper()
	m := machine{must(os.MkdirTemp("", "pull"))(t)} // t.TempDir's names are too long for sockets
	t.Cleanup(func() {
		if err := os.RemoveAll(m.dir); err != nil {
			t.Error(err)
		}
	})
	write(t, m.registries(), nil)
	write(t, m.policy(), []byte(`{"default":[{"type":"insecureAcceptAnything"}]}`))
	return m
}

func (m machine) registries() string { return filepath.Join(m.dir, "registries.conf") }
func (m machine) policy() string     { return filepath.Join(m.dir, "policy.json") }
func (m machine) hosts() string      { return filepath.Join(m.dir, "certs.d") }

// mirror makes clients ask the proxy, and nobody else, for images of registry,
// which is the proxy's upstream "up". It is the exclusive form of docs/mirror.md.
func (m machine) mirror(t *testing.T, registry, proxy string) {
	t.Helper()
	write(t, m.registries(), fmt.Appendf(nil, "[[registry]]\nprefix = %q\nlocation = %q\ninsecure = true\n", registry, proxy+"/up"))
	write(t, filepath.Join(m.hosts(), registry, "hosts.toml"),
		fmt.Appendf(nil, "server = \"http://%[1]s\"\n\n[host.\"http://%[1]s\"]\n  capabilities = [\"pull\", \"resolve\"]\n", proxy))
}

// cranePull writes an OCI layout, whose blobs are named after their digests.
func cranePull(t *testing.T, m machine, reference string, want godigest.Digest) (string, error) {
	dir := filepath.Join(m.dir, "layout")
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
func skopeoPull(t *testing.T, m machine, reference string, want godigest.Digest) (string, error) {
	dir := filepath.Join(m.dir, "copy")
	out, err := command(t, tool(t, "skopeo"), "--registries-conf", m.registries(), "--policy", m.policy(), "--override-os", "linux", "--override-arch", "amd64",
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
func podmanPull(t *testing.T, m machine, reference string, want godigest.Digest) (string, error) {
	bin := tool(t, "podman")
	podman := func(args ...string) (string, error) {
		return command(t, bin, append([]string{
			"--registries-conf", m.registries(), "--root", filepath.Join(m.dir, "root"),
			"--runroot", filepath.Join(m.dir, "run"), "--storage-driver", "vfs",
		}, args...)...)
	}
	out, err := podman("pull", "--arch", "amd64", "--tls-verify=false", "--signature-policy", m.policy(), reference)
	if err != nil {
		if got, lerr := podman("images", "--quiet"); lerr != nil || strings.TrimSpace(got) != "" {
			t.Errorf("after a pull that failed podman has the images %q (%v)", got, lerr)
		}
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
	ctx, cancel := context.WithTimeout(t.Context(), 8*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = environment()
	out, err := cmd.CombinedOutput()
	return string(out), err
}
