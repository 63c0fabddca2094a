package signing

import (
	"encoding/json"
	"fmt"
	"mime"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Media types of signature artifacts. Sources: cosign v3 (pkg/types,
// pkg/oci/static, internal/pkg/oci/remote), the Notary Project's signature
// specification v1.1, BuildKit's docs/attestations/attestation-storage.md.
const (
	typeSimpleSigning = "application/vnd.dev.cosign.simplesigning.v1+json"
	typeDSSE          = "application/vnd.dsse.envelope.v1+json"
	typeBundle        = "application/vnd.dev.sigstore.bundle"
	typeNotation      = "application/vnd.cncf.notary.signature"
	typeJWS           = "application/jose+json"
	typeCOSE          = "application/cose"
	typeStatement     = "application/vnd.in-toto+json"

	buildKitKind      = "vnd.docker.reference.type"
	buildKitAbout     = "vnd.docker.reference.digest"
	buildKitManifest  = "attestation-manifest"
	buildKitPredicate = "in-toto.io/predicate-type"
)

// reports are raw, unsigned artifacts. A referrer of such a type is a claim by
// its descriptor alone and is not fetched.
var reports = map[string]bool{
	"application/vnd.cyclonedx+json": true,
	"application/vnd.cyclonedx+xml":  true,
	"application/spdx+json":          true,
	"application/vnd.syft+json":      true,
	"application/sarif+json":         true,
	"text/spdx":                      true,
	"text/spdx+json":                 true,
}

// artifact is what matters of a manifest or index. It only helps to find
// signatures: the signed bytes say what they are about themselves.
type artifact struct {
	MediaType    string               `json:"mediaType"`
	ArtifactType string               `json:"artifactType"`
	Config       ocispec.Descriptor   `json:"config"`
	Layers       []ocispec.Descriptor `json:"layers"`
	Manifests    []ocispec.Descriptor `json:"manifests"`
	Subject      *ocispec.Descriptor  `json:"subject"`
}

func parseArtifact(raw []byte) (artifact, error) {
	var a artifact
	if err := json.Unmarshal(raw, &a); err != nil {
		return artifact{}, fmt.Errorf("manifest: %w", err)
	}
	if a.Layers != nil && a.Manifests != nil {
		return artifact{}, fmt.Errorf("a manifest and an index at once")
	}
	return a, nil
}

// kind is the artifact's type by OCI image-spec 1.1, "Guidelines for Artifact
// Usage": the artifactType, else the type of the config.
func (a *artifact) kind() string {
	if a.ArtifactType != "" {
		return a.ArtifactType
	}
	return a.Config.MediaType
}

// format tells what a layer of the artifact holds, "" if nothing of interest.
func (a *artifact) format(layer string) Format {
	mt, _, err := mime.ParseMediaType(layer)
	if err != nil {
		return ""
	}
	switch {
	case mt == typeSimpleSigning:
		return FormatCosignSignature
	case mt == typeDSSE:
		return FormatCosignAttestation
	case mt == typeBundle+"+json" || strings.HasPrefix(mt, typeBundle+".v"):
		return FormatBundle
	case (mt == typeJWS || mt == typeCOSE) && a.kind() == typeNotation:
		return FormatNotation
	case mt == typeStatement:
		return FormatStatement
	case reports[mt]:
		return FormatSBOM
	}
	return ""
}

// hint orders referrers by what the registry's list says of them: signatures
// first, what may be one, then the rest. It never leaves one out.
func hint(artifactType string) int {
	switch {
	case strings.HasPrefix(artifactType, typeBundle), artifactType == typeNotation,
		artifactType == "application/vnd.dev.cosign.artifact.sig.v1+json":
		return 0
	case artifactType == "", artifactType == ocispec.MediaTypeEmptyJSON, artifactType == ocispec.MediaTypeImageConfig:
		return 1
	}
	return 2
}

// lists reports whether the index's bytes name desc: digest, and size and media
// type where desc has them.
func (p Parent) lists(desc ocispec.Descriptor) (bool, error) {
	if got := p.Desc.Digest.Algorithm(); !got.Available() {
		return false, fmt.Errorf("digest algorithm %q", got)
	}
	if got := p.Desc.Digest.Algorithm().FromBytes(p.Raw); got != p.Desc.Digest {
		return false, fmt.Errorf("its bytes have the digest %s", got)
	}
	a, err := parseArtifact(p.Raw)
	if err != nil {
		return false, err
	}
	for _, m := range a.Manifests {
		if m.Digest == desc.Digest && (desc.Size == 0 || m.Size == desc.Size) && (desc.MediaType == "" || m.MediaType == desc.MediaType) {
			return true, nil
		}
	}
	return false, nil
}
