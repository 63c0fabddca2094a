package records

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strings"

	godigest "github.com/opencontainers/go-digest"

	"github.com/sluiceproxy/sluice/analyzer"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// PackageKey is the name of a package as a feed of advisories has it: the OSV
// ecosystem, with or without its release, and the name of the package or of its
// source package; "" stands for all of the ecosystem.
type PackageKey struct {
	Ecosystem string
	Name      string
}

// text is the form in which keys are compared: without the release, and with
// names that some registry takes for the same (PEP 503 and its like) made one.
// It may find a package too many, never one too few.
func (k PackageKey) text() string {
	base, _, _ := strings.Cut(k.Ecosystem, ":")
	name := strings.Map(func(r rune) rune {
		if r == '_' || r == '.' {
			return '-'
		}
		return r
	}, strings.ToLower(k.Name))
	for strings.Contains(name, "--") {
		name = strings.ReplaceAll(name, "--", "-")
	}
	return base + "/" + name
}

// packageRow is a row of packages.
type packageRow struct{ purl, base, name, source string }

func rowOf(p *analyzer.Package) packageRow {
	base, _, _ := policy.SplitPURL(p.PURL)
	r := packageRow{purl: p.PURL, base: base, name: PackageKey{p.Ecosystem, p.Name}.text()}
	if source, _ := p.SourcePackage(); source != p.Name {
		r.source = PackageKey{p.Ecosystem, source}.text()
	}
	return r
}

// manifestID returns the number of a digest, a new one if it has none yet.
func manifestID(ctx context.Context, tx *sql.Tx, d godigest.Digest) (id int64, err error) {
	err = tx.QueryRowContext(ctx, "INSERT INTO manifests (digest) VALUES (?) ON CONFLICT (digest) DO UPDATE SET digest = excluded.digest RETURNING id", d.String()).Scan(&id)
	return id, err
}

// packageIDs returns the numbers of packages, new ones for those that have none
// yet.
func packageIDs(ctx context.Context, tx *sql.Tx, rows map[packageRow]bool) (map[packageRow]int64, error) {
	ids := make(map[packageRow]int64, len(rows))
	for part := range slices.Chunk(slices.Collect(maps.Keys(rows)), maxRows) {
		if err := findPackages(ctx, tx, part, rows, ids); err != nil {
			return nil, err
		}
		unknown := slices.DeleteFunc(part, func(r packageRow) bool { return ids[r] != 0 })
		if len(unknown) == 0 {
			continue
		}
		err := insertMany(ctx, tx, "INSERT INTO packages (purl, base, name_key, source_key) VALUES ", 4, len(unknown), func(i int) []any {
			return []any{unknown[i].purl, unknown[i].base, unknown[i].name, unknown[i].source}
		})
		if err == nil {
			err = findPackages(ctx, tx, unknown, rows, ids)
		}
		if err != nil {
			return nil, err
		}
	}
	return ids, nil
}

// findPackages adds to ids the numbers of those in part, of all that are
// wanted, that have one. A purl may have several rows.
func findPackages(ctx context.Context, tx *sql.Tx, part []packageRow, wanted map[packageRow]bool, ids map[packageRow]int64) error {
	args := make([]any, len(part))
	for i, r := range part {
		args[i] = r.purl
	}
	return query(ctx, tx, func(rows *sql.Rows) error {
		var (
			id int64
			r  packageRow
		)
		err := rows.Scan(&id, &r.purl, &r.base, &r.name, &r.source)
		if wanted[r] {
			ids[r] = id
		}
		return err
	}, "SELECT id, purl, base, name_key, source_key FROM packages WHERE purl IN ("+placeholders(len(part))+")", args...)
}

// maxRows is how many rows one statement writes or looks for.
const maxRows = 200

// indexPackages makes an image findable by its packages.
func indexPackages(ctx context.Context, tx *sql.Tx, inv *analyzer.Inventory) error {
	manifest, err := manifestID(ctx, tx, inv.Manifest)
	if err != nil {
		return err
	}
	rows := make(map[packageRow]bool, len(inv.Packages))
	for i := range inv.Packages {
		rows[rowOf(&inv.Packages[i])] = true
	}
	ids, err := packageIDs(ctx, tx, rows)
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "DELETE FROM image_packages WHERE manifest = ?", manifest); err != nil {
		return err
	}
	list := slices.Sorted(maps.Values(ids))
	return insertMany(ctx, tx, "INSERT INTO image_packages (manifest, package) VALUES ", 2, len(list), func(i int) []any {
		return []any{manifest, list[i]}
	})
}

// insertMany inserts n rows of some columns, many in one statement.
func insertMany(ctx context.Context, tx *sql.Tx, text string, columns, n int, row func(int) []any) error {
	for from := 0; from < n; from += maxRows {
		to := min(n, from+maxRows)
		args := make([]any, 0, columns*(to-from))
		for i := from; i < to; i++ {
			args = append(args, row(i)...)
		}
		values := strings.TrimSuffix(strings.Repeat("("+placeholders(columns)+"), ", to-from), ", ")
		if _, err := tx.ExecContext(ctx, text+values, args...); err != nil {
			return err
		}
	}
	return nil
}

// findingRow is an id or alias of an advisory and the package that it applies to.
type findingRow struct{ advisory, purl string }

// PutFindings makes an image findable by the advisories that apply to it now,
// instead of those that did before. It writes only if they have changed.
func (db *DB) PutFindings(ctx context.Context, manifest godigest.Digest, findings []analyzer.Finding) error {
	if err := db.putFindings(ctx, manifest, findings); err != nil {
		return fmt.Errorf("put findings of %s: %w", manifest, err)
	}
	return nil
}

func (db *DB) putFindings(ctx context.Context, manifest godigest.Digest, findings []analyzer.Finding) error {
	want := make(map[findingRow]packageRow, len(findings))
	rows := make(map[packageRow]bool)
	for i := range findings {
		f := &findings[i]
		r := rowOf(&f.Package)
		rows[r] = true
		for _, id := range append([]string{f.Advisory}, f.Aliases...) {
			want[findingRow{strings.ToUpper(id), r.purl}] = r
		}
	}
	have := 0
	same := true
	err := query(ctx, db.read, func(rows *sql.Rows) error {
		var r findingRow
		if err := rows.Scan(&r.advisory, &r.purl); err != nil {
			return err
		}
		_, ok := want[r]
		have, same = have+1, same && ok
		return nil
	}, `SELECT DISTINCT f.advisory, p.purl FROM manifests m JOIN image_findings f ON f.manifest = m.id JOIN packages p ON p.id = f.package
		WHERE m.digest = ?`, manifest.String())
	if err != nil || same && have == len(want) {
		return err
	}
	return db.update(ctx, db.quick, func(tx *sql.Tx) error {
		id, err := manifestID(ctx, tx, manifest)
		if err != nil {
			return err
		}
		packages, err := packageIDs(ctx, tx, rows)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "DELETE FROM image_findings WHERE manifest = ?", id); err != nil {
			return err
		}
		list := slices.Collect(maps.Keys(want))
		return insertMany(ctx, tx, "INSERT INTO image_findings (manifest, advisory, package) VALUES ", 3, len(list), func(i int) []any {
			return []any{id, list[i].advisory, packages[want[list[i]]]}
		})
	})
}

// ImagesWithPackages returns the images under all their names whose inventory
// has a package with one of keys, each once, sorted. Nil keys mean every image
// that has an inventory.
func (db *DB) ImagesWithPackages(ctx context.Context, keys []PackageKey) ([]Image, error) {
	found, err := db.imagesWithPackages(ctx, keys)
	if err != nil {
		return nil, fmt.Errorf("images with packages: %w", err)
	}
	return found, nil
}

func (db *DB) imagesWithPackages(ctx context.Context, keys []PackageKey) ([]Image, error) {
	if keys == nil {
		return images(ctx, db.read, "SELECT "+imageColumns+" FROM images WHERE digest IN (SELECT manifest FROM inventories) ORDER BY name, digest")
	}
	texts, whole := map[string]bool{}, map[string]bool{}
	for _, k := range keys {
		if k.Name == "" {
			whole[k.text()] = true
		} else {
			texts[k.text()] = true
		}
	}
	digests := map[string]bool{}
	gather := func(where string, args ...any) error {
		return query(ctx, db.read, func(rows *sql.Rows) error {
			var d string
			err := rows.Scan(&d)
			digests[d] = true
			return err
		}, `SELECT DISTINCT m.digest FROM packages p JOIN image_packages i ON i.package = p.id JOIN manifests m ON m.id = i.manifest
			WHERE `+where, args...)
	}
	for part := range slices.Chunk(slices.Sorted(maps.Keys(texts)), maxRows) {
		args := make([]any, 0, 2*len(part))
		for range 2 {
			for _, t := range part {
				args = append(args, t)
			}
		}
		list := placeholders(len(part))
		if err := gather("p.name_key IN ("+list+") OR p.source_key IN ("+list+")", args...); err != nil {
			return nil, err
		}
	}
	for prefix := range whole {
		if err := gather("SUBSTR(p.name_key, 1, ?) = ?", len(prefix), prefix); err != nil {
			return nil, err
		}
	}
	var found []Image
	for _, d := range slices.Sorted(maps.Keys(digests)) {
		of, err := images(ctx, db.read, "SELECT "+imageColumns+" FROM images WHERE digest = ? ORDER BY name", d)
		if err != nil {
			return nil, err
		}
		found = append(found, of...)
	}
	slices.SortFunc(found, compareImages)
	return found, nil
}

func compareImages(a, b Image) int {
	return slices.Compare([]string{a.Name, a.Digest.String()}, []string{b.Name, b.Digest.String()})
}
