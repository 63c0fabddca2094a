// Package proxy is the server: it wires the parts and runs the two listeners.
//
// Follow one pull:
//
//	Server              registry listener, :5000
//	 └ httpx.Middleware request id, access log
//	 └ registry.Handler /v2/<name>/manifests/<reference>
//	    ├ route.Parse   which upstream, repository, reference; closed world
//	    └ gate.Manifest the only door to content
//	       ├ upstream.Resolve   tag → digest, remembered for a while
//	       ├ upstream.Manifest  bytes, compared with the digest; store.Put
//	       ├ analyzer.Inventory once per digest, for all who wait
//	       │   └ fetch.Join     each blob downloaded once → store
//	       ├ analyzer.Judge     packages × advisories of now
//	       ├ policy.Decide      evidence → verdict
//	       └ records.PutVerdict what was decided, why
//	 └ http.ServeContent the manifest, or httpx.WriteOCIError the reason
//
// Its layers follow by gate.Blob: a blob is served as a member of a manifest
// that may be served, from the store with sendfile.
//
// A push takes the same gate: registry.Handler lets auth.Controller say who may,
// upload.Manager take the blobs in while analyzer.Arrival scans them, local.Registry
// keep them, and gate.Push judge the manifest before it is stored. Server.collect
// removes what retention rules let go and what no manifest names.
//
// The operations listener, 127.0.0.1:5001, has liveness, readiness, metrics
// and the REST API of package api.
//
// Invariants: shared work (downloads, analyses) lives as long as the server,
// not as a request; stopping first drains requests, then ends shared work, then
// closes the records.
package proxy
