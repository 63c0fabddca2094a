package extract

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
	packageurl "github.com/package-url/packageurl-go"

	"github.com/sluiceproxy/sluice/analyzer"
)

// catalogs are small formats by which an installer says what it put where.
func catalogs() []parser {
	return []parser{
		{name: "chisel", wants: paths(chiselManifest), parse: parseChisel},
		{name: "bitnami", wants: isBitnami, document: true, parse: parseBitnami},
		{name: "conda", wants: isConda, document: true, parse: parseConda},
		{name: "r package", wants: isRPackage, document: true, parse: parseRPackage},
		{name: "erlang application", wants: isErlang, document: true, parse: parseErlang},
		{name: "wordpress plugin", wants: isWordPress, parse: parseWordPress},
	}
}

const chiselManifest = "var/lib/chisel/manifest.wall"

// parseChisel reads the manifest of an image that Canonical's chisel cut out of
// Ubuntu packages: JSON lines, compressed with zstd, of the kinds package, slice,
// path and content (github.com/canonical/jsonwall; chisel, "Chisel manifest").
func parseChisel(ctx context.Context, s *Session, p string, c Content) ([]analyzer.Package, error) {
	zr, err := zstd.NewReader(io.NewSectionReader(c, 0, c.Size), zstd.WithDecoderMaxMemory(64<<20), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	defer zr.Close()
	limit := &io.LimitedReader{R: zr, N: s.ex.opts.MaxDocument}
	lines := bufio.NewScanner(limit)
	lines.Buffer(nil, 1<<20)
	var pkgs []analyzer.Package
	var errs []error
	for n := 0; lines.Scan(); n++ {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		var row struct {
			Wall    string   `json:"jsonwall"`
			Kind    string   `json:"kind"`
			Name    string   `json:"name"`
			Version string   `json:"version"`
			Arch    string   `json:"arch"`
			Path    string   `json:"path"`
			Slices  []string `json:"slices"`
		}
		if err := json.Unmarshal(lines.Bytes(), &row); err != nil {
			return pkgs, err
		}
		if n == 0 && row.Wall == "" {
			return nil, errors.New("not a jsonwall")
		}
		switch {
		case row.Kind == "package" && (row.Name == "" || row.Version == ""):
			errs = append(errs, fmt.Errorf("package %q has version %q", row.Name, row.Version))
		case row.Kind == "package":
			pkgs = append(pkgs, analyzer.Package{Type: "deb", Name: row.Name, Version: row.Version, Arch: row.Arch, Path: p})
		case row.Kind == "path" && len(row.Slices) > 0:
			name, _, _ := strings.Cut(row.Slices[0], "_") // PACKAGE_SLICE
			s.owners.add(row.Path, "deb/"+name)
		}
	}
	if limit.N == 0 {
		errs = append(errs, fmt.Errorf("larger than %d bytes", s.ex.opts.MaxDocument))
	}
	if len(pkgs) == 0 && len(errs) == 0 {
		errs = append(errs, errors.New("no package found"))
	}
	return pkgs, errors.Join(append(errs, lines.Err())...)
}

// isBitnami knows the SPDX documents that Bitnami puts beside what it installs:
// opt/bitnami/nginx/.spdx-nginx.spdx.
func isBitnami(f file) bool {
	return strings.HasPrefix(f.base, ".spdx-") && strings.HasSuffix(f.base, ".spdx") && strings.HasPrefix(f.path, "opt/bitnami/")
}

// parseBitnami reads the packages that have a purl of type bitnami.
func parseBitnami(_ context.Context, _ *Session, p string, c Content) ([]analyzer.Package, error) {
	var doc struct {
		Version  string `json:"spdxVersion"`
		Packages []struct {
			Refs []struct {
				Type    string `json:"referenceType"`
				Locator string `json:"referenceLocator"`
			} `json:"externalRefs"`
		} `json:"packages"`
	}
	if err := decodeJSON(c, &doc); err != nil {
		return nil, err
	}
	if doc.Version == "" {
		return nil, errors.New("not an SPDX document")
	}
	var pkgs []analyzer.Package
	var errs []error
	for _, sp := range doc.Packages {
		for _, r := range sp.Refs {
			if r.Type != "purl" || !strings.HasPrefix(r.Locator, "pkg:bitnami/") {
				continue
			}
			u, err := packageurl.FromString(r.Locator)
			if err == nil && u.Version == "" {
				err = fmt.Errorf("%s has no version", r.Locator)
			}
			if err != nil {
				errs = append(errs, err)
				continue
			}
			pkgs = append(pkgs, analyzer.Package{
				Type: "bitnami", Name: u.Name, Version: u.Version, Arch: u.Qualifiers.Map()["arch"], Ecosystem: "Bitnami", Path: p, PURL: u.ToString(),
			})
		}
	}
	return pkgs, errors.Join(errs...)
}

func isConda(f file) bool {
	return path.Ext(f.base) == ".json" && path.Base(path.Dir(f.path)) == "conda-meta"
}

// parseConda reads the record of one installed conda package. conda's packages
// have no ecosystem in OSV; those of Python are matched by their METADATA.
func parseConda(_ context.Context, _ *Session, p string, c Content) ([]analyzer.Package, error) {
	var doc struct {
		Name    string `json:"name"`
		Version string `json:"version"`
		Subdir  string `json:"subdir"`
	}
	if err := decodeJSON(c, &doc); err != nil {
		return nil, err
	}
	return one(analyzer.Package{Type: "conda", Name: doc.Name, Version: doc.Version, Arch: doc.Subdir, Path: p})
}

// one returns a package whose format demands a name and a version.
func one(p analyzer.Package) ([]analyzer.Package, error) {
	if p.Name == "" || p.Version == "" {
		return nil, fmt.Errorf("package %q has version %q", p.Name, p.Version)
	}
	p.Ecosystem = ecosystems[p.Type]
	p.PURL = pathPURL(p.Type, p.Name, p.Version)
	return []analyzer.Package{p}, nil
}

// isRPackage knows the libraries of R: library/NAME/DESCRIPTION and
// site-library/NAME/DESCRIPTION.
func isRPackage(f file) bool {
	if f.base != "DESCRIPTION" {
		return false
	}
	library := path.Base(path.Dir(path.Dir(f.path)))
	return library == "library" || library == "site-library"
}

// parseRPackage reads a DESCRIPTION. Only an installed package's has the field
// Built ("Writing R Extensions", "The DESCRIPTION file"). What belongs to R
// itself (Priority: base) has R's version and no advisories of CRAN.
func parseRPackage(_ context.Context, _ *Session, p string, c Content) ([]analyzer.Package, error) {
	m := map[string]string{}
	err := eachLine(c, func(line []byte) {
		for _, k := range [...]string{"package:", "version:", "built:", "priority:"} {
			if v, ok := field(line, k); ok {
				m[k] = v
			}
		}
	})
	if err != nil || m["built:"] == "" || m["priority:"] == "base" {
		return nil, err
	}
	return one(analyzer.Package{Type: "cran", Name: m["package:"], Version: m["version:"], Path: p})
}

// isErlang knows the applications of a release: lib/NAME-VERSION/ebin/NAME.app.
func isErlang(f file) bool {
	return path.Ext(f.base) == ".app" && path.Base(path.Dir(f.path)) == "ebin"
}

var (
	erlangName    = regexp.MustCompile(`\{\s*application\s*,\s*'?([A-Za-z][A-Za-z0-9_@]*)'?`)
	erlangVersion = regexp.MustCompile(`\{\s*vsn\s*,\s*(?:<<)?"([^"]+)"`)
)

// otp are the applications of Erlang itself, Elixir's own among them. They are
// no packages of Hex, where some of their names are taken.
var otp = []string{
	"asn1", "common_test", "compiler", "crypto", "debugger", "dialyzer", "diameter", "edoc", "eldap", "erl_interface", "erts", "et", "eunit",
	"ftp", "inets", "jinterface", "kernel", "megaco", "mnesia", "observer", "odbc", "os_mon", "parsetools", "public_key", "reltool",
	"runtime_tools", "sasl", "snmp", "ssh", "ssl", "stdlib", "syntax_tools", "tftp", "tools", "wx", "xmerl",
	"eex", "elixir", "ex_unit", "iex", "logger", "mix",
}

// parseErlang reads an application resource file (app(5)).
func parseErlang(_ context.Context, _ *Session, p string, c Content) ([]analyzer.Package, error) {
	b, err := io.ReadAll(io.NewSectionReader(c, 0, min(c.Size, 1<<20)))
	if err != nil {
		return nil, &machineError{err}
	}
	name, version := erlangName.FindSubmatch(b), erlangVersion.FindSubmatch(b)
	if name == nil || version == nil {
		return nil, errors.New("no name or version found")
	}
	if slices.Contains(otp, string(name[1])) {
		return nil, nil
	}
	return one(analyzer.Package{Type: "hex", Name: string(name[1]), Version: string(version[1]), Path: p})
}

func isWordPress(f file) bool {
	return path.Ext(f.base) == ".php" && strings.HasSuffix("/"+path.Dir(path.Dir(f.path)), "/wp-content/plugins")
}

// parseWordPress reads the header comment of a plugin's main file, in the first
// 8 KiB as WordPress does (get_file_data). The plugin is called by its directory.
func parseWordPress(_ context.Context, _ *Session, p string, c Content) ([]analyzer.Package, error) {
	b, err := io.ReadAll(io.NewSectionReader(c, 0, min(c.Size, 8<<10)))
	if err != nil {
		return nil, &machineError{err}
	}
	m := map[string]string{}
	for line := range bytes.Lines(b) {
		k, v, ok := bytes.Cut(bytes.TrimLeft(line, " \t/*#@"), []byte(":"))
		if key := strings.ToLower(string(k)); ok && (key == "plugin name" || key == "version") && m[key] == "" {
			m[key] = strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(string(v)), "*/"))
		}
	}
	if m["plugin name"] == "" {
		return nil, nil // one of the plugin's other files
	}
	return one(analyzer.Package{Type: "wordpress", Name: path.Base(path.Dir(p)), Version: m["version"], Path: p})
}
