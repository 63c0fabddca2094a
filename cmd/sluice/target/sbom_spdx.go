package target

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	godigest "github.com/opencontainers/go-digest"

	"github.com/sluiceproxy/sluice/analyzer"
)

// Kinds of JSON documents that are read; another value tells what to do.
const (
	kindCycloneDX = "CycloneDX"
	kindSPDX      = "SPDX"
)

// kindOf recognises a JSON document by its top-level keys.
func kindOf(b []byte) (string, error) {
	var top struct {
		BOMFormat   string          `json:"bomFormat"`
		SPDXVersion string          `json:"spdxVersion"`
		Context     json.RawMessage `json:"@context"`
		Payload     json.RawMessage `json:"payload"`
		Predicate   json.RawMessage `json:"predicate"`
		Artifacts   json.RawMessage `json:"artifacts"`
		Descriptor  json.RawMessage `json:"descriptor"`
	}
	if err := json.Unmarshal(b, &top); err != nil {
		return "", fmt.Errorf("JSON: %w", err)
	}
	switch {
	case top.BOMFormat == kindCycloneDX:
		return kindCycloneDX, nil
	case top.SPDXVersion != "":
		return kindSPDX, nil
	case top.Context != nil:
		return "an SPDX 3 document is not read; convert it to SPDX 2.3 JSON or CycloneDX", nil
	case top.Payload != nil || top.Predicate != nil:
		return "an attestation is not read; take its predicate out of it (cosign verify-attestation … | jq -r .payload | base64 -d | jq .predicate)", nil
	case top.Artifacts != nil && top.Descriptor != nil:
		return "Syft's own JSON is not read; convert it: syft convert FILE -o cyclonedx-json", nil
	}
	return "not an SBOM that is read: neither \"bomFormat\": \"CycloneDX\" nor \"spdxVersion\" is at its top", nil
}

// spdxDocument is what is read of an SPDX document (SPDX 2.3, clauses 6, 7, 11).
type spdxDocument struct {
	Version   string        `json:"spdxVersion"`
	Describes []string      `json:"documentDescribes"`
	Packages  []spdxPackage `json:"packages"`
	Relations []struct {
		From string `json:"spdxElementId"`
		Type string `json:"relationshipType"`
		To   string `json:"relatedSpdxElement"`
	} `json:"relationships"`
}

type spdxPackage struct {
	ID      string `json:"SPDXID"`
	Name    string `json:"name"`
	Version string `json:"versionInfo"`
	Purpose string `json:"primaryPackagePurpose"`
	Refs    []struct {
		Type    string `json:"referenceType"`
		Locator string `json:"referenceLocator"`
	} `json:"externalRefs"`
}

// purl is the package's first package URL; "" = none.
func (p *spdxPackage) purl() string {
	for _, r := range p.Refs {
		if r.Type == "purl" || strings.HasSuffix(r.Type, "/purl") {
			return r.Locator
		}
	}
	return ""
}

// operatingSystem reports whether the package is one: the schema of SPDX 2.3 spells
// it with "_", the text of the specification (7.24) and tools after it with "-".
func (p *spdxPackage) operatingSystem() bool {
	return p.Purpose == "OPERATING_SYSTEM" || p.Purpose == "OPERATING-SYSTEM"
}

// parseSPDX reads an SPDX 2.2 or 2.3 document in JSON.
func parseSPDX(b []byte) (*document, error) {
	var doc spdxDocument
	dec := json.NewDecoder(bytes.NewReader(b))
	if err := dec.Decode(&doc); err != nil {
		return nil, fmt.Errorf("SPDX: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("SPDX: there is more after the document")
	}
	version, ok := strings.CutPrefix(doc.Version, "SPDX-")
	if !ok || version != "2.2" && version != "2.3" {
		return nil, fmt.Errorf("SPDX: version %q is not read; SPDX-2.2 and SPDX-2.3 are", doc.Version)
	}
	d := &document{format: "SPDX " + version, mediaType: "application/spdx+json"}
	described := slices.Clone(doc.Describes)
	for _, r := range doc.Relations {
		if r.Type == "DESCRIBES" && r.From == "SPDXRef-DOCUMENT" {
			described = append(described, r.To)
		}
	}
	for i := range doc.Packages {
		if p := &doc.Packages[i]; p.operatingSystem() && d.os.ID == "" {
			d.os = analyzer.OSRelease{ID: distributionID(p.Name), VersionID: p.Version, Name: strings.TrimSpace(p.Name + " " + p.Version)}
		}
	}
	names := doc.owners()
	for i := range doc.Packages {
		p := &doc.Packages[i]
		purl, subject := p.purl(), slices.Contains(described, p.ID)
		switch {
		case p.operatingSystem(), p.Purpose == "FILE":
			continue
		case p.Purpose == "CONTAINER", subject && (purl == "" || strings.HasPrefix(purl, "pkg:oci/") || strings.HasPrefix(purl, "pkg:docker/")):
			if subject {
				d.subject = p.Name
				if dgst, err := godigest.Parse(p.Version); err == nil {
					d.digest = dgst
				}
			}
			continue
		}
		err := d.add(component{name: p.Name, version: p.Version, purl: purl, owner: names[p.ID], place: fmt.Sprintf("packages[%d]", i)})
		if err != nil {
			return nil, fmt.Errorf("SPDX: %w", err)
		}
	}
	d.owners()
	return d, nil
}

// owners are the purls of the packages that contain others, by the id of what
// they contain.
func (doc *spdxDocument) owners() map[string]string {
	purls := map[string]string{}
	for i := range doc.Packages {
		purls[doc.Packages[i].ID] = doc.Packages[i].purl()
	}
	out := map[string]string{}
	for _, r := range doc.Relations {
		if r.Type == "CONTAINS" && purls[r.From] != "" {
			out[r.To] = purls[r.From]
		}
	}
	return out
}
