// Package sluice_test keeps the rules that hold for the whole tree.
package sluice_test

import (
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/sluiceproxy/sluice"

// file is one Go file of the program, without tests.
type file struct {
	pkg     string // import path below the module: "proxy/gate"
	name    string // path from the module's root
	imports []string
}

// within reports whether the package p is room or lies below it.
func within(p, room string) bool { return p == room || strings.HasPrefix(p, room+"/") }

// foundations import nothing of the program but themselves.
var foundations = []string{"analyzer", "signing", "cache", "configs"}

// vocabulary is what proxy may import of the foundations: their root packages,
// not the engines below them.
var vocabulary = []string{"analyzer", "signing"}

// reserved are modules' packages that only the named rooms import.
var reserved = map[string][]string{
	"github.com/distribution/distribution/v3/registry/storage": {"proxy/store"},
	"github.com/google/go-containerregistry/pkg/v1/remote":     {"proxy/upstream", "signing"},
	"github.com/redis/go-redis":                                {"cache/redis"},
}

// impure are the packages that proxy/policy cannot need: it reads evidence,
// and nothing else.
var impure = []string{
	"context", "database/sql", "log", "net", "os", "path/filepath", "syscall", "go.uber.org/zap", "golang.org/x/sys",
}

// pure are those below impure ones that only parse.
var pure = []string{"net/netip", "net/url"}

// complaint says what is wrong with an import of to by the package from, or
// nothing. It is the rule of DESIGN.md, section 3.
func complaint(from, to string) string {
	for prefix, rooms := range reserved {
		if within(to, prefix) && !slices.ContainsFunc(rooms, func(r string) bool { return within(from, r) }) {
			return "only " + strings.Join(rooms, " and ") + " may import it"
		}
	}
	if from == "proxy/policy" && !slices.Contains(pure, to) && slices.ContainsFunc(impure, func(p string) bool { return within(to, p) }) {
		return "proxy/policy is pure"
	}
	own, ok := strings.CutPrefix(to, module+"/")
	if !ok {
		return ""
	}
	for _, f := range foundations {
		if within(from, f) && !within(own, f) {
			return f + " imports nothing of the program but itself"
		}
	}
	if within(from, "proxy") && !within(own, "proxy") && !slices.Contains(vocabulary, own) {
		return "proxy imports its own packages and the vocabulary of " + strings.Join(vocabulary, " and ")
	}
	if within(own, "cmd") && !within(from, "cmd") {
		return "only cmd imports cmd"
	}
	return ""
}

func TestComplaint(t *testing.T) {
	for _, tt := range []struct {
		from, to string
		ok       bool
	}{
		{"cmd/sluice", module + "/proxy/gate", true},
		{"cmd/sluice", module + "/analyzer/advisory", true},
		{"cmd/sluice", module + "/cmd/sluice/target", true},
		{"cmd/sluice", "github.com/distribution/distribution/v3/registry/storage/driver", false},
		{"proxy/gate", module + "/proxy/policy", true},
		{"proxy/gate", module + "/analyzer", true},
		{"proxy/gate", module + "/analyzer/advisory", false},
		{"proxy/gate", module + "/configs", false},
		{"proxy/store", "github.com/distribution/distribution/v3/registry/storage/driver/filesystem", true},
		{"proxy/registry", "github.com/distribution/distribution/v3/registry/api/errcode", true},
		{"proxy/upstream", "github.com/google/go-containerregistry/pkg/v1/remote", true},
		{"signing/sigstore", "github.com/google/go-containerregistry/pkg/v1/remote", true},
		{"proxy/fetch", "github.com/google/go-containerregistry/pkg/v1/remote/transport", false},
		{"analyzer/layer", module + "/analyzer", true},
		{"analyzer", module + "/proxy/policy", false},
		{"analyzer/report", module + "/signing", false},
		{"configs", module + "/analyzer", false},
		{"cache/redis", "github.com/redis/go-redis/v9", true},
		{"proxy", "github.com/redis/go-redis/v9", false},
		{"proxy/policy", "os", false},
		{"proxy/policy", "net/http", false},
		{"proxy/policy", "net/url", true},
		{"proxy/policy", "time", true},
		{"proxy/api", module + "/cmd/sluice", false},
	} {
		if got := complaint(tt.from, tt.to); (got == "") != tt.ok {
			t.Errorf("%s imports %s: complaint %q, want ok = %v", tt.from, tt.to, got, tt.ok)
		}
	}
}

func TestDirection(t *testing.T) {
	files := program(t)
	if len(files) < 20 {
		t.Fatalf("only %d Go files found: the walk does not see the program", len(files))
	}
	for _, f := range files {
		for _, to := range f.imports {
			if why := complaint(f.pkg, to); why != "" {
				t.Errorf("%s imports %s: %s", f.name, to, why)
			}
		}
	}
}

// TestPolicyHasNoClock keeps the one impurity out that imports cannot show.
func TestPolicyHasNoClock(t *testing.T) {
	clock := []string{"Now", "Since", "Until", "After", "AfterFunc", "Sleep", "NewTimer", "NewTicker", "Tick"}
	for _, f := range program(t) {
		if f.pkg != "proxy/policy" {
			continue
		}
		fset := token.NewFileSet()
		tree, err := parser.ParseFile(fset, f.name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains(clock, sel.Sel.Name) {
				t.Errorf("%s: time.%s: Evidence.Now is the only clock", fset.Position(sel.Pos()), sel.Sel.Name)
			}
			return true
		})
	}
}

// program returns the files that `go build ./...` compiles here.
func program(t *testing.T) []file {
	t.Helper()
	var files []file
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := d.Name()
		if d.IsDir() {
			if name != "." && (strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") || base == "testdata") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(base, ".go") || strings.HasSuffix(base, "_test.go") {
			return nil
		}
		if ok, err := build.Default.MatchFile(filepath.Dir(name), base); err != nil || !ok {
			return err
		}
		tree, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		f := file{pkg: path.Dir(filepath.ToSlash(name)), name: name}
		for _, s := range tree.Imports {
			to, err := strconv.Unquote(s.Path.Value)
			if err != nil {
				return err
			}
			f.imports = append(f.imports, to)
		}
		files = append(files, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
