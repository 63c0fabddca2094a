// Package attest is the signing.Attestor: it writes down that an image passed.
//
//	Approval ──statements──▶ cosign's signature, SLSA VSA, vulnerabilities, SBOM
//	statement ──sign──▶ bundle (a referrer) and legacy layer (of .sig and .att)
//
// Each statement goes out in both of cosign's formats, since the admission
// controllers of today read keyed signatures in the old one only, and cosign
// will drop it. Without a key there is one unsigned artifact: the CycloneDX
// document with the findings.
//
// Invariants:
//   - There is no way to write a verdict other than PASSED: cosign takes every
//     bundle by a key as a signature by it, whatever the statement says.
//   - The legacy tags are for a repository of their own. An upstream's tags are
//     never written.
//   - A private key is read once and leaves the process in no message. KMS keys
//     are reached through sigstore's plugins, programs sigstore-kms-<name> in
//     PATH: their address is for the operator's configuration only.
package attest
