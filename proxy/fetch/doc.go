// Package fetch downloads a blob once for everybody who wants it.
//
//	Join(digest) ─▶ Download ── upstream GET, on the manager's context
//	                   │ writes and hashes
//	                   ▼
//	                spool file ◀── Tail: client, at its own pace
//	                           ◀── Tail: client that came later
//	                           ◀── Tail: the analyser
//	                   │ digest and size are right
//	                   ▼
//	                Sink.Commit (the store)
//
// Every Tail has its own handle on the growing file, so a slow reader slows
// nobody, and a reader that leaves stops nothing. When the last one has left,
// the download goes on for a grace and is then cancelled. A cut connection is
// resumed with a range request.
//
// Invariants:
//   - At most one download of a digest runs at a time, and none starts when the
//     store has the blob: the store is asked by the one who holds the digest's
//     place, which a download keeps until its bytes are committed.
//   - Verified bytes only: CopyTo withholds the last byte until the whole blob
//     has its digest and size, so no client ever holds a complete wrong blob.
//     Unverified is for the analyser, which compares digests itself.
//   - Wrong bytes, a full disk or an upstream that gives up: nothing is
//     committed, every reader gets the error, the spool file is gone.
package fetch
