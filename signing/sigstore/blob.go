package sigstore

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protodsse "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/sluiceproxy/sluice/signing"
)

// VerifyBlob returns the key of the ring that signed the bytes. Its window is
// left to the caller. signature is what cosign sign-blob writes: the signature in
// base64, or a bundle, whose log entries and time stamps are not looked at.
func (r *KeyRing) VerifyBlob(blob, signature []byte) (signing.Key, error) {
	text := bytes.TrimSpace(signature)
	if bytes.HasPrefix(text, []byte("{")) {
		var b protobundle.Bundle
		if err := protojson.Unmarshal(text, &b); err != nil {
			return signing.Key{}, fmt.Errorf("bundle: %w", err)
		}
		if !bundleTypes[b.MediaType] {
			return signing.Key{}, fmt.Errorf("its format %q is newer than this version of Sluice understands", b.MediaType)
		}
		if b.GetMessageSignature() == nil {
			return signing.Key{}, errors.New("the bundle is not one of cosign sign-blob")
		}
		return r.verifyBytes(blob, b.GetMessageSignature().GetSignature())
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(string(text))
	if err != nil || len(raw) == 0 {
		return signing.Key{}, errors.New("the signature is neither base64 nor a bundle")
	}
	return r.verifyBytes(blob, raw)
}

// OpenEnvelope returns the payload of a DSSE envelope (JSON) of the type, if a
// key of the ring signed it, and that key. Its window is left to the caller.
func (r *KeyRing) OpenEnvelope(data []byte, payloadType string) (payload []byte, by signing.Key, err error) {
	var e protodsse.Envelope
	if err := protojson.Unmarshal(data, &e); err != nil {
		return nil, signing.Key{}, fmt.Errorf("envelope: %w", err)
	}
	if e.PayloadType != payloadType {
		return nil, signing.Key{}, fmt.Errorf("the envelope's payload type is %q, not %s", e.PayloadType, payloadType)
	}
	if len(e.Signatures) != 1 {
		return nil, signing.Key{}, fmt.Errorf("the envelope has %d signatures, not one", len(e.Signatures))
	}
	if by, err = r.verifyBytes(dsse.PAE(e.PayloadType, e.Payload), e.Signatures[0].GetSig()); err != nil {
		return nil, signing.Key{}, err
	}
	return e.Payload, by, nil
}

// verifyBytes returns the key that made the signature.
func (r *KeyRing) verifyBytes(message, signature []byte) (signing.Key, error) {
	for _, k := range r.keys {
		if !verifies(k.public, message, signature) {
			continue
		}
		if k.Revoked {
			return signing.Key{}, fmt.Errorf("the key %s is revoked", k.id)
		}
		return k.Key, nil
	}
	return signing.Key{}, errOtherKey
}
