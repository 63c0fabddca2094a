// Package store keeps content on distribution's storage drivers, within a
// bound of bytes.
//
// The root is laid out as distribution's registry lays out its own (storage
// layout v2), so that its tools can read it:
//
//	<root>/docker/registry/v2/blobs/sha256/<2 hex>/<hex>/data   a manifest, config or layer
//	<root>/spool/<random>                                       a download under way
//
//	NewSpool(size) ────▶ reserve ── too full ─▶ evict, or ErrFull
//	      │ Write           │
//	      ▼                 ▼
//	    spool ── Commit ─▶ blobs + index ◀── OpenBlob, Get: last use
//	                          │ least recently used, not pinned
//	                          ▼
//	                        evicted
//
// A download is written to the spool by package fetch, and moved into place
// when its digest is right. Warm blobs are opened as *os.File, so that serving
// them is a sendfile. The index is memory only: Open rebuilds it from the files.
//
// Which blob belongs to which image, and which image may be served, is not
// known here: package gate asks records for that. Verdicts and inventories are
// there too, so they survive eviction.
//
// Invariants:
//   - What is under blobs has the digest that its path says: it was verified
//     before the move, and synced to the disk, so a crash leaves a whole blob
//     or none.
//   - A missing or cut data file is ErrNotFound, never an empty blob.
//   - Blobs and reservations of downloads together are at most
//     Options.MaxBytes, and leave min(1 GiB, 5 %) of the disk free.
//   - A blob leaves the index before its file goes, and what a reader has open
//     it keeps: a reader gets a whole file or ErrNotFound.
package store
