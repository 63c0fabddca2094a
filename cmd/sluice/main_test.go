package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/sluiceproxy/sluice/proxy/api"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/records"
)

// TestMain gives the scripts the program itself and helpers that make input.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == workerCommand { // as the program does, the test binary runs itself
		main()
	}
	testscript.Main(m, map[string]func(){
		"sluice":   main,
		"mklayout": func() { helper(mklayout) },
		"mkdocker": func() { helper(mkdocker) },
		"mkosv":    func() { helper(mkosv) },
		"mkkey":    func() { helper(mkkey) },
		"mkjar":    func() { helper(mkjar) },
		"corrupt":  func() { helper(corrupt) },
		"block":    func() { helper(block) },
		"mkpush":   func() { helper(mkpush) },
		"mksigner": func() { helper(mksigner) },
	})
}

func helper(f func(args []string) error) {
	if err := f(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") != "",
		Setup: func(env *testscript.Env) error {
			env.Setenv("DOCKER_CONFIG", env.WorkDir) // no credentials of the machine
			reg := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
			env.Defer(reg.Close)
			env.Setenv("REGISTRY", strings.TrimPrefix(reg.URL, "http://"))
			return serveAPI(t, env)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
	})
}

// exits runs a command line and compares its exit code: exits 2 sluice scan.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits code command...")
	}
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if fmt.Sprint(got) != args[0] {
		ts.Fatalf("exit code %d, want %s", got, args[0])
	}
}

// serveAPI starts an operations API on records of its own; its address is
// $SERVER, and with the token "s3cret" $GUARDED.
func serveAPI(t *testing.T, env *testscript.Env) error {
	db, err := records.Open(t.Context(), filepath.Join(env.WorkDir, ".records.db"), zaptest.NewLogger(t))
	if err != nil {
		return err
	}
	env.Defer(func() { _ = db.Close() })
	if err := seed(db); err != nil {
		return err
	}
	for variable, token := range map[string]string{"SERVER": "", "GUARDED": "s3cret"} {
		srv := httptest.NewServer(api.New(api.Deps{Records: db, Report: noReport, Token: token, Log: zaptest.NewLogger(t)}))
		env.Defer(srv.Close)
		env.Setenv(variable, srv.URL)
	}
	return nil
}

// mklayout ROOT... DEST makes an OCI layout of an image with a layer for each ROOT.
func mklayout(args []string) error {
	img, err := image(args[:len(args)-1])
	if err != nil {
		return err
	}
	l, err := layout.Write(args[len(args)-1], empty.Index)
	if err != nil {
		return err
	}
	return l.AppendImage(img, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "1.0"}))
}

// mkdocker ROOT... DEST makes a docker-archive of the same.
func mkdocker(args []string) error {
	img, err := image(args[:len(args)-1])
	if err != nil {
		return err
	}
	tag, err := name.NewTag("ghcr.io/acme/shop:1.0")
	if err != nil {
		return err
	}
	return tarball.WriteToFile(args[len(args)-1], tag, img)
}

func image(roots []string) (v1.Image, error) {
	img := empty.Image
	for _, root := range roots {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		if err := w.AddFS(os.DirFS(root)); err != nil {
			return nil, err
		}
		if err := w.Close(); err != nil {
			return nil, err
		}
		l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
		if err != nil {
			return nil, err
		}
		if img, err = mutate.AppendLayers(img, l); err != nil {
			return nil, err
		}
	}
	cfg, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	cfg = cfg.DeepCopy()
	cfg.OS, cfg.Architecture, cfg.Config.User = "linux", "amd64", "1000"
	return mutate.ConfigFile(img, cfg)
}

// mkkey FILE makes a private key; there is none in the repository.
func mkkey(args []string) error {
	key, err := privateKey()
	if err != nil {
		return err
	}
	return os.WriteFile(args[0], key, 0o600)
}

// mkjar FILE GROUP ARTIFACT VERSION makes a jar that Maven built.
func mkjar(args []string) error {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	f, err := w.Create(fmt.Sprintf("META-INF/maven/%s/%s/pom.properties", args[1], args[2]))
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(f, "groupId=%s\nartifactId=%s\nversion=%s\n", args[1], args[2], args[3]); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return os.WriteFile(args[0], b.Bytes(), 0o600)
}

// corrupt LAYOUT appends a byte to each blob that is no manifest.
func corrupt(args []string) error {
	blobs, err := filepath.Glob(args[0] + "/blobs/sha256/*")
	if err != nil {
		return err
	}
	for _, file := range blobs {
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if bytes.Contains(content, []byte(`"layers":`)) && !bytes.Contains(content, []byte(`"rootfs"`)) {
			continue
		}
		if err := os.WriteFile(file, append(content, ' '), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// block DIR PURL puts a package on the blocklist of a data directory, as a
// server does.
func block(args []string) error {
	ctx := context.Background()
	db, err := records.Open(ctx, filepath.Join(args[0], recordsFile), zap.NewNop())
	if err != nil {
		return err
	}
	_, err = db.AddBlock(ctx, policy.Block{Package: args[1], Reason: "test", Owner: "alice"}, "alice")
	return errors.Join(err, db.Close())
}

// mkosv SRC DEST makes DEST/<Ecosystem>/all.zip of SRC/<Ecosystem>/*.json, dated today.
func mkosv(args []string) error {
	src := os.DirFS(args[0])
	ecosystems, err := fs.ReadDir(src, ".")
	if err != nil {
		return err
	}
	for _, e := range ecosystems {
		files, err := fs.Glob(src, e.Name()+"/*.json")
		if err != nil {
			return err
		}
		var b bytes.Buffer
		w := zip.NewWriter(&b)
		for _, file := range files {
			content, err := fs.ReadFile(src, file)
			if err != nil {
				return err
			}
			f, err := w.Create(filepath.Base(file))
			if err != nil {
				return err
			}
			if _, err := f.Write(bytes.ReplaceAll(content, []byte("TODAY"), []byte(time.Now().UTC().Format(time.RFC3339)))); err != nil {
				return err
			}
		}
		if err := w.Close(); err != nil {
			return err
		}
		dir := filepath.Join(args[1], e.Name())
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, "all.zip"), b.Bytes(), 0o600); err != nil {
			return err
		}
	}
	return nil
}
