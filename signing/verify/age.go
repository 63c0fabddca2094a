package verify

import (
	"time"

	"github.com/sluiceproxy/sluice/signing"
)

// skew is how far the clocks of an issuer and of this host may be apart.
const skew = 5 * time.Minute

// ownTimes are where predicates say when they were made, in the order of trust:
// OpenVEX, SLSA v1 and v0.2, cosign's and in-toto's vulnerability predicates,
// verification summaries, CycloneDX, SPDX.
var ownTimes = [][]string{
	{"last_updated"},
	{"timestamp"},
	{"runDetails", "metadata", "finishedOn"},
	{"metadata", "buildFinishedOn"},
	{"metadata", "scanFinishedOn"},
	{"timeVerified"},
	{"metadata", "timestamp"},
	{"creationInfo", "created"},
}

// madeAt is when the statement was made: as a log or time-stamp authority
// proves, else as its issuer says, zero if nobody does.
func madeAt(p signing.Proof) time.Time {
	if len(p.Times) > 0 {
		return p.Times[0]
	}
	for _, path := range ownTimes {
		m := p.Statement.Predicate
		for _, key := range path[:len(path)-1] {
			m, _ = m[key].(map[string]any)
		}
		if text, ok := m[path[len(path)-1]].(string); ok {
			if t, err := time.Parse(time.RFC3339, text); err == nil {
				return t.UTC()
			}
		}
	}
	return time.Time{}
}
