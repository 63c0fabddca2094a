package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"strings"
	"time"

	godigest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// file is an entry of a demo layer.
type file struct {
	name string
	body []byte
}

// demoImage is an image of the demo's upstream.
type demoImage struct {
	repo   string // with its tag: shop/web:1.0
	layers [][]file
}

const osRelease = "ID=sluice-demo\nVERSION_ID=1\nPRETTY_NAME=\"Sluice demo\"\n"

// demoImages are small, but real: the package files have the form and the
// names that npm and Maven give them.
func demoImages() ([]demoImage, error) {
	jar, err := log4jJar()
	if err != nil {
		return nil, err
	}
	key, err := privateKey()
	if err != nil {
		return nil, err
	}
	base := []file{{"etc/os-release", []byte(osRelease)}}
	return []demoImage{
		{"shop/web:1.0", [][]file{base, {{"app/node_modules/lodash/package.json", npmPackage("lodash", "4.17.21")}}}},
		{"shop/cart:1.0", [][]file{base, {{"app/node_modules/lodash/package.json", npmPackage("lodash", "4.17.20")}}}},
		{"shop/search:1.0", [][]file{base, {{"opt/search/lib/log4j-core-2.14.1.jar", jar}}}},
		{"shop/deploy:1.0", [][]file{base, {{"root/.ssh/id_ed25519", key}}, {{"root/.ssh/.wh.id_ed25519", nil}}}},
	}, nil
}

func npmPackage(name, version string) []byte {
	return fmt.Appendf(nil, `{"name":%q,"version":%q,"license":"MIT","main":"%s.js"}`, name, version, name)
}

// log4jJar has what Maven puts into a jar to say what it is.
func log4jJar() ([]byte, error) {
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	for _, f := range []file{
		{"META-INF/MANIFEST.MF", []byte("Manifest-Version: 1.0\r\nImplementation-Title: Apache Log4j Core\r\nImplementation-Version: 2.14.1\r\nImplementation-Vendor-Id: org.apache.logging.log4j\r\n\r\n")},
		{"META-INF/maven/org.apache.logging.log4j/log4j-core/pom.properties", []byte("version=2.14.1\ngroupId=org.apache.logging.log4j\nartifactId=log4j-core\n")},
	} {
		w, err := z.Create(f.name)
		if err != nil {
			return nil, err
		}
		if _, err := w.Write(f.body); err != nil {
			return nil, err
		}
	}
	err := z.Close()
	return buf.Bytes(), err
}

func privateKey() ([]byte, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), err
}

// push builds the image and pushes it to the registry at base (http://host).
func (d demoImage) push(ctx context.Context, base string) error {
	repo, tag, _ := strings.Cut(d.repo, ":")
	p := pusher{ctx: ctx, base: base + "/v2/" + repo}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	created := time.Now().UTC()
	config := ocispec.Image{Created: &created, Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}, Config: ocispec.ImageConfig{User: "65532"}}
	config.RootFS.Type = "layers"
	for _, files := range d.layers {
		blob, diffID, err := demoLayer(files)
		if err != nil {
			return err
		}
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, diffID)
		m.Layers = append(m.Layers, p.blob(ocispec.MediaTypeImageLayerGzip, blob))
	}
	body, err := json.Marshal(config)
	if err != nil {
		return err
	}
	m.Config = p.blob(ocispec.MediaTypeImageConfig, body)
	if body, err = json.Marshal(m); err != nil {
		return err
	}
	p.send(http.MethodPut, "/manifests/"+tag, m.MediaType, body)
	return p.err
}

// pusher sends requests until one fails.
type pusher struct {
	ctx  context.Context //nolint:containedctx // lives for one push
	base string
	err  error
}

func (p *pusher) blob(mediaType string, body []byte) ocispec.Descriptor {
	d := ocispec.Descriptor{MediaType: mediaType, Digest: godigest.FromBytes(body), Size: int64(len(body))}
	p.send(http.MethodPost, "/blobs/uploads/?digest="+d.Digest.String(), "application/octet-stream", body)
	return d
}

func (p *pusher) send(method, path, contentType string, body []byte) {
	if p.err != nil {
		return
	}
	req, err := http.NewRequestWithContext(p.ctx, method, p.base+path, bytes.NewReader(body))
	if err != nil {
		p.err = err
		return
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		p.err = err
		return
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusCreated {
		p.err = fmt.Errorf("%s %s: %s", method, req.URL, resp.Status)
	}
}

// demoLayer returns a gzipped tar of files and the digest of the tar.
func demoLayer(files []file) (blob []byte, diffID godigest.Digest, err error) {
	var raw, packed bytes.Buffer
	t := tar.NewWriter(&raw)
	for _, f := range files {
		if err := t.WriteHeader(&tar.Header{Name: f.name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(f.body))}); err != nil {
			return nil, "", err
		}
		if _, err := t.Write(f.body); err != nil {
			return nil, "", err
		}
	}
	if err := t.Close(); err != nil {
		return nil, "", err
	}
	z := gzip.NewWriter(&packed)
	if _, err := z.Write(raw.Bytes()); err != nil {
		return nil, "", err
	}
	err = z.Close()
	return packed.Bytes(), godigest.FromBytes(raw.Bytes()), err
}
