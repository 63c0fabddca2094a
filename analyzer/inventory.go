package analyzer

import (
	"strings"
	"time"

	godigest "github.com/opencontainers/go-digest"
)

// Package is one installed package, as a package manager or a binary's build
// information names it.
type Package struct {
	Type    string `json:"type"`    // purl type: deb, apk, rpm, npm, pypi, golang, maven, gem, nuget, composer, cargo, …
	Name    string `json:"name"`    // as its package manager names it; Maven: group:artifact
	Version string `json:"version"` // full version in its own syntax, with the epoch where there is one

	// Ecosystem is the OSV ecosystem with its release, such as "Debian:12",
	// "Alpine:v3.18", "AlmaLinux:9" or "npm" (OSV schema 1.7, "affected[].package").
	// It is empty for a distribution package whose release could not be read.
	Ecosystem string `json:"ecosystem"`

	// Source and SourceVersion are those of the source package (dpkg, rpm) or
	// origin (apk). They are empty where they equal Name and Version.
	Source        string `json:"source,omitempty"`
	SourceVersion string `json:"sourceVersion,omitempty"`

	Arch       string          `json:"arch,omitempty"`
	Modularity string          `json:"modularity,omitempty"` // RPM module label, name:stream:version:context
	PURL       string          `json:"purl"`
	Path       string          `json:"path"`            // the file that names it
	Inner      string          `json:"inner,omitempty"` // where in that file, if it is an archive: the inner archive's path
	Layer      godigest.Digest `json:"layer,omitempty"` // diffID of the layer that brought this version

	// Owner is the purl of the distribution package that installed the file at
	// Path; "" where none did. What has an owner is judged by the distribution's
	// advisories of that package, not by those of Ecosystem. In a Layer it is the
	// owner's type and name only ("deb/python3-django").
	Owner string `json:"owner,omitempty"`
}

// SourcePackage returns the name and the version of the source package that
// advisories name. It is Source and SourceVersion, or the package's own, but for
// signed kernels: Debian and Ubuntu build those from a second source package that
// only adds signatures (linux-signed-amd64 6.1.192+2, linux-signed-hwe-6.8), with
// the version of the first in the binary package (linux 6.1.192-2). The names are
// those of wiki.debian.org/SecureBoot and of Ubuntu's archive.
func (p *Package) SourcePackage() (name, version string) {
	name, version = p.Name, p.Version
	if p.Source != "" {
		name = p.Source
	}
	if rest, ok := strings.CutPrefix(name, "linux-signed"); ok && p.Type == "deb" && (rest == "" || rest[0] == '-') {
		for _, arch := range []string{"-amd64", "-arm64", "-i386"} {
			rest = strings.TrimSuffix(rest, arch)
		}
		return "linux" + rest, version
	}
	if p.SourceVersion != "" {
		version = p.SourceVersion
	}
	return name, version
}

// OSRelease is what an image's os-release says (os-release(5)), or what the
// distribution's own version file says where there is none.
type OSRelease struct {
	ID        string `json:"id"`        // "debian"
	VersionID string `json:"versionID"` // "12"
	Codename  string `json:"codename,omitempty"`
	Name      string `json:"name"` // PRETTY_NAME

	CPE  string `json:"cpe,omitempty"`  // CPE_NAME, which names the stream of advisories of some distributions
	Path string `json:"path,omitempty"` // the file that says so

	// EndOfLife is when the distribution stops, or stopped, to publish security
	// updates for this release to everyone; zero = not known.
	EndOfLife time.Time `json:"endOfLife,omitzero"`
}

// Secret is a credential, a key or a file that is made to hold one. Excerpt never
// holds more than the first few characters of its value.
type Secret struct {
	Kind    string          `json:"kind"` // "private-key", "cloud-token", …: docs/policy.md lists them
	Rule    string          `json:"rule"` // what recognised it: "pem-private-key", "github-token"
	Path    string          `json:"path"` // of its file; "config:env/NAME", "config:label/NAME", "config:history/N" in the image's config
	Line    int             `json:"line"` // 1-based
	Excerpt string          `json:"excerpt"`
	Layer   godigest.Digest `json:"layer,omitempty"`   // diffID; "" in the image's config
	Deleted bool            `json:"deleted,omitempty"` // a later layer removed or replaced the file; it can still be read from this one

	// NotAfter is when a certificate or token ends by its own word; zero = it does not say.
	NotAfter time.Time `json:"notAfter,omitzero"`
	// Owner is the purl of the distribution package that installed the file:
	// what it holds is public already; "" where none did.
	Owner string `json:"owner,omitempty"`
}

// Incomplete is a part of an image that was not, or not fully, analysed.
type Incomplete struct {
	Layer  godigest.Digest `json:"layer,omitempty"` // diffID, or the blob's digest where that is unknown
	Path   string          `json:"path,omitempty"`  // the entry at which it happened
	Reason string          `json:"reason"`          // lower-case phrase: "more than 1000000 entries", "rpm database: bad page"
}

// Layer is what one pass over a layer's stream found. It depends on the
// layer's bytes and the scanner's revision only. Its packages carry no
// Ecosystem for distribution packages yet: the release may stand in another
// layer.
type Layer struct {
	DiffID       godigest.Digest `json:"diffID"`       // digest of the uncompressed tar stream (OCI image-spec, config.md)
	Digest       godigest.Digest `json:"digest"`       // digest of the bytes as stored
	Size         int64           `json:"size"`         // bytes as stored
	Uncompressed int64           `json:"uncompressed"` // bytes of the tar stream

	// Paths are all entries that the layer adds or replaces, sorted, without
	// whiteouts; directories end in a slash. A lower layer's file is gone when
	// an upper layer has its path, or has a non-directory on the way to it.
	Paths     []string `json:"paths"`
	Whiteouts []string `json:"whiteouts,omitempty"` // paths of lower layers that it removes
	Opaque    []string `json:"opaque,omitempty"`    // directories whose lower content it hides
	Links     []Link   `json:"links,omitempty"`     // symbolic links that may lead to directories, sorted by path

	OSRelease  *OSRelease   `json:"osRelease,omitempty"`
	Packages   []Package    `json:"packages,omitempty"`
	Secrets    []Secret     `json:"secrets,omitempty"`
	Setuid     []string     `json:"setuid,omitempty"` // regular files with the setuid or setgid bit
	Hardening  LayerFacts   `json:"hardening,omitzero"`
	Incomplete []Incomplete `json:"incomplete,omitempty"`

	// Lost says that the scan itself failed, for a reason in Incomplete, and not
	// that the bytes are so: another one may do better, and a LayerCache must not
	// keep this one.
	Lost bool `json:"-"`
}

// Link is a symbolic link. Target is relative to the image's root, "" for the
// root itself, and may lead through other links.
type Link struct {
	Path   string `json:"path"`
	Target string `json:"target"`
}

// LayerSummary is a layer's line in an Inventory.
type LayerSummary struct {
	DiffID       godigest.Digest `json:"diffID"`
	Digest       godigest.Digest `json:"digest"`
	MediaType    string          `json:"mediaType"`
	Size         int64           `json:"size"`
	Uncompressed int64           `json:"uncompressed"`
}

// Inventory is all that is known of an image from its bytes alone.
type Inventory struct {
	Revision     string          `json:"revision"` // of the analyzer that made it
	Manifest     godigest.Digest `json:"manifest"`
	Config       godigest.Digest `json:"config"`
	ArtifactType string          `json:"artifactType,omitempty"` // set: no container image but another artifact (a chart, a signature), in which only what is packed as a layer was looked into
	SBOM         string          `json:"sbom,omitempty"`         // set: Packages are those of a document in this format ("CycloneDX 1.6"); nobody looked at files, so secrets and hardening are not known
	Platform     string          `json:"platform"`               // os/arch[/variant] from the config
	Created      time.Time       `json:"created,omitzero"`
	User         string          `json:"user"` // config.User; "" means root
	OS           OSRelease       `json:"os"`
	Layers       []LayerSummary  `json:"layers"`
	Packages     []Package       `json:"packages"`
	Secrets      []Secret        `json:"secrets"`
	Setuid       []string        `json:"setuid,omitempty"`
	Hardening    Hardening       `json:"hardening,omitzero"`
	Base         Base            `json:"base,omitzero"`
	Overwrites   []Overwrites    `json:"overwrites,omitempty"` // for each number of layers that a base could have, where there are any
	Removed      []Package       `json:"removed,omitempty"`    // packages of lower layers that are not in the final file system
	Incomplete   []Incomplete    `json:"incomplete,omitempty"`
	DiffIDBroken string          `json:"diffIDBroken,omitempty"` // why the layers are not those of the config's rootfs.diff_ids; "" = they are
	URLs         []string        `json:"urls,omitempty"`         // descriptors' external addresses, which clients may fetch past any gate
}
