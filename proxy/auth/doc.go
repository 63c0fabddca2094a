// Package auth says who asks, and what they may do.
//
//	Identify: client certificate │ Basic (htpasswd, robots) │ Bearer (own tokens,
//	          robots' secrets, OIDC tokens) ─▶ Identity, or ErrCredentials
//	Authorize: Identity + rules + the token's scopes ─▶ nil, a challenge (401), or
//	           a refusal (403)
//	TokenHandler: Docker's token endpoint ─▶ a short-lived token of our own
//
// A rule names who (identities and groups by pattern), what (pull, push, delete,
// operate) and where (canonical repository names by pattern). What no rule
// allows is refused. Without rules, requests from this machine may pull without
// a name, and nobody may do anything else.
//
// Invariants:
//   - Credentials that are wrong, expired or unreadable are refused, even where
//     a request without any would be let through.
//   - A token of our own never allows more than the rules allow its identity at
//     the time of the request; its scopes only narrow that. The token of a robot
//     that was removed or has expired is worth nothing.
//   - OIDC tokens must have the configured issuer and audience and an asymmetric
//     signature of a key that the issuer publishes; their kid never names where
//     keys come from.
//   - Secrets are compared as hashes, in constant time, and never logged.
//   - A guessed password costs its network a guess before bcrypt runs; a password
//     that is known to be right, or known to be wrong, costs none.
package auth
