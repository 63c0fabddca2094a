package source

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"path"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/klauspost/compress/zstd"
	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sluiceproxy/sluice/signing/lock"
)

// SumsFile is a file of checksums of archives, as sha256sum and sha512sum write
// it.
type SumsFile struct {
	URL string
	// Signature is the address of a detached OpenPGP signature, Keyring the public
	// keys, armored or not, that may have made it. Without Keyring the sums are as
	// good as the connection.
	Signature string
	Keyring   []byte
	// Archive is a pattern (path.Match) of the archive's name, which one line must
	// fit for each platform. {arch} stands for the platform's architecture as the
	// publisher calls it.
	Archive string
}

// archNames are what distributions call architectures, in the order of trial.
var archNames = map[string][]string{
	"amd64": {"amd64", "x86_64"}, "arm64": {"arm64", "aarch64"}, "386": {"i386", "x86"}, "arm": {"armhf", "armv7"},
	"ppc64le": {"ppc64el", "ppc64le"}, "s390x": {"s390x"}, "riscv64": {"riscv64"},
}

// Sums publishes the registry's images whose one layer is an archive of the file.
// More layers, and a layer of another sum, are errors.
func Sums(ctx context.Context, w Web, f SumsFile, r Request) (lock.Image, error) {
	text, err := w.Get(ctx, f.URL)
	if err != nil {
		return lock.Image{}, err
	}
	im := lock.Image{
		Name: r.Name, Tag: r.Tag, Platforms: map[string][]godigest.Digest{},
		Source: &lock.Origin{Type: lock.Checksums, URL: f.URL, Fetched: r.Now.UTC().Truncate(time.Second), SHA256: godigest.FromBytes(text)},
	}
	if len(f.Keyring) > 0 {
		im.Source.Type = lock.SHA256Sums
		if im.Source.Key, err = f.verify(ctx, w, text, r.Now); err != nil {
			return lock.Image{}, fmt.Errorf("%s: %w", f.URL, err)
		}
	}
	sums, err := parseSums(text)
	if err != nil {
		return lock.Image{}, fmt.Errorf("%s: %w", f.URL, err)
	}
	images, err := r.images(ctx)
	if err != nil {
		return lock.Image{}, err
	}
	for p, d := range images {
		sum, archive, err := f.sum(sums, p)
		if err != nil {
			return lock.Image{}, fmt.Errorf("%s: %w", f.URL, err)
		}
		if err := r.holds(ctx, d, sum); err != nil {
			return lock.Image{}, fmt.Errorf("%s@%s for %s is not %s: %w", r.Name, d, p, archive, err)
		}
		im.Platforms[p] = []godigest.Digest{d}
	}
	return im, nil
}

// verify returns the fingerprint of the key that signed the sums.
func (f *SumsFile) verify(ctx context.Context, w Web, text []byte, now time.Time) (string, error) {
	address := f.Signature
	if address == "" {
		address = f.URL + ".gpg"
	}
	signature, err := w.Get(ctx, address)
	if err != nil {
		return "", err
	}
	return VerifyOpenPGP(f.Keyring, text, signature, now)
}

// VerifyOpenPGP returns the fingerprint of the key of the keyring that made the
// detached signature of the text. Keyring and signature are armored or not.
func VerifyOpenPGP(keyring, text, signature []byte, now time.Time) (fingerprint string, err error) {
	defer func() {
		if x := recover(); x != nil { // the parser of foreign bytes is somebody else's
			fingerprint, err = "", fmt.Errorf("the OpenPGP parser panicked: %v", x)
		}
	}()
	read := openpgp.ReadKeyRing
	if bytes.Contains(keyring, []byte("-----BEGIN PGP")) {
		read = openpgp.ReadArmoredKeyRing
	}
	keys, err := read(bytes.NewReader(keyring))
	if err != nil {
		return "", fmt.Errorf("keyring: %w", err)
	}
	check := openpgp.CheckDetachedSignature
	if bytes.Contains(signature, []byte("-----BEGIN PGP")) {
		check = openpgp.CheckArmoredDetachedSignature
	}
	at := &packet.Config{Time: func() time.Time { return now }}
	signer, err := check(keys, bytes.NewReader(text), bytes.NewReader(signature), at)
	if err != nil {
		return "", fmt.Errorf("signature: %w", err)
	}
	return strings.ToUpper(hex.EncodeToString(signer.PrimaryKey.Fingerprint)), nil
}

// sumOf is one line.
type sumOf struct {
	algorithm godigest.Algorithm
	hex       string
	name      string
}

const maxLines = 10_000

// parseSums reads lines of "<hex>  <name>" and "<hex> *<name>".
func parseSums(text []byte) ([]sumOf, error) {
	var out []sumOf
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		sum, name, ok := strings.Cut(line, " ")
		name = strings.TrimPrefix(strings.TrimPrefix(strings.TrimSpace(name), "*"), "./")
		s := sumOf{hex: sum, name: name}
		switch len(sum) {
		case sha256.Size * 2:
			s.algorithm = godigest.SHA256
		case sha512.Size * 2:
			s.algorithm = godigest.SHA512
		}
		if _, err := hex.DecodeString(sum); !ok || err != nil || s.algorithm == "" || sum != strings.ToLower(sum) || name == "" {
			return nil, fmt.Errorf("line %d is not a sha256 or sha512 and a name", n)
		}
		if out = append(out, s); len(out) > maxLines {
			return nil, fmt.Errorf("more than %d lines", maxLines)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(out) == 0 {
		return nil, errors.New("it holds no sums")
	}
	return out, nil
}

// sum returns the line for the platform's archive.
func (f *SumsFile) sum(sums []sumOf, platform string) (sumOf, string, error) {
	arch := strings.Split(platform, "/")[1]
	names := archNames[arch]
	if names == nil {
		names = []string{arch}
	}
	for _, a := range names {
		pattern := strings.ReplaceAll(f.Archive, "{arch}", a)
		var found []sumOf
		for _, s := range sums {
			ok, err := path.Match(pattern, s.name)
			if err != nil {
				return sumOf{}, "", fmt.Errorf("pattern %q: %w", pattern, err)
			}
			if ok {
				found = append(found, s)
			}
		}
		switch {
		case len(found) == 1:
			return found[0], found[0].name, nil
		case len(found) > 1:
			return sumOf{}, "", fmt.Errorf("%d archives fit %q (%s, %s, …): name one", len(found), pattern, found[0].name, found[1].name)
		}
	}
	return sumOf{}, "", fmt.Errorf("no archive fits %q for %s", f.Archive, platform)
}

// images are the registry's manifests by wanted platform.
func (r *Request) images(ctx context.Context) (map[string]godigest.Digest, error) {
	m, index, err := r.top(ctx)
	if err != nil {
		return nil, err
	}
	out := map[string]godigest.Digest{}
	if index == nil {
		_, config, err := r.image(ctx, m.Digest)
		if err != nil {
			return nil, err
		}
		out[platform(&config.Platform)] = m.Digest
		return out, nil
	}
	for p, ds := range platforms(index) {
		if r.wanted(p) {
			out[p] = ds[0]
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s:%s has no image for %s", r.Name, r.Tag, strings.Join(r.Platform, ", "))
	}
	return out, nil
}

// image reads a manifest and its config.
func (r *Request) image(ctx context.Context, d godigest.Digest) (ocispec.Manifest, ocispec.Image, error) {
	var (
		m      ocispec.Manifest
		config ocispec.Image
	)
	raw, err := r.Registry.Manifest(ctx, d.String())
	if err != nil {
		return m, config, fmt.Errorf("%s@%s: %w", r.Name, d, err)
	}
	if godigest.FromBytes(raw.Raw) != d {
		return m, config, fmt.Errorf("%s@%s: the registry sent other bytes", r.Name, d)
	}
	if err := json.Unmarshal(raw.Raw, &m); err != nil {
		return m, config, fmt.Errorf("%s@%s: %w", r.Name, d, err)
	}
	b, err := r.blob(ctx, m.Config)
	if err != nil {
		return m, config, fmt.Errorf("%s@%s: config: %w", r.Name, d, err)
	}
	if err := json.Unmarshal(b, &config); err != nil {
		return m, config, fmt.Errorf("%s@%s: config: %w", r.Name, d, err)
	}
	return m, config, nil
}

// blob reads a small blob.
func (r *Request) blob(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	body, err := r.Registry.Blob(ctx, desc)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	b, err := io.ReadAll(io.LimitReader(body, maxManifest+1))
	switch {
	case err != nil:
		return nil, err
	case len(b) > maxManifest:
		return nil, fmt.Errorf("longer than %d bytes", maxManifest)
	case godigest.FromBytes(b) != desc.Digest:
		return nil, fmt.Errorf("the registry sent other bytes than %s", desc.Digest)
	}
	return b, nil
}

// holds is nil if the image's one layer has the sum, as stored or uncompressed.
func (r *Request) holds(ctx context.Context, d godigest.Digest, want sumOf) error {
	m, config, err := r.image(ctx, d)
	if err != nil {
		return err
	}
	if len(m.Layers) != 1 || len(config.RootFS.DiffIDs) != 1 {
		return fmt.Errorf("it has %d layers, and the archive can be one only", len(m.Layers))
	}
	sum := godigest.NewDigestFromEncoded(want.algorithm, want.hex)
	if sum == m.Layers[0].Digest || sum == config.RootFS.DiffIDs[0] { // a layer's diffID is verified at every pull
		return nil
	}
	if want.algorithm == godigest.SHA256 {
		return fmt.Errorf("its layer is %s, uncompressed %s, and published is %s", m.Layers[0].Digest, config.RootFS.DiffIDs[0], sum)
	}
	return r.hash(ctx, m.Layers[0], config.RootFS.DiffIDs[0], want)
}

// maxLayer is the largest layer that is hashed, in bytes as stored and
// uncompressed.
const maxLayer = 4 << 30

// hash downloads a layer to compare its SHA-512, as stored and uncompressed. Its
// own digests must be right, too.
func (r *Request) hash(ctx context.Context, layer ocispec.Descriptor, diffID godigest.Digest, want sumOf) error {
	body, err := r.Registry.Blob(ctx, layer)
	if err != nil {
		return err
	}
	defer body.Close()
	newHashes := func() (hash.Hash, hash.Hash) { return sha256.New(), sha512.New() }
	stored256, stored512 := newHashes()
	plain256, plain512 := newHashes()
	stored := io.TeeReader(io.LimitReader(body, maxLayer), io.MultiWriter(stored256, stored512))
	plain, err := inflate(layer.MediaType, stored)
	if err != nil {
		return err
	}
	defer plain.Close()
	if _, err := io.Copy(io.MultiWriter(plain256, plain512), io.LimitReader(plain, maxLayer)); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, stored); err != nil {
		return err
	}
	switch {
	case hex.EncodeToString(stored256.Sum(nil)) != layer.Digest.Encoded():
		return fmt.Errorf("the registry sent other bytes than %s", layer.Digest)
	case hex.EncodeToString(plain256.Sum(nil)) != diffID.Encoded():
		return fmt.Errorf("its layer is not %s uncompressed, as its config says", diffID)
	case hex.EncodeToString(stored512.Sum(nil)) == want.hex, hex.EncodeToString(plain512.Sum(nil)) == want.hex:
		return nil
	}
	return fmt.Errorf("its layer %s has another sha512 than the published %s…", layer.Digest, want.hex[:16])
}

// inflate reads a layer by its media type.
func inflate(mediaType string, r io.Reader) (io.ReadCloser, error) {
	switch {
	case strings.HasSuffix(mediaType, "+gzip"), strings.HasSuffix(mediaType, ".tar.gzip"):
		return gzip.NewReader(r)
	case strings.HasSuffix(mediaType, "+zstd"):
		z, err := zstd.NewReader(r, zstd.WithDecoderMaxMemory(128<<20), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	case strings.HasSuffix(mediaType, ".tar"):
		return io.NopCloser(r), nil
	}
	return nil, fmt.Errorf("layers of type %q are not read", mediaType)
}
