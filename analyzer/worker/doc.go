// Package worker scans layers in processes of their own.
//
// What decompresses, unpacks and parses foreign bytes runs where a defect of it
// can hurt nobody: without the network, without the environment and the files of
// the server, with bounds on memory and time. The Scanner here is an
// analyzer.LayerScanner around package layer's:
//
//	Scan ── blob in frames ──▶ stdin   ┌───────────────────┐
//	                                   │ Serve: one scan at│
//	Scan ◀─ answer, one message ── stdout │ a time, confined │
//	                                   └───────────────────┘
//
// On Linux the frames' bytes are in memory that both have, which the process can
// only read (ring_linux.go), and not in the pipe.
//
// The program runs itself again for that (Options.Command, the hidden command
// "sluice worker"). Processes that did well are kept for the next layer.
//
// Invariants:
//   - The digest and the size of the stored bytes are never the process's word:
//     they are computed here, or proven by the download (analyzer.Proven). The
//     diffID is its word, since inflating is its work: what the diffID would
//     prove, that the layers are those of the config, holds as far as the parsers
//     are what they should be.
//   - A process that crashes, is killed, takes too long or answers nonsense gives
//     a Layer that is incomplete and says why, marked Lost: never an error of the
//     server, never clean, and nothing that a cache may keep.
//   - An error of the stream, of this machine or of the context is that, as
//     without a process.
//   - No process outlives the Scanner, or the program, however that ends.
package worker
