// Package report writes what a scan found, one file per format.
//
//	analyzer.Report + Verdict ──New──▶ Result ──Write──▶ table | json | sarif | cyclonedx | spdx-json | junit | gitlab
//
// A Result is the report in the shape that scripts rely on: its JSON names are
// the contract of `sluice scan --format json`, written down in scan.schema.json,
// and only grow. The verdict is the caller's: this package knows nothing of
// policies and shows it as it is. Reasons that name a package or a file are
// joined with their finding or secret; whether a finding counts (Status) follows
// from them and from VEX.
//
// Invariants:
//   - The same Result and Options give the same bytes; nothing depends on the
//     clock, the locale or the order of a map. Serial numbers and ids are hashes.
//   - What is unknown is shown as unknown: incomplete parts, advisories that could
//     not be compared, and that an SBOM says nothing of files, stand in every
//     format that has any place for them.
//   - What a waiver or a VEX statement sets aside is marked, never dropped; a
//     format without a place for it says how many there are.
//   - Text from images cannot move the cursor or forge lines of the table:
//     control characters are escaped.
//   - A secret's value is in no format.
package report
