package sigstore

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protodsse "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	protorekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sluiceproxy/sluice/signing"
)

// Annotations of a legacy layer (cosign v3, pkg/oci/static).
const (
	annSignature   = "dev.cosignproject.cosign/signature"
	annCertificate = "dev.sigstore.cosign/certificate"
	annBundle      = "dev.sigstore.cosign/bundle"
	annTimestamp   = "dev.sigstore.cosign/rfc3161timestamp"
)

const (
	payloadInToto = "application/vnd.in-toto+json"
	bundleV01     = "application/vnd.dev.sigstore.bundle+json;version=0.1"
)

// bundleTypes are the versions that are understood
// (https://github.com/sigstore/protobuf-specs, bundle v0.1 to v0.3).
var bundleTypes = map[string]bool{
	bundleV01: true,
	"application/vnd.dev.sigstore.bundle+json;version=0.2": true,
	"application/vnd.dev.sigstore.bundle+json;version=0.3": true,
	"application/vnd.dev.sigstore.bundle.v0.3+json":        true,
}

// signed is an item, parsed: nothing in it is verified.
type signed struct {
	message   []byte // the bytes under the signature
	signature []byte
	payload   []byte // what the message says
	statement bool   // payload is an in-toto statement, else simple signing
	// bundle holds certificate, log entries and time stamps.
	bundle *protobundle.Bundle
}

// read parses an item of one of the package's formats.
func read(item signing.Item) (signed, error) {
	switch item.Format {
	case signing.FormatBundle:
		return readBundle(item.Data)
	case signing.FormatCosignSignature:
		return readSignature(item)
	case signing.FormatCosignAttestation:
		return readAttestation(item)
	}
	return signed{}, fmt.Errorf("%s is no format of sigstore", item.Format)
}

func readBundle(data []byte) (signed, error) {
	var b protobundle.Bundle
	if err := protojson.Unmarshal(data, &b); err != nil {
		if mt := mediaTypeOf(data); mt != "" && !bundleTypes[mt] {
			return signed{}, fmt.Errorf("its format %q is newer than this version of Sluice understands", mt)
		}
		return signed{}, fmt.Errorf("bundle: %w", err)
	}
	if !bundleTypes[b.MediaType] {
		return signed{}, fmt.Errorf("its format %q is newer than this version of Sluice understands", b.MediaType)
	}
	if b.GetMessageSignature() != nil {
		return signed{}, errors.New("it signs bytes and says nothing of an image (cosign sign-blob)")
	}
	s, err := readEnvelope(b.GetDsseEnvelope())
	s.bundle = &b
	return s, err
}

// mediaTypeOf returns the media type of a bundle that does not parse.
func mediaTypeOf(data []byte) string {
	var m structpb.Struct
	if protojson.Unmarshal(data, &m) != nil {
		return ""
	}
	return m.GetFields()["mediaType"].GetStringValue()
}

func readEnvelope(e *protodsse.Envelope) (signed, error) {
	if e.GetPayloadType() != payloadInToto {
		return signed{}, fmt.Errorf("the envelope's payload type is %q, not %s", e.GetPayloadType(), payloadInToto)
	}
	if n := len(e.GetSignatures()); n != 1 {
		return signed{}, fmt.Errorf("the envelope has %d signatures, not one", n)
	}
	return signed{
		message:   dsse.PAE(e.PayloadType, e.Payload),
		signature: e.Signatures[0].Sig,
		payload:   e.Payload,
		statement: true,
	}, nil
}

func readAttestation(item signing.Item) (signed, error) {
	var e protodsse.Envelope
	if err := protojson.Unmarshal(item.Data, &e); err != nil {
		return signed{}, fmt.Errorf("envelope: %w", err)
	}
	s, err := readEnvelope(&e)
	if err != nil {
		return signed{}, err
	}
	vm, err := material(item.Annotations)
	if err != nil {
		return signed{}, err
	}
	s.bundle = &protobundle.Bundle{MediaType: bundleV01, VerificationMaterial: vm, Content: &protobundle.Bundle_DsseEnvelope{DsseEnvelope: &e}}
	return s, nil
}

func readSignature(item signing.Item) (signed, error) {
	sig, err := base64.StdEncoding.Strict().DecodeString(item.Annotations[annSignature])
	if err != nil || len(sig) == 0 {
		return signed{}, fmt.Errorf("the annotation %s is no base64", annSignature)
	}
	vm, err := material(item.Annotations)
	if err != nil {
		return signed{}, err
	}
	h := sha256.Sum256(item.Data)
	return signed{
		message: item.Data, signature: sig, payload: item.Data,
		bundle: &protobundle.Bundle{
			MediaType: bundleV01, VerificationMaterial: vm,
			Content: &protobundle.Bundle_MessageSignature{MessageSignature: &protocommon.MessageSignature{
				MessageDigest: &protocommon.HashOutput{Algorithm: protocommon.HashAlgorithm_SHA2_256, Digest: h[:]},
				Signature:     sig,
			}},
		},
	}, nil
}

// material turns a legacy layer's annotations into what a bundle has: the leaf
// certificate only, for intermediates come from the trusted root.
func material(ann map[string]string) (*protobundle.VerificationMaterial, error) {
	vm := &protobundle.VerificationMaterial{Content: &protobundle.VerificationMaterial_PublicKey{PublicKey: &protocommon.PublicKeyIdentifier{}}}
	if text := ann[annCertificate]; text != "" {
		block, rest := pem.Decode([]byte(text))
		if block == nil || block.Type != "CERTIFICATE" || len(bytes.TrimSpace(rest)) > 0 {
			return nil, fmt.Errorf("the annotation %s is not one certificate", annCertificate)
		}
		vm.Content = &protobundle.VerificationMaterial_X509CertificateChain{X509CertificateChain: &protocommon.X509CertificateChain{
			Certificates: []*protocommon.X509Certificate{{RawBytes: block.Bytes}},
		}}
	}
	if text := ann[annBundle]; text != "" {
		entry, err := logEntry(text)
		if err != nil {
			return nil, fmt.Errorf("the annotation %s: %w", annBundle, err)
		}
		vm.TlogEntries = []*protorekor.TransparencyLogEntry{entry}
	}
	if text := ann[annTimestamp]; text != "" {
		t, err := fields(text)
		if err != nil {
			return nil, fmt.Errorf("the annotation %s: %w", annTimestamp, err)
		}
		raw, err := base64.StdEncoding.DecodeString(t["SignedRFC3161Timestamp"].GetStringValue())
		if err != nil || len(raw) == 0 {
			return nil, fmt.Errorf("the annotation %s has no time stamp", annTimestamp)
		}
		vm.TimestampVerificationData = &protobundle.TimestampVerificationData{
			Rfc3161Timestamps: []*protocommon.RFC3161SignedTimestamp{{SignedTimestamp: raw}},
		}
	}
	return vm, nil
}

// logEntry reads cosign's "bundle": an entry of Rekor v1 with the log's promise
// (SignedEntryTimestamp) to include it.
func logEntry(text string) (*protorekor.TransparencyLogEntry, error) {
	b, err := fields(text)
	if err != nil {
		return nil, err
	}
	set, err := base64.StdEncoding.DecodeString(b["SignedEntryTimestamp"].GetStringValue())
	if err != nil || len(set) == 0 {
		return nil, errors.New("no SignedEntryTimestamp")
	}
	p := b["Payload"].GetStructValue().GetFields()
	body, err := base64.StdEncoding.DecodeString(p["body"].GetStringValue())
	if err != nil || len(body) == 0 {
		return nil, errors.New("no body")
	}
	log, err := hex.DecodeString(p["logID"].GetStringValue())
	if err != nil || len(log) == 0 {
		return nil, errors.New("no logID")
	}
	kind, err := fields(string(body))
	if err != nil {
		return nil, fmt.Errorf("body: %w", err)
	}
	return &protorekor.TransparencyLogEntry{
		LogIndex:          int64(p["logIndex"].GetNumberValue()),
		LogId:             &protocommon.LogId{KeyId: log},
		KindVersion:       &protorekor.KindVersion{Kind: kind["kind"].GetStringValue(), Version: kind["apiVersion"].GetStringValue()},
		IntegratedTime:    int64(p["integratedTime"].GetNumberValue()),
		InclusionPromise:  &protorekor.InclusionPromise{SignedEntryTimestamp: set},
		CanonicalizedBody: body,
	}, nil
}

// fields reads a JSON object with exact keys, none twice.
func fields(text string) (map[string]*structpb.Value, error) {
	var s structpb.Struct
	if err := protojson.Unmarshal([]byte(text), &s); err != nil {
		return nil, err
	}
	return s.GetFields(), nil
}

// certificate returns the DER of the leaf, nil for a key.
func (s *signed) certificate() []byte {
	switch c := s.bundle.GetVerificationMaterial().GetContent().(type) {
	case *protobundle.VerificationMaterial_Certificate:
		return c.Certificate.GetRawBytes()
	case *protobundle.VerificationMaterial_X509CertificateChain:
		if list := c.X509CertificateChain.GetCertificates(); len(list) > 0 {
			return list[0].GetRawBytes()
		}
	}
	return nil
}

// repository takes tag, digest and Docker Hub's other names off a reference, so
// that it compares with a canonical name.
func repository(reference string) string {
	name, _, _ := strings.Cut(reference, "@")
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		name = name[:i]
	}
	for _, hub := range []string{"index.docker.io/", "registry-1.docker.io/"} {
		if rest, ok := strings.CutPrefix(name, hub); ok {
			name = "docker.io/" + rest
		}
	}
	return name
}
