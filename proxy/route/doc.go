// Package route turns a request to the registry listener into a Route: which
// upstream, which repository, which reference, and what is wanted of it.
//
// The path is parsed from the right, so that the kind is found without a
// grammar for names:
//
//	/v2/<name>/manifests/<tag or digest>
//	/v2/<name>/blobs/<digest>
//	/v2/<name>/blobs/uploads/[<id>]
//	/v2/<name>/tags/list
//	/v2/<name>/referrers/<digest>
//
// An upstream is named in one of three ways, which give the same canonical
// name: containerd's query parameter ns, the first component of the path, or
// neither, which means the default upstream.
//
// Invariants:
//   - The set of upstreams is closed. Nothing in a request is ever an address to
//     dial; an unknown ns or host-like first component is ErrNameUnknown.
//   - A Route holds only names that follow the grammar of the OCI distribution
//     specification 1.1 (section "Pulling manifests") and sha256 digests.
//   - A path that is written with needless percent-encoding is refused, so one
//     content has one spelling.
package route
