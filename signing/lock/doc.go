// Package lock is for images.lock: a signed list of the digests that publishers
// say their images have.
//
//	images.lock + signature ──Open──▶ Lock (signature held, strictly parsed)
//	Lock + Subject + time ──Listed──▶ published, mismatched, superseded, unlisted
//	sources (a publisher's files, a registry) ──Update──▶ File ──Marshal, Sign──▶ images.lock
//
// What a proxy decides with is files only: sources are asked by whoever writes
// the lock, never at a pull.
//
//	version: 1
//	serial: 42                      # grows with each change
//	expires: 2026-12-31T00:00:00Z   # after it the lock is stale
//	images:
//	  - name: docker.io/library/debian
//	    tag: bookworm               # "" is every tag
//	    digests: ["sha256:…"]       # any of: an index, whose children count, or a manifest
//	    platforms: {linux/amd64: ["sha256:…"]}
//	    diffIDs: ["sha256:…"]       # the first layers are exactly these
//	    source: {type: debian-artifacts, url: "https://…", fetched: 2026-11-23T00:00:00Z, sha256: "…"}
//	    superseded: ["sha256:…"]    # old: refused, whoever signed it
//
// Invariants:
//   - A lock that is not signed by a key of its ring is not opened, unless its
//     operator wrote that it is unsigned. The bytes that are parsed are those
//     that were signed.
//   - No key of the file is ignored, and none is there twice.
//   - Serials are compared by the caller, who remembers the last (LockID).
package lock
