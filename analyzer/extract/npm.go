package extract

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/sluiceproxy/sluice/analyzer"
)

// npmLock is package-lock.json and npm-shrinkwrap.json, lockfileVersion 1 to 3
// (npm documentation, "package-lock.json").
type npmLock struct {
	Packages     map[string]npmPackage    `json:"packages"`
	Dependencies map[string]npmDependency `json:"dependencies"`
}

type npmPackage struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Dev     bool   `json:"dev"`
	Link    bool   `json:"link"`
}

type npmDependency struct {
	Version      string                   `json:"version"`
	Dev          bool                     `json:"dev"`
	Dependencies map[string]npmDependency `json:"dependencies"`
}

// parseNPMLock reads npm's lock files. scalibr's extractor finds a line number
// for each package by searching the document from its start, which makes large
// locks quadratic.
func parseNPMLock(_ context.Context, _ *Session, p string, c Content) ([]analyzer.Package, error) {
	var lock npmLock
	if err := decodeJSON(c, &lock); err != nil {
		return nil, err
	}
	found := map[[2]string]bool{}
	var errs []error
	add := func(name, version string) {
		switch {
		case name == "" || version == "":
			errs = append(errs, fmt.Errorf("package %q has version %q", name, version))
		case strings.HasPrefix(version, "npm:"): // an alias: npm:NAME@VERSION
			if i := strings.LastIndexByte(version, '@'); i > len("npm:") {
				name, version = version[len("npm:"):i], version[i+1:]
			}
			fallthrough
		default:
			found[[2]string{name, version}] = true
		}
	}
	for at, pkg := range lock.Packages {
		i := strings.LastIndex(at, "node_modules/")
		if i < 0 || pkg.Link || pkg.Dev { // the project itself, its workspaces, what no production install brings
			continue
		}
		name := pkg.Name
		if name == "" {
			name = at[i+len("node_modules/"):]
		}
		if pkg.Version == "" { // optional packages of another platform have no version
			continue
		}
		add(name, pkg.Version)
	}
	if lock.Packages == nil {
		var walk func(map[string]npmDependency)
		walk = func(deps map[string]npmDependency) {
			for name, d := range deps {
				if !d.Dev {
					add(name, d.Version)
				}
				walk(d.Dependencies)
			}
		}
		walk(lock.Dependencies)
	}
	return sorted(found, func(name, version string) analyzer.Package {
		return analyzer.Package{Type: "npm", Name: name, Version: version, Ecosystem: "npm", Path: p, PURL: pathPURL("npm", name, version)}
	}), errors.Join(errs...)
}

func sorted(found map[[2]string]bool, f func(name, version string) analyzer.Package) []analyzer.Package {
	keys := slices.SortedFunc(maps.Keys(found), func(a, b [2]string) int { return slices.Compare(a[:], b[:]) })
	pkgs := make([]analyzer.Package, 0, len(keys))
	for _, k := range keys {
		pkgs = append(pkgs, f(k[0], k[1]))
	}
	return pkgs
}

func decodeJSON(c Content, v any) error {
	b, err := io.ReadAll(io.NewSectionReader(c, 0, c.Size))
	if err != nil {
		return &machineError{err}
	}
	return json.Unmarshal(b, v)
}
