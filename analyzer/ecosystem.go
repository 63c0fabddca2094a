package analyzer

import (
	"slices"
	"strings"

	packageurl "github.com/package-url/packageurl-go"
)

// debianReleases are the versions of Debian's code names, for images of
// releases in the making, whose os-release has no VERSION_ID yet.
var debianReleases = map[string]string{"buster": "10", "bullseye": "11", "bookworm": "12", "trixie": "13", "forky": "14"}

// distributionTypes are the purl types of packages that come from a
// distribution, so that their ecosystem depends on its release.
var distributionTypes = []string{"alpm", "apk", "cos", "deb", "opkg", "portage", "rpm"}

// IsDistribution reports whether packages of a purl type come from a
// distribution.
func IsDistribution(purlType string) bool { return slices.Contains(distributionTypes, purlType) }

// EcosystemOf returns the OSV ecosystem of a distribution's packages, such as
// "Debian:12", or "" where the release is not known or no feed covers it (OSV
// schema 1.7, "Defined ecosystems", and the records of each feed).
func EcosystemOf(purlType string, rel OSRelease) string {
	major, _, _ := strings.Cut(rel.VersionID, ".")
	switch purlType {
	case "deb":
		return debEcosystem(rel, major)
	case "apk":
		return apkEcosystem(rel)
	case "rpm":
		return rpmEcosystem(rel, major)
	}
	return ""
}

func debEcosystem(rel OSRelease, major string) string {
	switch rel.ID {
	case "debian":
		if major == "" {
			major = debianReleases[rel.Codename]
		}
		return join("Debian", major)
	case "ubuntu":
		// Long-term support: April of even years. Ubuntu:22.04:LTS, Ubuntu:23.10.
		year, month, _ := strings.Cut(rel.VersionID, ".")
		if month == "04" && year != "" && strings.ContainsAny(year[len(year)-1:], "02468") {
			return "Ubuntu:" + rel.VersionID + ":LTS"
		}
		return join("Ubuntu", rel.VersionID)
	case "echo":
		return "Echo"
	}
	return ""
}

func apkEcosystem(rel OSRelease) string {
	switch rel.ID {
	case "alpine":
		// 3.18.9, 3.21_alpha20240923: the branch is the first two numbers.
		v, _, _ := strings.Cut(rel.VersionID, "_")
		if p := strings.Split(v, "."); len(p) >= 2 && p[0] != "" && p[1] != "" {
			return "Alpine:v" + p[0] + "." + p[1]
		}
	case "wolfi":
		return "Wolfi"
	case "chainguard":
		return "Chainguard"
	case "minimos":
		return "MinimOS"
	case "alpaquita":
		return join("Alpaquita", rel.VersionID)
	case "bellsoft-hardened-containers":
		return join("BellSoft Hardened Containers", rel.VersionID)
	case "cleanstart", "clnstrt":
		return "CleanStart"
	}
	return ""
}

func rpmEcosystem(rel OSRelease, major string) string {
	switch rel.ID {
	case "almalinux":
		return join("AlmaLinux", major)
	case "rocky":
		return join("Rocky Linux", major)
	case "rhel":
		// The feed names streams of products, enterprise_linux:9::baseos.
		return join("Red Hat:enterprise_linux", major)
	case "opensuse-leap":
		return join("openSUSE:Leap", rel.VersionID, " ")
	case "opensuse-tumbleweed":
		return "openSUSE:Tumbleweed"
	case "sles":
		if major == "" {
			return ""
		}
		name := "SUSE:Linux Enterprise Server " + major
		if _, sp, ok := strings.Cut(rel.VersionID, "."); ok && sp != "0" {
			name += " SP" + sp
		}
		return name
	case "azurelinux", "mariner":
		return join("Azure Linux", major)
	case "photon":
		return join("Photon OS", rel.VersionID)
	case "mageia":
		return join("Mageia", major)
	case "openEuler":
		return openEuler(rel.Name)
	}
	return ""
}

// openEuler reads the release from PRETTY_NAME: "openEuler 24.03 (LTS-SP1)" is
// openEuler:24.03-LTS-SP1.
func openEuler(name string) string {
	f := strings.Fields(name)
	switch {
	case len(f) == 2:
		return join(f[0], f[1])
	case len(f) == 3:
		return join(f[0], f[1]+"-"+strings.Trim(f[2], "()"))
	}
	return ""
}

// join is name:version, or "" without a version; sep replaces the colon.
func join(name, version string, sep ...string) string {
	switch {
	case version == "":
		return ""
	case len(sep) > 0:
		return name + sep[0] + version
	}
	return name + ":" + version
}

// distributionPURL writes the purl of a distribution package: the namespace is
// the distribution's ID, the epoch of an rpm is a qualifier (purl-spec, types
// apk, deb and rpm).
func distributionPURL(p Package, rel OSRelease) string {
	q := map[string]string{}
	if p.Arch != "" {
		q["arch"] = p.Arch
	}
	if rel.ID != "" && rel.VersionID != "" {
		q["distro"] = rel.ID + "-" + rel.VersionID
	}
	version := p.Version
	if epoch, rest, ok := strings.Cut(version, ":"); ok && p.Type == "rpm" {
		q["epoch"], version = epoch, rest
	}
	return packageurl.NewPackageURL(p.Type, rel.ID, p.Name, version, packageurl.QualifiersFromMap(q), "").ToString()
}
