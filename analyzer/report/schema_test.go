package report_test

import (
	"bytes"
	"compress/gzip"
	"encoding"
	"encoding/json"
	"encoding/xml"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/santhosh-tekuri/jsonschema/v6"
	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdxlib"

	"github.com/sluiceproxy/sluice/analyzer"
	"github.com/sluiceproxy/sluice/analyzer/layer"
	"github.com/sluiceproxy/sluice/analyzer/report"
)

// samples are the Results that every format is validated with.
var samples = map[string]report.Result{"full": full, "empty": empty, "sbom": sbom}

// readSchema reads testdata/schemas/name, which may be compressed.
func readSchema(t *testing.T, name string) any {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", "schemas", name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var r io.Reader = f
	if strings.HasSuffix(name, ".gz") {
		if r, err = gzip.NewReader(f); err != nil {
			t.Fatal(err)
		}
	}
	doc, err := jsonschema.UnmarshalJSON(r)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return doc
}

// compile makes one schema of several documents; the first is the schema.
func compile(t *testing.T, docs ...any) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	var first string
	for i, doc := range docs {
		url := "https://sluice.test/" + string(rune('a'+i))
		if m, ok := doc.(map[string]any); ok {
			for _, key := range []string{"$id", "id"} {
				if id, ok := m[key].(string); ok {
					url = id
				}
			}
		}
		if err := c.AddResource(url, doc); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = url
		}
	}
	s, err := c.Compile(first)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// closed forbids all keys that a schema does not name, so that a key that it
// forgets fails the test.
func closed(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for _, sub := range v {
			closed(sub)
		}
		if v["properties"] != nil && v["type"] == "object" {
			v["additionalProperties"] = false
		}
	case []any:
		for _, sub := range v {
			closed(sub)
		}
	}
	return v
}

// compileAll returns the schemas of the formats that have one.
func compileAll(t *testing.T) map[string]*jsonschema.Schema {
	t.Helper()
	own, err := jsonschema.UnmarshalJSON(bytes.NewReader(report.Schema()))
	if err != nil {
		t.Fatal(err)
	}
	return map[string]*jsonschema.Schema{
		"json":      compile(t, closed(own)),
		"sarif":     compile(t, readSchema(t, "sarif-schema-2.1.0.json.gz")),
		"cyclonedx": compile(t, readSchema(t, "bom-1.6.schema.json.gz"), readSchema(t, "spdx.schema.json.gz"), readSchema(t, "jsf-0.82.schema.json.gz")),
		"spdx-json": compile(t, readSchema(t, "spdx-2.3.json")),
		"gitlab":    compile(t, readSchema(t, "gitlab-15.0.7.json")),
	}
}

func TestSchemas(t *testing.T) {
	for format, schema := range compileAll(t) {
		for name, r := range samples {
			t.Run(format+"/"+name, func(t *testing.T) {
				var b bytes.Buffer
				if err := report.Write(&b, format, r, opts); err != nil {
					t.Fatal(err)
				}
				doc, err := jsonschema.UnmarshalJSON(&b)
				if err != nil {
					t.Fatal(err)
				}
				if err := schema.Validate(doc); err != nil {
					t.Error(err)
				}
			})
		}
		t.Run(format+"/refuses", func(t *testing.T) {
			if schema.Validate(map[string]any{"version": "1"}) == nil {
				t.Error("the schema takes anything")
			}
		})
	}
}

// TestSchemaKnowsEveryField compares the published schema with the Go types, so
// that a field that is added to the vocabulary is added to the schema.
func TestSchemaKnowsEveryField(t *testing.T) {
	var root map[string]any
	if err := json.Unmarshal(report.Schema(), &root); err != nil {
		t.Fatal(err)
	}
	object := func(v any) map[string]any {
		m, _ := v.(map[string]any)
		return m
	}
	defs := object(root["$defs"])
	var walk func(path string, typ reflect.Type, schema map[string]any)
	var fields func(path string, typ reflect.Type, schema map[string]any)
	walk = func(path string, typ reflect.Type, schema map[string]any) {
		if ref, ok := schema["$ref"].(string); ok {
			schema = object(defs[strings.TrimPrefix(ref, "#/$defs/")])
		}
		for typ.Kind() == reflect.Pointer {
			typ = typ.Elem()
		}
		text := typ.Implements(reflect.TypeFor[encoding.TextMarshaler]()) || typ == reflect.TypeFor[time.Time]()
		switch {
		case text:
		case typ.Kind() == reflect.Slice:
			walk(path+"[]", typ.Elem(), object(schema["items"]))
		case typ.Kind() == reflect.Struct:
			fields(path, typ, schema)
		}
	}
	fields = func(path string, typ reflect.Type, schema map[string]any) {
		for i := range typ.NumField() {
			f := typ.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			switch {
			case f.Anonymous && name == "":
				fields(path, f.Type, schema)
				continue
			case !f.IsExported(), name == "-":
				continue
			}
			sub, ok := object(schema["properties"])[name]
			if !ok {
				t.Errorf("scan.schema.json does not know %s.%s", path, name)
				continue
			}
			walk(path+"."+name, f.Type, object(sub))
		}
	}
	walk("", reflect.TypeFor[report.Result](), root)
}

// TestSPDXReader reads the document with the reference implementation.
func TestSPDXReader(t *testing.T) {
	for name, r := range samples {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			if err := report.WriteSPDX(&b, r, opts); err != nil {
				t.Fatal(err)
			}
			doc, err := spdxjson.Read(&b)
			if err != nil {
				t.Fatal(err)
			}
			if err := spdxlib.ValidateDocument(doc); err != nil {
				t.Error(err)
			}
			ids := map[string]bool{}
			for _, p := range doc.Packages {
				if ids[string(p.PackageSPDXIdentifier)] {
					t.Errorf("%s is there twice", p.PackageSPDXIdentifier)
				}
				ids[string(p.PackageSPDXIdentifier)] = true
			}
			if got := len(doc.Packages); got < len(r.Packages)+1 {
				t.Errorf("%d packages", got)
			}
		})
	}
}

// TestCycloneDXReferences follows every reference to something in the document.
func TestCycloneDXReferences(t *testing.T) {
	var b bytes.Buffer
	if err := report.WriteCycloneDX(&b, full, opts); err != nil {
		t.Fatal(err)
	}
	var bom cdx.BOM
	if err := cdx.NewBOMDecoder(&b, cdx.BOMFileFormatJSON).Decode(&bom); err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{bom.Metadata.Component.BOMRef: true}
	for _, c := range *bom.Components {
		if known[c.BOMRef] {
			t.Errorf("%s is there twice", c.BOMRef)
		}
		known[c.BOMRef] = true
	}
	states := map[cdx.ImpactAnalysisState]int{}
	for _, v := range *bom.Vulnerabilities {
		for _, a := range *v.Affects {
			if !known[a.Ref] {
				t.Errorf("%s affects %s, which is not there", v.ID, a.Ref)
			}
		}
		if v.Analysis != nil {
			states[v.Analysis.State]++
		}
	}
	if states[cdx.IASNotAffected] != 1 || states[cdx.IASInTriage] != 1 || states[cdx.IASExploitable] != 1 {
		t.Errorf("analyses %v", states)
	}
	for _, d := range *bom.Dependencies {
		for _, ref := range append(*d.Dependencies, d.Ref) {
			if !known[ref] {
				t.Errorf("a dependency names %s, which is not there", ref)
			}
		}
	}
}

// TestJUnitCounts compares the counts of the suites with their cases.
func TestJUnitCounts(t *testing.T) {
	type counts struct {
		Tests    int `xml:"tests,attr"`
		Failures int `xml:"failures,attr"`
		Errors   int `xml:"errors,attr"`
		Skipped  int `xml:"skipped,attr"`
	}
	type testcase struct {
		Class   string    `xml:"classname,attr"`
		Name    string    `xml:"name,attr"`
		Failure *struct{} `xml:"failure"`
		Error   *struct{} `xml:"error"`
		Skipped *struct{} `xml:"skipped"`
	}
	var doc struct {
		XMLName xml.Name `xml:"testsuites"`
		counts
		Suites []struct {
			counts
			Cases []testcase `xml:"testcase"`
		} `xml:"testsuite"`
	}
	var b bytes.Buffer
	if err := report.WriteJUnit(&b, full, opts); err != nil {
		t.Fatal(err)
	}
	if err := xml.Unmarshal(b.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	var sum counts
	for _, s := range doc.Suites {
		var got counts
		for _, c := range s.Cases {
			got.Tests++
			if c.Class == "" || c.Name == "" {
				t.Errorf("a case without a name: %+v", c)
			}
			switch {
			case c.Failure != nil:
				got.Failures++
			case c.Error != nil:
				got.Errors++
			case c.Skipped != nil:
				got.Skipped++
			}
		}
		if got != s.counts {
			t.Errorf("suite says %+v, has %+v", s.counts, got)
		}
		sum = counts{sum.Tests + got.Tests, sum.Failures + got.Failures, sum.Errors + got.Errors, sum.Skipped + got.Skipped}
	}
	// Failed: the verdict, two findings and the key. Skipped: two findings and the token.
	if want := (counts{11, 4, 1, 3}); sum != doc.counts || sum != want {
		t.Errorf("the document says %+v, has %+v, want %+v", doc.counts, sum, want)
	}
}

// TestSARIFForGitHub checks what GitHub and GitLab want beyond the schema: a
// place and a fingerprint for every result, a rule for each ruleIndex, and a
// score for each rule about a rated finding.
func TestSARIFForGitHub(t *testing.T) {
	var b bytes.Buffer
	if err := report.WriteSARIF(&b, full, opts); err != nil {
		t.Fatal(err)
	}
	var log struct {
		Runs []struct {
			Tool struct {
				Driver struct {
					Rules []struct {
						ID         string         `json:"id"`
						Properties map[string]any `json:"properties"`
					} `json:"rules"`
				} `json:"driver"`
			} `json:"tool"`
			Results []struct {
				RuleID       string            `json:"ruleId"`
				RuleIndex    int               `json:"ruleIndex"`
				Fingerprints map[string]string `json:"partialFingerprints"`
				Suppressions []struct{}        `json:"suppressions"`
				Locations    []struct {
					Physical struct {
						Artifact struct {
							URI string `json:"uri"`
						} `json:"artifactLocation"`
					} `json:"physicalLocation"`
				} `json:"locations"`
			} `json:"results"`
		} `json:"runs"`
	}
	if err := json.Unmarshal(b.Bytes(), &log); err != nil {
		t.Fatal(err)
	}
	run := log.Runs[0]
	// Six findings, two secrets, root-user.
	if len(run.Results) != 9 {
		t.Errorf("%d results", len(run.Results))
	}
	suppressed, seen := 0, map[string]bool{}
	for _, r := range run.Results {
		if run.Tool.Driver.Rules[r.RuleIndex].ID != r.RuleID {
			t.Errorf("%s: rule %d is %s", r.RuleID, r.RuleIndex, run.Tool.Driver.Rules[r.RuleIndex].ID)
		}
		if len(r.Locations) != 1 || r.Locations[0].Physical.Artifact.URI == "" {
			t.Errorf("%s has no place", r.RuleID)
		}
		mark := r.Fingerprints["primaryLocationLineHash"]
		if mark == "" || seen[mark] {
			t.Errorf("%s: fingerprint %q", r.RuleID, mark)
		}
		seen[mark] = true
		suppressed += len(r.Suppressions)
	}
	if suppressed != 3 {
		t.Errorf("%d suppressed", suppressed)
	}
	for id, want := range map[string]any{"GHSA-jfh8-c2jp-5v3q": "10.0", "GHSA-35jh-r3h4-6jhm": "9.5", "DSA-5000-1": "8.0", "ACME-2026-1": "2.1", "MAL-2024-1": "10.0", "policy/root-user": nil} {
		for _, rule := range run.Tool.Driver.Rules {
			if rule.ID == id && rule.Properties["security-severity"] != want {
				t.Errorf("%s has the score %v, want %v", id, rule.Properties["security-severity"], want)
			}
		}
	}
}

// TestRealImage validates every format with the packages and facts of a real
// root file system, each package with a finding.
func TestRealImage(t *testing.T) {
	root := os.Getenv("SLUICE_TEST_DATA")
	if root == "" {
		root = filepath.Join("..", "..", "..", "shared", "data")
	}
	f, err := os.Open(filepath.Join(root, "rootfs", "alpine-minirootfs-3.18.9-x86_64.tar.gz"))
	if err != nil {
		t.Skipf("no shared test data: %v", err)
	}
	defer f.Close()
	scanner, err := layer.New(layer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := scanner.Scan(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	if len(l.Packages) < 10 {
		t.Fatalf("%d packages", len(l.Packages))
	}
	rep := &analyzer.Report{Inventory: *analyzer.FromSBOM("", "", *l.OSRelease, l.Packages, l.Incomplete), Advisories: "a"}
	rep.Manifest, rep.Setuid, rep.Secrets, rep.Platform = l.Digest, l.Setuid, l.Secrets, "linux/amd64"
	for _, p := range rep.Packages {
		rep.Findings = append(rep.Findings, analyzer.Finding{Advisory: "ALPINE-CVE-1", Aliases: []string{"CVE-1"}, Class: analyzer.ClassVulnerability, Package: p, Source: "Alpine:v3.18 introduced 0"})
	}
	r := report.New("alpine", report.Verdict{Decision: "allow", ID: "v-1", Image: "docker.io/library/alpine"}, rep)
	for format, schema := range compileAll(t) {
		var b bytes.Buffer
		if err := report.Write(&b, format, r, opts); err != nil {
			t.Fatal(err)
		}
		doc, err := jsonschema.UnmarshalJSON(&b)
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(doc); err != nil {
			t.Errorf("%s: %v", format, err)
		}
	}
}

// TestSARIFLimits keeps GitHub's: the worst results stay, and the run says so.
func TestSARIFLimits(t *testing.T) {
	rep := &analyzer.Report{}
	long := strings.Repeat("é", 2000)
	for i := range 25_003 {
		severity := analyzer.SeverityLow
		if i == 25_002 {
			severity = analyzer.SeverityCritical
		}
		rep.Findings = append(rep.Findings, analyzer.Finding{Advisory: "CVE-2026-1", Summary: long, Severity: severity, Package: analyzer.Package{Name: "p", Version: strconv.Itoa(i)}})
	}
	var b bytes.Buffer
	if err := report.WriteSARIF(&b, report.New("x", report.Verdict{}, rep), opts); err != nil {
		t.Fatal(err)
	}
	// Decoding all of it would take most of the tests' time.
	if n := bytes.Count(b.Bytes(), []byte(`"ruleId"`)); n != 25_000 {
		t.Errorf("%d results", n)
	}
	head, results, _ := bytes.Cut(b.Bytes(), []byte(`"results"`))
	if !bytes.Contains(head, []byte(`"text": "3 results of the least severity are left out`)) {
		t.Error("the run does not say that results are left out")
	}
	if level := regexp.MustCompile(`"level": "([a-z]+)"`).FindSubmatch(results); level == nil || string(level[1]) != "error" {
		t.Errorf("the first result is %s, not the critical one", level)
	}
	if text := regexp.MustCompile(`"shortDescription": \{\s+"text": "([^"]+)"`).FindSubmatch(head); text == nil || len(text[1]) > 1024 || len(text[1]) < 1000 || !bytes.HasSuffix(text[1], []byte("é…")) {
		t.Errorf("the description is %q", text)
	}
}
