package registry

import (
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sluiceproxy/sluice/proxy/route"
)

// referrers answers an index of what refers to a digest, which is empty where
// nothing does (OCI distribution 1.1, "Listing Referrers").
func (h *Handler) referrers(w http.ResponseWriter, r *http.Request, rt route.Route) error {
	artifactType := r.URL.Query().Get("artifactType")
	list, err := h.gate.Referrers(r.Context(), rt, artifactType)
	if err != nil {
		return err
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
	head := w.Header()
	if artifactType != "" {
		head.Set("OCI-Filters-Applied", "artifactType")
	}
	head.Set("Content-Type", ocispec.MediaTypeImageIndex)
	head.Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body)
	return nil
}
