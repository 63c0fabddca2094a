package attest

import (
	"encoding/json"
	"fmt"
	"net/url"
	"path"
	"time"

	godigest "github.com/opencontainers/go-digest"

	"github.com/sluiceproxy/sluice/signing"
)

// Predicate types, as cosign and the specifications name them.
const (
	typeSignature = "https://sigstore.dev/cosign/sign/v1"
	typeVSA       = "https://slsa.dev/verification_summary/v1"
	typeVuln      = "https://cosign.sigstore.dev/attestation/vuln/v1"
	typeCycloneDX = "https://cyclonedx.org/bom"
)

// statement is an in-toto statement
// (https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md).
type statement struct {
	Type          string    `json:"_type"`
	Subject       []subject `json:"subject"`
	PredicateType string    `json:"predicateType"`
	Predicate     any       `json:"predicate"`
}

type subject struct {
	Name   string            `json:"name"`
	Digest map[string]string `json:"digest"`
}

// resource is in-toto's ResourceDescriptor, as far as it is used.
type resource struct {
	URI    string            `json:"uri,omitempty"`
	Digest map[string]string `json:"digest,omitempty"`
}

// summary is SLSA's verification summary
// (https://slsa.dev/spec/v1.0/verification_summary).
type summary struct {
	Verifier          verifier   `json:"verifier"`
	TimeVerified      time.Time  `json:"timeVerified"`
	ResourceURI       string     `json:"resourceUri"`
	Policy            resource   `json:"policy"`
	InputAttestations []resource `json:"inputAttestations,omitempty"`
	Result            string     `json:"verificationResult"`
	Levels            []string   `json:"verifiedLevels"`
	SLSAVersion       string     `json:"slsaVersion"`
}

type verifier struct {
	ID      string            `json:"id"`
	Version map[string]string `json:"version,omitempty"`
}

// vulnerabilities is cosign's vulnerability predicate
// (https://github.com/sigstore/cosign/blob/main/specs/COSIGN_VULN_ATTESTATION_SPEC.md).
type vulnerabilities struct {
	Invocation struct {
		Parameters []string `json:"parameters"`
		URI        string   `json:"uri"`
		EventID    string   `json:"event_id"`
		BuilderID  string   `json:"builder.id"`
	} `json:"invocation"`
	Scanner struct {
		URI     string `json:"uri"`
		Version string `json:"version"`
		DB      struct {
			URI        string    `json:"uri"`
			Version    string    `json:"version"`
			LastUpdate time.Time `json:"lastUpdate,omitzero"`
		} `json:"db"`
		Result json.RawMessage `json:"result"`
	} `json:"scanner"`
	Metadata struct {
		Started  time.Time `json:"scanStartedOn"`
		Finished time.Time `json:"scanFinishedOn"`
	} `json:"metadata"`
}

// level says what was verified. It is none of SLSA's own.
const level = "SLUICE_POLICY_PASSED"

// statements are all that is said of an image, cosign's plain signature first.
func (a *Attestor) statements(p *signing.Approval) []statement {
	of := func(predicateType string, predicate any) statement {
		return statement{
			Type: "https://in-toto.io/Statement/v1", PredicateType: predicateType, Predicate: predicate,
			Subject: []subject{{Name: p.Name, Digest: digests(p.Subject.Digest)}},
		}
	}
	sum := summary{
		Verifier:     verifier{ID: a.opts.Verifier, Version: map[string]string{"sluice": a.opts.Version}},
		TimeVerified: p.Time.UTC(), ResourceURI: purl(p),
		Policy: resource{URI: "sluice:policy/" + p.Policy, Digest: digests(p.PolicyDigest)},
		Result: "PASSED", Levels: []string{level}, SLSAVersion: "1.0",
	}
	for _, d := range p.Evidence {
		sum.InputAttestations = append(sum.InputAttestations, resource{URI: p.Name + "@" + d.String(), Digest: digests(d)})
	}
	out := []statement{of(typeSignature, struct{}{}), of(typeVSA, sum)}
	if len(p.Scan) > 0 {
		var v vulnerabilities
		v.Invocation.Parameters, v.Invocation.URI, v.Invocation.EventID, v.Invocation.BuilderID = []string{}, purl(p), p.Verdict, a.opts.Verifier
		v.Scanner.URI, v.Scanner.Version, v.Scanner.Result = a.opts.Verifier, a.opts.Version, p.Scan
		v.Scanner.DB.URI, v.Scanner.DB.Version, v.Scanner.DB.LastUpdate = "https://osv.dev", p.Advisories, p.AdvisoriesUpdated.UTC()
		v.Metadata.Started, v.Metadata.Finished = p.Time.UTC(), p.Time.UTC()
		out = append(out, of(typeVuln, v))
	}
	if len(p.SBOM) > 0 {
		out = append(out, of(typeCycloneDX, json.RawMessage(p.SBOM)))
	}
	return out
}

// purl names an image (package-url/purl-spec, type oci).
func purl(p *signing.Approval) string {
	return fmt.Sprintf("pkg:oci/%s@%s?repository_url=%s", path.Base(p.Name), url.QueryEscape(p.Subject.Digest.String()), url.QueryEscape(p.Name))
}

func digests(d godigest.Digest) map[string]string {
	return map[string]string{d.Algorithm().String(): d.Encoded()}
}
