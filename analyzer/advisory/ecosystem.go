package advisory

import (
	"strings"

	"github.com/sluiceproxy/sluice/analyzer"
)

// ecosystem is an OSV ecosystem: a base name, and the release for a distribution.
type ecosystem struct{ base, release string }

func (e ecosystem) String() string {
	if e.release == "" {
		return e.base
	}
	return e.base + ":" + e.release
}

// parseEcosystem reads the name of an ecosystem as feeds and scanners write it,
// and reduces its release to the one that advisories are published for:
// "Alpine:3.18.9" is Alpine:v3.18, "AlmaLinux:9.3" is AlmaLinux:9,
// "Ubuntu:Pro:18.04:LTS" is Ubuntu:18.04 (a fix that only Pro has leaves the
// release vulnerable), "Red Hat:enterprise_linux:9::baseos" is Red Hat:9. Other
// suffixes are kept as they are and match exactly.
func parseEcosystem(name string) ecosystem {
	base, release, _ := strings.Cut(strings.TrimSpace(name), ":")
	switch base {
	case "Alpine", "Alpaquita":
		v := strings.TrimPrefix(release, "v")
		if v != "" && isDigit(v[0]) {
			major, rest, _ := strings.Cut(v, ".")
			minor, _, _ := strings.Cut(rest, ".")
			if minor != "" {
				major += "." + minor
			}
			release = "v" + major
		}
	case "Debian", "AlmaLinux", "Rocky Linux":
		release, _, _ = strings.Cut(release, ".")
	case "Ubuntu":
		release = strings.TrimSuffix(release, ":LTS")
		if pro, ok := strings.CutPrefix(release, "Pro:"); ok && pro != "" && isDigit(pro[0]) {
			release = pro
		}
	case "Red Hat":
		release = strings.TrimPrefix(release, "enterprise_linux:")
		if release != "" && isDigit(release[0]) {
			release = release[:leadDigits(release)]
		}
	}
	return ecosystem{base, release}
}

// normalName returns the name under which a package is indexed: the registry's
// own rule for names that are the same package.
func normalName(base, name string) string {
	switch base {
	case "PyPI": // PEP 503
		var b strings.Builder
		sep := false
		for _, c := range []byte(strings.ToLower(name)) {
			if c == '-' || c == '_' || c == '.' {
				sep = true
				continue
			}
			if sep {
				b.WriteByte('-')
			}
			sep = false
			b.WriteByte(c)
		}
		if sep {
			b.WriteByte('-')
		}
		return b.String()
	case "NuGet", "Packagist", "Hex", "Bitnami":
		return strings.ToLower(name)
	case "crates.io": // the registry refuses a second crate that differs only so
		return strings.ReplaceAll(strings.ToLower(name), "_", "-")
	}
	return name
}

// bySource reports whether an ecosystem's feed names source packages (Debian,
// Ubuntu) or origins (Alpine, Wolfi, Chainguard and their relatives). The feeds
// of rpm distributions name binary packages.
func bySource(base string) bool {
	switch base {
	case "Debian", "Ubuntu", "Echo", "Alpine", "Wolfi", "Chainguard", "MinimOS", "Alpaquita", "BellSoft Hardened Containers":
		return true
	}
	return false
}

// distribution reports whether an ecosystem is a distribution of an operating
// system, whose own rating of its packages goes before others'.
func distribution(base string) bool {
	switch base {
	case "Debian", "Ubuntu", "Echo", "Alpine", "Wolfi", "Chainguard", "MinimOS", "Alpaquita", "BellSoft Hardened Containers", "CleanStart",
		"AlmaLinux", "Rocky Linux", "Red Hat", "SUSE", "openSUSE", "openEuler", "Mageia", "Azure Linux", "Fedora", "Amazon Linux",
		"Oracle Linux", "Photon OS":
		return true
	}
	return false
}

// subject returns the name and version that a feed of the given base compares.
func subject(base string, p *analyzer.Package) (name, version string) {
	name, version = p.Name, p.Version
	if bySource(base) { // a rebuild, 5.2-2+b8, is compared as the source 5.2-2
		name, version = p.SourcePackage()
	}
	return name, installedVersion(base, name, version)
}

// osType reports whether packages of a purl type belong to a distribution's
// release.
func osType(typ string) bool {
	switch typ {
	case "deb", "apk", "rpm", "alpm":
		return true
	}
	return false
}

// basesOf returns the ecosystems in which packages of a purl type with the
// given namespace are found (github.com/package-url/purl-spec, types).
func basesOf(typ, namespace string) []string {
	switch typ {
	case "npm":
		return []string{"npm"}
	case "pypi":
		return []string{"PyPI"}
	case "golang":
		return []string{"Go"}
	case "maven":
		return []string{"Maven"}
	case "gem":
		return []string{"RubyGems"}
	case "nuget":
		return []string{"NuGet"}
	case "composer":
		return []string{"Packagist"}
	case "cargo":
		return []string{"crates.io"}
	case "hex":
		return []string{"Hex"}
	case "pub":
		return []string{"Pub"}
	case "cran":
		return []string{"CRAN"}
	case "hackage":
		return []string{"Hackage"}
	case "swift":
		return []string{"SwiftURL"}
	case "conan":
		return []string{"ConanCenter"}
	case "bitnami":
		return []string{"Bitnami"}
	case "deb":
		return distro(namespace, map[string]string{"debian": "Debian", "ubuntu": "Ubuntu"})
	case "apk":
		return distro(namespace, map[string]string{"alpine": "Alpine", "wolfi": "Wolfi", "chainguard": "Chainguard", "minimos": "MinimOS"})
	case "rpm":
		return distro(namespace, map[string]string{
			"almalinux": "AlmaLinux", "rocky": "Rocky Linux", "rockylinux": "Rocky Linux", "rocky-linux": "Rocky Linux",
			"redhat": "Red Hat", "rhel": "Red Hat", "opensuse": "openSUSE", "suse": "SUSE", "openeuler": "openEuler",
			"mageia": "Mageia", "fedora": "Fedora", "amzn": "Amazon Linux", "oracle": "Oracle Linux",
		})
	}
	return nil
}

// distro picks a distribution by a purl's namespace, or all without one.
func distro(namespace string, names map[string]string) []string {
	if b, ok := names[strings.ToLower(namespace)]; ok {
		return []string{b}
	}
	if namespace != "" {
		return nil
	}
	var all []string
	for _, b := range names {
		all = append(all, b)
	}
	return all
}

// debianCodename returns the number of a Debian release that is named by its code
// name, and any other text as it is.
func debianCodename(name string) string {
	switch name {
	case "wheezy":
		return "7"
	case "jessie":
		return "8"
	case "stretch":
		return "9"
	case "buster":
		return "10"
	case "bullseye":
		return "11"
	case "bookworm":
		return "12"
	case "trixie":
		return "13"
	case "forky":
		return "14"
	}
	return name
}
