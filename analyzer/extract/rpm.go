package extract

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/sluiceproxy/sluice/analyzer"
)

// rpmDirs are where rpm keeps its database: classic, since Fedora 36, OSTree.
var rpmDirs = [...]string{"var/lib/rpm", "usr/lib/sysimage/rpm", "usr/share/rpm"}

// rpmNames are the databases, BerkeleyDB, ndb and SQLite, and SQLite's
// write-ahead log, which may hold pages newer than those of the database.
var rpmNames = [...]string{"Packages", "Packages.db", "rpmdb.sqlite", "rpmdb.sqlite-wal"}

const walSuffix = "-wal"

func isRPM(p string) bool {
	return slices.Contains(rpmNames[:], path.Base(p)) && slices.Contains(rpmDirs[:], path.Dir(p))
}

// rpmFiles are the rpm databases of a layer. SQLite wants real files, and its
// log beside the database, so they are copied to a directory and read at the
// end of the layer.
//
// They are read by own code (rpmdb.go, rpmheader.go). The library under
// scalibr's extractor takes the end of a damaged SQLite database for its end,
// panics on hostile BerkeleyDB pages in a goroutine where nobody can recover,
// and scalibr drops the module label.
type rpmFiles struct {
	dir   string
	files []string // paths in the image
}

func (r *rpmFiles) add(tempDir, p string, c Content) error {
	if r.dir == "" {
		dir, err := os.MkdirTemp(tempDir, "sluice-rpm-")
		if err != nil {
			return err
		}
		r.dir = dir
	}
	dst := r.real(p)
	if err := os.MkdirAll(filepath.Dir(dst), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(dst, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, io.NewSectionReader(c, 0, c.Size))
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("copy %s: %w", p, err)
	}
	if !slices.Contains(r.files, p) {
		r.files = append(r.files, p)
	}
	return nil
}

func (r *rpmFiles) real(p string) string { return filepath.Join(r.dir, filepath.FromSlash(p)) }

func (r *rpmFiles) close() error {
	if r.dir == "" {
		return nil
	}
	return os.RemoveAll(r.dir)
}

// read lists the packages of all databases and notes their files.
func (r *rpmFiles) read(ctx context.Context, owned *owners) (Result, error) {
	var res Result
	for _, p := range r.files {
		if db, ok := strings.CutSuffix(p, walSuffix); ok {
			if fi, err := os.Stat(r.real(p)); err != nil {
				return res, err
			} else if fi.Size() > 0 && !slices.Contains(r.files, db) {
				res.Problems = append(res.Problems, Problem{p, "rpm database: a write-ahead log without its database in the same layer"})
			}
			continue
		}
		pkgs, err := listRPM(ctx, r.real(p), p, owned)
		if ctx.Err() != nil {
			return res, ctx.Err()
		}
		if err != nil {
			res.Problems = append(res.Problems, Problem{p, "rpm database: " + strings.ReplaceAll(err.Error(), r.dir+"/", "")})
		}
		res.Packages = append(res.Packages, pkgs...)
	}
	return res, nil
}

// listRPM reads one database. Whatever its parsers do wrong is an error.
func listRPM(ctx context.Context, file, p string, owned *owners) (pkgs []analyzer.Package, err error) {
	defer func() {
		if v := recover(); v != nil {
			pkgs, err = nil, fmt.Errorf("panic: %v", v)
		}
	}()
	var errs []error
	text := 0
	err = readRPM(ctx, file, func(blob []byte) error {
		if len(pkgs) >= maxRPMs {
			return fmt.Errorf("more than %d packages", maxRPMs)
		}
		h, err := parseHeader(blob)
		if err == nil && (h.name == "" || h.version == "") {
			err = fmt.Errorf("package %q has version %q", h.name, h.version)
		}
		if err == nil {
			if text += h.text(); text > maxRPMText {
				return fmt.Errorf("more than %d bytes of names and versions", maxRPMText)
			}
		}
		if err == nil {
			err = h.eachFile(func(file string) { owned.add(file, "rpm/"+h.name) })
		}
		if err != nil {
			if errs = append(errs, err); len(errs) > 10 {
				return errors.New("and more")
			}
			return nil
		}
		pkgs = append(pkgs, h.pkg(p))
		return nil
	})
	return pkgs, errors.Join(append(errs, err)...)
}

// pkg is the package that a header describes, named by the database at p.
func (h *header) pkg(p string) analyzer.Package {
	evr := h.version + "-" + h.release
	pkg := analyzer.Package{Type: "rpm", Name: h.name, Version: evr, Arch: h.arch, Modularity: h.modularity, Path: p}
	if h.epoch != 0 {
		pkg.Version = strconv.FormatUint(uint64(h.epoch), 10) + ":" + evr
	}
	// NAME-VERSION-RELEASE.src.rpm; the epoch of the source is not in it.
	src := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(h.source, ".rpm"), ".src"), ".nosrc")
	if rel := strings.LastIndexByte(src, '-'); rel > 0 {
		if ver := strings.LastIndexByte(src[:rel], '-'); ver > 0 {
			if name := src[:ver]; name != h.name {
				pkg.Source = name
			}
			if v := src[ver+1:]; v != evr {
				pkg.SourceVersion = v
			}
		}
	}
	return pkg
}
