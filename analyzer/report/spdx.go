package report

import (
	"io"
	"strings"

	"github.com/sluiceproxy/sluice/analyzer"
)

// noAssertion is SPDX's word for what nobody looked into.
const noAssertion = "NOASSERTION"

type (
	spdxDocument struct {
		Version       string             `json:"spdxVersion"`
		DataLicense   string             `json:"dataLicense"`
		ID            string             `json:"SPDXID"`
		Name          string             `json:"name"`
		Namespace     string             `json:"documentNamespace"`
		Creation      spdxCreation       `json:"creationInfo"`
		Comment       string             `json:"comment,omitempty"`
		Packages      []spdxPackage      `json:"packages"`
		Relationships []spdxRelationship `json:"relationships"`
	}
	spdxCreation struct {
		Created  string   `json:"created"`
		Creators []string `json:"creators"`
	}
	spdxPackage struct {
		Name       string         `json:"name"`
		ID         string         `json:"SPDXID"`
		Version    string         `json:"versionInfo,omitempty"`
		Location   string         `json:"downloadLocation"`
		Analyzed   bool           `json:"filesAnalyzed"`
		Checksums  []spdxChecksum `json:"checksums,omitempty"`
		SourceInfo string         `json:"sourceInfo,omitempty"`
		Concluded  string         `json:"licenseConcluded"`
		Declared   string         `json:"licenseDeclared"`
		Copyright  string         `json:"copyrightText"`
		Purpose    string         `json:"primaryPackagePurpose,omitempty"`
		Refs       []spdxRef      `json:"externalRefs,omitempty"`
	}
	spdxChecksum struct {
		Algorithm string `json:"algorithm"`
		Value     string `json:"checksumValue"`
	}
	spdxRef struct {
		Category string `json:"referenceCategory"`
		Type     string `json:"referenceType"`
		Locator  string `json:"referenceLocator"`
		Comment  string `json:"comment,omitempty"`
	}
	spdxRelationship struct {
		From string `json:"spdxElementId"`
		Type string `json:"relationshipType"`
		To   string `json:"relatedSpdxElement"`
	}
)

// WriteSPDX writes r as an SPDX 2.3 document in JSON: the image, its operating
// system and its packages. A distribution package CONTAINS the packages whose
// files it owns. Advisories that apply are external references of their package
// (SPDX 2.3, annex F.2, "advisory"), as far as they can be read somewhere. The
// format has no place for secrets, facts and verdicts.
func WriteSPDX(w io.Writer, r Result, o Options) error {
	doc := spdxDocument{
		Version: "SPDX-2.3", DataLicense: "CC0-1.0", ID: "SPDXRef-DOCUMENT", Name: r.name(),
		Namespace:     toolURL + "/spdx/" + uuid(append(r.identity(), o.timestamp())...),
		Creation:      spdxCreation{o.timestamp(), []string{"Tool: " + strings.ToLower(toolName) + "-" + o.version()}},
		Relationships: []spdxRelationship{{"SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-Image"}},
	}
	if r.Facts.SBOM != "" {
		doc.Comment = "Made from another document (" + r.Facts.SBOM + "); the image's files were not looked at."
	}
	image := newSPDXPackage("SPDXRef-Image", r.name(), r.Digest.String(), "CONTAINER", r.purl())
	if r.Digest != "" && r.Digest.Algorithm() == "sha256" {
		image.Checksums = []spdxChecksum{{"SHA256", r.Digest.Encoded()}}
	}
	doc.Packages = append(doc.Packages, image)
	if id, version, _ := strings.Cut(r.Facts.OS, " "); id != "" {
		doc.add(newSPDXPackage("SPDXRef-OperatingSystem", id, version, "OPERATING_SYSTEM", ""), "SPDXRef-Image")
	}
	owners, advisories := r.owners(), r.advisories()
	for i := range r.Packages {
		p := &r.Packages[i]
		sp := newSPDXPackage("SPDXRef-"+ref(p), p.Name, p.Version, "LIBRARY", purlOf(p))
		sp.SourceInfo = spdxSource(p)
		sp.Refs = append(sp.Refs, advisories[ref(p)]...)
		holder := "SPDXRef-Image"
		if owner := owners[p.Owner]; owner != nil {
			holder = "SPDXRef-" + ref(owner)
		}
		doc.add(sp, holder)
	}
	return writeJSON(w, doc)
}

// add adds a package that holder contains.
func (d *spdxDocument) add(p spdxPackage, holder string) {
	d.Packages = append(d.Packages, p)
	d.Relationships = append(d.Relationships, spdxRelationship{holder, "CONTAINS", p.ID})
}

func newSPDXPackage(id, name, version, purpose, purl string) spdxPackage {
	p := spdxPackage{
		ID: id, Name: name, Version: version, Purpose: purpose,
		Location: noAssertion, Concluded: noAssertion, Declared: noAssertion, Copyright: noAssertion,
	}
	if purl != "" {
		p.Refs = []spdxRef{{Category: "PACKAGE-MANAGER", Type: "purl", Locator: purl}}
	}
	return p
}

func spdxSource(p *analyzer.Package) string {
	at := p.Path
	if p.Inner != "" {
		at += "!" + p.Inner
	}
	var parts []string
	if at != "" {
		parts = append(parts, "found in "+at)
	}
	if p.Layer != "" {
		parts = append(parts, "layer "+p.Layer.String())
	}
	if p.Source != "" {
		parts = append(parts, "source package "+join(" ", p.Source, p.SourceVersion))
	}
	if p.Owner != "" {
		parts = append(parts, "owned by "+p.Owner)
	}
	return strings.Join(parts, "; ")
}

// advisories are the findings as references, by package.
func (r *Result) advisories() map[string][]spdxRef {
	out := map[string][]spdxRef{}
	for i := range r.Findings {
		f := &r.Findings[i]
		url := link(f.Advisory)
		if url == "" {
			url = link(shown(f))
		}
		if url != "" {
			out[f.ref] = appendNew(out[f.ref], spdxRef{"SECURITY", "advisory", url, join("; ", headline(f), f.because())})
		}
	}
	return out
}
