// Package verify is the signing.Verifier: it holds a Trust against Evidence.
//
//	Trust ──Compile──▶ Verifier (keys, roots and expressions read and checked)
//	Evidence ──for each authority: sigstore or notation──▶ proofs or refusals
//	proofs ──rules──▶ AuthorityResult ──any, all, N of──▶ Result
//
// Invariants:
//   - Compile reports every problem of a Trust and gives no Verifier if there is
//     one.
//   - An authority counts once, and no key belongs to two authorities, so "N of"
//     needs N signers.
//   - A failure of one signature never hides another that holds; a gap in the
//     evidence turns Fail into Undecided and never into Pass.
//   - A parser that panics on foreign bytes refuses that signature.
package verify
