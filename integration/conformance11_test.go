package integration

import (
	"encoding/json"
	"encoding/xml"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// suite11 is the conformance suite of version 1.1 as it was before the one of
// today took its place: a Go test. The module proxy has it of between 1.1.0-rc3
// and 1.1.0, and not of the tags. The checksum database that comes with the proxy
// does not know it, so that its sum is here.
const (
	suite11    = "github.com/opencontainers/distribution-spec/conformance@v0.0.0-20231101194043-f2182352d4cc"
	suite11Sum = "h1:jL+CgYEEZluGb08ZcLpEyhn389kNMlwrWOHaIqXazq0="
)

// TestConformance11 runs all workflows of that suite against the gated registry,
// and pull and content discovery against the pull-through.
func TestConformance11(t *testing.T) {
	t.Parallel()
	run := buildSuite11(t)
	t.Run("gated", func(t *testing.T) {
		s := start(t, options{upstream: newUpstream(t).URL, advisories: smallFeed(t), config: everyone + "policy:\n  file: " + policyFile(t, anything) + "\n"})
		conform11(t, run, "http://"+s.registry, "local/conformance", 74, "OCI_TEST_PUSH=1", "OCI_TEST_CONTENT_MANAGEMENT=1")
	})
	t.Run("pull-through", func(t *testing.T) {
		u := newReferringUpstream(t)
		s := start(t, options{upstream: u.URL, advisories: smallFeed(t), config: "tagTTL: 0s\npolicy:\n  file: " + policyFile(t, anything) + "\n"})
		front := httptest.NewServer(&eager{newSplitter(u, s)})
		t.Cleanup(front.Close)
		conform11(t, run, front.URL, "conformance/eleven", 38)
	})
}

// eager asks the program for each manifest when it was pushed. Clients do so
// before they ask for its blobs, which the program serves only then; this suite
// begins with the blobs.
type eager struct{ *splitter }

func (e *eager) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.splitter.ServeHTTP(w, r)
	if _, _, manifest := strings.Cut(r.URL.Path, "/manifests/"); manifest && r.Method == http.MethodPut {
		e.program.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(r.Context(), http.MethodGet, r.URL.Path, nil))
	}
}

// buildSuite11 compiles the suite, or ends the test.
func buildSuite11(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	env := []string{"GOWORK=off", "CGO_ENABLED=0", "GONOSUMDB=github.com/opencontainers/distribution-spec"}
	goTool(t, dir, env, "mod", "init", "suite")
	var module struct{ Dir, Sum string }
	if err := json.Unmarshal(goTool(t, dir, env, "mod", "download", "-json", suite11), &module); err != nil {
		t.Fatal(err)
	}
	if module.Sum != suite11Sum {
		t.Fatalf("%s has the sum %s, want %s", suite11, module.Sum, suite11Sum)
	}
	program := filepath.Join(dir, "suite")
	goTool(t, module.Dir, env, "test", "-c", "-o", program, ".")
	return program
}

// conform11 runs pull, content discovery, and the workflows that more turns on.
// No case may fail, and at least least pass.
func conform11(t *testing.T, run, root, namespace string, least int, more ...string) {
	t.Helper()
	dir := t.TempDir()
	out, err := runSuite(t, run, dir, append([]string{
		"OCI_ROOT_URL=" + root, "OCI_NAMESPACE=" + namespace, "OCI_CROSSMOUNT_NAMESPACE=" + namespace + "-mount",
		"OCI_TEST_PULL=1", "OCI_TEST_CONTENT_DISCOVERY=1", "OCI_REPORT_DIR=" + dir,
	}, more...))
	report, rerr := os.ReadFile(filepath.Join(dir, "junit.xml"))
	if rerr != nil {
		t.Fatalf("the suite left no report: %v\n%s", err, out)
	}
	var suites struct {
		Cases []struct {
			Name   string `xml:"name,attr"`
			Status string `xml:"status,attr"`
			Output string `xml:"system-err"`
		} `xml:"testsuite>testcase"`
	}
	if err := xml.Unmarshal(report, &suites); err != nil {
		t.Fatalf("junit.xml: %v", err)
	}
	passed := 0
	var skipped []string
	for _, c := range suites.Cases {
		switch {
		case !strings.HasPrefix(c.Name, "[It]"): // of the suite's own hooks
		case c.Status == "passed":
			passed++
		case c.Status == "skipped":
			skipped = append(skipped, c.Name)
		default:
			t.Errorf("%s: %s\n%s", c.Name, c.Status, c.Output)
		}
	}
	if err != nil && !t.Failed() {
		t.Errorf("the suite ended with %v:\n%s", err, out)
	}
	if passed < least {
		t.Errorf("%d cases passed, want %d and more", passed, least)
	}
	t.Logf("%d cases passed, %d were skipped:\n%s", passed, len(skipped), strings.Join(skipped, "\n"))
}
