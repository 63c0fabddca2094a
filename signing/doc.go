// Package signing says who vouches for an image, and whether that is whom the
// operator trusts.
//
// It holds the vocabulary that the rest of the program shares (Subject,
// Evidence, Trust, Result) and the two steps to a Result:
//
//	Source ──Collect──▶ Evidence (signatures and attestations, as bytes)
//	Evidence + Trust + time ──Verifier.Judge──▶ Result (who passed, who failed, why)
//
// Collect asks the repository and nothing else; Judge asks nobody. So a Result
// is a function of (evidence digests, trust revision) until Result.Until, and
// Evidence.Key names it for a cache.
//
//	verify      the Verifier: authorities, any/all/N, attestation rules
//	sigstore    cosign's legacy and bundle formats, by key or by certificate
//	notation    the Notary Project's envelopes, JWS and COSE
//	provenance  what SLSA says of a build
//
// Invariants:
//   - The zero Outcome is Undecided; only a verified signature over the subject,
//     or over an index whose bytes list it, makes Pass.
//   - An error while looking for evidence is an error, and evidence that could
//     not be looked at makes Undecided: neither ever counts as "unsigned".
//   - What a registry says of a signature (lists, annotations, key hints) only
//     helps to find it. What counts is inside the signed bytes.
//   - Signatures are of names upstream; the name of this proxy appears nowhere.
//   - Everything that is trusted comes from files that the operator named. No
//     network connection is made but through a Source.
package signing
