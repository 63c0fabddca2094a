package analyzer

import (
	"time"

	godigest "github.com/opencontainers/go-digest"
)

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
// says what they mean. Each list has 1,000 elements at most.
type Hardening struct {
	Root            bool     `json:"root"`                      // runs as root unless the runtime says otherwise
	UnusualSetuid   []string `json:"unusualSetuid,omitempty"`   // of Inventory.Setuid: what the common packages of distributions do not install
	WorldWritable   []string `json:"worldWritable,omitempty"`   // as in LayerFacts; without what lies below such a directory
	Shells          []string `json:"shells,omitempty"`          // as in LayerFacts
	PackageManagers []string `json:"packageManagers,omitempty"` // as in LayerFacts
	SSH             []string `json:"ssh,omitempty"`             // an ssh server's paths, and "port 22" where the config exposes it
	Ports           []string `json:"ports,omitempty"`           // ports that the config exposes: "80/tcp"
	Healthcheck     bool     `json:"healthcheck"`               // the config has one that is not NONE
	AddedURLs       []string `json:"addedURLs,omitempty"`       // what ADD fetched from the network while the image was built, by its history
	Wasted          int64    `json:"wasted"`                    // bytes of files of 64 KiB or more that a later layer removes or replaces
	WastedFiles     []string `json:"wastedFiles,omitempty"`     // the largest of them, at most 20
}

// BaseKind says what an image is built on.
type BaseKind string

// The kinds of bases.
const (
	BaseDistribution BaseKind = "distribution" // a distribution with its package manager
	BaseMinimal      BaseKind = "minimal"      // a distribution with a shell, but without package manager
	BaseDistroless   BaseKind = "distroless"   // a distribution's files with neither
	BaseScratch      BaseKind = "scratch"      // no distribution at all
)

// Base is what is known of the image below an image's own layers. Name and
// Digest are the image's own claim (OCI image-spec, annotations.md,
// org.opencontainers.image.base.name and .digest), in its manifest or else in
// the labels of its config. Proven names an image whose layers are the lowest
// ones of this image; it and ClaimFalse are for whoever keeps records to set.
type Base struct {
	Kind   BaseKind        `json:"kind,omitempty"` // "" for what is no image, or was not looked into
	Name   string          `json:"name,omitempty"`
	Digest godigest.Digest `json:"digest,omitempty"`
	Pinned bool            `json:"pinned"` // the claim names a digest
	Proven *ProvenBase     `json:"proven,omitempty"`
	// Below are other known images whose layers are the lowest ones of this image,
	// or all of them, those with the most layers first; Proven is not among them.
	Below []ProvenBase `json:"below,omitempty"`
	// ClaimFalse is set if the image that Digest names is known here, and its
	// layers are not the lowest ones of this image.
	ClaimFalse bool `json:"claimFalse,omitempty"`
}

// ProvenBase is an image that was seen before, whose layers are the lowest ones
// of another, by their chainID (OCI image-spec, config.md, "Layer ChainID").
type ProvenBase struct {
	Name    string          `json:"name"`   // canonical name with a tag where one is known
	Digest  godigest.Digest `json:"digest"` // of its manifest
	ChainID godigest.Digest `json:"chainID"`
	Layers  int             `json:"layers"`           // how many of the image's layers are its
	Created time.Time       `json:"created,omitzero"` // when its config says that it was built; zero = it does not say
}

// Known are Proven and Below.
func (b *Base) Known() []ProvenBase {
	if b.Proven == nil {
		return b.Below
	}
	return append([]ProvenBase{*b.Proven}, b.Below...)
}

// Overwrites are the files that the lowest Layers layers leave and those above
// remove or replace. Package managers replace their databases in every image:
// this is a fact, not a fault.
type Overwrites struct {
	Layers int      `json:"layers"` // as in ProvenBase
	Count  int      `json:"count"`
	Paths  []string `json:"paths"` // the first 20 in their order
}
