// Package report writes what a scan found, one file per format.
//
//	analyzer.Report + Verdict ──New──▶ Result ──▶ WriteTable | WriteJSON
//
// A Result is the report in the shape that scripts rely on: its JSON names are
// the contract of `sluice scan --format json` and only grow. The verdict is the
// caller's: this package knows nothing of policies and shows it as it is.
//
// Invariants:
//   - The same Result gives the same bytes; nothing depends on the clock, the
//     locale or the order of a map.
//   - What is unknown is shown as unknown: incomplete parts and advisories that
//     could not be compared stand in every format.
//   - Text from images cannot move the cursor or forge lines of the table:
//     control characters are escaped.
package report
