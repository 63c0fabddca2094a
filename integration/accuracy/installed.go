package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// pkg is what a tool says is installed.
type pkg struct {
	typ, name, version    string
	source, sourceVersion string // as dpkg has it
	ecosystem             string // of the advisories; "" = none
	owned                 bool   // dpkg says that a package installed its file
	path                  string
}

// fields calls f with the tab-separated fields of each line.
func fields(text string, n int, f func([]string) error) error {
	for line := range strings.Lines(text) {
		w := strings.Split(strings.TrimRight(line, "\n"), "\t")
		if len(w) != n {
			return fmt.Errorf("%d fields in %q", len(w), line)
		}
		if err := f(w); err != nil {
			return err
		}
	}
	return nil
}

// apkDatabase reads the records of apk's database: there is no apk here. A
// record ends at an empty line (apk(5)).
func apkDatabase(_ context.Context, _ *lab, root string) ([]pkg, error) {
	f, err := os.Open(filepath.Join(root, "lib/apk/db/installed"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	release, err := os.ReadFile(filepath.Join(root, "etc/alpine-release"))
	if err != nil {
		return nil, err
	}
	v := strings.SplitN(strings.TrimSpace(string(release)), ".", 3)
	var out []pkg
	p := pkg{}
	flush := func() {
		if p.name != "" {
			p.typ, p.ecosystem = "apk", "Alpine:v"+v[0]+"."+v[1]
			out = append(out, p)
		}
		p = pkg{}
	}
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		switch line := sc.Text(); {
		case line == "":
			flush()
		case strings.HasPrefix(line, "P:"):
			p.name = line[2:]
		case strings.HasPrefix(line, "V:"):
			p.version = line[2:]
		case strings.HasPrefix(line, "o:"):
			p.source = line[2:]
		}
	}
	flush()
	return out, sc.Err()
}

func rpmQuery(ecosystem string) func(context.Context, *lab, string) ([]pkg, error) {
	return func(ctx context.Context, _ *lab, root string) ([]pkg, error) {
		if err := need("rpm"); err != nil {
			return nil, err
		}
		text, err := output(ctx, "", "rpm", "-qa", "--dbpath", filepath.Join(root, "var/lib/rpm"),
			"--qf", `%{NAME}\t%|EPOCH?{%{EPOCH}:}:{}|%{VERSION}-%{RELEASE}\n`)
		if err != nil {
			return nil, err
		}
		var out []pkg
		err = fields(text, 2, func(w []string) error {
			out = append(out, pkg{typ: "rpm", name: w[0], version: strings.TrimPrefix(w[1], "0:"), ecosystem: ecosystem})
			return nil
		})
		return out, err
	}
}

const (
	listPython = `
import importlib.metadata as m, sys
for d in m.distributions(**({"path": sys.argv[1:]} if len(sys.argv) > 1 else {})):
    print(d.metadata["Name"], d.version, d._path, sep="\t")
`
	listRuby = `Gem::Specification.each { |s| puts [s.name, s.version, s.loaded_from].join("\t") }`
)

func dpkgQuery(release string) func(context.Context, *lab, string) ([]pkg, error) {
	return func(ctx context.Context, _ *lab, root string) ([]pkg, error) {
		text, err := output(ctx, "", "dpkg-query", "--admindir="+filepath.Join(root, "var/lib/dpkg"), "-W",
			"-f", `${db:Status-Status}\t${Package}\t${Version}\t${source:Package}\t${source:Version}\n`)
		if err != nil {
			return nil, err
		}
		var out []pkg
		err = fields(text, 5, func(w []string) error {
			if w[0] == "installed" {
				out = append(out, pkg{typ: "deb", name: w[1], version: w[2], source: w[3], sourceVersion: w[4], ecosystem: "Debian:" + release})
			}
			return nil
		})
		return out, err
	}
}

// debianSystem asks dpkg, and within the system Python and Ruby.
func debianSystem(release string) func(context.Context, *lab, string) ([]pkg, error) {
	return func(ctx context.Context, l *lab, root string) ([]pkg, error) {
		out, err := dpkgQuery(release)(ctx, l, root)
		if err != nil {
			return nil, err
		}
		for _, lang := range []struct {
			typ, ecosystem string
			list           []string
		}{
			{"pypi", "PyPI", []string{"python3", "-c", listPython}},
			{"gem", "RubyGems", []string{"ruby", "-e", listRuby}},
		} {
			text, err := output(ctx, "", "chroot", append([]string{root}, lang.list...)...)
			if err != nil {
				return nil, err
			}
			err = fields(text, 3, func(w []string) error {
				_, err := output(ctx, "", "dpkg-query", "--admindir="+filepath.Join(root, "var/lib/dpkg"), "-S", w[2])
				out = append(out, pkg{typ: lang.typ, name: w[0], version: w[1], path: w[2], ecosystem: lang.ecosystem, owned: err == nil})
				return nil
			})
			if err != nil {
				return nil, err
			}
		}
		return out, nil
	}
}

func pythonMetadata(ctx context.Context, _ *lab, root string) ([]pkg, error) {
	if err := need("python3"); err != nil {
		return nil, err
	}
	text, err := output(ctx, "", "python3", "-c", listPython, filepath.Join(root, "srv/venv/lib/python3.11/site-packages"))
	if err != nil {
		return nil, err
	}
	var out []pkg
	err = fields(text, 3, func(w []string) error {
		out = append(out, pkg{typ: "pypi", name: w[0], version: w[1], ecosystem: "PyPI"})
		return nil
	})
	return out, err
}

type npmTree struct {
	Version      string             `json:"version"`
	Dependencies map[string]npmTree `json:"dependencies"`
}

func npmList(ctx context.Context, _ *lab, root string) ([]pkg, error) {
	// npm's status is 1 for packages that no package.json asks for; the list is whole.
	text, err := output(ctx, filepath.Join(root, "srv/app"), "npm", "ls", "--all", "--json")
	var tree npmTree
	if jsonErr := json.Unmarshal([]byte(text), &tree); jsonErr != nil {
		return nil, fmt.Errorf("%w: %w", jsonErr, err)
	}
	var out []pkg
	var walk func(npmTree)
	walk = func(t npmTree) {
		for name, d := range t.Dependencies {
			if d.Version != "" { // an optional one that is not there has none
				out = append(out, pkg{typ: "npm", name: name, version: d.Version, ecosystem: "npm"})
			}
			walk(d)
		}
	}
	walk(tree)
	return out, nil
}

// goVersion reads what `go version -m` prints: the toolchain, the main module,
// and each dependency, with what replaces it.
func goVersion(ctx context.Context, _ *lab, root string) ([]pkg, error) {
	text, err := output(ctx, root, "go", "version", "-m", ".")
	if err != nil {
		return nil, err
	}
	var out []pkg
	for line := range strings.Lines(text) {
		w := strings.Fields(line)
		switch {
		case !strings.HasPrefix(line, "\t") && len(w) > 1:
			out = append(out, pkg{typ: "golang", name: "stdlib", version: strings.TrimPrefix(w[1], "go"), ecosystem: "Go"})
		case len(w) > 2 && (w[0] == "dep" || w[0] == "mod"):
			out = append(out, pkg{typ: "golang", name: w[1], version: strings.TrimPrefix(w[2], "v"), ecosystem: "Go"})
		}
	}
	return out, nil
}

func javaPacked(context.Context, *lab, string) ([]pkg, error) {
	out := make([]pkg, len(javaJars))
	for i, j := range javaJars {
		j.ecosystem = "Maven"
		out[i] = j
	}
	return out, nil
}
