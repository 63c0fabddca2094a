package notation

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"mime"
	"slices"
	"time"

	"github.com/notaryproject/notation-core-go/signature"
	"github.com/notaryproject/notation-core-go/signature/cose"
	"github.com/notaryproject/notation-core-go/signature/jws"
	nx509 "github.com/notaryproject/notation-core-go/x509"
	tspclient "github.com/notaryproject/tspclient-go"
	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sluiceproxy/sluice/signing"
)

// payloadType is the content type of a signature's payload
// (signature-specification, "Payload").
const payloadType = "application/vnd.cncf.notary.payload.v1+json"

// maxChain is the number of certificates of a chain that are looked at.
const maxChain = 10

// Verify returns what the item proves if a certificate of the store's
// identities signed the manifest at which it was found.
func (s *Store) Verify(ctx context.Context, item signing.Item, now time.Time) (signing.Proof, error) {
	mt, _, err := mime.ParseMediaType(item.MediaType)
	if err != nil {
		return signing.Proof{}, fmt.Errorf("media type %q: %w", item.MediaType, err)
	}
	if mt != jws.MediaTypeEnvelope && mt != cose.MediaTypeEnvelope {
		return signing.Proof{}, fmt.Errorf("the envelope's type %q is not known", mt)
	}
	env, err := signature.ParseEnvelope(mt, item.Data)
	if err != nil {
		return signing.Proof{}, err
	}
	// Who first: it costs nothing, and what strangers signed ends here.
	content, err := env.Content()
	if err != nil {
		return signing.Proof{}, err
	}
	info := &content.SignerInfo
	if n := len(info.CertificateChain); n > maxChain {
		return signing.Proof{}, fmt.Errorf("its chain has %d certificates, more than %d", n, maxChain)
	}
	anchor, err := s.authentic(info)
	if err != nil {
		return signing.Proof{}, err
	}
	if err := ctx.Err(); err != nil {
		return signing.Proof{}, err
	}
	if content, err = env.Verify(); err != nil {
		return signing.Proof{}, err
	}
	info = &content.SignerInfo
	leaf := info.CertificateChain[0]
	p := signing.Proof{Identity: signing.Identity{
		KeyID:  godigest.FromBytes(leaf.RawSubjectPublicKeyInfo).String(),
		Issuer: anchor.Subject.String(), Subject: leaf.Subject.String(),
	}}
	for _, c := range info.CertificateChain {
		p.Certificates = append(p.Certificates, godigest.FromBytes(c.Raw))
	}
	for _, a := range info.SignedAttributes.ExtendedAttributes {
		if a.Critical {
			return signing.Proof{}, fmt.Errorf("its critical attribute %v is not known", a.Key)
		}
	}
	if err := target(content.Payload, item.About); err != nil {
		return signing.Proof{}, err
	}
	if e := info.SignedAttributes.Expiry; !e.IsZero() {
		if !now.Before(e) {
			return signing.Proof{}, fmt.Errorf("it expired at %s", e.UTC().Format(time.RFC3339))
		}
		p.Until = e
	}
	if err := s.authenticTime(ctx, info, now, &p); err != nil {
		return signing.Proof{}, err
	}
	if err := s.revoked(info.CertificateChain, now, &p); err != nil {
		return signing.Proof{}, err
	}
	return p, nil
}

// authentic returns the certificate of the store that the chain leads to, if
// the signer is one of the identities.
func (s *Store) authentic(info *signature.SignerInfo) (*x509.Certificate, error) {
	leaf := info.CertificateChain[0]
	roots := s.roots[info.SignedAttributes.SigningScheme]
	if len(roots) == 0 {
		return nil, fmt.Errorf("its signing scheme is %q, for which the store has no certificate", info.SignedAttributes.SigningScheme)
	}
	anchor, err := signature.VerifyAuthenticity(info, roots)
	if err != nil {
		return nil, fmt.Errorf("%w: the chain of %s does not lead to a certificate of the store", signing.ErrStranger, leaf.Subject)
	}
	if !slices.ContainsFunc(s.identities, func(id identity) bool { return id.matches(leaf.Subject) }) {
		return nil, fmt.Errorf("%w: %s is none of the identities", signing.ErrStranger, leaf.Subject)
	}
	return anchor, nil
}

// target demands that the payload is about the manifest, in all that it says.
func target(p signature.Payload, about ocispec.Descriptor) error {
	if p.ContentType != payloadType {
		return fmt.Errorf("its payload is a %q, not a %s", p.ContentType, payloadType)
	}
	var st structpb.Struct // exact keys, none twice
	if err := protojson.Unmarshal(p.Content, &st); err != nil {
		return fmt.Errorf("payload: %w", err)
	}
	t := st.GetFields()["targetArtifact"].GetStructValue().GetFields()
	mt, digest, size := t["mediaType"].GetStringValue(), t["digest"].GetStringValue(), t["size"].GetNumberValue()
	switch {
	case digest != about.Digest.String():
		return fmt.Errorf("it signs %q, not %s", digest, about.Digest)
	case mt != about.MediaType || int64(size) != about.Size:
		return fmt.Errorf("it signs a %s of %.0f bytes, not a %s of %d", mt, size, about.MediaType, about.Size)
	}
	return nil
}

// authenticTime demands that the chain was valid when the signature was made,
// as far as that is proved, else that it is now.
func (s *Store) authenticTime(ctx context.Context, info *signature.SignerInfo, now time.Time, p *signing.Proof) error {
	chain := info.CertificateChain
	if info.SignedAttributes.SigningScheme == signature.SigningSchemeX509SigningAuthority {
		at, err := info.AuthenticSigningTime()
		if err != nil {
			return err
		}
		p.Times = []time.Time{at.UTC()}
		return validAt(chain, at, at, "when it was signed")
	}
	if token := info.UnsignedAttributes.TimestampSignature; len(token) > 0 && s.tsas != nil {
		ts, err := s.timestamp(ctx, token, info.Signature)
		if err != nil {
			return fmt.Errorf("time stamp: %w", err)
		}
		from, to := ts.Value.Add(-ts.Accuracy), ts.Value.Add(ts.Accuracy)
		p.Times = []time.Time{ts.Value.UTC()}
		return validAt(chain, from, to, "when it was time-stamped")
	}
	if err := validAt(chain, now, now, "now, and no trusted time stamp proves that it was made before"); err != nil {
		return err
	}
	for _, c := range chain {
		p.Until = earlier(p.Until, c.NotAfter)
	}
	return nil
}

func validAt(chain []*x509.Certificate, from, to time.Time, when string) error {
	for _, c := range chain {
		if from.Before(c.NotBefore) || to.After(c.NotAfter) {
			return fmt.Errorf("the certificate of %s (%s to %s) is not valid %s", c.Subject,
				c.NotBefore.UTC().Format(time.DateOnly), c.NotAfter.UTC().Format(time.DateOnly), when)
		}
	}
	return nil
}

// timestamp verifies an RFC 3161 countersignature of the signature's bytes.
func (s *Store) timestamp(ctx context.Context, token, sig []byte) (*tspclient.Timestamp, error) {
	signed, err := tspclient.ParseSignedToken(token)
	if err != nil {
		return nil, err
	}
	info, err := signed.Info()
	if err != nil {
		return nil, err
	}
	ts, err := info.Validate(sig)
	if err != nil {
		return nil, err
	}
	chain, err := signed.Verify(ctx, x509.VerifyOptions{CurrentTime: ts.Value, Roots: s.tsas})
	if err != nil {
		return nil, err
	}
	if err := nx509.ValidateTimestampingCertChain(chain); err != nil {
		return nil, err
	}
	return ts, nil
}

// revoked looks for every certificate of the chain but the last in the store's
// lists. A certificate whose issuer has no current list is refused: nobody
// knows.
func (s *Store) revoked(chain []*x509.Certificate, now time.Time, p *signing.Proof) error {
	if len(s.crls) == 0 {
		return nil
	}
	for i, c := range chain[:len(chain)-1] {
		list, err := s.list(chain[i+1], now)
		if err != nil {
			return fmt.Errorf("revocation of %s: %w", c.Subject, err)
		}
		for _, e := range list.RevokedCertificateEntries {
			if e.SerialNumber.Cmp(c.SerialNumber) == 0 {
				return fmt.Errorf("the certificate of %s was revoked at %s", c.Subject, e.RevocationTime.UTC().Format(time.RFC3339))
			}
		}
		p.Until = earlier(p.Until, list.NextUpdate)
	}
	return nil
}

// list returns the newest current list of the issuer.
func (s *Store) list(issuer *x509.Certificate, now time.Time) (*x509.RevocationList, error) {
	var best *x509.RevocationList
	for _, l := range s.crls {
		if l.CheckSignatureFrom(issuer) != nil || now.Before(l.ThisUpdate) || !l.NextUpdate.IsZero() && now.After(l.NextUpdate) || partial(l) {
			continue
		}
		if best == nil || l.ThisUpdate.After(best.ThisUpdate) {
			best = l
		}
	}
	if best == nil {
		return nil, errors.New("there is no current list of " + issuer.Subject.String())
	}
	return best, nil
}

// partial reports whether the list covers less than its issuer's certificates:
// RFC 5280, section 5.2, marks what narrows one (delta lists, distribution
// points) as critical.
func partial(l *x509.RevocationList) bool {
	return slices.ContainsFunc(l.Extensions, func(e pkix.Extension) bool { return e.Critical })
}

// earlier returns the earlier of two times of which zero means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
