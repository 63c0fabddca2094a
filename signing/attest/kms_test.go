package attest_test

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/kms"
	"github.com/sigstore/sigstore/pkg/signature/kms/cliplugin/handler"

	"github.com/sluiceproxy/sluice/signing"
	"github.com/sluiceproxy/sluice/signing/attest"
	"github.com/sluiceproxy/sluice/signing/signtest"
	"github.com/sluiceproxy/sluice/signing/verify"
)

// plugin is what sigstore runs for keys of the form testkms://FILE. It is this
// test's own program, by another name.
const plugin = "sigstore-kms-testkms"

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == plugin {
		if err := runPlugin(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// fileKMS is a KMS whose keys are files. What the plugin is not asked for is not
// there.
type fileKMS struct {
	kms.SignerVerifier
	signer signature.Signer
}

func (k fileKMS) PublicKey(opts ...signature.PublicKeyOption) (crypto.PublicKey, error) {
	return k.signer.PublicKey(opts...)
}

func (k fileKMS) SignMessage(message io.Reader, opts ...signature.SignOption) ([]byte, error) {
	return k.signer.SignMessage(message, opts...)
}

func runPlugin() error {
	args, err := handler.GetPluginArgs(os.Args)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(strings.TrimPrefix(args.InitOptions.KeyResourceID, "testkms://"))
	if err != nil {
		return handler.WriteErrorResponse(os.Stdout, err)
	}
	private, err := cryptoutils.UnmarshalPEMToPrivateKey(text, nil)
	if err != nil {
		return handler.WriteErrorResponse(os.Stdout, err)
	}
	signer, err := signature.LoadSigner(private, crypto.SHA256)
	if err != nil {
		return handler.WriteErrorResponse(os.Stdout, err)
	}
	_, err = handler.Dispatch(os.Stdout, os.Stdin, args, fileKMS{signer: signer})
	return err
}

// TestKMS: a key that only a plugin can reach signs as one of a file does.
func TestKMS(t *testing.T) {
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(dir, plugin)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	public := signtest.NewKey(t, "p256")
	der, err := x509.MarshalPKCS8PrivateKey(public.Private)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "key.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	k, err := attest.LoadKey(t.Context(), "testkms://"+file, nil)
	if err != nil {
		t.Fatal(err)
	}
	a, err := attest.New(attest.Options{Key: k, Verifier: "https://sluice.example"})
	if err != nil {
		t.Fatal(err)
	}
	if a.Keys()[0].ID != public.ID {
		t.Errorf("key %s, want %s", a.Keys()[0].ID, public.ID)
	}
	r := signtest.NewRepo()
	d := r.Image(t)
	artifacts, err := a.Attest(t.Context(), approval(d))
	if err != nil {
		t.Fatal(err)
	}
	store(t, r, artifacts)
	v, err := verify.Compile(trust(public))
	if err != nil {
		t.Fatal(err)
	}
	if res, err := v.Verify(t.Context(), r, signing.Subject{Name: name, Desc: d}, time.Now()); err != nil || res.Outcome != signing.Pass {
		t.Errorf("%s %s %v", res.Outcome, res.Reason, err)
	}
	if _, err := attest.LoadKey(t.Context(), "testkms://"+file+".none", nil); err == nil {
		t.Error("a key that the KMS does not have is loaded")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.Attest(ctx, approval(d)); err == nil {
		t.Error("signed after the context ended")
	}
}
