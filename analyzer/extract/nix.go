package extract

import (
	"regexp"
	"sort"
	"strings"

	"github.com/sluiceproxy/sluice/analyzer"
)

const nixStore = "nix/store/"

// nixName is HASH-NAME-VERSION[-OUTPUT] of a store path: the version starts at
// the first dash that a digit follows (Nix manual, "parseDrvName").
var nixName = regexp.MustCompile(`^[0-9a-df-np-sv-z]{32}-(.+?)-([0-9][^-]*(?:-(?:unstable|pre|rc)?[0-9][0-9-]*)?)(?:-(?:bin|dev|lib|out|doc|man|data|static|debug|info))?$`)

// NixStore finds the packages of a Nix store, which is its paths' names: no file
// there says more. paths are sorted.
func NixStore(paths []string) []analyzer.Package {
	var pkgs []analyzer.Package
	last := ""
	for _, p := range paths[sort.SearchStrings(paths, nixStore):] {
		rest, ok := strings.CutPrefix(p, nixStore)
		if !ok {
			break
		}
		dir, _, _ := strings.Cut(rest, "/")
		if dir == last || strings.HasSuffix(p, "/") || strings.HasSuffix(dir, ".drv") {
			continue
		}
		last = dir
		if m := nixName.FindStringSubmatch(dir); m != nil {
			pkgs = append(pkgs, analyzer.Package{Type: "nix", Name: m[1], Version: m[2], Path: p, PURL: pathPURL("nix", m[1], m[2])})
		}
	}
	return pkgs
}
