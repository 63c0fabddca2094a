package target

import (
	"fmt"
	"net/url"
	"strings"

	godigest "github.com/opencontainers/go-digest"
	packageurl "github.com/package-url/packageurl-go"

	"github.com/sluiceproxy/sluice/analyzer"
	"github.com/sluiceproxy/sluice/analyzer/extract"
)

// component is a package as a document names it.
type component struct {
	name, version string
	purl          string
	source        string // source package and its version, where a property names it
	path          string
	inner         string
	layer         string
	owner         string // purl of the distribution package that owns its files
	modularity    string
	place         string // in the document, for errors
}

// pack makes a package of c. fallback is the document's operating system, for
// distribution packages whose purl names none.
func (c *component) pack(fallback analyzer.OSRelease) (analyzer.Package, error) {
	u, err := packageurl.FromString(c.purl)
	if err != nil {
		return analyzer.Package{}, fmt.Errorf("%s: purl %q: %w", c.place, c.purl, err)
	}
	q := u.Qualifiers.Map()
	p := analyzer.Package{
		Type: u.Type, Name: nameOf(&u, c.purl, c.name), Version: u.Version, Arch: q["arch"], Modularity: c.modularity,
		PURL: c.purl, Path: c.path, Inner: c.inner, Owner: c.owner,
	}
	if layer, err := godigest.Parse(c.layer); err == nil {
		p.Layer = layer
	}
	if p.Version == "" {
		p.Version = c.version
	}
	if p.Modularity == "" {
		p.Modularity = q["rpmmod"]
	}
	if epoch := q["epoch"]; epoch != "" && epoch != "0" && p.Version != "" && !strings.Contains(p.Version, ":") && (u.Type == "rpm" || u.Type == "deb") {
		p.Version = epoch + ":" + p.Version
	}
	if !analyzer.IsDistribution(u.Type) {
		p.Ecosystem = languageOf(u.Type)
		return p, nil
	}
	p.Source, p.SourceVersion = sourceOf(u.Type, q["upstream"])
	if p.Source == "" {
		p.Source, p.SourceVersion, _ = strings.Cut(c.source, " ")
	}
	if p.Source == p.Name {
		p.Source = ""
	}
	if p.SourceVersion == p.Version {
		p.SourceVersion = ""
	}
	rel := distroOf(&p)
	if rel.ID == "" || rel.VersionID == "" && rel.Codename == "" {
		rel = fallback
	}
	p.Ecosystem = analyzer.EcosystemOf(u.Type, rel)
	return p, nil
}

// nameOf is the name that the package's own ecosystem uses (purl-spec, types).
// Parsers of purls lower the letters of some types, of which names of Go modules
// are not the same in lower case: the component's name or the purl's own letters
// tell.
func nameOf(u *packageurl.PackageURL, purl, name string) string {
	full := u.Name
	switch {
	case u.Type == "maven" && u.Namespace != "":
		full = u.Namespace + ":" + u.Name
	case !analyzer.IsDistribution(u.Type) && u.Namespace != "":
		full = u.Namespace + "/" + u.Name
	}
	if strings.EqualFold(name, full) || u.Type == "pypi" && strings.EqualFold(strings.ReplaceAll(name, "_", "-"), full) {
		return name
	}
	if u.Type != "golang" {
		return full
	}
	if rest, ok := strings.CutPrefix(purl, "pkg:golang/"); ok {
		if i := strings.IndexAny(rest, "@?#"); i >= 0 {
			rest = rest[:i]
		}
		if cased, err := url.PathUnescape(rest); err == nil && strings.EqualFold(cased, full) {
			return cased
		}
	}
	return full
}

// languageOf is the OSV ecosystem of a purl type that an image's files do not
// name but a document may, or that both do; "" = none.
func languageOf(purlType string) string {
	switch purlType {
	case "bitnami":
		return "Bitnami"
	case "conan":
		return "ConanCenter"
	case "githubactions":
		return "GitHub Actions"
	case "hackage":
		return "Hackage"
	case "pub":
		return "Pub"
	case "swift":
		return "SwiftURL"
	}
	return extract.Ecosystem(purlType)
}

// sourceOf reads the qualifier "upstream": name, name@version, or the file name
// of a source rpm, as Syft writes them.
func sourceOf(purlType, upstream string) (name, version string) {
	if purlType != "rpm" {
		name, version, _ = strings.Cut(upstream, "@")
		return name, version
	}
	nvr, ok := strings.CutSuffix(upstream, ".src.rpm")
	if !ok {
		return upstream, ""
	}
	release := strings.LastIndexByte(nvr, '-')
	if release < 0 {
		return nvr, ""
	}
	at := strings.LastIndexByte(nvr[:release], '-')
	if at < 0 {
		return nvr, ""
	}
	return nvr[:at], nvr[at+1:]
}

// distributions are names of distributions in purls and documents, and the ID
// of their os-release where it is another.
var distributions = map[string]string{
	"redhat": "rhel", "alma": "almalinux", "rockylinux": "rocky", "amazon": "amzn", "oracle": "ol",
	"opensuse.leap": "opensuse-leap", "opensuse.tumbleweed": "opensuse-tumbleweed", "suse linux enterprise server": "sles", "cbl-mariner": "mariner",
}

func distributionID(name string) string {
	name = strings.ToLower(strings.TrimSpace(name))
	if id, ok := distributions[name]; ok {
		return id
	}
	return name
}

// distroOf reads the release from a distribution package's purl: its namespace
// and the qualifier "distro", which is ID-VERSION, VERSION or a code name.
func distroOf(p *analyzer.Package) analyzer.OSRelease {
	u, err := packageurl.FromString(p.PURL)
	if err != nil || !analyzer.IsDistribution(p.Type) {
		return analyzer.OSRelease{}
	}
	distro := u.Qualifiers.Map()["distro"]
	rel := analyzer.OSRelease{ID: distributionID(u.Namespace)}
	i := strings.LastIndexByte(distro, '-')
	switch {
	case distro == "":
	case distro[0] >= '0' && distro[0] <= '9':
		rel.VersionID = distro
	case i > 0 && i+1 < len(distro) && distro[i+1] >= '0' && distro[i+1] <= '9':
		rel.ID, rel.VersionID = distributionID(distro[:i]), distro[i+1:]
	case i > 0:
		rel.ID, rel.Codename = distributionID(distro[:i]), distro[i+1:]
	default:
		rel.Codename = distro
	}
	return rel
}
