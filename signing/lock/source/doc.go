// Package source reads what publishers say of their images, for images.lock.
//
//	Debian     the OCI indexes that Debian publishes beside its images
//	Sums       SHA256SUMS and checksums.sha512 of root file systems' archives
//	FirstUse   what the registry has now
//
// Each returns a lock.Image for a name and tag. The registry is asked only to
// connect what is published to digests: a sum of an archive is one of an image
// if its one layer has that sum, as stored or uncompressed.
//
// Invariants:
//   - What a publication and the registry disagree about is an error, never an
//     entry.
//   - A signature that was asked for is verified before the sums are read.
//   - Sums weaker than SHA-256 are not read.
package source
