package extract

import (
	"path"
	"slices"
	"strings"

	"github.com/google/osv-scalibr/extractor"
	depsmeta "github.com/google/osv-scalibr/extractor/filesystem/language/dotnet/depsjson"
	apkmeta "github.com/google/osv-scalibr/extractor/filesystem/os/apk/metadata"
	dpkgmeta "github.com/google/osv-scalibr/extractor/filesystem/os/dpkg/metadata"
	"github.com/google/osv-scalibr/extractor/filesystem/osv"
	packageurl "github.com/package-url/packageurl-go"

	"github.com/sluiceproxy/sluice/analyzer"
)

// ecosystems are the OSV ecosystems of language packages, by purl type (OSV
// schema 1.7, "Defined ecosystems").
var ecosystems = map[string]string{
	"npm": "npm", "pypi": "PyPI", "golang": "Go", "maven": "Maven", "gem": "RubyGems",
	"nuget": "NuGet", "composer": "Packagist", "cargo": "crates.io", "hex": "Hex", "cran": "CRAN", "julia": "Julia",
}

// purlTypes are the types for which scalibr has a name of its own.
var purlTypes = map[string]string{"pacman": "alpm", "lua": "luarocks"}

// Ecosystem returns the OSV ecosystem of a language's packages, "" for a purl
// type of none.
func Ecosystem(purlType string) string { return ecosystems[purlType] }

// convert turns scalibr's packages into ours. Distribution packages get
// neither Ecosystem nor PURL here: both need the OS release.
func convert(in []*extractor.Package, p string) []analyzer.Package {
	out := make([]analyzer.Package, 0, len(in))
	for _, sp := range in {
		if sp == nil || developmentOnly(sp) {
			continue
		}
		pkg := analyzer.Package{Type: sp.PURLType, Name: sp.Name, Version: sp.Version, Ecosystem: ecosystems[sp.PURLType], Path: p}
		if t, ok := purlTypes[pkg.Type]; ok {
			pkg.Type = t
		}
		switch m := sp.Metadata.(type) {
		case *apkmeta.Metadata:
			pkg.Arch = m.Architecture
			if m.OriginName != sp.Name {
				pkg.Source = m.OriginName
			}
		case *dpkgmeta.Metadata:
			pkg.Arch = m.Architecture
			if m.SourceName != sp.Name {
				pkg.Source = m.SourceName
			}
			if m.SourceVersion != sp.Version {
				pkg.SourceVersion = m.SourceVersion
			}
		case *depsmeta.Metadata:
			if m.Type == "project" { // the application itself, not a package of a feed
				continue
			}
		}
		if pkg.Type == "golang" {
			if strings.HasPrefix(pkg.Name, ".") || strings.HasPrefix(pkg.Name, "/") {
				continue // replaced by a local directory: part of the main module
			}
			if pkg.Name == "go" {
				pkg.Name = "stdlib" // the name in the Go vulnerability database
			}
		}
		switch {
		case pkg.Type == "golang" || pkg.Type == "npm" || pkg.Type == "luarocks": // scalibr's npm purl names its own metadata
			pkg.PURL = pathPURL(pkg.Type, pkg.Name, pkg.Version)
		case !analyzer.IsDistribution(pkg.Type):
			pkg.PURL = sp.PURL().String()
		}
		out = append(out, pkg)
	}
	return out
}

// developmentOnly reports a lock file's entry that no production install brings.
func developmentOnly(sp *extractor.Package) bool {
	m, ok := sp.Metadata.(osv.DepGroups)
	if !ok {
		return false
	}
	groups := m.DepGroups()
	if len(groups) == 0 {
		return false
	}
	return !slices.ContainsFunc(groups, func(g string) bool {
		switch g {
		case "dev", "develop", "development", "test":
			return false
		}
		return true
	})
}

// innerPath is the location of a file within an archive, as shown to people.
func innerPath(outer, name string) string {
	return path.Join(outer, path.Clean("/" + name)[1:])
}

// pathPURL writes the purl of a package whose name is a path: all but its last
// element is the namespace (purl specification, types golang, npm, composer).
func pathPURL(purlType, name, version string) string {
	ns, base := "", name
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		ns, base = name[:i], name[i+1:]
	}
	return packageurl.NewPackageURL(purlType, ns, base, version, nil, "").ToString()
}
