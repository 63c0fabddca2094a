//go:build linux

package main

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
	godigest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// image is a single-platform image whose layers are files.
type image struct {
	repository string
	manifest   []byte
	digest     godigest.Digest
	config     []byte
	members    ocispec.Manifest
	layers     map[godigest.Digest]string // path by digest
}

// tag is the only tag of an image.
const tag = "1"

// size is what a client downloads, without the manifest.
func (i *image) size() int64 {
	n := i.members.Config.Size
	for _, l := range i.members.Layers {
		n += l.Size
	}
	return n
}

// filler is what the files of a layer hold.
type filler uint8

const (
	programs filler = iota // text and binaries that gzip halves
	noise                  // random bytes, stored by gzip
)

// makeImage makes an image in dir. The same seed gives the same image.
func makeImage(dir, repository string, s shape, f filler, seed uint64) (*image, error) {
	img := &image{repository: repository, layers: map[godigest.Digest]string{}}
	config := ocispec.Image{
		Created:  new(time.Unix(1_700_000_000, 0).UTC()),
		Platform: ocispec.Platform{Architecture: "amd64", OS: "linux"},
		Config:   ocispec.ImageConfig{User: "1000", Labels: map[string]string{"about": strings.Repeat("made for a benchmark. ", 21)}},
		RootFS:   ocispec.RootFS{Type: "layers"},
	}
	img.members = ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	for n := range s.layers {
		path := filepath.Join(dir, fmt.Sprintf("%s-%d-%d.tar.gz", repository, seed, n))
		random := rand.New(rand.NewPCG(seed, uint64(n)))
		l := layerWriter{random: random, filler: f, words: vocabulary(random)}
		desc, diffID, err := l.write(path, n == 0, s.bytes)
		if err != nil {
			return nil, err
		}
		img.members.Layers = append(img.members.Layers, desc)
		img.layers[desc.Digest] = path
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, diffID)
	}
	var err error
	if img.config, err = json.Marshal(config); err != nil {
		return nil, err
	}
	img.members.Config = ocispec.Descriptor{
		MediaType: ocispec.MediaTypeImageConfig, Digest: godigest.FromBytes(img.config), Size: int64(len(img.config)),
	}
	if img.manifest, err = json.Marshal(img.members); err != nil {
		return nil, err
	}
	img.digest = godigest.FromBytes(img.manifest)
	return img, nil
}

// layerWriter makes one layer.
type layerWriter struct {
	random *rand.Rand
	filler filler
	words  []string
	tar    *tar.Writer
	buf    []byte
}

// write makes a layer of about size compressed bytes. The base layer holds the
// release and the package database of a Debian.
func (l *layerWriter) write(path string, base bool, size int64) (desc ocispec.Descriptor, diffID godigest.Digest, err error) {
	file, err := os.Create(path)
	if err != nil {
		return desc, "", err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	packed, plain := godigest.SHA256.Digester(), godigest.SHA256.Digester()
	count := &counter{w: io.MultiWriter(file, packed.Hash())}
	level := 6
	if l.filler == noise {
		level = gzip.NoCompression
	}
	zw, err := gzip.NewWriterLevel(count, level)
	if err != nil {
		return desc, "", err
	}
	l.tar = tar.NewWriter(io.MultiWriter(plain.Hash(), zw))
	if base {
		err = errors.Join(l.add("etc/os-release", []byte("ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n")),
			l.add("var/lib/dpkg/status", debianStatus()))
	}
	for n := 0; err == nil && count.n < size; n++ {
		err = l.add(l.next(n, size-count.n))
	}
	if err = errors.Join(err, l.tar.Close(), zw.Close()); err != nil {
		return desc, "", err
	}
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: packed.Digest(), Size: count.n}, plain.Digest(), nil
}

func (l *layerWriter) add(name string, body []byte) error {
	h := &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(body)), ModTime: time.Unix(1_700_000_000, 0)}
	if err := l.tar.WriteHeader(h); err != nil {
		return err
	}
	_, err := l.tar.Write(body)
	return err
}

// next makes the nth file where left bytes are still wanted.
func (l *layerWriter) next(n int, left int64) (name string, body []byte) {
	if l.filler == noise {
		l.grow(int(min(left, 1<<20)))
		for i := 0; i+8 <= len(l.buf); i += 8 {
			v := l.random.Uint64()
			for j := range 8 {
				l.buf[i+j] = byte(v >> (8 * j))
			}
		}
		return fmt.Sprintf("var/lib/noise/%d", n), l.buf
	}
	size := 1 << (10 + l.random.IntN(9)) // 1 KiB to 256 KiB
	l.grow(size + l.random.IntN(size))
	switch n % 8 {
	case 0:
		l.text()
		return fmt.Sprintf("usr/share/doc/package-%d/copyright", n), l.buf
	case 1:
		l.text()
		return fmt.Sprintf("usr/lib/python3/dist-packages/module_%d/main.py", n), l.buf
	}
	l.binary()
	return fmt.Sprintf("usr/lib/x86_64-linux-gnu/object-%d.bin", n), l.buf
}

func (l *layerWriter) grow(n int) {
	if cap(l.buf) < n {
		l.buf = make([]byte, n)
	}
	l.buf = l.buf[:n]
}

// text fills the buffer with lines of words, many of them seen before.
func (l *layerWriter) text() {
	for i := 0; i < len(l.buf); {
		if i > 4<<10 && l.random.IntN(6) == 0 { // a phrase again
			i += l.again(i, 10+l.random.IntN(40), 16<<10)
			continue
		}
		word := l.words[l.random.IntN(1+l.random.IntN(len(l.words)))]
		i += copy(l.buf[i:], word)
	}
}

// binary fills the buffer with short runs of bytes that are new and longer ones
// that repeat earlier bytes, as machine code and tables do.
func (l *layerWriter) binary() {
	for i := 0; i < len(l.buf); {
		if i > 1<<10 && l.random.IntN(2) == 0 {
			i += l.again(i, 4+l.random.IntN(24), 8<<10)
			continue
		}
		for range min(len(l.buf)-i, 2+l.random.IntN(14)) {
			l.buf[i] = byte(l.random.Uint32())
			i++
		}
	}
}

// again copies up to n bytes to i from at most reach bytes before it.
func (l *layerWriter) again(i, n, reach int) int {
	from := i - 1 - l.random.IntN(min(i, reach)-1)
	for k := range min(n, len(l.buf)-i) {
		l.buf[i+k] = l.buf[from+k]
	}
	return min(n, len(l.buf)-i)
}

// vocabulary are the words of texts, the frequent ones first.
func vocabulary(random *rand.Rand) []string {
	const letters = "etaoinshrdlucmfwyg"
	words := make([]string, 3000)
	for i := range words {
		var b strings.Builder
		for range 2 + random.IntN(9) {
			b.WriteByte(letters[random.IntN(len(letters))])
		}
		b.WriteByte(" \n"[random.IntN(12)/11])
		words[i] = b.String()
	}
	return words
}

// debianPackages is how many packages the base layer's database has.
const debianPackages = 200

func debianPackage(i int) string { return fmt.Sprintf("libbench%d", i) }

func debianStatus() []byte {
	var b strings.Builder
	for i := range debianPackages {
		fmt.Fprintf(&b, "Package: %s\nStatus: install ok installed\nPriority: optional\nSection: libs\nInstalled-Size: 100\n"+
			"Maintainer: Nobody <nobody@example.org>\nArchitecture: amd64\nVersion: 1.%d-1\nDescription: made for a benchmark\n\n", debianPackage(i), i)
	}
	return []byte(b.String())
}

// counter counts what goes through it.
type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
