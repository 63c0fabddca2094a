//go:build !nokeyless

package sigstore

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	godigest "github.com/opencontainers/go-digest"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"
	"github.com/sigstore/sigstore-go/pkg/verify"

	"github.com/sluiceproxy/sluice/signing"
)

const maxIdentities = 64

// Keyless verifies signatures by certificate. It is safe for concurrent use.
type Keyless struct {
	root       *trustedRoot
	opts       []verify.VerifierOption
	identities verify.CertificateIdentities
}

// NewKeyless reads the trusted root and the identities. Errors are: no root, no
// identity, one without issuer or subject, a regular expression that is wrong
// or matches everything, no demand for a time stamp.
func NewKeyless(k signing.Keyless) (*Keyless, error) {
	if len(k.Times.Root.Data) == 0 {
		return nil, errors.New("it has no trusted root")
	}
	r, err := newTrustedRoot(k.Times.Root)
	if err != nil {
		return nil, err
	}
	if k.Times.Timestamps < 1 {
		// A Fulcio certificate lives for ten minutes. Without proof that the
		// signature was made then it proves nothing.
		return nil, errors.New("timestamps is at least 1 for keyless")
	}
	if k.Times.SCT < 0 || k.Times.Log < 0 {
		return nil, errors.New("sct and tlog are not negative")
	}
	v := &Keyless{root: r, opts: []verify.VerifierOption{
		verify.WithObserverTimestamps(k.Times.Timestamps),
		verify.WithoutStatementPredicate(), // finish reads it, once
	}}
	if k.Times.SCT > 0 {
		v.opts = append(v.opts, verify.WithSignedCertificateTimestamps(k.Times.SCT))
	}
	if k.Times.Log > 0 {
		v.opts = append(v.opts, verify.WithTransparencyLog(k.Times.Log))
	}
	if len(k.Identities) == 0 || len(k.Identities) > maxIdentities {
		return nil, fmt.Errorf("it has %d identities; 1 to %d are possible", len(k.Identities), maxIdentities)
	}
	for i, id := range k.Identities {
		c, err := identity(id)
		if err != nil {
			return nil, fmt.Errorf("identity %d: %w", i+1, err)
		}
		v.identities = append(v.identities, c)
	}
	if _, err := verify.NewVerifier(r, v.opts...); err != nil {
		return nil, err
	}
	return v, nil
}

// identity makes the library's matcher, with expressions that match the whole
// text and an issuer that is always named.
func identity(id signing.CertificateIdentity) (verify.CertificateIdentity, error) {
	issuerRE, err := anchored("issuerRegExp", id.Issuer, "issuer", id.IssuerRegExp)
	if err != nil {
		return verify.CertificateIdentity{}, err
	}
	subjectRE, err := anchored("subjectRegExp", id.Subject, "subject", id.SubjectRegExp)
	if err != nil {
		return verify.CertificateIdentity{}, err
	}
	issuer, err := verify.NewIssuerMatcher(id.Issuer, issuerRE)
	if err != nil {
		return verify.CertificateIdentity{}, err
	}
	subject, err := verify.NewSANMatcher(id.Subject, subjectRE)
	if err != nil {
		return verify.CertificateIdentity{}, err
	}
	return verify.NewCertificateIdentity(subject, issuer, certificate.Extensions{
		SourceRepositoryURI: id.SourceRepository, SourceRepositoryRef: id.SourceRef,
		SourceRepositoryOwnerURI: id.SourceOwner, SourceRepositoryIdentifier: id.SourceRepositoryID,
		SourceRepositoryOwnerIdentifier: id.SourceOwnerID, BuildSignerURI: id.BuildSigner,
		BuildTrigger: id.BuildTrigger, RunnerEnvironment: id.RunnerEnvironment,
	})
}

// anchored returns the expression so that it matches whole texts only; "" where
// an exact text is given instead. An expression that matches anything is an
// error: it would trust everybody.
func anchored(what, exact, exactWhat, expr string) (string, error) {
	switch {
	case exact != "" && expr != "":
		return "", fmt.Errorf("give %s or %s, not both", exactWhat, what)
	case exact != "":
		return "", nil
	case expr == "":
		return "", fmt.Errorf("it has no %s", exactWhat)
	}
	re, err := signing.WholeRegExp(expr)
	if err != nil {
		return "", fmt.Errorf("%s: %w", what, err)
	}
	return re.String(), nil
}

// Verify returns what the item proves if a certificate of one of the
// identities, valid at a proved time, signed it, about the manifest at which it
// was found. The proof does not end: it is of a time in the past.
func (k *Keyless) Verify(ctx context.Context, item signing.Item, _ time.Time) (signing.Proof, error) {
	s, err := read(item)
	if err != nil {
		return signing.Proof{}, err
	}
	der := s.certificate()
	if der == nil {
		return signing.Proof{}, fmt.Errorf("%w: by a key, not by a certificate", signing.ErrStranger)
	}
	// The identity first: it is cheap, and refuses what others signed before
	// their chains, logs and time stamps cost anything.
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return signing.Proof{}, fmt.Errorf("certificate: %w", err)
	}
	summary, err := certificate.SummarizeCertificate(leaf)
	if err != nil {
		return signing.Proof{}, fmt.Errorf("certificate: %w", err)
	}
	if _, err := k.identities.Verify(summary); err != nil {
		return signing.Proof{}, fmt.Errorf("%w: %s of %s is none of the identities",
			signing.ErrStranger, clip(summary.SubjectAlternativeName), clip(summary.Issuer))
	}
	if err := ctx.Err(); err != nil {
		return signing.Proof{}, err
	}
	b, err := bundle.NewBundle(s.bundle)
	if err != nil {
		return signing.Proof{}, err
	}
	v, err := verify.NewVerifier(k.root, k.opts...)
	if err != nil {
		return signing.Proof{}, err
	}
	artifact, err := s.artifact(item.About)
	if err != nil {
		return signing.Proof{}, err
	}
	policy := []verify.PolicyOption{}
	for _, id := range k.identities {
		policy = append(policy, verify.WithCertificateIdentity(id))
	}
	result, err := v.Verify(b, verify.NewPolicy(artifact, policy...))
	if err != nil {
		return signing.Proof{}, err
	}
	id, err := keyID(leaf.PublicKey)
	if err != nil {
		return signing.Proof{}, err
	}
	p := signing.Proof{
		Identity:     signer(result.Signature.Certificate, id),
		Certificates: []godigest.Digest{godigest.FromBytes(leaf.Raw)},
		Times:        times(result),
	}
	return s.finish(item.About, p)
}

func signer(c *certificate.Summary, id godigest.Digest) signing.Identity {
	return signing.Identity{
		KeyID: id.String(), Issuer: c.Issuer, Subject: c.SubjectAlternativeName,
		SourceRepository: c.SourceRepositoryURI, SourceRef: c.SourceRepositoryRef, SourceDigest: c.SourceRepositoryDigest,
		SourceOwner: c.SourceRepositoryOwnerURI, SourceRepositoryID: c.SourceRepositoryIdentifier,
		SourceOwnerID: c.SourceRepositoryOwnerIdentifier, BuildSigner: c.BuildSignerURI,
		BuildTrigger: c.BuildTrigger, RunnerEnvironment: c.RunnerEnvironment,
	}
}

// clip keeps a foreign text short and printable in a reason.
func clip(s string) string {
	const limit = 200
	if len(s) > limit {
		s = s[:limit] + "…"
	}
	return strings.ToValidUTF8(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s), "?")
}
