// Package upload takes in blobs that clients push.
//
//	Start ─▶ session ── Append (a chunk, or a stream) ──▶ spool + SHA-256 + Tap
//	              └──── Finish: the digest is right ──▶ the store
//
// A session belongs to one repository and to the identity that started it. It
// lives in memory and its bytes in the store's spool, so that neither outlives
// the process: a client whose session is unknown starts again (OCI distribution
// 1.1, "Pushing a blob in chunks").
//
// Invariants:
//   - The store gets a blob only under the digest of its bytes.
//   - A session is unknown to everybody but its owner, in every other repository,
//     and after Options.Idle without a byte.
//   - One request at a time writes to a session, at its end: an overlap or a gap
//     is ErrRange, and nothing of it is kept.
//   - What a session holds is given back when it ends, however it ends.
package upload
