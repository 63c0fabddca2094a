// Package signtest makes signed images for tests: a repository in memory, keys,
// a whole sigstore deployment (Fulcio, Rekor, time stamps) and Notation
// signers. Nothing here is for production.
package signtest
