// Package httpx is what all HTTP handlers of the program share: the one place
// where errors become OCI error bodies, the request's logger, and the
// middleware around a listener.
//
//	RequestID → Access log → Recover → handler
//
// Invariants:
//   - An error that this package does not know is a 500 without its text: the
//     text goes to the log, under the request id that the client gets.
//   - The wrapped ResponseWriter forwards ReadFrom, so that serving a file
//     stays a sendfile, and Unwrap, for http.ResponseController.
package httpx
