package signing

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	godigest "github.com/opencontainers/go-digest"
)

// Trust is what one policy demands of an image's signatures. ParseTrust reads
// it from the policy file, Load the files that it names.
type Trust struct {
	// Require is how many of Authorities must pass: 1 is "any", all of them
	// "all", 0 right only where there are none. Each counts once, however many of
	// its signatures hold.
	Require     int
	Authorities []Authority
	// Issuers are believed in what their attestation rules name, and in nothing
	// else: whatever they sign, they approve no image.
	Issuers []Authority
	// Inherit lets a signature of an index count for what the index lists.
	Inherit bool
	// Revoked never count, whenever they were used: the sha256 of a public key
	// (SubjectPublicKeyInfo), of a certificate, of a signature's or attestation's
	// blob, or of a manifest.
	Revoked []godigest.Digest
}

// Authority is a signer by one means: exactly one of Key, Keyless, Notation and
// Hash is set.
//
// One by Hash passes if its lock lists the image as published; formats, names
// and attestations are not for it.
//
// An authority passes if it signed the image; with attestation rules that
// require, if each of those is met, and the signature is needed only if
// Signature is set.
type Authority struct {
	Name     string
	Key      *KeyRing
	Keyless  *Keyless
	Notation *NotationStore
	Hash     *Lock
	// Formats are those in which to look; none means every one of the means.
	Formats []Format
	// SignedAs are globs of names (* stops at /, ** does not), without tag. If
	// there are any, the name in the signed bytes must match one; a format that
	// signs no name then does not count.
	SignedAs     []string
	Signature    bool
	Attestations []AttestationRule
}

// Material is the content of a file that the operator named.
type Material struct {
	File   string
	SHA256 godigest.Digest // the content's, if the operator pinned it
	// Optional says that File may be missing; Data is nil then.
	Optional bool
	Data     []byte // set by Load, or in place of File
}

// Key is one public key: PEM, PKIX; ECDSA P-256, P-384 or P-521, RSA of at
// least 2048 bits, or Ed25519.
type Key struct {
	Material
	// A signature counts now and with proved times inside the window only; with
	// a proved time inside it also after NotAfter. Zero: no bound.
	NotBefore, NotAfter time.Time
	Revoked             bool
}

// KeyRing is one signer with several keys, of which any may have signed.
type KeyRing struct {
	Keys  []Key
	Times Times // by default none is demanded; without a Root none can be proved
}

// Times says who proves when a signature was made and how many proofs of each
// sort are the least.
type Times struct {
	Root       Material // sigstore's trusted_root.json
	SCT        int      // certificate-transparency proofs in the certificate; Keyless only
	Log        int      // entries of a transparency log
	Timestamps int      // time stamps and logs' own times together
}

// Keyless is a signer by certificate: a workload or person that a Fulcio
// certificate names.
type Keyless struct {
	Times      Times // Timestamps is at least 1
	Identities []CertificateIdentity
}

// CertificateIdentity matches a Fulcio certificate. Regular expressions (RE2)
// match the whole text. All that is set must match.
type CertificateIdentity struct {
	Issuer, IssuerRegExp   string // one of both
	Subject, SubjectRegExp string // one of both
	// Extensions, exact; "" matches all.
	SourceRepository, SourceRef, SourceOwner string
	SourceRepositoryID, SourceOwnerID        string
	BuildSigner, BuildTrigger                string
	RunnerEnvironment                        string
}

// NotationStore is a trust store of the Notary Project with the identities that
// are trusted of it (trust-store-trust-policy specification v1.1).
type NotationStore struct {
	CAs                []Material // of the scheme notary.x509; PEM, several certificates each
	SigningAuthorities []Material // of the scheme notary.x509.signingAuthority
	TSAs               []Material // time-stamp authorities
	// Identities are "x509.subject: C=US, O=Acme, CN=release" (each attribute
	// must be in the certificate's subject, with that value), or "*" for all
	// that the store vouches for.
	Identities []string
	// CRLs are revocation lists, PEM or DER. SkipRevocation must be set if there
	// are none: nothing is ever fetched.
	CRLs           []Material
	SkipRevocation bool
}

// Use is what an attestation is for.
type Use string

// Uses. Only the first decides on an authority.
const (
	UseRequire    Use = ""           // the authority passes only with it
	UseExemptions Use = "exemptions" // a VEX document that may suppress findings
	UseInventory  Use = "inventory"  // an SBOM or a scan's result to be shown and compared
)

// AttestationRule asks for a statement of a type.
type AttestationRule struct {
	Name          string
	PredicateType string // exact
	Use           Use
	MaxAge        time.Duration // 0: any age
	SLSA          *SLSARule     // for SLSA provenance only
}

// SLSARule says which builds are trusted. Regular expressions match the whole
// text; what is empty is not asked for.
type SLSARule struct {
	Builders      []string // builder.id, exact
	BuilderRegExp string   // or matching
	BuildTypes    []string
	Sources       []string // globs of host/path: github.com/acme/*
	RefRegExp     string   // refs/tags/v.*
	Commit        string
	// MatchCertificate demands a keyless signature whose certificate names the
	// same source, ref, commit and builder: the predicate is written by the job,
	// the certificate by the authority that knows who runs it.
	MatchCertificate bool
}

// materials calls f for each file of t.
func (t *Trust) materials(f func(owner string, m *Material) error) error {
	for _, list := range [][]Authority{t.Authorities, t.Issuers} {
		for i := range list {
			if err := list[i].materials(func(m *Material) error { return f(list[i].Name, m) }); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *Authority) materials(f func(*Material) error) error {
	var all []*Material
	add := func(ms []Material) {
		for i := range ms {
			all = append(all, &ms[i])
		}
	}
	if a.Key != nil {
		for i := range a.Key.Keys {
			all = append(all, &a.Key.Keys[i].Material)
		}
		all = append(all, &a.Key.Times.Root)
	}
	if a.Keyless != nil {
		all = append(all, &a.Keyless.Times.Root)
	}
	if n := a.Notation; n != nil {
		add(n.CAs)
		add(n.SigningAuthorities)
		add(n.TSAs)
		add(n.CRLs)
	}
	if a.Hash != nil {
		a.Hash.materials(func(m *Material) { all = append(all, m) })
	}
	for _, m := range all {
		if err := f(m); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lock) materials(f func(*Material)) {
	f(&l.Material)
	f(&l.Signature)
	if l.SignedBy != nil {
		for i := range l.SignedBy.Keys {
			f(&l.SignedBy.Keys[i].Material)
		}
	}
}

func (l *Lock) clone() Lock {
	c := *l
	if c.SignedBy != nil {
		k := *c.SignedBy
		k.Keys = append([]Key(nil), k.Keys...)
		c.SignedBy = &k
	}
	return c
}

// Load returns l with the content of every file that it names, as read gives it.
func (l *Lock) Load(read func(name string) ([]byte, error)) (Lock, error) {
	loaded := l.clone()
	var err error
	loaded.materials(func(m *Material) { err = errors.Join(err, m.load(read)) })
	if err != nil {
		return Lock{}, fmt.Errorf("lock %s: %w", l.Name, err)
	}
	return loaded, nil
}

// load reads the file that m names, if it names one.
func (m *Material) load(read func(name string) ([]byte, error)) error {
	if m.File == "" {
		return nil
	}
	data, err := read(m.File)
	switch {
	case m.Optional && errors.Is(err, fs.ErrNotExist):
		m.Data = nil
		return nil
	case err != nil:
		return err
	case m.SHA256 != "" && godigest.FromBytes(data) != m.SHA256:
		return fmt.Errorf("%s has the digest %s, pinned is %s", m.File, godigest.FromBytes(data), m.SHA256)
	}
	m.Data = data
	return nil
}

// Load returns t with the content of every file that it names, as read gives
// it. A pinned file with another content is an error.
func (t *Trust) Load(read func(name string) ([]byte, error)) (Trust, error) {
	loaded := t.clone()
	err := loaded.materials(func(owner string, m *Material) error {
		if err := m.load(read); err != nil {
			return fmt.Errorf("authority %s: %w", owner, err)
		}
		return nil
	})
	return loaded, err
}

// clone copies what Load writes to.
func (t *Trust) clone() Trust {
	c := *t
	copyList := func(list []Authority) []Authority {
		out := make([]Authority, len(list))
		for i, a := range list {
			if a.Key != nil {
				k := *a.Key
				k.Keys = append([]Key(nil), k.Keys...)
				a.Key = &k
			}
			if a.Keyless != nil {
				k := *a.Keyless
				a.Keyless = &k
			}
			if a.Notation != nil {
				n := *a.Notation
				n.CAs = append([]Material(nil), n.CAs...)
				n.SigningAuthorities = append([]Material(nil), n.SigningAuthorities...)
				n.TSAs = append([]Material(nil), n.TSAs...)
				n.CRLs = append([]Material(nil), n.CRLs...)
				a.Notation = &n
			}
			if a.Hash != nil {
				l := a.Hash.clone()
				a.Hash = &l
			}
			out[i] = a
		}
		return out
	}
	c.Authorities, c.Issuers = copyList(t.Authorities), copyList(t.Issuers)
	return c
}

// Revision names t with the contents of its files: equal revisions judge alike.
// It fails on a time beyond the year 9999.
func (t *Trust) Revision() (string, error) {
	b, err := json.Marshal(t)
	if err != nil {
		return "", fmt.Errorf("trust: %w", err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), nil
}
