// Package inflate unpacks gzip, quickly.
//
// Nearly all layers are gzip, and inflating them is most of the work of a first
// pull. This decoder is written for that work: it has the whole output block and
// a large piece of the input before it, where compress/flate reads bytes.
//
//	bufio.Reader ─▶ Reader (gzip: members, CRC-32, lengths)       gzip.go
//	                  └▶ decoder (DEFLATE: blocks, history)       decoder.go
//	                       ├ table: codes made into lookups       huffman.go
//	                       ├ fast: away from the edges of buffers fast.go
//	                       └ careful: at the edges                decoder.go
//
// The design is that of libdeflate (Eric Biggers): 64 bits of input refilled
// with one load, tables whose entries hold all that a symbol needs, matches
// copied in words past their end where there is room.
//
// Invariants:
//   - What compress/flate and compress/gzip refuse is refused, and what they
//     accept gives the same bytes; a fuzz test compares them. Only the names in a
//     gzip header may be longer.
//   - Not one byte past the end of a stream is taken from its input.
//   - Memory is that of one Reader, some 64 KiB, whatever the input says.
package inflate
