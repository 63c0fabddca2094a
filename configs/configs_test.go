package configs_test

import (
	"bytes"
	"errors"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.yaml.in/yaml/v3"

	"github.com/sluiceproxy/sluice/configs"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// same compares two configurations by their values.
var same = cmp.Options{cmpopts.IgnoreUnexported(configs.Config{}), cmpopts.EquateEmpty()}

func write(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "sluice.yml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func load(t *testing.T, text string, environ ...string) *configs.Config {
	t.Helper()
	c, err := configs.Load(write(t, text), environ)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestDefaultFileEqualsDefault(t *testing.T) {
	got := load(t, string(configs.DefaultYAML()))
	if diff := cmp.Diff(configs.Default(), got, same); diff != "" {
		t.Errorf("default.yaml (+) is not Default() (-):\n%s", diff)
	}
	if w := got.Warnings(); len(w) > 0 {
		t.Errorf("the default has warnings: %v", w)
	}
}

func TestEveryKeyIsExplained(t *testing.T) {
	var doc yaml.Node
	if err := yaml.Unmarshal(configs.DefaultYAML(), &doc); err != nil {
		t.Fatal(err)
	}
	var check func(n *yaml.Node, typ reflect.Type, path string)
	check = func(n *yaml.Node, typ reflect.Type, path string) {
		entries := map[string]*yaml.Node{}
		comments := map[string]string{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			entries[n.Content[i].Value] = n.Content[i+1]
			comments[n.Content[i].Value] = n.Content[i].HeadComment
		}
		for i := range typ.NumField() {
			f := typ.Field(i)
			key := f.Tag.Get("yaml")
			if key == "" {
				if f.IsExported() {
					t.Errorf("field %s of %s has no yaml tag", f.Name, typ)
				}
				continue
			}
			if comments[key] == "" {
				t.Errorf("%s%s has no comment in default.yaml", path, key)
			}
			switch f.Type.Kind() {
			case reflect.Struct:
				check(entries[key], f.Type, path+key+".")
			case reflect.Map:
				if f.Type.Elem().Kind() != reflect.Struct {
					continue
				}
				check(entries[key].Content[1], f.Type.Elem(), path+key+".*.") // the first one is the example
			}
		}
	}
	check(doc.Content[0], reflect.TypeFor[configs.Config](), "")
}

func TestPrint(t *testing.T) {
	c := load(t, "upstreams: {docker.io: {username: me}, 'up:5000': {url: 'http://127.0.0.1:5555'}}\nanalysis: {maxBytes: 64KiB}\n"+
		"auth: {rules: [{who: ['user:a'], may: [pull, push], repositories: ['local/**']}], issuers: [{name: gh, require: {owner: '42'}}]}\n"+
		"registry: {modes: [{repositories: ['local/**'], mode: quarantine}], quotas: {local/a/: 10GiB}}",
		"SLUICE_UPSTREAMS_DOCKER_IO_PASSWORD=hunter2", "SLUICE_OPS_TOKEN=hunter3")
	var b bytes.Buffer
	if err := c.Print(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"# Longest wait for a verdict", "[redacted]", "maxBytes: 64KiB"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in:\n%s", want, &b)
		}
	}
	if strings.Contains(b.String(), "hunter") {
		t.Error("a secret was printed")
	}
	again := load(t, strings.ReplaceAll(b.String(), "[redacted]", ""),
		"SLUICE_UPSTREAMS_DOCKER_IO_PASSWORD=hunter2", "SLUICE_OPS_TOKEN=hunter3")
	if diff := cmp.Diff(c, again, same); diff != "" {
		t.Errorf("what was printed reads back differently:\n%s", diff)
	}
}

func TestPrintedDefaultIsTheFile(t *testing.T) {
	var b bytes.Buffer
	if err := configs.Default().Print(&b); err != nil {
		t.Fatal(err)
	}
	blank := func(s string) string { return strings.ReplaceAll(s, "\n\n", "\n") }
	if diff := cmp.Diff(blank(string(configs.DefaultYAML())), blank(b.String())); diff != "" {
		t.Error(diff)
	}
}

func TestSecretsStayHidden(t *testing.T) {
	c := configs.Default()
	c.Ops.Token = "hunter2"
	c.Upstreams["ghcr.io"] = configs.Upstream{URL: "https://ghcr.io", Token: "hunter3"}
	r := c.Redacted()
	if r.Ops.Token == c.Ops.Token || r.Upstreams["ghcr.io"].Token == "hunter3" {
		t.Error("Redacted kept a secret")
	}
	if c.Ops.Token != "hunter2" || c.Upstreams["ghcr.io"].Token != "hunter3" {
		t.Error("Redacted changed the original")
	}
}

// TestBadFiles compares all problems of each file with the golden text beside it.
func TestBadFiles(t *testing.T) {
	t.Chdir("testdata")
	files, err := filepath.Glob("*.bad.yml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, file := range files {
		t.Run(file, func(t *testing.T) {
			_, err := configs.Load(file, nil)
			if err == nil {
				t.Fatal("no problem was found")
			}
			var ps configs.Problems
			if !errors.As(err, &ps) {
				t.Fatalf("%T is not Problems: %v", err, err)
			}
			got, golden := err.Error()+"\n", strings.TrimSuffix(file, ".yml")+".txt"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestOrder(t *testing.T) {
	file := write(t, "release: {hold: 10s}\ntagTTL: 1m\nlisten: ':1'\n")
	c, err := configs.Load(file, []string{"SLUICE_RELEASE_HOLD=15s", "SLUICE_LISTEN=:2"}, func(c *configs.Config) { c.Listen = ":3" })
	if err != nil {
		t.Fatal(err)
	}
	if c.TagTTL != configs.Duration(time.Minute) {
		t.Errorf("file over default: tagTTL is %s", c.TagTTL)
	}
	if c.Release.Hold != configs.Duration(15*time.Second) {
		t.Errorf("environment over file: release.hold is %s", c.Release.Hold)
	}
	if c.Listen != ":3" {
		t.Errorf("flag over environment: listen is %s", c.Listen)
	}
}

func TestProblemOfAFlagNamesNoFile(t *testing.T) {
	file := write(t, "listen: ':1'\n")
	_, err := configs.Load(file, nil, func(c *configs.Config) { c.Listen = "nowhere" })
	if want := `listen: "nowhere" is not an address such as :5000 or 127.0.0.1:5000`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestEnviron(t *testing.T) {
	for _, tt := range []struct {
		name, env string
		want      string // text of the error, "" = none
		check     func(*configs.Config) bool
	}{
		{"size", "SLUICE_ANALYSIS_MAXBYTES=1GiB", "", func(c *configs.Config) bool { return c.Analysis.MaxBytes == 1<<30 }},
		{"bool", "SLUICE_UPSTREAMDEFAULTS=true", "", func(c *configs.Config) bool { return c.UpstreamDefaults }},
		{"list", "SLUICE_ADVISORIES_ECOSYSTEMS=Debian, npm,", "", func(c *configs.Config) bool {
			return slices.Equal(c.Advisories.Ecosystems, []string{"Debian", "npm"})
		}},
		{"upstream", "SLUICE_UPSTREAMS_DOCKER_IO_URL=http://127.0.0.1:1", "", func(c *configs.Config) bool {
			u := c.Upstreams["docker.io"]
			return u.URL == "http://127.0.0.1:1" && u.Library
		}},
		{"kubernetes", "SLUICE_PORT_5000_TCP_ADDR=10.0.0.1", "", nil},
		{"kubernetes of another service", "SLUICE_OPS_SERVICE_HOST=10.0.0.1", "", nil},
		{"tests", "SLUICE_TEST_DATA=/x", "", nil},
		{"others", "HOME=/x", "", nil},
		{"unknown", "SLUICE_RELEASE_HOLT=1s", "SLUICE_RELEASE_HOLT: no such configuration key; did you mean SLUICE_RELEASE_HOLD?", nil},
		{"bad value", "SLUICE_RELEASE_HOLD=soon", `SLUICE_RELEASE_HOLD: release.hold: "soon" is not a duration such as 20s, 5m or 120h`, nil},
		{"bad address", "SLUICE_LISTEN=5000", `SLUICE_LISTEN: listen: "5000" is not an address such as :5000 or 127.0.0.1:5000`, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := configs.Load("", []string{tt.env})
			if got := text(err); got != tt.want {
				t.Fatalf("error %q, want %q", got, tt.want)
			}
			if tt.check != nil && !tt.check(c) {
				t.Errorf("not set: %+v", c)
			}
		})
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestUpstreamDefaults(t *testing.T) {
	for _, tt := range []struct {
		name, file string
		want       []string
	}{
		{"added", "upstreams: {up: {url: 'http://127.0.0.1:1'}}", append(slices.Collect(maps.Keys(configs.Default().Upstreams)), "up")},
		{"only mine", "upstreamDefaults: false\ndefault: up\nupstreams: {up: {url: 'http://127.0.0.1:1'}}", []string{"up"}},
		{"well-known one that I name", "upstreamDefaults: false\nupstreams: {docker.io: {}}", []string{"docker.io"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := load(t, tt.file)
			got := slices.Sorted(maps.Keys(c.Upstreams))
			slices.Sort(tt.want)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			if u, ok := c.Upstreams["docker.io"]; ok && !u.Library {
				t.Error("docker.io lost its defaults")
			}
		})
	}
}

func TestWarnings(t *testing.T) {
	c := load(t, `release: {hold: 45s}
upstreams:
  a: {url: "http://registry.example.org"}
`)
	var got []string
	for _, w := range c.Warnings() {
		got = append(got, w.Path)
	}
	want := []string{"release.hold", "upstreams.a.url"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestParseUpstreamFlag(t *testing.T) {
	for _, tt := range []struct {
		in, name, url string
		bad           bool
	}{
		{in: "up=http://127.0.0.1:5555", name: "up", url: "http://127.0.0.1:5555"},
		{in: "localhost:5555=http://127.0.0.1:5555", name: "localhost:5555", url: "http://127.0.0.1:5555"},
		{in: "registry.example.org", name: "registry.example.org", url: "https://registry.example.org"},
		{in: "Up=http://x", bad: true},
		{in: "=http://x", bad: true},
		{in: "up=", bad: true},
		{in: "", bad: true},
	} {
		name, u, err := configs.ParseUpstreamFlag(tt.in)
		if (err != nil) != tt.bad || name != tt.name || u.URL != tt.url {
			t.Errorf("%q gave %q %q %v", tt.in, name, u.URL, err)
		}
	}
}

func TestReadSecret(t *testing.T) {
	file := write(t, " s3cret\n")
	for _, tt := range []struct {
		name  string
		value configs.Secret
		file  string
		want  configs.Secret
		bad   bool
	}{
		{name: "none"},
		{name: "value wins", value: "v", file: file, want: "v"},
		{name: "file", file: file, want: "s3cret"},
		{name: "empty file", file: write(t, "\n"), bad: true},
		{name: "no file", file: file + ".no", bad: true},
		{name: "large", file: write(t, strings.Repeat("x", 65<<10)), bad: true},
	} {
		got, err := configs.ReadSecret(tt.value, tt.file)
		if string(got) != string(tt.want) || (err != nil) != tt.bad {
			t.Errorf("%s: %q, %v", tt.name, string(got), err)
		}
	}
}

func TestDurationAndSize(t *testing.T) {
	for in, want := range map[string]string{"90s": "1m30s", "60m": "1h", "5d": "120h", "0": "0s", "1h0m5s": "1h0m5s", "-1s": "", "5": "", "d": "", "70000d": ""} {
		var d configs.Duration
		got := ""
		if err := d.UnmarshalText([]byte(in)); err == nil {
			got = d.String()
		}
		if got != want {
			t.Errorf("duration %q: %q, want %q", in, got, want)
		}
	}
	for in, want := range map[string]string{"65536": "64KiB", "10GiB": "10GiB", "1GB": "1000000000", "3 MiB": "3MiB", "0": "0", "-1": "", "1.5GiB": "", "9999999999TiB": "", "x": ""} {
		var s configs.Size
		got := ""
		if err := s.UnmarshalText([]byte(in)); err == nil {
			got = s.String()
		}
		if got != want {
			t.Errorf("size %q: %q, want %q", in, got, want)
		}
	}
}

func FuzzLoad(f *testing.F) {
	f.Add(configs.DefaultYAML())
	f.Add([]byte("upstreams: {a: &x {url: b}, c: *x}\n---\n"))
	f.Add([]byte("listen: [1]\nops: 3\n<<: {data: x}"))
	f.Add([]byte("a: &a [*a]\nupstreams: &u {x: *u}"))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		file := filepath.Join(dir, "f.yml")
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := configs.Load(file, nil)
		if err != nil {
			_ = err.Error()
			return
		}
		var b bytes.Buffer
		if err := c.Print(&b); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		again, err := configs.Load(file, nil)
		if err != nil {
			t.Fatalf("what was printed is refused: %v\n%s", err, &b)
		}
		if diff := cmp.Diff(c, again, same); diff != "" {
			t.Fatal(diff)
		}
	})
}
