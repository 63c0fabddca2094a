// Package registry serves the registry API (OCI distribution 1.1) under /v2/.
//
//	Handler.ServeHTTP ─ route.Parse ─ auth ─┬─ manifest: gate.Manifest ─▶ bytes
//	                                        ├─ blob: gate.Blob ─▶ file, or the tail of a download
//	                                        ├─ tags, referrers: the upstream's list, or our own
//	                                        ├─ catalog: the gated registry's repositories
//	                                        ├─ PUT of a manifest: gate.Push ─▶ stored, or refused
//	                                        └─ uploads: upload.Manager, mount ─▶ local.Registry
//
// Handlers only translate: every decision is the gate's, every error text is
// httpx.WriteOCIError's.
//
// Invariants:
//   - HEAD answers exactly as GET would, refusals too: containerd and Docker
//     decide by it. The one exception is what an operator blocked in a repository
//     that the caller may push to: a HEAD tells that it is there, since clients
//     ask before they push the image that replaces it.
//   - Bytes and digests are the upstream's; nothing is converted.
//   - Upstream repositories are read-only. Who may push to a repository of the
//     gated registry sees what is in quarantine there; nobody else does.
package registry
