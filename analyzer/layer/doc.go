// Package layer reads one layer's stream, once.
//
// Two goroutines share the work and a few large blocks between them:
//
//	blob ─▶ sha256 (digest) ─▶ inflate/zstd ─▶ sha256 (diffID) ─▶ blocks  stream.go
//	blocks ─▶ tar entries ─▶ extract, secret, whiteouts, facts ─▶ Layer  walk.go, facts.go
//
// The digest of a blob that comes with a proof (analyzer.Proven) is the proof's:
// it was computed over the same bytes when they were downloaded.
//
// A file's content is looked at only where its path or its first 4 KiB say that
// it matters; then it is read into one reused buffer, or into an unnamed
// temporary file where it is large.
//
// Invariants:
//   - Digest and Size cover every stored byte, also what follows the end of the
//     compressed stream; DiffID covers every byte of the tar stream, also what
//     follows its end marker. DiffID is empty if the stream was not read to its
//     end, which is for a caller a broken chain.
//   - Limits bound memory and time against any content. Going past one makes
//     the Layer incomplete, never an error and never clean.
//   - An error is of the stream, of this machine, or of the context. Nothing of
//     it may be remembered as a property of the bytes.
//   - No goroutine, temporary file or reference to the blob outlives Scan.
package layer
