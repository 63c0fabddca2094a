//go:build !nokeyless

package sigstore

import (
	"bytes"
	"crypto"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"
	"github.com/sigstore/sigstore/pkg/signature"

	"github.com/sluiceproxy/sluice/signing"
)

// trustedRoot is the keys and certificates of one sigstore deployment.
type trustedRoot struct {
	*root.TrustedRoot
}

func newTrustedRoot(m signing.Material) (*trustedRoot, error) {
	r, err := root.NewTrustedRootFromJSON(m.Data)
	if err != nil {
		return nil, fmt.Errorf("trusted root %s: %w", m.File, err)
	}
	return &trustedRoot{r}, nil
}

// artifact is what the library compares the signature with: for a statement the
// digest that it must be about, else the signed payload.
func (s *signed) artifact(about ocispec.Descriptor) (verify.ArtifactPolicyOption, error) {
	if !s.statement {
		return verify.WithArtifact(bytes.NewReader(s.payload)), nil
	}
	raw, err := hex.DecodeString(about.Digest.Encoded())
	if err != nil {
		return nil, err
	}
	return verify.WithArtifactDigest(about.Digest.Algorithm().String(), raw), nil
}

// keyTimes returns the times that logs and time-stamp authorities prove for a
// signature by key. Without a demand none is no error; a proof that does not
// hold is.
func (r *trustedRoot) keyTimes(s *signed, public crypto.PublicKey, about ocispec.Descriptor, least signing.Times) ([]time.Time, error) {
	vm := s.bundle.GetVerificationMaterial()
	logs, stamps := len(vm.GetTlogEntries()), len(vm.GetTimestampVerificationData().GetRfc3161Timestamps())
	if logs == 0 && stamps == 0 && least.Log == 0 && least.Timestamps == 0 {
		return nil, nil
	}
	if s.certificate() != nil {
		return nil, errors.New("it is signed by a certificate, not by a key: no time is proved")
	}
	var opts []verify.VerifierOption
	if need := max(least.Log, min(logs, 1)); need > 0 {
		opts = append(opts, verify.WithTransparencyLog(need))
	}
	// A log of Rekor v2 proves no time, so an entry alone does not demand one.
	switch {
	case least.Timestamps > 0:
		opts = append(opts, verify.WithObserverTimestamps(least.Timestamps))
	case stamps > 0 || promised(s):
		opts = append(opts, verify.WithObserverTimestamps(1))
	default:
		opts = append(opts, verify.WithNoObserverTimestamps())
	}
	b, err := bundle.NewBundle(s.bundle)
	if err != nil {
		return nil, err
	}
	v, err := verify.NewVerifier(oneKey{r.TrustedRoot, public}, append(opts, verify.WithoutStatementPredicate())...)
	if err != nil {
		return nil, err
	}
	artifact, err := s.artifact(about)
	if err != nil {
		return nil, err
	}
	result, err := v.Verify(b, verify.NewPolicy(artifact, verify.WithKey()))
	if err != nil {
		return nil, fmt.Errorf("its proof of time: %w", err)
	}
	return times(result), nil
}

// promised reports whether a log's own time is in the signature.
func promised(s *signed) bool {
	for _, e := range s.bundle.GetVerificationMaterial().GetTlogEntries() {
		if e.GetIntegratedTime() != 0 {
			return true
		}
	}
	return false
}

func times(result *verify.VerificationResult) []time.Time {
	var ts []time.Time
	for _, t := range result.VerifiedTimestamps {
		ts = append(ts, t.Timestamp.UTC())
	}
	slices.SortFunc(ts, time.Time.Compare)
	return slices.CompactFunc(ts, time.Time.Equal)
}

// oneKey is the trusted root with one public key, whatever the bundle hints at.
type oneKey struct {
	*root.TrustedRoot
	public crypto.PublicKey
}

func (k oneKey) PublicKeyVerifier(string) (root.TimeConstrainedVerifier, error) {
	return keyVerifier{k.public}, nil
}

// keyVerifier lets the library verify as this package does. The key's window is
// checked by the caller, who also knows what to do without a proved time.
type keyVerifier struct{ public crypto.PublicKey }

func (v keyVerifier) PublicKey(...signature.PublicKeyOption) (crypto.PublicKey, error) {
	return v.public, nil
}

func (v keyVerifier) VerifySignature(sig, message io.Reader, _ ...signature.VerifyOption) error {
	s, err := io.ReadAll(sig)
	if err != nil {
		return err
	}
	m, err := io.ReadAll(message)
	if err != nil {
		return err
	}
	if !verifies(v.public, m, s) {
		return errOtherKey
	}
	return nil
}

func (v keyVerifier) ValidAtTime(time.Time) bool { return true }
