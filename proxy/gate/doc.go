// Package gate is the only door to content.
//
//	Manifest(route) ─ resolve the tag ─ get the manifest ─ judge ─▶ bytes, or an error
//	Blob(route)     ─ find manifests that name it ─ judge each ──▶ bytes, or an error
//
//	judge: verdict in memory, still valid? ─▶ it
//	       else inventory (records, or one analysis for all who wait)
//	            ─ match with the advisories of now ─ policy.Decide ─ records ─▶ it
//	       beside it: signatures, if a policy demands some (kept, or searched in
//	            the repository and verified, once for all who wait)
//
// What a verdict lets pass is attested off the pull path, into a repository of
// the gated registry beside the image's: Attest, Side.
//
// New advisories also judge what is known already again, off the pull path and
// from stored inventories: Rematch.
//
// The analysis downloads the image's blobs through package fetch into the
// store, on the server's life: a client that leaves stops nothing. A client
// waits for it at most Options.Hold and is then told to come back.
//
// Invariants:
//   - Content leaves only under a verdict that serves, taken with the policy,
//     the advisories, the VEX documents, the blocklist and the waivers of this moment. A change of any of them
//     makes every verdict in memory invalid at once.
//   - Every error is a refusal. A *policy.DeniedError is the image's fault, an
//     upstream's error stays what it is and is not remembered as a verdict.
//   - A digest is known under the repository that it was asked of: what one
//     repository may serve, another must ask its own upstream for.
//   - A blob belongs to a manifest of its repository that serves, or is unknown.
//   - A failed search for signatures is an error, never "unsigned". A pass stays one
//     until the trust changes; every other result is looked at again soon.
//   - Nothing is attested of what is denied, and what was attested is withdrawn.
package gate
