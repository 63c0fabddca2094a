// Package analyzer says what is in a container image.
//
// It holds the vocabulary that the rest of the program shares (Package,
// Finding, Secret, Severity, Inventory, Report) and the Analyzer, which turns
// one image into an Inventory and an Inventory into a Report:
//
//	Image ──layers, in parallel──▶ LayerScanner ──▶ Layer (kept by diffID)
//	Layers + config ──merge, whiteouts──▶ Inventory (what the image holds)
//	Inventory + advisories ──Matcher──▶ Report (what that means today)
//
// The Inventory depends on the image's bytes and the analyzer's revision only,
// so it is computed once and stored. The Report depends on the advisories as
// well: when those change it is matched again from the stored Inventory, and
// no layer is read a second time.
//
// Invariants:
//   - A layer that cannot be read to its end is an error; a layer that was read
//     but not understood in full (a limit, a broken archive, a parser's error)
//     gives a result with Incomplete entries. Neither is ever "clean".
//   - Paths are slash-separated, relative to the image's root, and clean.
//   - A secret's value never appears whole in any value of this package.
//
// The subpackages do the work and import this one, never the other way round:
// layer (one pass over a layer's stream), worker (layers in processes of their
// own), extract (packages), secret,
// advisory (the compiled index), vex (what vendors say of findings), report (output formats).
package analyzer
