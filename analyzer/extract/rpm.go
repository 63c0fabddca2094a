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

	rpmdb "github.com/erikvarga/go-rpmdb/pkg"
	_ "modernc.org/sqlite" // the driver with which rpmdb opens rpmdb.sqlite

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

// rpmFiles are the rpm databases of a layer. The library wants real files, and
// SQLite its log beside the database, so they are copied to a directory and
// read at the end of the layer. This is the library under scalibr's extractor,
// used without it because the extractor drops the module label.
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

// read lists the packages of all databases.
func (r *rpmFiles) read(ctx context.Context) (Result, error) {
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
		pkgs, err := listRPM(ctx, r.real(p), p)
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

func listRPM(ctx context.Context, file, p string) (pkgs []analyzer.Package, err error) {
	defer func() {
		if v := recover(); v != nil {
			pkgs, err = nil, fmt.Errorf("panic: %v", v)
		}
	}()
	db, err := rpmdb.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	list, err := db.ListPackagesWithContext(ctx)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, in := range list {
		if in.Name == "" || in.Version == "" {
			errs = append(errs, fmt.Errorf("package %q has version %q", in.Name, in.Version))
			continue
		}
		pkgs = append(pkgs, rpmPackage(in, p))
	}
	return pkgs, errors.Join(errs...)
}

func rpmPackage(in *rpmdb.PackageInfo, p string) analyzer.Package {
	pkg := analyzer.Package{
		Type: "rpm", Name: in.Name, Version: in.Version + "-" + in.Release,
		Arch: in.Arch, Modularity: in.Modularitylabel, Path: p,
	}
	evr := pkg.Version
	if e := in.EpochNum(); e != 0 {
		pkg.Version = strconv.Itoa(e) + ":" + pkg.Version
	}
	// NAME-VERSION-RELEASE.src.rpm; the epoch of the source is not in it.
	src := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(in.SourceRpm, ".rpm"), ".src"), ".nosrc")
	if rel := strings.LastIndexByte(src, '-'); rel > 0 {
		if ver := strings.LastIndexByte(src[:rel], '-'); ver > 0 {
			if name := src[:ver]; name != in.Name {
				pkg.Source = name
			}
			if v := src[ver+1:]; v != evr {
				pkg.SourceVersion = v
			}
		}
	}
	return pkg
}
