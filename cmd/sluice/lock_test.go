package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"go.uber.org/zap/zaptest"

	"github.com/sluiceproxy/sluice/proxy/records"
)

// mkpush NAME ROOT... pushes an index with an image of the layers, for
// linux/amd64, to a registry on this machine.
func mkpush(args []string) error {
	img, err := image(args[1:])
	if err != nil {
		return err
	}
	tag, err := name.NewTag(args[0], name.Insecure)
	if err != nil {
		return err
	}
	return remote.WriteIndex(tag, mutate.AppendManifests(empty.Index, mutate.IndexAddendum{
		Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}},
	}))
}

// mksigner KEY PUBLIC makes a pair of keys.
func mksigner(args []string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	if err := os.WriteFile(args[0], pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600); err != nil {
		return err
	}
	return os.WriteFile(args[1], pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}), 0o600)
}

// TestThreatLockReplay: a server takes no policy whose lock is older than the one
// that was in force.
func TestThreatLockReplay(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	file := write("policy.yaml", "version: 1\nlocks: [{file: images.lock, unsigned: true}]\npolicies: [{name: all, images: [\"**\"], rules: []}]\n")
	db, err := records.Open(t.Context(), filepath.Join(dir, "records.db"), zaptest.NewLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	for _, tt := range []struct {
		serial string
		ok     bool
	}{{"7", true}, {"7", true}, {"6", false}, {"8", true}, {"7", false}} {
		write("images.lock", "version: 1\nserial: "+tt.serial+"\nimages: []\n")
		p, err := loadPolicy(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := acceptLocks(t.Context(), db, p); (err == nil) != tt.ok {
			t.Errorf("serial %s: %v", tt.serial, err)
		}
	}
}
