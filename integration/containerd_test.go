package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	godigest "github.com/opencontainers/go-digest"
)

// containerd is Debian's containerd 1.6. It prints no reason, since it asks with
// HEAD first.
func containerd() client { return client{name: "containerd", mirrors: true, into: containerdPull} }

// containerdPull pulls into a containerd of its own, without the plugins that a
// pull does not need, and looks into its content store.
func containerdPull(t *testing.T, m machine, reference string, want godigest.Digest) (string, error) {
	daemon, ctr := tool(t, "containerd"), tool(t, "ctr")
	if os.Geteuid() != 0 {
		t.Skip("containerd unpacks layers only as root")
	}
	log, stop := m.runContainerd(t, daemon, fmt.Sprintf(`version = 2
root = %q
state = %q
disabled_plugins = [
  "io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.overlayfs",
  "io.containerd.snapshotter.v1.zfs",
]
[grpc]
  address = %q
`, m.root(), filepath.Join(m.dir, "state"), m.socket()))
	defer stop()
	run := func(args ...string) (string, error) {
		return command(t, ctr, append([]string{"--address", m.socket()}, args...)...)
	}
	until(t, "containerd answers", func() error {
		out, err := run("version")
		if err != nil {
			return fmt.Errorf("%s %w\n%s", out, err, log.String())
		}
		return nil
	})

	out, err := run("images", "pull", "--plain-http", "--hosts-dir", m.hosts(), "--snapshotter", "native", "--platform", "linux/amd64", reference)
	images, lerr := run("images", "list", "--quiet")
	if lerr != nil {
		t.Errorf("images list: %v %s", lerr, images)
	}
	if err != nil {
		if images != "" {
			t.Errorf("after a pull that failed containerd has the images %q", images)
		}
		return out, err
	}
	if strings.TrimSpace(images) != reference {
		t.Errorf("containerd has the images %q, want %s", images, reference)
	}
	return out, m.holds(t, want)
}

func (m machine) socket() string { return filepath.Join(m.dir, "c.sock") }
func (m machine) root() string   { return filepath.Join(m.dir, "root") }

// runContainerd starts a containerd with this configuration, and returns what it
// writes and how it is ended.
func (m machine) runContainerd(t *testing.T, daemon, config string) (log *lockedBuffer, stop func()) {
	t.Helper()
	file := filepath.Join(m.dir, "containerd.toml")
	write(t, file, []byte(config))
	log = new(lockedBuffer)
	cmd := exec.CommandContext(t.Context(), daemon, "--config", file)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = patience
	cmd.Env, cmd.Stdout, cmd.Stderr = environment(), log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return log, func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("containerd ended with: %v\n%s", err, log.String())
		}
	}
}

// holds demands that containerd has the manifest and all that it names. The error
// is of content that has not the digest that it is kept under.
func (m machine) holds(t *testing.T, manifest godigest.Digest) error {
	t.Helper()
	blobs := filepath.Join(m.root(), "io.containerd.content.v1.content", "blobs", "sha256")
	raw, err := os.ReadFile(filepath.Join(blobs, manifest.Encoded()))
	if err != nil {
		t.Errorf("containerd did not get manifest %s: %v", manifest, err)
	}
	for _, d := range digestText.FindAllString(string(raw), -1) {
		if _, err := os.Stat(filepath.Join(blobs, strings.TrimPrefix(d, "sha256:"))); err != nil {
			t.Errorf("containerd did not get a blob: %v", err)
		}
	}
	return compareNames(blobs, "")
}

// TestContainerdForms: what a hosts.toml must say so that a refusal is one, with
// containerd 1.6. Where the registry itself can be asked, it is.
func TestContainerdForms(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, hosts string // %[1]s is the proxy, %[2]s the registry
		gate        bool
	}{
		{"exclusive", "server = \"http://%[1]s\"\n[host.\"http://%[1]s\"]\n  capabilities = [\"pull\", \"resolve\"]\n", true},
		{"mirror", "server = \"http://%[2]s\"\n[host.\"http://%[1]s\"]\n  capabilities = [\"pull\", \"resolve\"]\n", false},
		{"only a server, which containerd 1.6 ignores", "server = \"http://%[1]s\"\n", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFleet(t, "")
			digest := f.push(t, "app", "1", alpineImage(t, vulnerable))
			m := newMachine(t)
			write(t, filepath.Join(m.hosts(), f.address, "hosts.toml"), fmt.Appendf(nil, tt.hosts, f.server.registry, f.address))
			out, err := containerdPull(t, m, f.address+"/app:1", digest)
			if tt.gate != (err != nil) {
				t.Errorf("pull of a refused image: %v\n%s", err, out)
			}
			if past := f.past(); tt.gate != (len(past) == 0) {
				t.Errorf("requests that went to the registry itself: %q", past)
			}
		})
	}
}
