package registry

import (
	"encoding/json"
	"slices"
	"strconv"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// referrers answers an index of what refers to a digest, which is empty where
// nothing does (OCI distribution 1.1, "Listing Referrers").
func (h *Handler) referrers(c call) error {
	artifactType := c.r.URL.Query().Get("artifactType")
	list, err := h.Gate.Referrers(c.r.Context(), c.rt, artifactType)
	if err != nil {
		return err
	}
	return writeReferrers(c, list, artifactType)
}

// writeReferrers answers those of the list that are of artifactType, all for "".
func writeReferrers(c call, list []ocispec.Descriptor, artifactType string) error {
	if artifactType != "" {
		list = slices.DeleteFunc(slices.Clone(list), func(d ocispec.Descriptor) bool { return d.ArtifactType != artifactType })
	}
	if list == nil {
		list = []ocispec.Descriptor{}
	}
	body, err := json.Marshal(ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: list,
	})
	if err != nil {
		return err
	}
	head := c.w.Header()
	if artifactType != "" {
		head.Set("OCI-Filters-Applied", "artifactType")
	}
	head.Set("Content-Type", ocispec.MediaTypeImageIndex)
	head.Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = c.w.Write(body)
	return nil
}
