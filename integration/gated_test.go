package integration

import (
	"testing"
)

// everyone may do everything, for tests that are about something else.
const everyone = "auth: {rules: [{who: ['*'], may: [pull, push, delete]}]}\n"

// pushedAgain tells the cases in which a blob that belongs to no manifest yet is
// mounted: the gate lets the client push it, which the specification allows.
func pushedAgain(name string) bool {
	return name == "sha256 blobs/mount/blob-mount" || name == "sha256 blobs/mount anonymous/blob-mount-anonymous"
}

// TestConformancePush runs all workflows of the suite against the gated
// registry, with the gate on.
func TestConformancePush(t *testing.T) {
	t.Parallel()
	run := install(t, suite)
	for _, version := range []string{"1.1", "dev"} {
		t.Run(version, func(t *testing.T) {
			s := start(t, options{upstream: newUpstream(t).URL, advisories: smallFeed(t), config: everyone + "policy:\n  file: " + policyFile(t, anything) + "\n"})
			conform(t, run, pushedAgain, nil, "OCI_VERSION="+version, "OCI_REGISTRY="+s.registry,
				"OCI_REPO1=local/conformance", "OCI_REPO2=local/conformance-mount", "OCI_DATA_SHA512=false",
				"OCI_API_BLOBS_DELETE=true", "OCI_API_MANIFESTS_DELETE=true", "OCI_API_TAGS_DELETE=true")
		})
	}
}
