// Package secret finds credentials, and files that are made to hold them: in
// the files of a layer and in the config of an image.
//
// It is quiet by design. A finding can refuse an image, so each rule asks for
// proof beside a pattern: a key's body must decode and have the structure of
// its type, a token must carry its checksum or be as random as a real one, an
// AWS key id must have a secret key close by, a password must not be an example
// or a variable. A Scanner takes a file of any size in pieces of any size and
// holds a bounded window of it:
//
//	Scanner.Write(piece)… ──▶ Scanner.Close() ──▶ []analyzer.Secret
//
//	text ─▶ keywords in one pass (filter.go) ─▶ the rules that have them (pem.go, token.go, …)
//	     └▶ what the path promises (file.go), what is no text (binary.go)
//	config ─▶ Env, labels, commands, history (config.go)
//
// Why own rules: the 81 detectors of osv-scalibr's veles that are usable as they
// are read 0.7 MB of text a second together, since each searches with its own
// regular expression, and found 494 "tokens" in 5 MB of a Debian's /usr.
//
// Invariants:
//   - An excerpt never holds more than the first 8 characters of a value, nor
//     more than a quarter of it.
//   - What is found does not depend on how the file was cut into pieces.
//   - A private key longer than 64 KiB is not recognised, nor what a path
//     promises beyond the first 512 KiB of its file.
package secret
