package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	godigest "github.com/opencontainers/go-digest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protowire"
)

// criVersion is the containerd whose CRI plugin pulls as a kubelet's does.
const criVersion = "v2.4.2"

// cri is containerd's CRI plugin. Since 2.3 it prints why a HEAD was refused.
func cri() client { return client{name: "cri", mirrors: true, tells: true, into: criPull} }

// criDaemon builds containerd once for all tests, and once for all runs on this
// machine: it takes two minutes of CPU time with a cold cache.
var criDaemon = sync.OnceValues(func() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "sluice-integration", "containerd-"+criVersion)
	program := filepath.Join(dir, "containerd")
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	if !onCI() {
		return "", fmt.Errorf("%s is not there, and is built on CI only (SLUICE_CI=1)", program)
	}
	// Its go.mod excludes versions, which `go install` of a version refuses, so it
	// is built as a dependency of an empty module.
	module, err := os.MkdirTemp("", "containerd-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(module)
	const pkg = "github.com/containerd/containerd/v2/cmd/containerd"
	built := filepath.Join(module, "containerd")
	for _, args := range [][]string{
		{"mod", "init", "node"},
		{"get", pkg + "@" + criVersion},
		{"build", "-tags", "no_btrfs no_devmapper no_zfs", "-o", built, pkg},
	} {
		cmd := exec.CommandContext(context.Background(), "go", args...)
		cmd.Dir, cmd.Env = module, append(os.Environ(), "GOFLAGS=-trimpath", "GOWORK=off", "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("go %s: %w\n%s", args[0], err, out)
		}
	}
	data, err := os.ReadFile(built)
	if err != nil {
		return "", err
	}
	part := program + ".part"
	return program, errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(part, data, 0o755), os.Rename(part, program)) //nolint:gosec // a program
})

// criPull pulls into a containerd of its own by its CRI plugin, which gives up
// after half a minute in which no byte came (5 minutes by default).
func criPull(t *testing.T, m machine, reference string, want godigest.Digest) (string, error) {
	daemon, err := criDaemon()
	switch {
	case err != nil && onCI():
		t.Fatalf("containerd %s: %v", criVersion, err)
	case err != nil:
		t.Skipf("containerd %s: %v", criVersion, err)
	case os.Geteuid() != 0:
		t.Skip("containerd unpacks layers only as root")
	}
	log, stop := m.runContainerd(t, daemon, fmt.Sprintf(`version = 3
root = %[1]q
state = %[2]q
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri"]
[grpc]
  address = %[3]q
[plugins."io.containerd.cri.v1.images"]
  snapshotter = "native"
  image_pull_progress_timeout = "30s"
  [plugins."io.containerd.cri.v1.images".registry]
    config_path = %[4]q
[plugins."io.containerd.cri.v1.runtime".cni]
  conf_dir = %[2]q
  bin_dirs = [%[2]q]
[plugins."io.containerd.transfer.v1.local"]
  [[plugins."io.containerd.transfer.v1.local".unpack_config]]
    platform = "linux/amd64"
    snapshotter = "native"
`, m.root(), filepath.Join(m.dir, "state"), m.socket(), m.hosts()))
	defer stop()
	conn, err := grpc.NewClient("unix://"+m.socket(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	until(t, "containerd's CRI plugin answers", func() error {
		_, err := criImages(t, conn)
		if err != nil {
			return fmt.Errorf("%w\n%s", err, log.String())
		}
		return nil
	})

	_, err = criCall(t, conn, "PullImage", protoField(protoField([]byte(reference))))
	held, lerr := criImages(t, conn)
	if lerr != nil {
		t.Errorf("ListImages: %v", lerr)
	}
	if err != nil {
		if len(held) != 0 {
			t.Errorf("after a pull that failed containerd has the images %q", held)
		}
		return err.Error(), err
	}
	if !bytes.Contains(held, []byte(reference)) {
		t.Errorf("containerd has the images %q, want %s", held, reference)
	}
	return "", m.holds(t, want)
}

// criImages is the answer of ListImages, in which the names can be searched.
func criImages(t *testing.T, conn *grpc.ClientConn) ([]byte, error) {
	return criCall(t, conn, "ListImages", nil)
}

// criCall calls a method of CRI's image service
// (https://github.com/kubernetes/cri-api, pkg/apis/runtime/v1/api.proto). The
// messages are so small that they are written by hand.
func criCall(t *testing.T, conn *grpc.ClientConn, method string, request []byte) (answer []byte, err error) {
	ctx, cancel := context.WithTimeout(t.Context(), 8*patience)
	defer cancel()
	err = conn.Invoke(ctx, "/runtime.v1.ImageService/"+method, request, &answer, grpc.ForceCodec(plainCodec{}))
	return answer, err
}

// protoField is a message with the field 1 only: PullImageRequest.image, and in
// it ImageSpec.image.
func protoField(value []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), value)
}

// plainCodec passes messages as they are.
type plainCodec struct{}

func (plainCodec) Name() string { return "proto" }

func (plainCodec) Marshal(v any) ([]byte, error) {
	b, ok := v.([]byte)
	if !ok {
		return nil, fmt.Errorf("%T is no message", v)
	}
	return b, nil
}

func (plainCodec) Unmarshal(data []byte, v any) error {
	b, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("%T is no message", v)
	}
	*b = bytes.Clone(data)
	return nil
}
