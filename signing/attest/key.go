package attest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/kms"
	"github.com/sigstore/sigstore/pkg/signature/options"
)

const minRSABits = 2048

// Key signs messages.
type Key interface {
	// Sign returns the signature of the message in the form that cosign verifies.
	Sign(ctx context.Context, message []byte) ([]byte, error)
	Public() crypto.PublicKey
}

// LoadKey returns the key that reference names: a file or env:NAME that holds a
// private key in PEM (PKCS#8, or cosign's encrypted form, which password opens),
// or the address of a KMS key, such as awskms:///alias/sluice, for which there
// is a plugin.
func LoadKey(ctx context.Context, reference string, password []byte) (Key, error) {
	if strings.Contains(reference, "://") {
		sv, err := kms.Get(ctx, reference, crypto.SHA256)
		if err != nil {
			return nil, fmt.Errorf("key %s: %w", reference, err)
		}
		public, err := sv.PublicKey()
		if err != nil {
			return nil, fmt.Errorf("key %s: %w", reference, err)
		}
		return &key{sv, public}, nil
	}
	var text []byte
	if name, ok := strings.CutPrefix(reference, "env:"); ok {
		text = []byte(os.Getenv(name))
		if len(text) == 0 {
			return nil, fmt.Errorf("key %s: the variable is not set", reference)
		}
	} else {
		var err error
		if text, err = os.ReadFile(reference); err != nil {
			return nil, fmt.Errorf("key: %w", err)
		}
	}
	k, err := ParseKey(text, password)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", reference, err)
	}
	return k, nil
}

// ParseKey reads a private key in PEM: ECDSA P-256, P-384 or P-521, RSA of at
// least 2048 bits, or Ed25519.
func ParseKey(text, password []byte) (Key, error) {
	private, err := cryptoutils.UnmarshalPEMToPrivateKey(text, func(bool) ([]byte, error) {
		if len(password) == 0 {
			return nil, errors.New("it is encrypted, and no password is configured")
		}
		return password, nil
	})
	if err != nil {
		return nil, err
	}
	hash := crypto.SHA256
	switch p := private.(type) {
	case *ecdsa.PrivateKey:
		switch p.Curve { // the hash of the curve's strength, as cosign does
		case elliptic.P256():
		case elliptic.P384():
			hash = crypto.SHA384
		case elliptic.P521():
			hash = crypto.SHA512
		default:
			return nil, fmt.Errorf("the curve %s is not supported", p.Params().Name)
		}
	case *rsa.PrivateKey:
		if p.N.BitLen() < minRSABits {
			return nil, fmt.Errorf("an RSA key of %d bits is too weak: use %d or more", p.N.BitLen(), minRSABits)
		}
	case ed25519.PrivateKey:
	default:
		return nil, fmt.Errorf("a key of type %T is not supported", private)
	}
	signer, err := signature.LoadSigner(private, hash)
	if err != nil {
		return nil, err
	}
	public, err := signer.PublicKey()
	if err != nil {
		return nil, err
	}
	return &key{signer, public}, nil
}

// key is a Key of sigstore's.
type key struct {
	signer signature.Signer
	public crypto.PublicKey
}

// Public implements Key.
func (k *key) Public() crypto.PublicKey { return k.public }

// Sign implements Key.
func (k *key) Sign(ctx context.Context, message []byte) ([]byte, error) {
	return k.signer.SignMessage(bytes.NewReader(message), options.WithContext(ctx))
}
