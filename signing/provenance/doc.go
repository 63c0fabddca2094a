// Package provenance reads what a SLSA provenance predicate says of a build and
// compares it with what the operator trusts.
//
//	Statement ──Parse──▶ signing.Provenance (builder, source, ref, commit)
//	Provenance + Identity ──Rule.Check──▶ nil, or why not
//
// It reads https://slsa.dev/provenance/v1 (as GitHub, BuildKit and generic
// builders fill it) and https://slsa.dev/provenance/v0.2, whose fields their
// specifications name. Sources are compared in one spelling, host/path.
//
// Invariants:
//   - Nothing here is verified: the caller did that, or shows it as a claim.
//   - Keys are read as they are spelled; a field of another type is an error.
//   - A field that a rule asks for and the predicate does not have fails it.
//   - With MatchCertificate the certificate is believed, and the predicate must
//     agree with it: the predicate is written by the job that is to be judged.
package provenance
