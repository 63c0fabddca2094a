// Package api is the operators' REST API under /api/v1 of the operations
// listener: what was decided and why, what is blocked, and by whom.
//
//	request ─▶ guard (token or loopback, no foreign origin) ─▶ route ─▶ handler ─▶ records
//	                                     any error ─▶ WriteProblem (RFC 9457)
//
// It reads and writes records and nothing else: a block that is added here
// takes effect because the gate sees that the records changed.
//
// Invariants:
//   - Without a token only requests that name this machine in Host are
//     answered, so that a web page cannot reach the API by DNS rebinding.
//   - A request that changes something is refused when a browser sends it from
//     another origin.
//   - Parameters and bodies are strict: an unknown one is an error, never a
//     filter that was silently not applied.
//   - A change is answered after it is durable and in the audit trail.
//   - A path of the contract that is not built yet answers 501, every error is
//     application/problem+json.
//
// openapi.json describes each route; a test keeps both in step.
package api
