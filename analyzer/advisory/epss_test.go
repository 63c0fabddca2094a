package advisory

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluiceproxy/sluice/analyzer"
)

const goodEPSS = "#model_version:v2025.03.14,score_date:2026-05-18T12:00:00Z\ncve,epss,percentile\nCVE-1999-0001,0.0046,0.7385\nCVE-2024-1,0.97213,0.99987\nCVE-2024-2,0.5,0.9\n"

func zipped(t testing.TB, text string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := io.WriteString(z, text); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestEPSS: a finding has the highest score of its CVEs. A file that is not
// whole leaves the index in force.
func TestEPSS(t *testing.T) {
	base := export(t, map[string][]string{"npm": {
		osv("GHSA-1", "npm", "a", "introduced 0", `"aliases": ["CVE-2024-2", "CVE-2024-1"]`), osv("GHSA-2", "npm", "b", "introduced 0", `"aliases": ["CVE-2024-9"]`),
	}})
	for _, text := range []string{goodEPSS, zipped(t, goodEPSS)} {
		x, stats := compileSource(t, Source{Base: base, EPSS: writeFile(t, text)}, CompileOptions{})
		if stats.EPSS != 3 || stats.EPSSMatched != 1 || stats.EPSSModel != "v2025.03.14" || !stats.Sources[1].Date.Equal(parseTime("2026-05-18T12:00:00Z")) {
			t.Errorf("%+v", stats)
		}
		m, err := x.Match(t.Context(), []analyzer.Package{{Type: "npm", Ecosystem: "npm", Name: "a", Version: "1.0.0"}, {Type: "npm", Ecosystem: "npm", Name: "b", Version: "1.0.0"}})
		if err != nil || len(m.Findings) != 2 {
			t.Fatalf("%+v, %v", m, err)
		}
		if e := m.Findings[0].EPSS; e == nil || *e != 0.97213 {
			t.Errorf("EPSS of GHSA-1: %v", e)
		}
		if e := m.Findings[1].EPSS; e != nil {
			t.Errorf("EPSS of a CVE without a score: %v", *e)
		}
	}
	dir := t.TempDir()
	before, err := Compile(t.Context(), Source{Base: base}, CompileOptions{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	whole := zipped(t, goodEPSS)
	for name, tt := range map[string]struct{ text, want string }{
		"empty":                {"", "not an EPSS file"},
		"half a line":          {goodEPSS[:len(goodEPSS)-6], "line 5: "},
		"half an archive":      {whole[:len(whole)-20], "unexpected EOF"},
		"another table":        {"id,score\nCVE-2024-1,0.1\n", "does not begin with #model_version"},
		"another header":       {"#model_version:v1,score_date:2026-05-18\nid,score\n", "no header"},
		"no scores":            {"#model_version:v1,score_date:2026-05-18\ncve,epss,percentile\n", "no scores"},
		"no probability":       {strings.Replace(goodEPSS, "0.97213", "9.7", 1), "is no probability"},
		"NaN":                  {strings.Replace(goodEPSS, "0.97213", "NaN", 1), "is no probability"},
		"no CVE":               {strings.Replace(goodEPSS, "CVE-2024-1", "GHSA-1", 1), "does not begin with a CVE"},
		"a line without end":   {goodEPSS + "CVE-2024-3,0." + strings.Repeat("1", 1<<17) + "\n", "longer than any line"},
		"a page of the portal": {"<html>sign in</html>\n", "not an EPSS file"},
	} {
		_, err := Compile(t.Context(), Source{Base: base, EPSS: writeFile(t, tt.text)}, CompileOptions{Dir: dir})
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "epss ") {
			t.Errorf("%s: error %v, want one of epss with %q", name, err, tt.want)
		}
		unchanged(t, dir, before.Revision)
	}
}

const goodNVD = `{"resultsPerPage":3,"startIndex":0,"format":"NVD_CVE","version":"2.0","timestamp":"2026-05-18T03:00:00.123","vulnerabilities":[
{"cve":{"id":"CVE-2024-1","vulnStatus":"Analyzed","metrics":{
 "cvssMetricV31":[{"source":"cna@example.com","type":"Secondary","cvssData":{"version":"3.1","vectorString":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H","baseScore":9.8}},
                  {"source":"nvd@nist.gov","type":"Primary","cvssData":{"version":"3.1","vectorString":"CVSS:3.1/AV:N/AC:H/PR:N/UI:N/S:U/C:H/I:H/A:H","baseScore":8.1}}],
 "cvssMetricV2":[{"type":"Primary","cvssData":{"vectorString":"AV:N/AC:L/Au:N/C:C/I:C/A:C"}}]}}},
{"cve":{"id":"CVE-2024-2","vulnStatus":"Rejected","metrics":{"cvssMetricV31":[{"type":"Primary","cvssData":{"vectorString":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}}]}}},
{"cve":{"id":"CVE-2024-3","metrics":{"cvssMetricV40":[{"type":"Secondary","cvssData":{"vectorString":"CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:N/VI:N/VA:L/SC:N/SI:N/SA:N"}}]}}}]}`

// TestNVD: NVD rates what nobody else does, and only that.
func TestNVD(t *testing.T) {
	debian := func(id, cve, more string) string {
		return osv(id, "Debian:12", "a", "introduced 0", `"upstream": ["`+cve+`"]`+more)
	}
	base := export(t, map[string][]string{"Debian": {
		debian("DEBIAN-CVE-2024-1", "CVE-2024-1", ""), debian("DEBIAN-CVE-2024-2", "CVE-2024-2", ""), debian("DEBIAN-CVE-2024-3", "CVE-2024-3", ""),
		record1("DEBIAN-CVE-2024-4", `[{"package":{"ecosystem":"Debian:12","name":"a"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"}]}],"ecosystem_specific":{"urgency":"unimportant"}}]`, `"upstream": ["CVE-2024-1"]`),
		record1("DEBIAN-CVE-2024-5", `[{"package":{"ecosystem":"Debian:12","name":"a"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"}]}],"ecosystem_specific":{"urgency":"not yet assigned"}}]`, `"upstream": ["CVE-2024-1"]`),
		debian("DEBIAN-CVE-2024-6", "CVE-2024-1", `, "severity": [{"type":"CVSS_V3","score":"CVSS:3.1/AV:L/AC:H/PR:H/UI:R/S:U/C:L/I:N/A:N"}]`),
	}})
	dir := t.TempDir()
	for name, text := range map[string]string{"nvdcve-2.0-2024.json": goodNVD, "nvdcve-2.0-2023.json.gz": zipped(t, `{"vulnerabilities":[]}`), "README": "no"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	x, stats := compileSource(t, Source{Base: base, NVD: []string{dir}}, CompileOptions{})
	if stats.Advisories != 6 || stats.NVD != 3 || stats.NVDRated != 3 {
		t.Errorf("%+v", stats)
	}
	m, err := x.Match(t.Context(), []analyzer.Package{{Type: "deb", Ecosystem: "Debian:12", Name: "a", Version: "1"}})
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]string)
	for _, f := range m.Findings {
		got[f.Advisory] = strings.TrimSpace(f.Severity.String() + " " + f.RatedBy)
	}
	want := map[string]string{ // DEBIAN-CVE-2024-6 lends nothing: what is upstream of it is no alias
		"DEBIAN-CVE-2024-1": "high NVD", "DEBIAN-CVE-2024-2": "unknown", "DEBIAN-CVE-2024-3": "medium NVD",
		"DEBIAN-CVE-2024-4": "none Debian", "DEBIAN-CVE-2024-5": "high NVD", "DEBIAN-CVE-2024-6": "low DEBIAN-CVE-2024-6",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if a, err := x.Advisory(nvdName); err != nil || len(a) > 0 {
		t.Errorf("rows of NVD are no advisories: %v, %v", a, err)
	}
	before, err := Compile(t.Context(), Source{Base: base}, CompileOptions{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		text, want string
		limits     Limits
	}{
		"half a file":       {goodNVD[:len(goodNVD)-300], "unexpected EOF", Limits{}},
		"no end":            {goodNVD[:len(goodNVD)-1], "unexpected EOF", Limits{}},
		"two files":         {goodNVD + "{}", "text after the end", Limits{}},
		"another file":      {`{"CVE_Items":[]}`, `no "vulnerabilities"`, Limits{}},
		"a list":            {`[]`, "where { is wanted", Limits{}},
		"an entry of words": {`{"vulnerabilities":["x"]}`, "entry 0", Limits{}},
		"no CVE":            {`{"vulnerabilities":[{"cve":{"id":"x"}}]}`, `entry 0: cve.id "x" is no CVE`, Limits{}},
		"a huge entry":      {goodNVD, "larger than the limit", Limits{Record: 300}},
	} {
		tt.limits.Archive = 1 << 20
		_, err := Compile(t.Context(), Source{Base: base, NVD: []string{writeFile(t, tt.text)}}, CompileOptions{Dir: dir, Limits: tt.limits})
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "nvd ") {
			t.Errorf("%s: error %v, want one of nvd with %q", name, err, tt.want)
		}
		x, err := Open(filepath.Join(dir, indexName))
		if err != nil || x.Revision() != before.Revision {
			t.Fatalf("%s: the index in force: %v", name, err)
		}
		x.Close()
	}
}

func FuzzEPSS(f *testing.F) {
	f.Add([]byte(goodEPSS))
	f.Add([]byte(zipped(f, goodEPSS)))
	f.Add([]byte("\ufeff#model_version:v1,score_date:2026-05-18\ncve,epss\r\nCVE-2024-1,1e-3\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := parseEPSS(bytes.NewReader(data))
		if err != nil {
			return
		}
		if len(e.scores) == 0 || e.date.IsZero() || e.model == "" {
			t.Fatalf("taken without content: %+v", e)
		}
		for c, s := range e.scores {
			if s > 1e6 {
				t.Fatalf("%d: %d millionths", c, s)
			}
		}
	})
}

func FuzzNVD(f *testing.F) {
	f.Add([]byte(goodNVD))
	f.Add([]byte(zipped(f, goodNVD)))
	f.Add([]byte(`{"vulnerabilities":[{"cve":{"id":"CVE-2024-0001","metrics":{"cvssMetricV2":[{}]}}}],"x":[{"y":null}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		taken := 0
		n, _, err := parseNVD(t.Context(), bytes.NewReader(data), Limits{Text: 1 << 20, Record: 1 << 16}, func(_ cve, r rating) {
			taken++
			if r.vector == "" || r.severity == analyzer.SeverityUnknown || r.score < 0 || r.score > 10 {
				t.Fatalf("rating %+v", r)
			}
		})
		if err == nil && taken > n {
			t.Fatalf("%d ratings of %d entries", taken, n)
		}
	})
}
