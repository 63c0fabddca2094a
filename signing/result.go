package signing

import (
	"encoding/json"
	"fmt"
	"time"

	godigest "github.com/opencontainers/go-digest"
)

// Outcome is what became of an authority or of the whole trust.
type Outcome uint8

// Outcomes. The zero one is neither pass nor fail.
const (
	Undecided Outcome = iota // evidence is there that could not be looked at
	Fail
	Pass
)

// String is the name in lower case.
func (o Outcome) String() string {
	switch o {
	case Pass:
		return "pass"
	case Fail:
		return "fail"
	case Undecided:
		return "undecided"
	}
	return fmt.Sprintf("outcome(%d)", uint8(o))
}

// MarshalText is String.
func (o Outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText is the inverse of String; every other text is an error.
func (o *Outcome) UnmarshalText(b []byte) error {
	for _, known := range []Outcome{Undecided, Fail, Pass} {
		if known.String() == string(b) {
			*o = known
			return nil
		}
	}
	return fmt.Errorf("outcome %q", b)
}

// Result is what one Trust makes of an image's Evidence.
type Result struct {
	Outcome Outcome         `json:"outcome"`
	Reason  string          `json:"reason"` // one sentence, for Fail and Undecided
	Subject godigest.Digest `json:"subject"`
	// Authorities are those of the Trust, in its order.
	Authorities []AuthorityResult `json:"authorities"`
	Issuers     []AuthorityResult `json:"issuers,omitempty"` // in its order; Pass: all that its rules require was there
	// Attestations are verified, each by the authority or issuer it names.
	Attestations []Attestation `json:"attestations,omitempty"`
	Claims       []Claim       `json:"claims,omitempty"`
	Gaps         []string      `json:"gaps,omitempty"`
	Revision     string        `json:"revision"`       // of the Trust
	Key          string        `json:"key"`            // Evidence.Key
	Until        time.Time     `json:"until,omitzero"` // a Pass may end then; zero: time changes nothing. A Fail may end at any time, with new evidence
}

// AuthorityResult says why one authority or issuer passed or failed.
type AuthorityResult struct {
	Name       string      `json:"name"`
	Outcome    Outcome     `json:"outcome"`
	Reason     string      `json:"reason,omitempty"`  // one sentence, for Fail and Undecided
	Warning    string      `json:"warning,omitempty"` // one sentence, of a Pass that is about to end or rests on an expired lock
	Signatures []Signature `json:"signatures,omitempty"`
	Refused    []Refusal   `json:"refused,omitempty"`
}

// Identity is who signed, as proved by the signature.
type Identity struct {
	KeyID   string `json:"keyID"`             // sha256 of the public key (SubjectPublicKeyInfo), "sha256:<hex>"
	Issuer  string `json:"issuer,omitempty"`  // who vouched: the OIDC issuer, or the certificate that the trust store holds
	Subject string `json:"subject,omitempty"` // the certificate's: a workflow's URI, a mail address, a distinguished name

	// From a Fulcio certificate, see
	// https://github.com/sigstore/fulcio/blob/main/docs/oid-info.md
	SourceRepository   string `json:"sourceRepository,omitempty"`   // ….12
	SourceRef          string `json:"sourceRef,omitempty"`          // ….14
	SourceDigest       string `json:"sourceDigest,omitempty"`       // ….13
	SourceOwner        string `json:"sourceOwner,omitempty"`        // ….16
	SourceRepositoryID string `json:"sourceRepositoryID,omitempty"` // ….15
	SourceOwnerID      string `json:"sourceOwnerID,omitempty"`      // ….17
	BuildSigner        string `json:"buildSigner,omitempty"`        // ….9
	BuildTrigger       string `json:"buildTrigger,omitempty"`       // ….20
	RunnerEnvironment  string `json:"runnerEnvironment,omitempty"`  // ….11
}

// Signature is a verified signature over the subject or a parent of it.
type Signature struct {
	Format   Format          `json:"format"`
	Digest   godigest.Digest `json:"digest"`   // of the signature's blob
	Manifest godigest.Digest `json:"manifest"` // of the artifact that holds it
	About    godigest.Digest `json:"about"`    // the subject, or the index that lists it
	Identity Identity        `json:"identity"`
	SignedAs string          `json:"signedAs,omitempty"` // the name in the signed bytes, if there is one
	Times    []time.Time     `json:"times,omitempty"`    // proved by a time-stamp authority or a log
}

// Attestation is a statement about the subject by a verified issuer.
type Attestation struct {
	Signature
	Authority     string      `json:"authority"` // name of the authority or issuer in the Trust
	PredicateType string      `json:"predicateType"`
	Rule          string      `json:"rule,omitempty"` // the rule that it meets, "" if none asked for it
	Use           Use         `json:"use,omitempty"`  // of that rule
	Time          time.Time   `json:"time,omitzero"`  // when it was made: proved, else as its issuer says
	Provenance    *Provenance `json:"provenance,omitempty"`
	// Predicate is the signed predicate as JSON without duplicate keys, for whom
	// the rule's Use names; the issuer is Authority and Identity.
	Predicate json.RawMessage `json:"predicate,omitempty"`
}

// Provenance is what a SLSA predicate says of a build.
type Provenance struct {
	PredicateType string `json:"predicateType"`
	Builder       string `json:"builder"`              // builder.id
	BuildType     string `json:"buildType,omitempty"`  //
	Source        string `json:"source,omitempty"`     // host/path: github.com/acme/app
	Ref           string `json:"ref,omitempty"`        // refs/tags/v1.2.3
	Commit        string `json:"commit,omitempty"`     // of Source
	EntryPoint    string `json:"entryPoint,omitempty"` // the workflow's or Dockerfile's path
}

// Refusal is an item that did not count, and why.
type Refusal struct {
	Format Format          `json:"format"`
	Digest godigest.Digest `json:"digest"`
	About  godigest.Digest `json:"about"`
	Reason string          `json:"reason"`
	// Stranger says that somebody else than the authority signed, which is
	// nothing to worry about.
	Stranger bool `json:"stranger,omitempty"`
}

// Proof is what one engine read from one item after its signature held.
type Proof struct {
	Identity Identity
	// Certificates are the sha256 of those that the proof rests on, leaf first.
	Certificates []godigest.Digest
	Times        []time.Time // proved, earliest first
	Until        time.Time   // the proof ends then; zero: never
	SignedAs     string      // the name in the signed bytes, if there is one
	// Statement is nil for a plain signature of the item's About.
	Statement *Statement
}

// Statement is a verified in-toto statement about the item's About.
type Statement struct {
	PredicateType string
	Predicate     map[string]any // JSON's types; keys as signed, none twice
}
