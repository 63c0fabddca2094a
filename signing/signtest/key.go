package signtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"testing"

	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protodsse "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	"google.golang.org/protobuf/encoding/protojson"
)

// Media types and annotations of what is made here.
const (
	TypeSimpleSigning = "application/vnd.dev.cosign.simplesigning.v1+json"
	TypeDSSE          = "application/vnd.dsse.envelope.v1+json"
	TypeBundle        = "application/vnd.dev.sigstore.bundle.v0.3+json"
	TypeInToto        = "application/vnd.in-toto+json"
	TypeNotation      = "application/vnd.cncf.notary.signature"
	TypeEmpty         = ocispec.MediaTypeEmptyJSON

	PredicateSign = "https://sigstore.dev/cosign/sign/v1"

	AnnSignature   = "dev.cosignproject.cosign/signature"
	AnnCertificate = "dev.sigstore.cosign/certificate"
	AnnBundle      = "dev.sigstore.cosign/bundle"
)

// Key is a key pair.
type Key struct {
	Private crypto.Signer
	PEM     []byte // of the public key
	ID      godigest.Digest
}

// NewKey returns a new pair of a kind: p256, p384, p521, rsa, ed25519.
func NewKey(t testing.TB, kind string) *Key {
	t.Helper()
	var private crypto.Signer
	var err error
	switch kind {
	case "p256":
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "p384":
		private, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "p521":
		private, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case "rsa":
		private, err = rsa.GenerateKey(rand.Reader, 2048)
	case "ed25519":
		_, private, err = ed25519.GenerateKey(rand.Reader)
	default:
		t.Fatalf("kind of key %q", kind)
	}
	if err != nil {
		t.Fatal(err)
	}
	return NewKeyOf(t, private)
}

// NewKeyOf returns the pair of a private key.
func NewKeyOf(t testing.TB, private crypto.Signer) *Key {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	return &Key{Private: private, PEM: pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), ID: godigest.FromBytes(der)}
}

// Sign signs the message as cosign does by default.
func (k *Key) Sign(t testing.TB, message []byte) []byte {
	t.Helper()
	hash := crypto.SHA256
	if _, ok := k.Private.(ed25519.PrivateKey); ok {
		hash = 0
	}
	return k.SignHash(t, message, hash)
}

// SignHash signs the message with another hash.
func (k *Key) SignHash(t testing.TB, message []byte, hash crypto.Hash) []byte {
	t.Helper()
	if hash != 0 {
		w := hash.New()
		w.Write(message)
		message = w.Sum(nil)
	}
	sig, err := k.Private.Sign(rand.Reader, message, hash)
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

// SimpleSigning is cosign's payload for the image, signed under a name.
func SimpleSigning(t testing.TB, name string, d godigest.Digest) []byte {
	return JSON(t, map[string]any{"critical": map[string]any{
		"identity": map[string]any{"docker-reference": name},
		"image":    map[string]any{"docker-manifest-digest": d.String()},
		"type":     "cosign container image signature",
	}, "optional": nil})
}

// Legacy is a layer for the tag .sig.
func (k *Key) Legacy(t testing.TB, name string, d godigest.Digest) Layer {
	t.Helper()
	return k.LegacyPayload(t, SimpleSigning(t, name, d))
}

// LegacyPayload is a layer for the tag .sig with another payload.
func (k *Key) LegacyPayload(t testing.TB, payload []byte) Layer {
	t.Helper()
	return Layer{TypeSimpleSigning, payload, map[string]string{AnnSignature: base64.StdEncoding.EncodeToString(k.Sign(t, payload))}}
}

// LegacyAttestation is a layer for the tag .att.
func (k *Key) LegacyAttestation(t testing.TB, statement []byte) Layer {
	t.Helper()
	b, err := protojson.Marshal(k.envelope(t, TypeInToto, statement))
	if err != nil {
		t.Fatal(err)
	}
	return Layer{TypeDSSE, b, map[string]string{AnnSignature: ""}}
}

func (k *Key) envelope(t testing.TB, payloadType string, payload []byte) *protodsse.Envelope {
	return &protodsse.Envelope{Payload: payload, PayloadType: payloadType, Signatures: []*protodsse.Signature{{Sig: k.Sign(t, dsse.PAE(payloadType, payload))}}}
}

// Bundle is a layer for a referrer, as cosign v3 signs and attests.
func (k *Key) Bundle(t testing.TB, statement []byte) Layer {
	t.Helper()
	return k.BundleOf(t, TypeInToto, statement)
}

// BundleOf is Bundle with another type of payload.
func (k *Key) BundleOf(t testing.TB, payloadType string, payload []byte) Layer {
	t.Helper()
	b, err := protojson.Marshal(&protobundle.Bundle{
		MediaType: TypeBundle,
		VerificationMaterial: &protobundle.VerificationMaterial{Content: &protobundle.VerificationMaterial_PublicKey{
			PublicKey: &protocommon.PublicKeyIdentifier{Hint: "a hint that nobody should trust"},
		}},
		Content: &protobundle.Bundle_DsseEnvelope{DsseEnvelope: k.envelope(t, payloadType, payload)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return Layer{MediaType: TypeBundle, Data: b}
}

// Statement is an in-toto statement about the image.
func Statement(t testing.TB, d godigest.Digest, predicateType string, predicate any) []byte {
	t.Helper()
	return JSON(t, map[string]any{
		"_type":         "https://in-toto.io/Statement/v1",
		"subject":       []any{map[string]any{"digest": map[string]string{d.Algorithm().String(): d.Encoded()}}},
		"predicateType": predicateType, "predicate": predicate,
	})
}

// Signature is the statement by which cosign v3 signs the image.
func Signature(t testing.TB, d godigest.Digest) []byte {
	t.Helper()
	return Statement(t, d, PredicateSign, map[string]any{})
}

// JSON marshals v.
func JSON(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
