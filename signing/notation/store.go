package notation

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/notaryproject/notation-core-go/signature"

	"github.com/sluiceproxy/sluice/signing"
)

// Store verifies signatures by one trust store. It is safe for concurrent use.
type Store struct {
	roots      map[signature.SigningScheme][]*x509.Certificate
	tsas       *x509.CertPool // nil without one
	identities []identity
	crls       []*x509.RevocationList
}

// NewStore reads the store. Errors are: no certificate, one that is no authority,
// no identity, neither revocation lists nor the word to skip revocation.
func NewStore(s signing.NotationStore) (*Store, error) {
	st := &Store{roots: map[signature.SigningScheme][]*x509.Certificate{}}
	for _, part := range []struct {
		scheme signature.SigningScheme
		files  []signing.Material
	}{{signature.SigningSchemeX509, s.CAs}, {signature.SigningSchemeX509SigningAuthority, s.SigningAuthorities}} {
		for _, m := range part.files {
			certs, err := certificates(m)
			if err != nil {
				return nil, err
			}
			st.roots[part.scheme] = append(st.roots[part.scheme], certs...)
		}
	}
	if len(st.roots) == 0 {
		return nil, errors.New("the store holds no certificate: give ca or signingAuthority")
	}
	for _, m := range s.TSAs {
		certs, err := certificates(m)
		if err != nil {
			return nil, err
		}
		if st.tsas == nil {
			st.tsas = x509.NewCertPool()
		}
		for _, c := range certs {
			st.tsas.AddCert(c)
		}
	}
	if len(s.Identities) == 0 {
		return nil, errors.New(`it has no identities: "x509.subject: …", or "*" for all of the store`)
	}
	for _, text := range s.Identities {
		id, err := parseIdentity(text)
		if err != nil {
			return nil, fmt.Errorf("identity %q: %w", text, err)
		}
		st.identities = append(st.identities, id)
	}
	switch {
	case len(s.CRLs) == 0 && !s.SkipRevocation:
		return nil, errors.New("revocation needs crl files; revocation: skip does without")
	case len(s.CRLs) > 0 && s.SkipRevocation:
		return nil, errors.New("revocation is skipped, and has crl files")
	}
	for _, m := range s.CRLs {
		lists, err := revocationLists(m)
		if err != nil {
			return nil, err
		}
		st.crls = append(st.crls, lists...)
	}
	return st, nil
}

// certificates reads the authorities of a PEM file. As the specification says,
// each is a CA certificate or self-signed; a leaf would vouch for itself.
func certificates(m signing.Material) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	rest := m.Data
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("%s holds a %s, not certificates", m.File, block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.File, err)
		}
		if !c.IsCA && c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) != nil {
			return nil, fmt.Errorf("%s: %s is not a CA certificate", m.File, c.Subject)
		}
		certs = append(certs, c)
	}
	if len(certs) == 0 {
		return nil, fmt.Errorf("%s holds no certificate in PEM", m.File)
	}
	return certs, nil
}

func revocationLists(m signing.Material) ([]*x509.RevocationList, error) {
	var lists []*x509.RevocationList
	ders := [][]byte{}
	rest := m.Data
	if !bytes.Contains(rest, []byte("-----BEGIN")) {
		ders = append(ders, rest)
	}
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "X509 CRL" {
			return nil, fmt.Errorf("%s holds a %s, not a revocation list", m.File, block.Type)
		}
		ders = append(ders, block.Bytes)
	}
	for _, der := range ders {
		l, err := x509.ParseRevocationList(der)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.File, err)
		}
		lists = append(lists, l)
	}
	return lists, nil
}
