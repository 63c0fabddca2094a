package main

import (
	"archive/zip"
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/sluiceproxy/sluice/analyzer/advisory"
	"github.com/sluiceproxy/sluice/configs"
	"github.com/sluiceproxy/sluice/proxy"
)

// demoData are two real advisories in the OSV schema and the entry of CISA's
// catalogue for one of them.
//
//go:embed demo
var demoData embed.FS

func newDemo() *cobra.Command {
	var keep bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Take a tour: pull clean, vulnerable and leaking images through the proxy, offline",
		Long: `Take a tour, offline: a registry in this process holds a few small images, the
proxy stands in front of it, and each image is pulled through it over HTTP. The
advisories, the analysis, the policy and the records are the real ones.`,
		Example: "  sluice demo\n  sluice demo --keep   # leave it running to explore",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := os.MkdirTemp("", "sluice-demo-*")
			if err != nil {
				return err
			}
			defer func() { _ = os.RemoveAll(dir) }()
			d := &demo{out: cmd.OutOrStdout(), color: colorful(cmd.OutOrStdout()), dir: dir, keep: keep}
			return d.run(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&keep, "keep", false, "leave the proxy running until interrupted")
	return cmd
}

// demo is one tour.
type demo struct {
	out      io.Writer
	color    bool
	dir      string
	keep     bool
	registry string // http://host of the proxy
	ops      string
}

func (d *demo) run(ctx context.Context) error {
	d.say("bold", "Sluice demo: a registry, the proxy in front of it, and a client. All on this machine.")
	upstream, stop, err := d.startUpstream(ctx)
	if err != nil {
		return err
	}
	defer stop()
	cfg, err := d.config(ctx, upstream)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ready := make(chan *proxy.Server, 1)
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return serve(gctx, cfg, zap.NewNop(), func(s *proxy.Server) { ready <- s }) })
	g.Go(func() error {
		defer cancel()
		select {
		case s := <-ready:
			d.registry, d.ops = "http://"+s.Addr().String(), "http://"+s.OpsAddr().String()
		case <-gctx.Done():
			return nil
		}
		if err := d.tour(gctx); err != nil {
			return err
		}
		if d.keep {
			d.explore()
			<-gctx.Done()
		}
		return nil
	})
	return g.Wait()
}

// startUpstream serves the demo's images from memory on a port of this machine.
func (d *demo) startUpstream(ctx context.Context) (base string, stop func(), err error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	srv := &http.Server{Handler: registry.New(registry.Logger(log.New(io.Discard, "", 0))), ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = srv.Serve(l) }()
	stop = func() { _ = srv.Close() }
	base = "http://" + l.Addr().String()
	images, err := demoImages()
	for _, img := range images {
		err = errors.Join(err, img.push(ctx, base))
	}
	if err != nil {
		stop()
		return "", nil, fmt.Errorf("demo images: %w", err)
	}
	return base, stop, nil
}

// config is a server on free ports with the demo's two advisories.
func (d *demo) config(ctx context.Context, upstream string) (*configs.Config, error) {
	if err := d.writeSource(); err != nil {
		return nil, err
	}
	cfg := configs.Default()
	cfg.Listen, cfg.Ops.Listen, cfg.Data = "127.0.0.1:0", "127.0.0.1:0", filepath.Join(d.dir, "data")
	cfg.Upstreams = map[string]configs.Upstream{"up": {URL: upstream}}
	cfg.Default, cfg.DockerConfig = "up", "none"
	cfg.Shutdown.Drain = configs.Duration(time.Second)
	cfg.Advisories.UpdateEvery, cfg.Advisories.MaxAge = 0, 0
	_, err := advisory.Compile(ctx, advisory.Source{Base: d.dir, KEV: filepath.Join(d.dir, "kev.json")}, advisory.CompileOptions{
		Dir: advisoryDir(cfg.Data),
	})
	return cfg, err
}

// writeSource lays the embedded advisories out as the public OSV export does,
// <ecosystem>/all.zip, and the KEV catalogue beside them.
func (d *demo) writeSource() error {
	kev, err := demoData.ReadFile("demo/kev.json")
	if err != nil {
		return err
	}
	ecosystems, err := demoData.ReadDir("demo/osv")
	if err != nil {
		return err
	}
	for _, e := range ecosystems {
		archive, err := demoArchive("demo/osv/" + e.Name())
		if err != nil {
			return err
		}
		if err := os.Mkdir(filepath.Join(d.dir, e.Name()), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(d.dir, e.Name(), "all.zip"), archive, 0o600); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(d.dir, "kev.json"), kev, 0o600)
}

// demoArchive packs the records of one ecosystem. They get today's date, as
// records of a feed that was fetched today, or the policy would find them stale.
func demoArchive(dir string) ([]byte, error) {
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	err := fs.WalkDir(demoData, dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := demoData.ReadFile(path)
		if err != nil {
			return err
		}
		var record map[string]any
		if err := json.Unmarshal(b, &record); err != nil {
			return err
		}
		record["modified"] = time.Now().UTC().Format(time.RFC3339)
		w, err := z.Create(e.Name())
		if err != nil {
			return err
		}
		return json.NewEncoder(w).Encode(record)
	})
	err = errors.Join(err, z.Close())
	return buf.Bytes(), err
}

// tour pulls every image and shows what came of it.
func (d *demo) tour(ctx context.Context) error {
	for i, stop := range []struct {
		title, image string
		want         string
	}{
		{"A clean image", "shop/web:1.0", "allow"},
		{"A known vulnerability, not critical: served, with a warning", "shop/cart:1.0", "annotate"},
		{"Log4Shell: critical, with a fix, and exploited in the wild", "shop/search:1.0", "deny"},
		{"A private key that a later layer deleted, but that everybody can still read", "shop/deploy:1.0", "deny"},
	} {
		d.say("bold", "\n%d. %s", i+1, stop.title)
		if err := d.pull(ctx, stop.image, stop.want); err != nil {
			return err
		}
	}
	d.say("bold", "\n5. An operator blocks the clean image, which the proxy has in its cache")
	d.say("dim", "   POST %s/api/v1/blocklist", d.ops)
	id, err := d.block(ctx, "up/shop/web:*")
	if err != nil {
		return err
	}
	if err := d.pull(ctx, "shop/web:1.0", "deny"); err != nil {
		return err
	}
	d.say("dim", "   DELETE %s/api/v1/blocklist/%s", d.ops, id)
	if err := d.call(ctx, http.MethodDelete, "/api/v1/blocklist/"+id, nil, nil); err != nil {
		return err
	}
	if err := d.pull(ctx, "shop/web:1.0", "allow"); err != nil {
		return err
	}
	d.say("bold", "\nWhat to try next")
	d.say("", `   sluice demo --keep                     the same, left running to explore
   sluice db update                       fetch the public advisories into ./sluice-data
   sluice serve                           the proxy for real: docker.io, ghcr.io, quay.io and more
   sluice scan docker.io/library/nginx    the same judgement on the command line
   docs/mirror.md                         how to point containerd, Docker and podman at it`)
	return nil
}

// pull fetches an image as a client does: manifest, config and layers, each
// compared with its digest. It is an error if the outcome is not the wanted one.
func (d *demo) pull(ctx context.Context, image, want string) error {
	repo, tag, _ := strings.Cut(image, ":")
	base := "/v2/up/" + repo
	d.say("dim", "   GET %s%s/manifests/%s", d.registry, base, tag)
	start := time.Now()
	a, err := d.get(ctx, base+"/manifests/"+tag)
	if err != nil {
		return err
	}
	got := "allow"
	switch {
	case a.code == http.StatusForbidden:
		got = "deny"
	case a.code != http.StatusOK:
		return fmt.Errorf("pull of %s: %s: %s", image, a.status, a.body)
	case a.warning != "":
		got = "annotate"
	}
	switch got {
	case "deny":
		d.say("red", "   %s  refused: %s", a.status, denialMessage(a.body))
	case "annotate":
		d.say("yellow", "   %s  served with Warning: %s", a.status, a.warning)
	default:
		d.say("green", "   %s  allowed", a.status)
	}
	if got != want {
		return fmt.Errorf("pull of %s: the verdict is %s, expected %s", image, got, want)
	}
	if got == "deny" {
		return nil
	}
	n, size, err := d.pullBlobs(ctx, base, a.body)
	if err != nil {
		return fmt.Errorf("pull of %s: %w", image, err)
	}
	d.say("dim", "   %d blobs, %d bytes, every digest compared, %d ms in all", n, size, time.Since(start).Milliseconds())
	return nil
}

func (d *demo) pullBlobs(ctx context.Context, base string, manifest []byte) (n, size int, err error) {
	var m ocispec.Manifest
	if err := json.Unmarshal(manifest, &m); err != nil {
		return 0, 0, err
	}
	for _, desc := range append(m.Layers, m.Config) {
		a, err := d.get(ctx, base+"/blobs/"+desc.Digest.String())
		if err != nil {
			return 0, 0, err
		}
		if a.code != http.StatusOK || godigest.FromBytes(a.body) != desc.Digest {
			return 0, 0, fmt.Errorf("blob %s: %s, %d bytes", desc.Digest, a.status, len(a.body))
		}
		n, size = n+1, size+len(a.body)
	}
	return n, size, nil
}

// answer is what the proxy said.
type answer struct {
	code            int
	status, warning string
	body            []byte
}

func (d *demo) get(ctx context.Context, path string) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.registry+path, nil)
	if err != nil {
		return answer{}, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	return answer{code: resp.StatusCode, status: resp.Status, warning: resp.Header.Get("Warning"), body: body}, err
}

func denialMessage(body []byte) string {
	var e struct {
		Errors []struct{ Message string }
	}
	if err := json.Unmarshal(body, &e); err != nil || len(e.Errors) == 0 {
		return string(body)
	}
	return e.Errors[0].Message
}

func (d *demo) block(ctx context.Context, image string) (id string, err error) {
	body, err := json.Marshal(map[string]string{"image": image, "owner": "demo-operator", "reason": "under investigation"})
	if err != nil {
		return "", err
	}
	var added struct{ ID string }
	err = d.call(ctx, http.MethodPost, "/api/v1/blocklist", body, &added)
	return added.ID, err
}

// call asks the operations API; into may be nil.
func (d *demo) call(ctx context.Context, method, path string, body []byte, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, d.ops+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= http.StatusMultipleChoices {
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, answer)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(answer, into)
}

// explore says where everything is while the demo stays.
func (d *demo) explore() {
	host := strings.TrimPrefix(d.registry, "http://")
	d.say("bold", "\nStill running; interrupt it with Ctrl-C")
	d.say("", `   registry    %[1]s     podman pull --tls-verify=false %[2]s/up/shop/cart:1.0
   verdicts    %[3]s/api/v1/verdicts
   blocklist   sluice blocklist list --server %[3]s
   metrics     %[3]s/metrics`, d.registry, host, d.ops)
}

var colors = map[string]string{"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}

// say prints a line, in a style where the output is a terminal.
func (d *demo) say(style, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if c := colors[style]; d.color && c != "" {
		text = "\x1b[" + c + "m" + text + "\x1b[0m"
	}
	_, _ = fmt.Fprintln(d.out, text)
}
