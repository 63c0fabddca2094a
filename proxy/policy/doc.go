// Package policy turns evidence into a verdict.
//
// It is pure: no I/O, no clock, no store. Whoever asks gathers an Evidence
// (what the analysis found, the state of the advisories, the blocklist, the
// time) and gets a Verdict; the same Policy and the same Evidence always give
// the same Verdict, with the same id.
//
//	file ──Parse──▶ Policy (conditions compiled and type-checked, globs checked)
//	Policy ──Bind──▶ Policy (keys, roots and locks read, verifiers made by others)
//	Policy + Evidence ──Decide──▶ Verdict (decision, reasons, when to ask again)
//
// Decide looks at the blocklist first, then at the rules of every policy that
// covers the image, and at the VEX statements and waivers that set aside what
// rules found; the strictest outcome wins: deny, pending, annotate, allow.
//
// A rule is a CEL condition (https://cel.dev) over one kind of evidence, named
// by its "for": a finding, a secret, an undecided advisory, or the image. The
// fields that it can name are in fields.go; the file's keys in parse.go.
//
// Invariants:
//   - What cannot be judged is not allowed: no analysis, no covering policy, a
//     condition that fails or costs too much, each deny; missing advisories are
//     pending unless the operator chose otherwise.
//   - Parse reports every problem of a file, with line and column, and gives no
//     Policy if there is one. No key is ever ignored.
//   - A waived reason stays in the Verdict, marked, with its waiver or VEX
//     statement; it only does not count. Of the built-in rules those about the
//     image itself can be waived; errors and the blocklist cannot.
//   - An error on the way to the signatures is never "unsigned", and annotates
//     under no setting.
//   - An attached VEX document counts only if an issuer whom the policy trusts
//     has signed it.
package policy
