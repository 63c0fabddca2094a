package report

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"

	"github.com/sluiceproxy/sluice/analyzer"
)

// WriteCycloneDX writes r as a CycloneDX 1.6 document in JSON: the image as its
// subject; its operating system and packages as components, with layer, file and
// owner as properties and the file as evidence; and a vulnerability for each
// advisory, with the packages that it affects. Findings that a waiver or a VEX
// statement speaks of carry an analysis. The format has no place for secrets and
// facts of the image; they are properties of its metadata.
func WriteCycloneDX(w io.Writer, r Result, o Options) error {
	bom := cdx.NewBOM()
	bom.SerialNumber = "urn:uuid:" + uuid(append(r.identity(), o.timestamp())...)
	subject := &cdx.Component{BOMRef: "image", Type: cdx.ComponentTypeContainer, Name: r.name(), Version: r.Digest.String(), PackageURL: r.purl()}
	bom.Metadata = &cdx.Metadata{
		Timestamp: o.timestamp(),
		Tools: &cdx.ToolsChoice{Components: &[]cdx.Component{{
			Type: cdx.ComponentTypeApplication, Name: toolName, Version: o.version(),
			ExternalReferences: &[]cdx.ExternalReference{{Type: cdx.ERTypeWebsite, URL: toolURL}},
		}}},
		Component:  subject,
		Properties: cdxFacts(&r),
	}
	components, dependencies := cdxComponents(&r)
	bom.Components, bom.Dependencies = &components, &dependencies
	vulnerabilities := cdxVulnerabilities(&r)
	bom.Vulnerabilities = &vulnerabilities
	enc := cdx.NewBOMEncoder(w, cdx.BOMFileFormatJSON)
	enc.SetPretty(true)
	enc.SetEscapeHTML(false)
	if err := enc.EncodeVersion(bom, cdx.SpecVersion1_6); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// identity is what tells this document from others about the same image.
func (r *Result) identity() []string {
	return []string{r.name(), r.Digest.String(), r.Facts.Platform, r.Verdict.ID, r.Facts.Analyzer, r.Facts.Advisories}
}

func cdxFacts(r *Result) *[]cdx.Property {
	out := []cdx.Property{}
	add := func(name, value string) {
		if value != "" {
			out = append(out, cdx.Property{Name: "sluice:" + name, Value: value})
		}
	}
	f := &r.Facts
	add("verdict", r.Verdict.ID)
	add("decision", r.Verdict.Decision)
	add("platform", f.Platform)
	add("sbom", f.SBOM)
	add("user", f.User)
	add("advisories", f.Advisories)
	add("digest-chain", f.DigestChain)
	add("base", join(" ", string(f.Base.Kind), f.Base.Name, f.Base.Digest.String()))
	if f.SBOM == "" {
		add("root", strconv.FormatBool(f.Hardening.Root))
		add("healthcheck", strconv.FormatBool(f.Hardening.Healthcheck))
	}
	for _, l := range []struct {
		name string
		list []string
	}{{"setuid", f.Setuid}, {"world-writable", f.Hardening.WorldWritable}, {"shell", f.Hardening.Shells}, {"package-manager", f.Hardening.PackageManagers}, {"ssh", f.Hardening.SSH}, {"port", f.Hardening.Ports}} {
		for _, v := range l.list {
			add(l.name, v)
		}
	}
	for i := range r.Secrets {
		s := &r.Secrets[i]
		add("secret", fmt.Sprintf("%s in %s:%d (%s)", s.Kind, s.Path, s.Line, s.Rule))
	}
	for _, g := range f.Incomplete {
		add("incomplete", join(": ", g.Path, g.Reason))
	}
	for _, u := range f.Undecided {
		add("undecided", join(": ", join(" ", u.Advisory, u.Package, u.Version), u.Reason))
	}
	return &out
}

// cdxComponents are the operating system and the packages, and what the image
// and the packages that own files of others hold.
func cdxComponents(r *Result) ([]cdx.Component, []cdx.Dependency) {
	out := []cdx.Component{}
	parts := []string{}
	if id, version, _ := strings.Cut(r.Facts.OS, " "); id != "" {
		out = append(out, cdx.Component{BOMRef: "os", Type: cdx.ComponentTypeOS, Name: id, Version: version, Description: r.Facts.OSName})
		parts = append(parts, "os")
	}
	owners, owned := r.owners(), map[string][]string{}
	for i := range r.Packages {
		p := &r.Packages[i]
		owner := owners[p.Owner]
		c := cdxComponent(p, owner)
		out = append(out, c)
		if owner != nil {
			owned[ref(owner)] = append(owned[ref(owner)], c.BOMRef)
			continue
		}
		parts = append(parts, c.BOMRef)
	}
	dependencies := []cdx.Dependency{{Ref: "image", Dependencies: &parts}}
	for i := range out {
		if list := owned[out[i].BOMRef]; list != nil {
			dependencies = append(dependencies, cdx.Dependency{Ref: out[i].BOMRef, Dependencies: &list})
		}
	}
	return out, dependencies
}

// cdxComponent is p, whose files are owner's if that is not nil.
func cdxComponent(p, owner *analyzer.Package) cdx.Component {
	c := cdx.Component{BOMRef: ref(p), Type: cdx.ComponentTypeLibrary, Name: p.Name, Version: p.Version, PackageURL: purlOf(p)}
	if group, name, ok := strings.Cut(p.Name, ":"); ok && p.Type == "maven" {
		c.Group, c.Name = group, name
	}
	owned := p.Owner
	if owner != nil {
		owned = purlOf(owner) // as the document names it
	}
	var properties []cdx.Property
	for _, kv := range [][2]string{
		{"type", p.Type},
		{"ecosystem", p.Ecosystem},
		{"source", join(" ", p.Source, p.SourceVersion)},
		{"modularity", p.Modularity},
		{"inner", p.Inner},
		{"layer", p.Layer.String()},
		{"owner", owned},
	} {
		if kv[1] != "" {
			properties = append(properties, cdx.Property{Name: "sluice:" + kv[0], Value: kv[1]})
		}
	}
	c.Properties = &properties
	if p.Path != "" {
		c.Evidence = &cdx.Evidence{Occurrences: &[]cdx.EvidenceOccurrence{{Location: p.Path}}}
	}
	return c
}

// cdxVulnerabilities groups the findings by advisory and by what is said of
// them, in the order of the findings.
func cdxVulnerabilities(r *Result) []cdx.Vulnerability {
	type key struct {
		advisory, because string
		status            Status
	}
	out, index := []cdx.Vulnerability{}, map[key]int{}
	for i := range r.Findings {
		f := &r.Findings[i]
		k := key{f.Advisory, f.because(), f.Status}
		n, ok := index[k]
		if !ok {
			n = len(out)
			index[k] = n
			out = append(out, cdxVulnerability(f))
			out[n].BOMRef = "vuln-" + strconv.Itoa(n+1)
		}
		affects := append(*out[n].Affects, cdx.Affects{Ref: f.ref, Range: &[]cdx.AffectedVersions{{Version: f.Version, Status: cdx.VulnerabilityStatusAffected}}})
		out[n].Affects = &affects
	}
	return out
}

func cdxVulnerability(f *Finding) cdx.Vulnerability {
	v := cdx.Vulnerability{ID: f.Advisory, Source: cdxSource(f.Advisory), Description: f.Summary, Affects: &[]cdx.Affects{}, Analysis: cdxAnalysis(f)}
	if f.Fixed != "" {
		v.Recommendation = fmt.Sprintf("Upgrade %s to %s", f.Package, f.Fixed)
	}
	if !f.Published.IsZero() {
		v.Published = f.Published.UTC().Format("2006-01-02T15:04:05Z")
	}
	var references []cdx.VulnerabilityReference
	for _, id := range f.Aliases {
		references = append(references, cdx.VulnerabilityReference{ID: id, Source: cdxSource(id)})
	}
	if references != nil {
		v.References = &references
	}
	rating := cdx.VulnerabilityRating{Severity: cdxSeverity(f.Severity), Vector: f.Vector, Method: cdxMethod(f.Vector)}
	if f.Score > 0 {
		rating.Score = &f.Score
	}
	if f.RatedBy != "" {
		rating.Source = &cdx.Source{Name: f.RatedBy}
	}
	v.Ratings = &[]cdx.VulnerabilityRating{rating}
	properties := []cdx.Property{{Name: "sluice:class", Value: string(f.Class)}}
	if f.Source != "" {
		properties = append(properties, cdx.Property{Name: "sluice:matched", Value: f.Source})
	}
	if f.KEV {
		properties = append(properties, cdx.Property{Name: "sluice:kev", Value: "true"})
	}
	if f.EPSS != nil {
		properties = append(properties, cdx.Property{Name: "sluice:epss", Value: strconv.FormatFloat(*f.EPSS, 'f', -1, 64)})
	}
	for _, rule := range f.Rules {
		if rule.Waived != "" {
			continue
		}
		properties = append(properties, cdx.Property{Name: "sluice:rule", Value: rule.Action + " by " + rule.ID})
	}
	v.Properties = &properties
	return v
}

// cdxSource names the publisher of id; the format wants one.
func cdxSource(id string) *cdx.Source {
	name, url := source(id)
	if name == "" {
		return &cdx.Source{Name: "private"}
	}
	return &cdx.Source{Name: name, URL: url}
}

// cdxAnalysis is what a VEX statement or a waiver says; nil for nothing.
func cdxAnalysis(f *Finding) *cdx.VulnerabilityAnalysis {
	if f.Status == StatusWaived {
		return &cdx.VulnerabilityAnalysis{State: cdx.IASExploitable, Response: &[]cdx.ImpactAnalysisResponse{cdx.IARWillNotFix}, Detail: f.because()}
	}
	if f.VEX == nil {
		return nil
	}
	a := &cdx.VulnerabilityAnalysis{Detail: f.because()}
	switch f.VEX.Status {
	case analyzer.VEXNotAffected:
		a.State, a.Justification = cdx.IASNotAffected, cdxJustification(f.VEX.Justification)
	case analyzer.VEXFixed:
		a.State = cdx.IASResolved
	case analyzer.VEXAffected:
		a.State = cdx.IASExploitable
	case analyzer.VEXUnderInvestigation:
		a.State = cdx.IASInTriage
	}
	return a
}

// cdxJustification maps the labels of CISA's "Vulnerability Exploitability
// eXchange (VEX) – Status Justifications" to CycloneDX's.
func cdxJustification(label string) cdx.ImpactAnalysisJustification {
	switch label {
	case "component_not_present", "vulnerable_code_not_present":
		return cdx.IAJCodeNotPresent
	case "vulnerable_code_not_in_execute_path":
		return cdx.IAJCodeNotReachable
	case "vulnerable_code_cannot_be_controlled_by_adversary":
		return cdx.IAJRequiresEnvironment
	case "inline_mitigations_already_exist":
		return cdx.IAJProtectedByMitigatingControl
	}
	return ""
}

func cdxSeverity(s analyzer.Severity) cdx.Severity {
	switch s {
	case analyzer.SeverityCritical:
		return cdx.SeverityCritical
	case analyzer.SeverityHigh:
		return cdx.SeverityHigh
	case analyzer.SeverityMedium:
		return cdx.SeverityMedium
	case analyzer.SeverityLow:
		return cdx.SeverityLow
	case analyzer.SeverityNone:
		return cdx.SeverityNone
	case analyzer.SeverityUnknown:
	}
	return cdx.SeverityUnknown
}

// cdxMethod names the method of a vector by how it begins.
func cdxMethod(vector string) cdx.ScoringMethod {
	switch {
	case vector == "":
		return ""
	case strings.HasPrefix(vector, "CVSS:4"):
		return cdx.ScoringMethodCVSSv4
	case strings.HasPrefix(vector, "CVSS:3.1"):
		return cdx.ScoringMethodCVSSv31
	case strings.HasPrefix(vector, "CVSS:3"):
		return cdx.ScoringMethodCVSSv3
	case strings.HasPrefix(vector, "AV:"):
		return cdx.ScoringMethodCVSSv2
	}
	return cdx.ScoringMethodOther
}
