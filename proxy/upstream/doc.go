// Package upstream is the client side: it asks the registries that images come
// from, and says truthfully what they answered.
//
//	Client.Resolve   tag → descriptor (HEAD, GET where HEAD is poor)
//	Client.Manifest  bytes of a manifest, capped and compared with its digest
//	Client.Blob      stream of a blob from an offset (Range)
//	Client.Tags      one page of tags
//	Client.Referrers what refers to a digest, by API or by fallback tag
//	Client.Push      blobs and a manifest, for what is exported
//
// A call goes through these rooms, in this order:
//
//	breaker, budget   may the upstream be asked now?       breaker.go, budget.go
//	client            credentials, ping, token exchange    upstream.go
//	steer             scheme, redirects, private literals  transport.go
//	guard             the address that is dialled at last  guard.go
//	body              bytes must keep coming               body.go
//	again             is another try of use?               retry.go
//
// Credentials come from the configuration, else from Docker's config.json and
// its helpers. The ping and token exchange are go-containerregistry's; one
// authorised transport per repository is kept, so a token is fetched once and
// renewed when the registry refuses it.
//
// Invariants:
//   - An answer that is not a success is a *StatusError with the registry's own
//     status: a 401, 429 or 503 never turns into "not found", nor into "no
//     referrers".
//   - Only the configured address of an upstream is dialled first, with the
//     configured scheme; credentials are sent to that host and its token
//     server only.
//   - No connection is made to a private address for an upstream that is not
//     configured so, whatever name, redirect or token realm leads there.
//   - Bodies are taken as they are: a response with a Content-Encoding is
//     refused, since its bytes are not those that the digest covers.
package upstream
