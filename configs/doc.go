// Package configs is the program's configuration: one Config, one YAML file.
//
//	Default() ─▶ file ─▶ environment ─▶ flags ─▶ Validate ─▶ *Config
//
// Load goes that way; each step overrides the one before it. Keys are strict:
// an unknown one is a problem that names the nearest valid key. All problems
// of the file, the environment and the values are returned at once, each with
// its path (upstreams.docker.io.url) and its line or variable.
//
// Every key has an environment variable: SLUICE_ and the path in upper case,
// joined by underscores, other characters as underscores:
// SLUICE_RELEASE_HOLD, SLUICE_UPSTREAMS_DOCKER_IO_PASSWORDFILE. Lists are
// separated by commas. A variable SLUICE_… that names no key is a problem,
// except for those that Kubernetes sets for services (SLUICE_PORT…,
// SLUICE_SERVICE_…) and the project's own tests (SLUICE_TEST_…, SLUICE_CI).
//
// Invariants:
//   - Secrets are never in the file: they come from a file named by a …File
//     key or from the environment, and are never printed.
//   - default.yaml is Default() with every key explained; a test compares both.
//   - Keys that weaken safety end in Unsafe.
//
// The package reads the files that it is told to and dials nothing.
package configs
