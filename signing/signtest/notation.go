package signtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"github.com/notaryproject/notation-core-go/signature"
	_ "github.com/notaryproject/notation-core-go/signature/cose"
	_ "github.com/notaryproject/notation-core-go/signature/jws"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Notation signs as the notation command does.
type Notation struct {
	Chain []*x509.Certificate // leaf first
	Key   crypto.PrivateKey
	// Change, if set, changes the request before it is signed.
	Change func(*signature.SignRequest)
}

// Sign returns a layer for a referrer; mediaType is that of the envelope.
func (n *Notation) Sign(t testing.TB, mediaType string, about ocispec.Descriptor) Layer {
	t.Helper()
	signer, err := signature.NewLocalSigner(n.Chain, n.Key)
	if err != nil {
		t.Fatal(err)
	}
	req := &signature.SignRequest{
		Payload: signature.Payload{
			ContentType: "application/vnd.cncf.notary.payload.v1+json",
			Content: JSON(t, map[string]any{"targetArtifact": map[string]any{
				"mediaType": about.MediaType, "digest": about.Digest, "size": about.Size,
			}}),
		},
		Signer: signer, SigningTime: time.Now(), SigningScheme: signature.SigningSchemeX509, SigningAgent: "signtest",
	}
	if n.Change != nil {
		n.Change(req)
	}
	env, err := signature.NewEnvelope(mediaType)
	if err != nil {
		t.Fatal(err)
	}
	b, err := env.Sign(req)
	if err != nil {
		t.Fatal(err)
	}
	return Layer{MediaType: mediaType, Data: b}
}

// PEM is the certificates in PEM.
func PEM(certs ...*x509.Certificate) []byte {
	var b []byte
	for _, c := range certs {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return b
}

// PKI is a certificate authority and a signer of its, "CN=release,O=Acme,ST=WA,
// L=Seattle,C=US".
type PKI struct {
	Root, Leaf       *x509.Certificate
	RootKey, LeafKey *ecdsa.PrivateKey
}

// NewPKI returns an authority whose certificates are valid for a time.
func NewPKI(t testing.TB, from, to time.Time) *PKI {
	t.Helper()
	name := func(cn string) pkix.Name {
		return pkix.Name{CommonName: cn, Organization: []string{"Acme"}, Country: []string{"US"}, Province: []string{"WA"}, Locality: []string{"Seattle"}}
	}
	p := &PKI{}
	p.RootKey, p.Root = Certificate(t, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: name("root"), NotBefore: from, NotAfter: to,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}, nil, nil)
	p.LeafKey, p.Leaf = Certificate(t, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: name("release"), NotBefore: from, NotAfter: to,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	}, p.Root, p.RootKey)
	return p
}

// Certificate returns a new P-256 key and its certificate, self-signed without a
// parent.
func Certificate(t testing.TB, template, parent *x509.Certificate, signer crypto.Signer) (*ecdsa.PrivateKey, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return key, c
}

// Signer signs as the authority's leaf.
func (p *PKI) Signer() *Notation {
	return &Notation{Chain: []*x509.Certificate{p.Leaf, p.Root}, Key: p.LeafKey}
}
