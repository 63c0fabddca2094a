// Package notation verifies signatures of the Notary Project: JWS and COSE
// envelopes with a chain of X.509 certificates, by a trust store.
//
//	Item ──notation-core-go──▶ envelope (integrity, algorithms, chain)
//	envelope ──Store──▶ who (store, identity), when (authentic time), revoked or not
//
// It follows the specifications "trust-store-trust-policy" and
// "signature-specification" v1.1 at the level strict: integrity, authenticity,
// authentic time stamp and expiry always decide, and revocation unless the
// operator skips it. Envelopes are parsed by notation-core-go; the trust policy
// is this package's own, so that notation-go with its plugins, permissive
// levels and network look-ups is not needed.
//
// Invariants:
//   - A certificate of the envelope's chain is trusted only if the store holds
//     it, in the part for the envelope's signing scheme.
//   - What the envelope marks as critical and is not known, such as a plugin
//     that ought to verify it, refuses the signature.
//   - Media type, digest and size of the target must be those of the manifest.
//   - Nothing is fetched: revocation lists are files, or revocation is skipped
//     by the operator's word.
package notation
