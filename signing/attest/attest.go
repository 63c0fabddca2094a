package attest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	godigest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protodsse "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/sluiceproxy/sluice/signing"
)

// Media types and annotations of cosign v3 (pkg/types, pkg/oci/static).
const (
	typeBundle        = "application/vnd.dev.sigstore.bundle.v0.3+json"
	typeSimpleSigning = "application/vnd.dev.cosign.simplesigning.v1+json"
	typeDSSE          = "application/vnd.dsse.envelope.v1+json"
	typeInToto        = "application/vnd.in-toto+json"
	typeBOM           = "application/vnd.cyclonedx+json"

	annContent   = "dev.sigstore.bundle.content"
	annPredicate = "dev.sigstore.bundle.predicateType"
	annSignature = "dev.cosignproject.cosign/signature"
)

// Annotations that say what an artifact of Sluice's rests on. They are for
// showing; what counts is in the signed bytes.
const (
	AnnotationVerdict    = "dev.sluiceproxy.verdict"
	AnnotationPolicy     = "dev.sluiceproxy.policy"
	AnnotationAdvisories = "dev.sluiceproxy.advisories"
)

// Options of an Attestor.
type Options struct {
	Key Key // nil = nothing is signed
	// NotBefore and NotAfter are published with the key.
	NotBefore, NotAfter time.Time
	// Older keys are published beside it, so that both verify in a rotation.
	Older []signing.PublicKey
	// Verifier is the id under which consumers know this Sluice, a URI.
	Verifier string
	Version  string // of the program
}

// Attestor writes approvals down.
type Attestor struct {
	opts Options
	keys []signing.PublicKey
}

var _ signing.Attestor = (*Attestor)(nil)

// New returns an Attestor.
func New(opts Options) (*Attestor, error) {
	a := &Attestor{opts: opts}
	if opts.Key != nil {
		k, err := Publish(opts.Key.Public())
		if err != nil {
			return nil, err
		}
		k.Signs, k.NotBefore, k.NotAfter = true, opts.NotBefore, opts.NotAfter
		a.keys = append(a.keys, k)
	}
	a.keys = append(a.keys, opts.Older...)
	return a, nil
}

// Publish describes a public key.
func Publish(public crypto.PublicKey) (signing.PublicKey, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return signing.PublicKey{}, fmt.Errorf("public key: %w", err)
	}
	return signing.PublicKey{
		ID: godigest.FromBytes(der), PEM: string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})),
	}, nil
}

// ParsePublic describes a public key in PEM (PKIX).
func ParsePublic(text []byte) (signing.PublicKey, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PUBLIC KEY" {
		return signing.PublicKey{}, errors.New("it is not a public key in PEM")
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return signing.PublicKey{}, err
	}
	return Publish(public)
}

// Keys implements signing.Attestor.
func (a *Attestor) Keys() []signing.PublicKey { return a.keys }

// Signs implements signing.Attestor.
func (a *Attestor) Signs() bool { return a.opts.Key != nil }

// Attest implements signing.Attestor. With a key there are a bundle for each
// statement, and the artifacts of cosign's tags .sig and .att; with an SBOM, that
// by itself as well.
func (a *Attestor) Attest(ctx context.Context, p signing.Approval) ([]signing.Artifact, error) {
	var out []signing.Artifact
	if len(p.SBOM) > 0 {
		r, err := a.referrer(&p, typeBOM, p.SBOM, nil)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	if a.opts.Key == nil {
		return out, nil
	}
	var attestations []layer
	for _, s := range a.statements(&p) {
		payload, err := json.Marshal(s)
		if err != nil {
			return nil, fmt.Errorf("attest %s: %w", p.Subject.Digest, err)
		}
		sig, err := a.opts.Key.Sign(ctx, dsse.PAE(typeInToto, payload))
		if err != nil {
			return nil, fmt.Errorf("attest %s: %w", p.Subject.Digest, err)
		}
		env := &protodsse.Envelope{Payload: payload, PayloadType: typeInToto, Signatures: []*protodsse.Signature{{Sig: sig}}}
		bundle, err := a.bundle(env)
		if err != nil {
			return nil, err
		}
		r, err := a.referrer(&p, typeBundle, bundle, map[string]string{annContent: "dsse-envelope", annPredicate: s.PredicateType})
		if err != nil {
			return nil, err
		}
		out = append(out, r)
		if s.PredicateType == typeSignature {
			continue
		}
		envelope, err := marshal(env)
		if err != nil {
			return nil, err
		}
		attestations = append(attestations, layer{typeDSSE, envelope, map[string]string{annSignature: "", "predicateType": s.PredicateType}})
	}
	sig, err := a.simpleSigning(ctx, &p)
	if err != nil {
		return nil, err
	}
	signature, err := tagged(&p, "sig", []layer{sig})
	if err != nil {
		return nil, err
	}
	attested, err := tagged(&p, "att", attestations)
	if err != nil {
		return nil, err
	}
	return append([]signing.Artifact{signature, attested}, out...), nil
}

// bundle wraps an envelope as cosign v3 does for a key.
func (a *Attestor) bundle(env *protodsse.Envelope) ([]byte, error) {
	return marshal(&protobundle.Bundle{
		MediaType: typeBundle,
		VerificationMaterial: &protobundle.VerificationMaterial{Content: &protobundle.VerificationMaterial_PublicKey{
			PublicKey: &protocommon.PublicKeyIdentifier{Hint: a.keys[0].ID.String()},
		}},
		Content: &protobundle.Bundle_DsseEnvelope{DsseEnvelope: env},
	})
}

// simpleSigning is the layer of .sig
// (https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md).
func (a *Attestor) simpleSigning(ctx context.Context, p *signing.Approval) (layer, error) {
	payload, err := json.Marshal(map[string]any{"critical": map[string]any{
		"identity": map[string]any{"docker-reference": p.Name},
		"image":    map[string]any{"docker-manifest-digest": p.Subject.Digest},
		"type":     "cosign container image signature",
	}, "optional": nil})
	if err != nil {
		return layer{}, err
	}
	sig, err := a.opts.Key.Sign(ctx, payload)
	if err != nil {
		return layer{}, fmt.Errorf("sign %s: %w", p.Subject.Digest, err)
	}
	return layer{typeSimpleSigning, payload, map[string]string{annSignature: base64.StdEncoding.EncodeToString(sig)}}, nil
}

// layer is one of an artifact's.
type layer struct {
	mediaType   string
	data        []byte
	annotations map[string]string
}

func (l *layer) descriptor() ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: l.mediaType, Digest: godigest.FromBytes(l.data), Size: int64(len(l.data)), Annotations: l.annotations}
}

// referrer is an artifact with one layer that names the image as its subject.
func (a *Attestor) referrer(p *signing.Approval, artifactType string, data []byte, annotations map[string]string) (signing.Artifact, error) {
	all := map[string]string{
		ocispec.AnnotationCreated: p.Time.UTC().Format(time.RFC3339),
		AnnotationVerdict:         p.Verdict, AnnotationPolicy: p.Policy, AnnotationAdvisories: p.Advisories,
	}
	for k, v := range annotations {
		all[k] = v
	}
	l := layer{artifactType, data, nil}
	return assemble(ocispec.Manifest{
		MediaType: ocispec.MediaTypeImageManifest, ArtifactType: artifactType, Annotations: all,
		Subject: &ocispec.Descriptor{MediaType: p.Subject.MediaType, Digest: p.Subject.Digest, Size: p.Subject.Size},
	}, ocispec.DescriptorEmptyJSON, []byte("{}"), []layer{l}, "")
}

// tagged is the image that cosign packs legacy layers in.
func tagged(p *signing.Approval, suffix string, layers []layer) (signing.Artifact, error) {
	config := ocispec.Image{Created: &time.Time{}}
	config.RootFS.Type, config.RootFS.DiffIDs = "layers", []godigest.Digest{}
	for _, l := range layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, godigest.FromBytes(l.data))
	}
	raw, err := json.Marshal(config)
	if err != nil {
		return signing.Artifact{}, err
	}
	l := layer{ocispec.MediaTypeImageConfig, raw, nil}
	return assemble(ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest}, l.descriptor(), raw, layers,
		strings.Replace(p.Subject.Digest.String(), ":", "-", 1)+"."+suffix)
}

func assemble(m ocispec.Manifest, config ocispec.Descriptor, configData []byte, layers []layer, tag string) (signing.Artifact, error) {
	m.Versioned = specs.Versioned{SchemaVersion: 2}
	config.Data = nil
	m.Config = config
	out := signing.Artifact{Tag: tag, Blobs: [][]byte{configData}}
	for _, l := range layers {
		m.Layers = append(m.Layers, l.descriptor())
		out.Blobs = append(out.Blobs, l.data)
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return signing.Artifact{}, err
	}
	out.Manifest, out.Raw, out.Digest = m, raw, godigest.FromBytes(raw)
	return out, nil
}

// marshal is protojson without the white space that it varies.
func marshal(m proto.Message) ([]byte, error) {
	b, err := protojson.Marshal(m)
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	if err := json.Compact(&buf, b); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}
