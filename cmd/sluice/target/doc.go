// Package target opens what `sluice scan` is pointed at, as an image that the
// analyzer can read.
//
//	nginx:1.27, ghcr.io/acme/shop@sha256:…   registry.go   the upstream, with its credentials
//	oci-layout:DIR[:TAG|@DIGEST]             layout.go     an OCI image layout
//	oci-archive:FILE[:TAG|@DIGEST]           layout.go     the same in a tar file
//	docker-archive:FILE                      docker.go     what `docker save` writes
//	dir:DIR                                  dir.go        a root file system
//	sbom:FILE                                sbom.go       the packages that a document lists
//
// Invariants:
//   - Manifests have the digest by which they were found; configs and layers
//     are compared by the analyzer.
//   - Of a multi-platform image exactly one child is opened, never a guess: no
//     child for the platform is an error that names those that there are.
//   - Files are read within the directory or archive only; a link cannot lead
//     out of it.
//   - What could not be read of a directory is in the layer as incomplete.
//   - Software that a document lists without a package URL, and distribution
//     packages without their release, are incomplete too: nothing can be held
//     against them.
package target
