package target

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
	godigest "github.com/opencontainers/go-digest"
	packageurl "github.com/package-url/packageurl-go"

	"github.com/sluiceproxy/sluice/analyzer"
)

// cycloneDXVersions are those that are read.
var cycloneDXVersions = []cdx.SpecVersion{cdx.SpecVersion1_4, cdx.SpecVersion1_5, cdx.SpecVersion1_6, cdx.SpecVersion1_7}

// parseCycloneDX reads a CycloneDX document.
func parseCycloneDX(b []byte, json bool) (*document, error) {
	format, mediaType := cdx.BOMFileFormatXML, "application/vnd.cyclonedx+xml"
	if json {
		format, mediaType = cdx.BOMFileFormatJSON, "application/vnd.cyclonedx+json"
	}
	var bom cdx.BOM
	if err := cdx.NewBOMDecoder(bytes.NewReader(b), format).Decode(&bom); err != nil {
		return nil, fmt.Errorf("CycloneDX: %w", err)
	}
	if !slices.Contains(cycloneDXVersions, bom.SpecVersion) {
		return nil, fmt.Errorf("CycloneDX: version %q is not read; 1.4 to 1.7 are", bom.SpecVersion.String())
	}
	d := &document{format: "CycloneDX " + bom.SpecVersion.String(), mediaType: mediaType}
	var components []cdx.Component
	if bom.Components != nil {
		components = *bom.Components
	}
	if bom.Metadata != nil && bom.Metadata.Component != nil {
		subject := bom.Metadata.Component
		d.about(subject)
		if subject.Components != nil {
			components = append(slices.Clone(components), *subject.Components...)
		}
	}
	d.findOS(components, 0)
	if err := d.components(components, "components", 0); err != nil {
		return nil, fmt.Errorf("CycloneDX: %w", err)
	}
	d.owners()
	return d, nil
}

// about takes the image's name and digest from the document's subject.
func (d *document) about(c *cdx.Component) {
	if c.Type != cdx.ComponentTypeContainer {
		return
	}
	d.subject = c.Name
	dgst := c.Version
	if u, err := packageurl.FromString(c.PackageURL); err == nil && (u.Type == "oci" || u.Type == "docker") && strings.Contains(u.Version, ":") {
		dgst = u.Version
	}
	if parsed, err := godigest.Parse(dgst); err == nil {
		d.digest = parsed
	}
}

// findOS looks for the operating system, which packages need to be understood.
func (d *document) findOS(components []cdx.Component, depth int) {
	for i := range components {
		c := &components[i]
		if c.Type == cdx.ComponentTypeOS && d.os.ID == "" {
			d.os = analyzer.OSRelease{ID: distributionID(c.Name), VersionID: c.Version, Name: c.Description}
			if d.os.Name == "" {
				d.os.Name = strings.TrimSpace(c.Name + " " + c.Version)
			}
		}
		if c.Components != nil && depth < maxNesting {
			d.findOS(*c.Components, depth+1)
		}
	}
}

func (d *document) components(components []cdx.Component, place string, depth int) error {
	if depth > maxNesting {
		return errors.New("components are nested too deeply")
	}
	for i := range components {
		c := &components[i]
		at := fmt.Sprintf("%s[%d]", place, i)
		if c.Scope == cdx.ScopeExcluded {
			continue // of development or test only (CycloneDX 1.6, component.scope)
		}
		if software(c) {
			if err := d.add(readComponent(c, at)); err != nil {
				return err
			}
		}
		if c.Components != nil {
			if err := d.components(*c.Components, at+".components", depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// software reports whether a component is something that advisories are about.
// Without a purl, applications are lock files or groups of packages to Trivy and
// others, so of those only libraries and frameworks count.
func software(c *cdx.Component) bool {
	if c.Type == cdx.ComponentTypeOS {
		return false
	}
	return c.PackageURL != "" || c.Type == cdx.ComponentTypeLibrary || c.Type == cdx.ComponentTypeFramework
}

// readComponent takes what a component says, also in the properties that
// Sluice, Syft and Trivy write.
func readComponent(c *cdx.Component, place string) component {
	out := component{name: c.Name, version: c.Version, purl: c.PackageURL, place: place}
	if c.Group != "" {
		out.name = c.Group + "/" + c.Name
	}
	if c.Evidence != nil && c.Evidence.Occurrences != nil && len(*c.Evidence.Occurrences) > 0 {
		out.path = (*c.Evidence.Occurrences)[0].Location
	}
	if c.Properties == nil {
		return out
	}
	var trivy struct{ source, epoch, version, release string }
	for _, p := range *c.Properties {
		switch p.Name {
		case "sluice:source":
			out.source = p.Value
		case "sluice:inner":
			out.inner = p.Value
		case "sluice:owner":
			out.owner = p.Value
		case "sluice:modularity", "aquasecurity:trivy:Modularitylabel":
			out.modularity = p.Value
		case "sluice:layer", "aquasecurity:trivy:LayerDiffID", "syft:location:0:layerID":
			out.layer = p.Value
		case "aquasecurity:trivy:FilePath", "syft:location:0:path":
			if out.path == "" {
				out.path = strings.TrimPrefix(p.Value, "/")
			}
		case "aquasecurity:trivy:SrcName":
			trivy.source = p.Value
		case "aquasecurity:trivy:SrcEpoch":
			trivy.epoch = p.Value + ":"
		case "aquasecurity:trivy:SrcVersion":
			trivy.version = p.Value
		case "aquasecurity:trivy:SrcRelease":
			trivy.release = "-" + p.Value
		}
	}
	if out.source == "" && trivy.source != "" {
		out.source = strings.TrimSpace(trivy.source + " " + trivy.epoch + trivy.version + trivy.release)
	}
	return out
}
