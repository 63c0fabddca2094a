// Package registry serves the registry API (OCI distribution 1.1) under /v2/.
//
//	Handler.ServeHTTP ─ route.Parse ─┬─ manifest: gate.Manifest ─▶ bytes
//	                                 ├─ blob: gate.Blob ─▶ file, or the tail of a download
//	                                 ├─ tags: the upstream's list
//	                                 └─ referrers: gate.Referrers, the upstream's list
//
// Handlers only translate: every decision is the gate's, every error text is
// httpx.WriteOCIError's.
//
// Invariants:
//   - HEAD answers exactly as GET would, refusals too: containerd and Docker
//     decide by it.
//   - Bytes and digests are the upstream's; nothing is converted.
//   - What is not there yet (pushing, the catalog) is refused as
//     unsupported.
package registry
