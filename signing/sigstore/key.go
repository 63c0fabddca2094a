package sigstore

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"

	godigest "github.com/opencontainers/go-digest"

	"github.com/sluiceproxy/sluice/signing"
)

const (
	maxKeys   = 8 // of a ring
	minRSABit = 2048
)

// errOtherKey says that no key of a ring made a signature.
var errOtherKey = fmt.Errorf("%w: none of the authority's keys made it", signing.ErrStranger)

// KeyRing verifies signatures by key. It is safe for concurrent use.
type KeyRing struct {
	keys  []key
	times signing.Times
	root  *trustedRoot // nil without one
}

type key struct {
	signing.Key
	public crypto.PublicKey
	id     godigest.Digest
}

// NewKeyRing reads the keys and the trusted root, if there is one. A ring of
// revoked keys only, one of more than 8, a weak or unknown key, and demands for
// time stamps without a root are errors.
func NewKeyRing(r signing.KeyRing) (*KeyRing, error) {
	if len(r.Keys) == 0 || len(r.Keys) > maxKeys {
		return nil, fmt.Errorf("it has %d keys; 1 to %d are possible", len(r.Keys), maxKeys)
	}
	ring := &KeyRing{times: r.Times}
	usable := false
	for i, k := range r.Keys {
		public, id, err := parseKey(k.Data)
		if err != nil {
			return nil, fmt.Errorf("key %d %s: %w", i+1, k.File, err)
		}
		if !k.NotAfter.IsZero() && !k.NotBefore.Before(k.NotAfter) {
			return nil, fmt.Errorf("key %d %s: notAfter is not after notBefore", i+1, k.File)
		}
		usable = usable || !k.Revoked
		ring.keys = append(ring.keys, key{k, public, id})
	}
	if !usable {
		return nil, errors.New("all of its keys are revoked")
	}
	if r.Times.SCT > 0 {
		return nil, errors.New("a key has no certificate: sct is for keyless")
	}
	if len(r.Times.Root.Data) > 0 {
		root, err := newTrustedRoot(r.Times.Root)
		if err != nil {
			return nil, err
		}
		ring.root = root
	} else if r.Times.Log > 0 || r.Times.Timestamps > 0 {
		return nil, errors.New("log entries and time stamps are verified with a trusted root: it has none")
	}
	return ring, nil
}

// IDs are the sha256 of the ring's public keys (SubjectPublicKeyInfo).
func (r *KeyRing) IDs() []godigest.Digest {
	ids := make([]godigest.Digest, len(r.keys))
	for i, k := range r.keys {
		ids[i] = k.id
	}
	return ids
}

// parseKey reads a public key in PEM and returns its id, the sha256 of its
// SubjectPublicKeyInfo.
func parseKey(data []byte) (crypto.PublicKey, godigest.Digest, error) {
	block, rest := pem.Decode(data)
	if block == nil {
		return nil, "", errors.New("it is not PEM")
	}
	if next, _ := pem.Decode(rest); next != nil {
		return nil, "", errors.New("it holds several PEM blocks: list each key by itself")
	}
	var public crypto.PublicKey
	var err error
	switch block.Type {
	case "PUBLIC KEY":
		public, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		public, err = x509.ParsePKCS1PublicKey(block.Bytes)
	default:
		return nil, "", fmt.Errorf("it holds a %s, not a public key", block.Type)
	}
	if err != nil {
		return nil, "", err
	}
	switch p := public.(type) {
	case *ecdsa.PublicKey:
		if len(hashes(p)) == 0 {
			return nil, "", fmt.Errorf("the curve %s is not supported: use P-256, P-384 or P-521", p.Curve.Params().Name)
		}
	case *rsa.PublicKey:
		if p.N.BitLen() < minRSABit {
			return nil, "", fmt.Errorf("an RSA key of %d bits is too weak: use %d or more", p.N.BitLen(), minRSABit)
		}
	case ed25519.PublicKey:
	default:
		return nil, "", fmt.Errorf("a key of type %T is not supported", public)
	}
	id, err := keyID(public)
	return public, id, err
}

// keyID is the sha256 of the key's SubjectPublicKeyInfo.
func keyID(public crypto.PublicKey) (godigest.Digest, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return "", err
	}
	return godigest.NewDigestFromBytes(godigest.SHA256, sum(der)), nil
}

func sum(b []byte) []byte {
	h := sha256.Sum256(b)
	return h[:]
}

// Verify returns what the item proves if one of the keys signed it, about the
// manifest at which it was found. Certificates beside the signature are not
// looked at.
func (r *KeyRing) Verify(ctx context.Context, item signing.Item, now time.Time) (signing.Proof, error) {
	s, err := read(item)
	if err != nil {
		return signing.Proof{}, err
	}
	for _, k := range r.keys {
		if err := ctx.Err(); err != nil {
			return signing.Proof{}, err
		}
		if !verifies(k.public, s.message, s.signature) {
			continue
		}
		p := signing.Proof{Identity: signing.Identity{KeyID: k.id.String()}}
		if k.Revoked {
			return signing.Proof{}, fmt.Errorf("the key %s is revoked", k.id)
		}
		if r.root != nil {
			if p.Times, err = r.root.keyTimes(&s, k.public, item.About, r.times); err != nil {
				return signing.Proof{}, err
			}
		}
		if p.Until, err = k.valid(p.Times, now); err != nil {
			return signing.Proof{}, err
		}
		return s.finish(item.About, p)
	}
	return signing.Proof{}, errOtherKey
}

// valid checks the key's window at the proved times, else at now, and returns
// when the answer may change.
func (k *key) valid(proved []time.Time, now time.Time) (until time.Time, err error) {
	in := func(t time.Time) bool {
		return !t.Before(k.NotBefore) && (k.NotAfter.IsZero() || !t.After(k.NotAfter))
	}
	if len(proved) > 0 {
		if !slices.ContainsFunc(proved, func(t time.Time) bool { return !in(t) }) {
			return time.Time{}, nil
		}
		return time.Time{}, fmt.Errorf("the key %s was used at %s, outside its time", k.id, proved[0].UTC().Format(time.RFC3339))
	}
	switch {
	case now.Before(k.NotBefore):
		return time.Time{}, fmt.Errorf("the key %s is valid from %s", k.id, k.NotBefore.UTC().Format(time.RFC3339))
	case !in(now):
		return time.Time{}, fmt.Errorf("the key %s was valid until %s, and nothing proves that the signature is older", k.id, k.NotAfter.UTC().Format(time.RFC3339))
	}
	return k.NotAfter, nil
}

// hashes are those with which cosign signs by keys of a curve: the one of the
// curve's strength, and SHA-256, which older versions always took.
func hashes(p *ecdsa.PublicKey) []crypto.Hash {
	switch p.Curve {
	case elliptic.P256():
		return []crypto.Hash{crypto.SHA256}
	case elliptic.P384():
		return []crypto.Hash{crypto.SHA384, crypto.SHA256}
	case elliptic.P521():
		return []crypto.Hash{crypto.SHA512, crypto.SHA256}
	}
	return nil
}

// verifies reports whether the key signed the message: ECDSA in ASN.1, RSA
// PKCS #1 v1.5 with SHA-256, pure Ed25519.
func verifies(public crypto.PublicKey, message, signature []byte) bool {
	switch p := public.(type) {
	case *ecdsa.PublicKey:
		return slices.ContainsFunc(hashes(p), func(h crypto.Hash) bool {
			w := h.New()
			w.Write(message)
			return ecdsa.VerifyASN1(p, w.Sum(nil), signature)
		})
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(p, crypto.SHA256, sum(message), signature) == nil
	case ed25519.PublicKey:
		return ed25519.Verify(p, message, signature)
	}
	return false
}
