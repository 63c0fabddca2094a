// Package sigstore verifies what cosign and its relatives sign: by key, and by
// a certificate of a Fulcio authority ("keyless"), in the legacy format (tags
// sha256-<hex>.sig and .att) and as bundles. All offline, from files.
//
//	Item ──read──▶ signed (the exact bytes under the signature)
//	signed ──KeyRing | Keyless──▶ who, when
//	signed ──finish──▶ what it says: a signature of the image, or a Statement
//
// Keys are verified by the standard library; certificates, logs and time stamps
// by sigstore-go, for which a legacy signature is turned into a bundle. Built
// with the tag nokeyless the package is without sigstore-go: keys work, a trust
// that needs more does not compile.
//
// Invariants:
//   - Signed JSON is read once, by protojson, which knows no second spelling of
//     a key and no key twice: two readers cannot understand it differently.
//   - An image signature is a simple-signing payload or a statement of the type
//     https://sigstore.dev/cosign/sign/v1. Any other statement is no signature
//     of the image, whoever signed it.
//   - Every signature names the digest that it is found at, inside its bytes.
//   - Chains and intermediates come from the trusted root, never from the
//     registry; key hints are not used.
package sigstore
