package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/spf13/cobra"

	"github.com/sluiceproxy/sluice/cmd/sluice/target"
	"github.com/sluiceproxy/sluice/configs"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/records"
	"github.com/sluiceproxy/sluice/signing"
	"github.com/sluiceproxy/sluice/signing/attest"
	"github.com/sluiceproxy/sluice/signing/lock"
	"github.com/sluiceproxy/sluice/signing/lock/source"
)

func newLock() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "lock",
		Short: "Write and check images.lock, the signed list of published digests",
		Example: `  sluice lock update --lock images.lock --key lock.key --source debian-artifacts debian:bookworm
  sluice lock verify --lock images.lock --key lock.pub debian:bookworm`,
	}
	cmd.AddCommand(newLockUpdate(), newLockVerify())
	return cmd
}

// lockFlags are those of both commands.
type lockFlags struct {
	lock, signature, config string
	upstreams               []string
}

func (f *lockFlags) register(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.lock, "lock", "images.lock", "the lock file")
	fl.StringVar(&f.signature, "signature", "", "its signature (default the lock's name with .sig)")
	fl.StringVar(&f.config, "config", "", "configuration file, for credentials of registries")
	fl.StringArrayVar(&f.upstreams, "upstream", nil, "NAME=URL of a registry; may be given again")
}

func (f *lockFlags) signatureFile() string {
	if f.signature != "" {
		return f.signature
	}
	return f.lock + ".sig"
}

// targets returns how references are read.
func (f *lockFlags) targets(cmd *cobra.Command) (target.Options, error) {
	ups, err := addUpstreams(f.upstreams)
	if err != nil {
		return target.Options{}, err
	}
	cfg, err := loadConfig(cmd, f.config, ups)
	if err != nil {
		return target.Options{}, err
	}
	server, err := serverOptions(cfg)
	if err != nil {
		return target.Options{}, err
	}
	opts := target.Options{Upstreams: server.Upstreams, Default: cfg.Default}
	if cfg.DockerConfig == "none" {
		opts.Keychain = authn.NewMultiKeychain()
	}
	return opts, nil
}

// updateFlags are those of "lock update".
type updateFlags struct {
	lockFlags
	source, url, signatureURL, keyring, archive string
	platforms                                   []string
	key, passwordFile                           string
	expires                                     time.Duration
	replace                                     bool
}

func newLockUpdate() *cobra.Command {
	f := &updateFlags{}
	cmd := &cobra.Command{
		Use:   "update IMAGE...",
		Short: "Put what is published of images into the lock, and sign it",
		Long: `Update asks a source what digests are published of each image, puts that into the
lock in place of the entry before, whose digests become superseded, and raises
the serial. Sources:

  tofu              what the registry has now: trust on first use; a change later
                    is an error without --replace
  debian-artifacts  the OCI indexes that Debian publishes beside its images
  sha256sums        a SHA256SUMS file with an OpenPGP signature (--url, --keyring, --archive)
  checksums         a file of sha256 or sha512 sums without signature (--url, --archive)

Sums are of an archive of a root file system: the image's one layer must be that
archive, as stored or uncompressed.

With --key the lock is signed as "cosign sign-blob" does; the password of an
encrypted key is in --password-file or COSIGN_PASSWORD. A lock that is signed
already must be so by the same key.

Exit codes: 0 written, 1 an image changed since its first use, 2 wrong flags or a
lock that is malformed or not signed by the key, 3 anything else.`,
		Example: `  sluice lock update --lock images.lock --key cosign.key gcr.io/distroless/static:nonroot
  sluice lock update --key lock.key --source debian-artifacts --platform linux/amd64 debian:bookworm-slim
  sluice lock update --key lock.key --source checksums --archive 'alpine-minirootfs-*-{arch}.tar.gz' \
    --url https://mirror.example.org/alpine/checksums.sha512 alpine:3.22`,
		Args: cobra.MinimumNArgs(1),
		RunE: f.run,
	}
	f.register(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.source, "source", string(lock.FirstUse), "tofu, debian-artifacts, sha256sums or checksums")
	fl.StringVar(&f.url, "url", "", "address of the sums; of debian-artifacts another copy than Debian's")
	fl.StringVar(&f.signatureURL, "signature-url", "", "address of the sums' signature (default that of the sums with .gpg)")
	fl.StringVar(&f.keyring, "keyring", "", "file of OpenPGP public keys that may sign the sums")
	fl.StringVar(&f.archive, "archive", "", "pattern of the archive's name in the sums; {arch} stands for the architecture")
	fl.StringSliceVar(&f.platforms, "platform", []string{"linux/amd64", "linux/arm64"}, "os/arch[/variant] that are wanted; may be given again")
	fl.StringVar(&f.key, "key", "", "private key to sign with: a file (PKCS#8 or cosign's), env:NAME, or the address of a KMS")
	fl.StringVar(&f.passwordFile, "password-file", "", "file that holds the key's password")
	fl.BoolVar(&f.replace, "replace", false, "with --source tofu: take the registry's word also where the lock has another digest")
	fl.DurationVar(&f.expires, "expires", 90*24*time.Hour, "how long the lock is good; 0 = for ever")
	return cmd
}

// check reports flags that do not go together.
func (f *updateFlags) check() error {
	sums := f.source == string(lock.SHA256Sums) || f.source == string(lock.Checksums)
	switch {
	case !sums && f.source != string(lock.FirstUse) && f.source != string(lock.DebianArtifacts):
		return usageError(fmt.Errorf("--source is tofu, debian-artifacts, sha256sums or checksums, not %q", f.source))
	case sums && (f.url == "" || f.archive == ""):
		return usageError(fmt.Errorf("--source %s needs --url and --archive", f.source))
	case f.source == string(lock.SHA256Sums) && f.keyring == "":
		return usageError(errors.New("--source sha256sums needs --keyring; without a signature it is --source checksums"))
	case f.source != string(lock.SHA256Sums) && (f.keyring != "" || f.signatureURL != ""):
		return usageError(errors.New("--keyring and --signature-url are for --source sha256sums"))
	case len(f.platforms) == 0:
		return usageError(errors.New("--platform is empty"))
	case f.expires < 0:
		return usageError(errors.New("--expires is negative"))
	}
	return nil
}

func (f *updateFlags) run(cmd *cobra.Command, images []string) error {
	if err := f.check(); err != nil {
		return err
	}
	key, err := f.loadKey(cmd.Context())
	if err != nil {
		return err
	}
	file, err := f.read(key)
	if err != nil {
		return err
	}
	opts, err := f.targets(cmd)
	if err != nil {
		return err
	}
	now := time.Now()
	for _, spec := range images {
		im, err := f.ask(cmd.Context(), spec, opts, now)
		if err != nil {
			return err
		}
		first := file.Find(im.Name, im.Tag) == nil
		state := "unchanged"
		if file.Update(im) {
			state = "updated"
			if !first && !f.replace && im.Source.Type == lock.FirstUse {
				return &exitError{exitDenied, fmt.Errorf("%s:%s is not what the lock says any more, and nobody published that; if it is meant, use --replace", im.Name, im.Tag)}
			}
		}
		if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s %s:%s\n", state, im.Name, im.Tag); err != nil {
			return err
		}
	}
	file.Serial++
	file.Expires = time.Time{}
	if f.expires > 0 {
		file.Expires = now.Add(f.expires).UTC().Truncate(time.Second)
	}
	if err := f.write(cmd.Context(), file, key); err != nil {
		return err
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s has serial %d and %d images\n", f.lock, file.Serial, len(file.Images))
	return err
}

// loadKey returns the key to sign with, nil for none.
func (f *updateFlags) loadKey(ctx context.Context) (attest.Key, error) {
	if f.key == "" {
		return nil, nil
	}
	password := []byte(os.Getenv("COSIGN_PASSWORD"))
	if f.passwordFile != "" {
		secret, err := configs.ReadSecret("", f.passwordFile)
		if err != nil {
			return nil, usageError(fmt.Errorf("--password-file: %w", err))
		}
		password = []byte(secret)
	}
	key, err := attest.LoadKey(ctx, f.key, password)
	if err != nil {
		return nil, usageError(err)
	}
	return key, nil
}

// read returns the lock as it is, a new one where there is none. One that is
// signed must be so by key.
func (f *updateFlags) read(key attest.Key) (*lock.File, error) {
	data, err := os.ReadFile(f.lock)
	if errors.Is(err, fs.ErrNotExist) {
		return &lock.File{Version: 1}, nil
	}
	if err != nil {
		return nil, err
	}
	signature, err := os.ReadFile(f.signatureFile())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		file, err := lock.Parse(f.lock, data)
		if err != nil {
			return nil, usageError(err)
		}
		return file, nil
	case err != nil:
		return nil, err
	case key == nil:
		return nil, usageError(fmt.Errorf("%s is signed: give the key with --key", f.lock))
	}
	public, err := attest.Publish(key.Public())
	if err != nil {
		return nil, err
	}
	if _, err := lock.Open(signing.Lock{
		Name: f.lock, Material: signing.Material{File: f.lock, Data: data},
		Signature: signing.Material{File: f.signatureFile(), Data: signature},
		SignedBy:  &signing.KeyRing{Keys: []signing.Key{{Material: signing.Material{Data: []byte(public.PEM)}}}},
	}); err != nil {
		return nil, usageError(fmt.Errorf("the lock was changed by somebody else than the key: %w", err))
	}
	return lock.Parse(f.lock, data)
}

// ask asks the source for the entry of one image.
func (f *updateFlags) ask(ctx context.Context, spec string, opts target.Options, now time.Time) (lock.Image, error) {
	t, _, err := target.Repository(spec, opts)
	if err != nil {
		return lock.Image{}, err
	}
	if len(t.Tags) == 0 {
		return lock.Image{}, usageError(fmt.Errorf("%s: publications are of tags: leave the digest out", spec))
	}
	r := source.Request{Name: t.Name, Tag: t.Tags[0], Registry: t.Source, Platform: f.platforms, Now: now}
	web := source.Web{Client: &http.Client{Timeout: time.Minute}}
	switch lock.SourceType(f.source) {
	case lock.DebianArtifacts:
		base := f.url
		if base == "" {
			base = source.DebianURL
		}
		return source.Debian(ctx, web, base, r)
	case lock.SHA256Sums, lock.Checksums:
		sums := source.SumsFile{URL: f.url, Signature: f.signatureURL, Archive: f.archive}
		if f.keyring != "" {
			if sums.Keyring, err = os.ReadFile(f.keyring); err != nil {
				return lock.Image{}, usageError(fmt.Errorf("--keyring: %w", err))
			}
		}
		return source.Sums(ctx, web, sums, r)
	case lock.FirstUse, lock.Manual:
	}
	return source.FirstUse(ctx, r)
}

// write replaces the lock and its signature. Between the two a reader finds a
// signature that does not fit, and keeps what it had.
func (f *updateFlags) write(ctx context.Context, file *lock.File, key attest.Key) error {
	text, err := file.Marshal()
	if err != nil {
		return err
	}
	if key != nil {
		signature, err := key.Sign(ctx, text)
		if err != nil {
			return fmt.Errorf("sign %s: %w", f.lock, err)
		}
		if err := replaceFile(f.signatureFile(), []byte(base64.StdEncoding.EncodeToString(signature)+"\n")); err != nil {
			return err
		}
	}
	return replaceFile(f.lock, text)
}

// replaceFile writes a file at once: the old one stays until the new one is
// whole.
func replaceFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".sluice-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(f.Name(), path)
}

// acceptLocks remembers the policy's locks as those in force; one that is older
// than the last is an error.
func acceptLocks(ctx context.Context, db *records.DB, p *policy.Policy) error {
	if set, ok := p.Locks().(*lock.Set); ok {
		return db.AcceptLocks(ctx, set.IDs())
	}
	return nil
}
