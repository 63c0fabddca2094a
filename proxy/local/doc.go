// Package local is the content of the gated registry: what teams push.
//
//	upload ─▶ FinishBlob ─▶ blob in the store + link (repository, digest)
//	manifest ─▶ Put: all members linked? tag free to move? ─▶ manifest + members + tag
//	           Open, Manifest ◀── package gate, which judges first
//	Expired: images that the retention rules let go, and what refers to images that
//	         are deleted ─▶ package gate removes them
//	Collect: links that nothing names, then content that nothing links ─▶ gone
//
// Bytes are in a store of their own, from which nothing is evicted; which
// repository has what is in records. What was acknowledged is on the disk.
//
// Invariants:
//   - A repository has a blob only if its bytes were pushed to it, or mounted by
//     somebody who may read them where they were.
//   - A manifest is stored whole with its members and its tag, or not at all.
//   - Collect never takes what a manifest names, nor what a client was told within
//     the grace to exist. Content and its first link come under one lock, which
//     Collect takes alone: it sees both or neither.
package local
