package signing

import ocispec "github.com/opencontainers/image-spec/specs-go/v1"

// evidential are the config types under which signatures, attestations and
// reports are stored: cosign's, the Notary Project's, and those of OCI artifacts
// without a config of their own. None makes a runtime or client run anything.
var evidential = map[string]bool{
	ocispec.MediaTypeEmptyJSON:                         true,
	ocispec.MediaTypeImageConfig:                       true, // cosign's tags
	"application/vnd.dev.cosign.artifact.sig.v1+json":  true,
	"application/vnd.dev.cosign.artifact.sbom.v1+json": true,
	typeNotation: true,
}

// Evidential reports whether a manifest with that artifactType, config and
// layers holds signatures, attestations and reports only. What a manifest says
// of itself is not enough: every layer must be of such a type.
func Evidential(artifactType, config string, layers []string) bool {
	if !evidential[config] || len(layers) == 0 {
		return false
	}
	a := artifact{ArtifactType: artifactType, Config: ocispec.Descriptor{MediaType: config}}
	for _, l := range layers {
		if a.format(l) == "" {
			return false
		}
	}
	return true
}
