package vex

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	packageurl "github.com/package-url/packageurl-go"

	"github.com/sluiceproxy/sluice/analyzer"
)

// Set answers what documents say of findings. It is immutable and can be used
// by many goroutines at once; it implements analyzer.VEX. The zero Set says
// nothing.
type Set struct {
	revision   string
	statements int
	byID       map[string][]*Statement // by vulnerability, in upper case; the latest last
}

// NewSet returns a Set of docs.
func NewSet(docs ...Document) *Set {
	s := &Set{byID: map[string][]*Statement{}}
	h := sha256.New()
	for i := range docs {
		h.Write(docs[i].sum[:]) // a hash never returns an error
		s.statements += len(docs[i].Statements)
		for j := range docs[i].Statements {
			st := &docs[i].Statements[j]
			for _, id := range st.IDs {
				s.byID[id] = append(s.byID[id], st)
			}
		}
	}
	if len(docs) > 0 {
		s.revision = "x-" + hex.EncodeToString(h.Sum(nil))[:12]
	}
	return s
}

// Load reads the documents of files and of directories (all *.json files below
// them, in the order of their names). The error tells everything that is wrong.
func Load(paths []string) (*Set, []Document, error) {
	var (
		docs []Document
		errs []error
	)
	read := func(name string) {
		d, err := readFile(name)
		docs, errs = append(docs, d), append(errs, err)
	}
	for _, p := range paths {
		info, err := os.Stat(p)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("VEX: %w", err))
		case !info.IsDir():
			read(p)
		default:
			errs = append(errs, filepath.WalkDir(p, func(name string, e fs.DirEntry, err error) error {
				if err == nil && !e.IsDir() && strings.EqualFold(filepath.Ext(name), ".json") {
					read(name)
				}
				return err
			}))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, nil, err
	}
	return NewSet(docs...), docs, nil
}

func readFile(name string) (Document, error) {
	f, err := os.Open(name)
	if err != nil {
		return Document{}, fmt.Errorf("VEX: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, MaxBytes+1))
	if err != nil {
		return Document{}, fmt.Errorf("VEX: %w", err)
	}
	return Parse(name, b)
}

// Revision names the documents; "" for none.
func (s *Set) Revision() string { return s.revision }

// Len is the number of statements.
func (s *Set) Len() int { return s.statements }

// Mark sets VEX in all findings and undecided advisories of rep.
func (s *Set) Mark(rep *analyzer.Report, img analyzer.VEXImage) {
	for i := range rep.Findings {
		f := &rep.Findings[i]
		f.VEX = s.Find(f.Advisory, f.Aliases, &f.Package, rep, img)
	}
	for i := range rep.Undecided {
		u := &rep.Undecided[i]
		u.VEX = s.Find(u.Advisory, nil, &u.Package, rep, img)
	}
}

// Find returns the latest statement on an advisory in a package of rep, which
// is of img; nil if there is none. An advisory with several CVEs among its ids
// is suppressed if a statement names it, or if one suppresses each of these.
func (s *Set) Find(advisory string, aliases []string, pkg *analyzer.Package, rep *analyzer.Report, img analyzer.VEXImage) *analyzer.VEXStatement {
	ids := identifiers(append([]string{advisory}, aliases...)...)
	if advisory == "" || !slices.ContainsFunc(ids, func(id string) bool { return s.byID[id] != nil }) {
		return nil
	}
	sub := subject{pkg: pkg, rep: rep, img: &img}
	if _, arch, ok := strings.Cut(rep.Platform, "/"); ok {
		sub.platform, _, _ = strings.Cut(arch, "/")
	}
	if u, err := packageurl.FromString(pkg.PURL); err == nil {
		sub.purl = u
	} // else only an image's statement can match
	var (
		cves  []string
		found *Statement
	)
	for _, id := range ids {
		if strings.HasPrefix(id, "CVE-") {
			cves = append(cves, id)
		}
	}
	if len(cves) < 2 {
		for _, id := range ids {
			found = later(found, s.latest(id, &sub, ""))
		}
		return answer(found)
	}
	if found = s.latest(ids[0], &sub, advisory); found != nil {
		return answer(found)
	}
	for _, id := range cves {
		st := s.latest(id, &sub, "")
		if st == nil {
			return nil // what is said of the others does not make this one harmless
		}
		if found == nil || found.Suppresses() {
			found = st
		}
	}
	return answer(found)
}

// latest returns the latest statement on the vulnerability that is about sub.
// Unless name is empty the statement must have that name, not only an alias.
func (s *Set) latest(id string, sub *subject, name string) *Statement {
	var found *Statement
	for _, st := range s.byID[id] {
		if name != "" && !strings.EqualFold(st.Vulnerability, name) {
			continue
		}
		for i := range st.Products {
			p := &st.Products[i]
			if (st.Status != analyzer.VEXFixed || p.exact()) && p.matches(sub) {
				found = later(found, st)
				break
			}
		}
	}
	return found
}

// later returns the later one of two statements, b where they are of one time.
func later(a, b *Statement) *Statement {
	if a == nil || b != nil && !b.Time.Before(a.Time) {
		return b
	}
	return a
}

func answer(s *Statement) *analyzer.VEXStatement {
	if s == nil {
		return nil
	}
	return &s.VEXStatement
}
