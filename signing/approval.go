package signing

import (
	"context"
	"encoding/json"
	"time"

	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Approval is what Sluice says of an image that its policy let pass. There is
// none for an image that was refused: whoever trusts the key reads every
// signature by it as a yes.
type Approval struct {
	Name    string             // canonical name: docker.io/library/nginx
	Subject ocispec.Descriptor // manifest or index
	Time    time.Time          // of the verdict
	Verdict string             // its id

	Policy       string          // revision
	PolicyDigest godigest.Digest // of the policy's text

	Advisories        string // revision, "" for an index
	AdvisoriesUpdated time.Time
	// Evidence are the manifests of the signatures and attestations that counted.
	Evidence []godigest.Digest
	// Scan is the result of the scan in JSON, SBOM a CycloneDX document in JSON
	// with the findings; both are empty for an index, whose images have their own.
	Scan json.RawMessage
	SBOM []byte
}

// Artifact is a manifest with its blobs, ready to be stored.
type Artifact struct {
	Manifest ocispec.Manifest
	Raw      []byte          // of Manifest
	Digest   godigest.Digest // of Raw
	Blobs    [][]byte        // config and layers
	Tag      string          // for a format that is found by tag; "" for a referrer of Subject
}

// PublicKey is a key that verifies what an Attestor signs, or signed.
type PublicKey struct {
	ID        godigest.Digest `json:"id"`  // sha256 of the SubjectPublicKeyInfo
	PEM       string          `json:"pem"` // PKIX
	NotBefore time.Time       `json:"notBefore,omitzero"`
	NotAfter  time.Time       `json:"notAfter,omitzero"`
	Signs     bool            `json:"signs"` // new attestations are by it; else it is an older key
}

// Attestor writes approvals down. It is safe for concurrent use.
type Attestor interface {
	// Attest returns the artifacts for an image: signed ones if there is a key.
	Attest(ctx context.Context, a Approval) ([]Artifact, error)
	// Signs reports whether there is a key.
	Signs() bool
	// Keys are the public keys, the one that signs first.
	Keys() []PublicKey
}
