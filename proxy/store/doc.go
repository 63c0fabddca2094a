// Package store keeps content on distribution's storage drivers.
//
// The root is laid out as distribution's registry lays out its own (storage
// layout v2), so that its tools can read it:
//
//	<root>/docker/registry/v2/blobs/sha256/<2 hex>/<hex>/data   a manifest, config or layer
//	<root>/spool/<random>                                       a download under way
//
// A download is written to the spool by package fetch, and moved into place
// when its digest is right. Warm blobs are opened as *os.File, so that serving
// them is a sendfile.
//
// Which blob belongs to which image, and which image may be served, is not
// known here: package gate asks records for that.
//
// Invariants:
//   - What is under blobs has the digest that its path says: it was verified
//     before the move, and synced to the disk, so a crash leaves a whole blob
//     or none.
//   - A missing data file is ErrNotFound, never an empty blob.
package store
