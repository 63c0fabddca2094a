package advisory

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluiceproxy/sluice/analyzer"
)

func TestAffected(t *testing.T) {
	x, _ := compileRecords(t, map[string][]string{
		"PyPI": {`{"id":"PYSEC-1","modified":"2024-01-01T00:00:00Z","aliases":["CVE-1"],"affected":[{"package":{"ecosystem":"PyPI","name":"Flask_Thing"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"1.0"},{"fixed":"1.2"}]}]}]}`},
		"Debian": {
			`{"id":"DSA-1-1","modified":"2024-01-01T00:00:00Z","upstream":["CVE-1","CVE-2"],"affected":[
				{"package":{"ecosystem":"Debian:12","name":"flask"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"1.2-1"}]}]},
				{"package":{"ecosystem":"Debian:11","name":"flask"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"}]}]}]}`,
			`{"id":"DSA-2-1","modified":"2024-01-01T00:00:00Z","upstream":["CVE-2"],"affected":[{"package":{"ecosystem":"Debian:12","name":"other"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"}]}]}]}`,
		},
	}, CompileOptions{})
	for id, want := range map[string][]Affected{
		"CVE-1": {
			{"DSA-1-1", "Debian:11", "flask", "introduced 0", ""},
			{"DSA-1-1", "Debian:12", "flask", "introduced 0, fixed 1.2-1", "1.2-1"},
			{"PYSEC-1", "PyPI", "flask-thing", "introduced 1.0, fixed 1.2", "1.2"},
		},
		"PYSEC-1": {{"PYSEC-1", "PyPI", "flask-thing", "introduced 1.0, fixed 1.2", "1.2"}},
		"CVE-3":   nil,
	} {
		got, err := x.Affected(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s:\n%s", id, diff)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := x.Affected(ended, "CVE-1"); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that has ended: %v", err)
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := x.Affected(t.Context(), "CVE-1"); !errors.Is(err, ErrClosed) {
		t.Errorf("a closed index: %v", err)
	}
}

func TestAffectedNames(t *testing.T) {
	for _, tt := range []struct {
		affected      Affected
		pkg           analyzer.Package
		name, release bool
	}{
		{Affected{Ecosystem: "Debian:12", Package: "openssl"}, analyzer.Package{Type: "deb", Name: "libssl3", Source: "openssl", Ecosystem: "Debian:12"}, true, true},
		{Affected{Ecosystem: "Debian:11", Package: "openssl"}, analyzer.Package{Type: "deb", Name: "libssl3", Source: "openssl", Ecosystem: "Debian:12"}, true, false},
		{Affected{Ecosystem: "Debian:12", Package: "libssl3"}, analyzer.Package{Type: "deb", Name: "libssl3", Source: "openssl", Ecosystem: "Debian:12"}, false, false},
		{Affected{Ecosystem: "PyPI", Package: "flask-thing"}, analyzer.Package{Type: "pypi", Name: "Flask.Thing", Ecosystem: "PyPI"}, true, true},
		{Affected{Ecosystem: "npm", Package: "flask"}, analyzer.Package{Type: "pypi", Name: "flask", Ecosystem: "PyPI"}, false, false},
		{Affected{Ecosystem: "npm", Package: "flask"}, analyzer.Package{Type: "generic", Name: "flask"}, false, false},
	} {
		name, release := tt.affected.Names(&tt.pkg)
		if name != tt.name || release != tt.release {
			t.Errorf("%+v names %+v: %v, %v", tt.affected, tt.pkg, name, release)
		}
	}
}
