package analyzer

// FromSBOM returns the inventory of a document that lists an image's packages.
// format names the document's kind and version ("CycloneDX 1.6"), mediaType its
// media type; gaps are the parts of it that name nothing that can be matched.
// Nobody looked at files: secrets, hardening and base are not known, which
// Inventory.SBOM and Inventory.ArtifactType tell.
func FromSBOM(format, mediaType string, rel OSRelease, pkgs []Package, gaps []Incomplete) *Inventory {
	rel.EndOfLife = endOfLife(rel)
	inv := &Inventory{
		Revision: "sbom1", SBOM: format, ArtifactType: mediaType,
		OS: rel, Layers: []LayerSummary{}, Packages: unique(pkgs), Secrets: []Secret{},
	}
	inv.Incomplete = append(gaps, unmatchable(inv)...)
	return inv
}
