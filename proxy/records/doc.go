// Package records is Sluice's durable state: what was analysed, judged, pulled
// and decided.
//
// It is one SQL database, SQLite by default: pure Go, one file, opened by any
// number of processes. What it holds falls in two classes:
//
//   - Decisions of operators (the blocklist, the waivers and the audit trail). A
//     change and its audit entry are one transaction, on disk before the call
//     returns: what was acknowledged survives kill -9 and loss of power.
//   - What can be worked out again (layers, inventories and the index of their
//     packages, images, members, verdicts). It survives kill -9; a loss of power may take the last moments.
//
// Writes go one at a time through a transaction that takes the write lock at
// its start; reads run beside them on connections of their own and see a
// consistent state. Blocklist and waivers are also kept in memory, with a
// revision that tells the gate to look again; a change by another process is noticed within
// half a second.
//
// Invariants:
//   - Tables are made and changed by the numbered files in migrations only. A
//     database of a newer program, or a damaged one, is not opened.
//   - A cached analysis that does not decode is a miss, never a result.
//   - The audit trail and the history of verdicts are only ever appended to.
//   - The SQL is that which PostgreSQL knows as well; times are nanoseconds of
//     the Unix epoch, 0 for none.
package records
