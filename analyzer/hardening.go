package analyzer

import godigest "github.com/opencontainers/go-digest"

// LayerFacts are what one layer's file system says of hardening. Sizes are in
// bytes of file content.
type LayerFacts struct {
	WorldWritable   []string         `json:"worldWritable,omitempty"`   // files, and directories without the sticky bit, that everyone may write; directories end in a slash
	Shells          []string         `json:"shells,omitempty"`          // paths of shells
	PackageManagers []string         `json:"packageManagers,omitempty"` // paths of the programs of package managers
	SSH             []string         `json:"ssh,omitempty"`             // paths of an ssh server
	Sizes           map[string]int64 `json:"sizes,omitempty"`           // of its larger regular files, for the bytes that later layers waste
}

// Hardening are the facts about how an image would run, from its config, its
// history and its final file system. They are facts, not faults: the policy
// says what they mean.
type Hardening struct {
	Root            bool     `json:"root"`                      // runs as root unless the runtime says otherwise
	WorldWritable   []string `json:"worldWritable,omitempty"`   // as in LayerFacts
	Shells          []string `json:"shells,omitempty"`          // as in LayerFacts
	PackageManagers []string `json:"packageManagers,omitempty"` // as in LayerFacts
	SSH             []string `json:"ssh,omitempty"`             // an ssh server's paths, and "port 22" where the config exposes it
	Ports           []string `json:"ports,omitempty"`           // ports that the config exposes: "80/tcp"
	Healthcheck     bool     `json:"healthcheck"`               // the config has one that is not NONE
	AddedURLs       []string `json:"addedURLs,omitempty"`       // what ADD fetched from the network while the image was built, by its history
	Wasted          int64    `json:"wasted"`                    // bytes of larger files that a later layer removes or replaces
	WastedFiles     []string `json:"wastedFiles,omitempty"`     // the largest of them, at most 20
}

// BaseKind says what an image is built on.
type BaseKind string

// The kinds of bases.
const (
	BaseDistribution BaseKind = "distribution" // a package database and a shell or a package manager
	BaseMinimal      BaseKind = "minimal"      // a distribution's files without package manager
	BaseDistroless   BaseKind = "distroless"   // a package database, neither shell nor package manager
	BaseScratch      BaseKind = "scratch"      // no distribution at all
)

// Base is what is known of the image below an image's own layers. Name and
// Digest are the image's own claim (OCI image-spec, annotations.md,
// org.opencontainers.image.base.name and .digest) or a tool's label; Proven
// names an image whose layers are the lowest ones of this image.
type Base struct {
	Kind   BaseKind        `json:"kind,omitempty"`
	Name   string          `json:"name,omitempty"`
	Digest godigest.Digest `json:"digest,omitempty"`
	Pinned bool            `json:"pinned"` // the claim names a digest
	Proven *ProvenBase     `json:"proven,omitempty"`
}

// ProvenBase is an image that was seen before, whose layers are the lowest ones
// of another, by their chainID (OCI image-spec, config.md, "Layer ChainID").
type ProvenBase struct {
	Name    string          `json:"name"`   // canonical name with a tag where one is known
	Digest  godigest.Digest `json:"digest"` // of its manifest
	ChainID godigest.Digest `json:"chainID"`
	Layers  int             `json:"layers"` // how many of the image's layers are its
}
