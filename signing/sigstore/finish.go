package sigstore

import (
	"fmt"

	intoto "github.com/in-toto/attestation/go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/sluiceproxy/sluice/signing"
)

const (
	typeSimpleSigning  = "cosign container image signature"
	predicateSignature = "https://sigstore.dev/cosign/sign/v1" // cosign v3, pkg/types

	// Limits of sigstore-go's verifier, for keys too.
	maxSubjects = 1024
	maxDigests  = 32 // of one subject
)

// finish adds what the verified payload says to p, and demands that it is about
// the manifest at which it was found.
func (s *signed) finish(about ocispec.Descriptor, p signing.Proof) (signing.Proof, error) {
	parse := simpleSigning
	if s.statement {
		parse = statement
	}
	if err := parse(s.payload, about, &p); err != nil {
		return signing.Proof{}, err
	}
	return p, nil
}

// simpleSigning reads a payload of
// https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md.
func simpleSigning(payload []byte, about ocispec.Descriptor, p *signing.Proof) error {
	f, err := fields(string(payload))
	if err != nil {
		return fmt.Errorf("payload: %w", err)
	}
	critical := f["critical"].GetStructValue().GetFields()
	if t := critical["type"].GetStringValue(); t != typeSimpleSigning {
		return fmt.Errorf("the payload's type is %q, not %q", t, typeSimpleSigning)
	}
	image := critical["image"].GetStructValue().GetFields()["docker-manifest-digest"].GetStringValue()
	if image != about.Digest.String() {
		return fmt.Errorf("it signs %q, not %s", image, about.Digest)
	}
	p.SignedAs = repository(critical["identity"].GetStructValue().GetFields()["docker-reference"].GetStringValue())
	return nil
}

// statement reads an in-toto statement
// (https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md; v0.1
// has the same fields).
func statement(payload []byte, about ocispec.Descriptor, p *signing.Proof) error {
	var st intoto.Statement
	if err := protojson.Unmarshal(payload, &st); err != nil {
		return fmt.Errorf("statement: %w", err)
	}
	if t := st.GetType(); t != intoto.StatementTypeUri && t != "https://in-toto.io/Statement/v0.1" {
		return fmt.Errorf("the statement's type is %q", t)
	}
	if n := len(st.GetSubject()); n > maxSubjects {
		return fmt.Errorf("the statement has %d subjects, more than %d", n, maxSubjects)
	}
	found := false
	for _, sub := range st.GetSubject() {
		if len(sub.GetDigest()) > maxDigests {
			return fmt.Errorf("a subject of the statement has %d digests, more than %d", len(sub.GetDigest()), maxDigests)
		}
		if !found && sub.GetDigest()[about.Digest.Algorithm().String()] == about.Digest.Encoded() {
			found, p.SignedAs = true, repository(sub.GetName())
		}
	}
	if !found {
		return fmt.Errorf("the statement is not about %s", about.Digest)
	}
	if st.GetPredicateType() == predicateSignature {
		return nil
	}
	p.Statement = &signing.Statement{PredicateType: st.GetPredicateType(), Predicate: st.GetPredicate().AsMap()}
	return nil
}

// Claimed reads a statement that nobody signed, about the manifest. It is for
// showing only.
func Claimed(payload []byte, about ocispec.Descriptor) (*signing.Statement, error) {
	var p signing.Proof
	if err := statement(payload, about, &p); err != nil {
		return nil, err
	}
	if p.Statement == nil {
		return nil, fmt.Errorf("it is a signature, which only counts if it is signed")
	}
	return p.Statement, nil
}
