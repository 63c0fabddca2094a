// Package secret finds credentials in text: private keys in PEM, GitHub tokens
// and AWS access keys.
//
// It is quiet by design. A finding can refuse an image, so each rule asks for
// proof beside a pattern: a key's body must decode and have the structure of
// its type, a GitHub token must carry its checksum, an AWS key id must have a
// secret key close by. A Scanner takes a file of any size in pieces of any
// size and holds a bounded window of it:
//
//	Scanner.Write(piece)… ──▶ Scanner.Close() ──▶ []analyzer.Secret
//
// Invariants:
//   - An excerpt never holds more than the first 8 characters of a value.
//   - What is found does not depend on how the file was cut into pieces.
//   - A private key longer than 64 KiB is not recognised.
package secret
