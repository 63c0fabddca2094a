// Package integration runs the built program as its users do: `sluice serve` as
// a process of its own, an upstream registry in the test, and crane, skopeo,
// podman, containerd, its CRI plugin or plain HTTP as the client.
//
//	client ──▶ sluice serve (127.0.0.1, a temporary data directory) ──▶ upstream (counts, faults)
//
// There is no code here but tests. harness_test.go starts the program,
// upstream_test.go is the registry behind it, images_test.go makes images and
// advisories, clients_test.go, containerd_test.go and cri_test.go drive the tools,
// matrix_test.go points them at the program as nodes are, conformance_test.go
// runs the suite of the OCI distribution specification. The other files are one
// promise each, named after it.
//
// Tools that are not installed and the data of ../shared skip their tests with
// a reason. Where SLUICE_CI=1 or CI=true a missing tool fails instead, and so
// does a SLUICE_TEST_DATA that names no directory; containerd 2, which Debian 12
// does not have, is then built, once for a machine. With SLUICE_TEST_SLOW=1 the
// slow analysis of slow_test.go takes a minute.
package integration
