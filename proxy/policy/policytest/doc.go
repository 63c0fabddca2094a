// Package policytest runs *.policytest files: what a policy must decide on
// given evidence.
//
//	policy: policy.yaml        # a file beside this one, "default", or the text of a policy
//	clock: 2026-11-23T12:00:00Z
//	cases:
//	  - name: critical with a fix is denied
//	    report:
//	      findings: [{advisory: CVE-2026-1, severity: critical, fixed: "2", package: {name: zlib1g, version: "1"}}]
//	    want:
//	      decision: deny
//	      reasons: [{rule: critical-fixable, action: deny}]
//
// Each case starts from the evidence of a clean image, docker.io/library/app:1,
// that was first seen and built at the clock, runs as the user app, and was
// matched with advisories of the clock. It changes parts of that: image, report,
// advisories, blocks, waivers, vex, known, failure and noReport, with the names
// that "sluice scan --format json" and the API use. A reason that is wanted
// names its rule and its action, and is waived exactly if it says so; other
// parts are compared where they are given. Without reasons only the decision is
// compared.
//
// Invariants: no file is read and no clock looked at; an unknown key is an
// error; a file without cases is an error, not a success.
package policytest
