package signing

import (
	"context"
	"errors"
	"io"
	"time"

	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Subject is the content that signatures must be about.
type Subject struct {
	Name string             // canonical upstream name: docker.io/library/nginx
	Desc ocispec.Descriptor // of the manifest or index: media type, digest, size
	// Parents are indexes of the same repository that list Desc. Their
	// signatures count for the subject where Trust.Inherit is set.
	Parents []Parent
	// What locks may be particular about; each may be left out where it is not
	// known. Tags are those by which the image is asked for, DiffIDs its config's.
	Tags     []string
	Platform string // os/arch[/variant]; "" for an index
	DiffIDs  []godigest.Digest
}

// Parent is an index whose bytes the caller holds.
type Parent struct {
	Desc ocispec.Descriptor
	Raw  []byte
}

// Manifest is a manifest as a registry answered it.
type Manifest struct {
	MediaType string
	Digest    godigest.Digest // of Raw, computed, not as the registry says
	Raw       []byte
}

// ErrNotFound is for a Source: the repository says that it does not have it.
// An answer that is not clear (401, 403, 429, 5xx, a time-out) is another error.
var ErrNotFound = errors.New("not found")

// ErrStranger is what an engine's refusal wraps when somebody else than the
// authority signed: nothing is wrong with the signature.
var ErrStranger = errors.New("it is signed by somebody else")

// Source reads what one repository holds.
type Source interface {
	// Referrers lists what names d as its subject, by the referrers API or,
	// where the registry has none, by the referrers tag (OCI distribution 1.1,
	// "Unavailable Referrers API"). None is an empty list, and said only if the
	// registry said so; a list cut short is an error.
	Referrers(ctx context.Context, d godigest.Digest) ([]ocispec.Descriptor, error)
	// Manifest returns a manifest by digest or tag. The error wraps ErrNotFound
	// if the repository has none. The answer is capped in size by the Source.
	Manifest(ctx context.Context, reference string) (Manifest, error)
	// Blob opens a blob. The bytes need not be verified. The error wraps
	// ErrNotFound if the repository has none.
	Blob(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error)
}

// Verifier judges evidence by one Trust. It is safe for concurrent use.
type Verifier interface {
	// Revision is that of the Trust, with the contents of its files.
	Revision() string
	// Judge decides at a time. It asks nobody and ends early only with ctx,
	// whose error it returns; a signature that is not understood is a Refusal.
	Judge(ctx context.Context, ev Evidence, now time.Time) (Result, error)
}

// Format is the way in which a signature or attestation is stored.
type Format string

// Formats. Those below claims prove nothing and are shown only.
const (
	FormatCosignSignature   Format = "cosign-signature"   // layer of sha256-<hex>.sig: a simple-signing payload
	FormatCosignAttestation Format = "cosign-attestation" // layer of sha256-<hex>.att: a DSSE envelope
	FormatBundle            Format = "bundle"             // sigstore bundle, referrer
	FormatNotation          Format = "notation"           // Notary Project envelope, referrer

	FormatStatement Format = "statement" // claim: an unsigned in-toto statement, a referrer
	FormatBuildKit  Format = "buildkit"  // claim: an unsigned in-toto statement inside the index
	FormatSBOM      Format = "sbom"      // claim: an unsigned SBOM or report, a referrer or sha256-<hex>.sbom
)

// Item is one signature or attestation as found, not verified.
type Item struct {
	Format      Format
	About       ocispec.Descriptor // the manifest that it hangs on: the subject or a parent
	Manifest    godigest.Digest    // the artifact's manifest, which covers Annotations
	Digest      godigest.Digest    // of Data
	MediaType   string             // of Data
	Annotations map[string]string  // of the layer; legacy signatures keep certificates there
	Data        []byte
}

// Claim is something said about the subject that nobody signed.
type Claim struct {
	Format        Format          `json:"format"`
	About         godigest.Digest `json:"about"`
	Digest        godigest.Digest `json:"digest"`
	MediaType     string          `json:"mediaType,omitempty"`
	PredicateType string          `json:"predicateType,omitempty"`
	Provenance    *Provenance     `json:"provenance,omitempty"` // what a claimed SLSA predicate says
	Data          []byte          `json:"-"`                    // the statement, where it was small enough to read
}
